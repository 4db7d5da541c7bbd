"""Which values are missing, and which together, beside the real rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selfloop.metrics.base import METRICS, compared
from selfloop.metrics.counts import Counts
from selfloop.metrics.marginals import total_variation
from selfloop.metrics.tables import COLUMNS, Table, tables


def missing_rate_error(real: Table, generated: Table) -> float:
    """Return the mean |difference| of the shares that are missing, over columns where either set lacks a value.

    0 where nothing is missing in both.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, missing_rate_error
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> made = Table.of({"age": np.array([20, 20, 30, 30]), "city": np.array(["A", "A", "A", "B"])}, columns)
        >>> missing_rate_error(real, made)
        0.0
    """
    rates = [(real.missing(name).mean(), generated.missing(name).mean()) for name in real.names]
    return float(np.mean([abs(p - q) for p, q in rates if p or q] or [0.0]))


def missing_pattern_error(real: Table, generated: Table) -> float:
    """Return the total variation between the patterns of rows, a pattern being which of their columns are missing.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, missing_pattern_error
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> made = Table.of({"age": np.array([20, 20, 30, 30]), "city": np.array(["A", "A", "A", "B"])}, columns)
        >>> missing_pattern_error(real, made)
        0.0
    """
    return total_variation(Counts.of(_patterns(real)), Counts.of(_patterns(generated)))


def _patterns(table: Table) -> NDArray[np.void]:
    bits = np.packbits(np.column_stack([table.missing(name) for name in table.names]), axis=1)
    return bits.view(f"V{bits.shape[1]}").ravel()


METRICS.register(
    *compared(
        "missing_rate_error",
        "Error of missing rates",
        "Mean |difference| of the shares of values that are missing between the generated rows and {real}, over the "
        "columns where either lacks one; 0 where there are none.",
        "share",
        missing_rate_error,
        scale="difference",
        sets=tables,
        needs=COLUMNS,
    ),
    *compared(
        "missing_pattern_error",
        "Error of missing patterns",
        "Total variation between the generated rows and {real} of which columns of a row are missing.",
        "share",
        missing_pattern_error,
        scale="difference",
        sets=tables,
        needs=COLUMNS,
    ),
)
