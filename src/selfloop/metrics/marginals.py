"""How far the distributions of single columns are from the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from selfloop.metrics.base import METRICS, compared
from selfloop.metrics.counts import Counts
from selfloop.metrics.tables import COLUMNS, Table, tables


@dataclass(frozen=True)
class Marginals:
    """The distributions of single columns of a table, exact; merged with ``+``, so that a table may come in parts.

    Attributes:
        numbers: of each column of numbers or times, the values that are there.
        codes: of each column of categories, its levels by their numbers, a missing one among them.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Number
        >>> from selfloop.metrics import Marginals, Table, shape_errors
        >>> real, *parts = (
        ...     Table.of({"age": np.array(rows)}, [Number("age", "int64", low=20, high=60)])
        ...     for rows in ([20, 30, 50, 60], [20, 20], [30, 30])
        ... )
        >>> shape_errors(real, Marginals.of(parts[0]) + Marginals.of(parts[1]))
        {'age': 0.5}
    """

    numbers: Mapping[str, Counts]
    codes: Mapping[str, Counts]

    @classmethod
    def of(cls, table: Table) -> Marginals:
        """Count the values of a table."""
        numbers = {name: Counts.of(values[~np.isnan(values)]) for name, values in table.numbers.items()}
        return cls(numbers, {name: Counts.of(codes) for name, codes in table.codes.items()})

    def __add__(self, other: Marginals) -> Marginals:
        """Return those of both tables, which have the same columns."""
        numbers, codes = (
            {name: counts + there[name] for name, counts in here.items()}
            for here, there in ((self.numbers, other.numbers), (self.codes, other.codes))
        )
        return Marginals(numbers, codes)


def shape_errors(real: Table | Marginals, generated: Table | Marginals) -> dict[str, float]:
    """Return how far the distribution of every column is from the real one, 0 … 1.

    Of numbers and times that are there it is the Kolmogorov–Smirnov statistic; of categories the total variation, a
    missing one being a level. Columns are in the order of ``real``, a table's own or numbers before categories.

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
    here, there = (x if isinstance(x, Marginals) else Marginals.of(x) for x in (real, generated))
    return {
        name: kolmogorov_smirnov(here.numbers[name], there.numbers[name])
        if name in here.numbers
        else total_variation(here.codes[name], there.codes[name])
        for name in (real.names if isinstance(real, Table) else (*here.numbers, *here.codes))
    }


def kolmogorov_smirnov(real: Counts, generated: Counts) -> float:
    """Return sup |F − G| of two sets of numbers; 1 where one is empty, 0 where both are."""
    if not real.total or not generated.total:
        return float(real.total != generated.total)
    both = real + generated
    f, g = (np.cumsum(x.at(both.kinds)) / x.total for x in (real, generated))
    return float(np.abs(f - g).max())


def total_variation(real: Counts, generated: Counts) -> float:
    """Return ½ Σ |p − q|, p and q the shares of each value."""
    both = real + generated
    p, q = (x.at(both.kinds) / x.total for x in (real, generated))
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
