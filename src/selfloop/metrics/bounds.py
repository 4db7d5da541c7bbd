"""Values that no real row bears out: outside of the range of a column, no level of it, missing where none is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.tables import COLUMNS, Table, coordinates


def broken_bounds(real: Table, generated: Table) -> float:
    """Return the share of generated values that are outside of what the real ones have, the mean over columns.

    A number or time is, where it is below the least or above the greatest of them; a category, where it is none of
    their levels; and a missing value, where none of theirs is missing.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, broken_bounds
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> made = Table.of({"age": np.array([20, 20, 30, 30]), "city": np.array(["A", "A", "A", "B"])}, columns)
        >>> broken_bounds(real, made)
        0.0
    """
    return float(np.mean([_outside(real, generated, name).mean() for name in real.names]))


def _outside(real: Table, generated: Table, name: str) -> NDArray[np.bool_]:
    absent, lacking = generated.missing(name), real.missing(name)
    if name in real.codes:
        odd = ~np.isin(generated.codes[name], real.codes[name])
    else:
        known, x = real.numbers[name][~lacking], generated.numbers[name]
        odd = ~((known.min(initial=np.inf) <= x) & (x <= known.max(initial=-np.inf)))
    return np.where(absent, not lacking.any(), odd)


def _compute(evidence: Evidence) -> Tensor:
    train, held_out, generated = (coordinates(evidence, which) for which in ("train", "held_out", "generated"))
    return per_arm(lambda a, b, x: broken_bounds(a.joined(b), x), train, held_out, generated)


METRICS.register(
    Metric(
        name="broken_bounds",
        title="Broken bounds",
        definition=(
            "Share of generated values, the mean over columns, that are below the least or above the greatest of the "
            "real ones, training and held-out rows together, are no level that these have, or are missing in a column "
            "where none of these is."
        ),
        goal="lower",
        version=1,
        unit="share",
        scale="difference",
        compute=_compute,
        needs=COLUMNS,
    )
)
