"""How far the distributions of single columns are from the real ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selfloop.metrics.base import METRICS, compared
from selfloop.metrics.tables import COLUMNS, Floats, Table, tables


def shape_errors(real: Table, generated: Table) -> dict[str, float]:
    """Return how far the distribution of every column is from the real one, 0 … 1.

    Of numbers and times that are there it is the Kolmogorov–Smirnov statistic; of categories the total variation, a
    missing one being a level.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, shape_errors
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> made = Table.of({"age": np.array([20, 20, 30, 30]), "city": np.array(["A", "A", "A", "B"])}, columns)
        >>> shape_errors(real, made)
        {'age': 0.5, 'city': 0.25}
    """
    return {
        name: kolmogorov_smirnov(real.numbers[name], generated.numbers[name])
        if name in real.numbers
        else total_variation(real.codes[name], generated.codes[name])
        for name in real.names
    }


def kolmogorov_smirnov(real: Floats, generated: Floats) -> float:
    """Return sup |F − G| of the numbers (N,) and (M,) that are not NaN; 1 where one set has none, 0 where both."""
    here, there = (np.sort(x[~np.isnan(x)]) for x in (real, generated))
    if not len(here) or not len(there):
        return float(len(here) != len(there))
    at = np.concatenate([here, there])
    f, g = (np.searchsorted(x, at, side="right") / len(x) for x in (here, there))
    return float(np.abs(f - g).max())


def total_variation(real: NDArray[np.generic], generated: NDArray[np.generic]) -> float:
    """Return ½ Σ |p − q|, p and q the shares of each value in (N,) and (M,)."""
    of = np.unique(np.concatenate([real, generated]), return_inverse=True)[1]
    p, q = (np.bincount(part, minlength=of.max() + 1) / len(part) for part in np.split(of, [len(real)]))
    return float(np.abs(p - q).sum() / 2)


def _mean(real: Table, generated: Table) -> float:
    return float(np.mean(list(shape_errors(real, generated).values())))


def _worst(real: Table, generated: Table) -> float:
    return max(shape_errors(real, generated).values())


_DISTANCE = (
    "columns between the generated rows and {real}: the Kolmogorov–Smirnov statistic of numbers and times that are "
    "there, the total variation of categories, a missing one being a level."
)

METRICS.register(
    *compared(
        "shape_error", "Shape error", f"Mean distance of {_DISTANCE}", "share", _mean, sets=tables, needs=COLUMNS
    ),
    *compared(
        "worst_shape_error",
        "Worst shape error",
        f"Greatest distance of {_DISTANCE}",
        "share",
        _worst,
        sets=tables,
        needs=COLUMNS,
    ),
)
