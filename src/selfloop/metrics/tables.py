"""Rows of a table as metrics of columns take them: numbers as they are, categories as the numbers of their levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from selfloop.core.capabilities import Capability
from selfloop.core.columns import Category, Column, Number, Values
from selfloop.core.errors import ConfigError, counted, listed, quoted, refuse_unlike
from selfloop.core.events import Events, Mixed, Vectors
from selfloop.metrics.base import Evidence, Which

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

COLUMNS: frozenset[Capability] = frozenset(("columns",))
MISSING = -1
"""The code of a category that is missing."""


@dataclass(frozen=True)
class Table:
    """N rows; constant columns are left out, as no row differs in them.

    Attributes:
        names: of the columns, in order.
        numbers: (N,) by the columns that are numbers or times, NaN where one is missing; times count from a moment.
        codes: (N,) by the columns that are categories: which of the column's levels, MISSING where there is none;
            values that are no level of it have the numbers that follow.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> len(real)
        4
    """

    names: tuple[str, ...]
    numbers: Mapping[str, Floats]
    codes: Mapping[str, Codes]

    @classmethod
    def of(cls, values: Mapping[str, Values], columns: Sequence[Column]) -> Table:
        """Return the table of values, (N,) by column, in the order of the columns.

        Raises:
            ConfigError: a column is not there, or has not as many values as the others.
            ValueError: a number is none.
        """
        refuse_unlike("values", values, Mapping, "a dict of the values (N,) of every column")
        if not isinstance(columns, list | tuple) or not columns:
            raise ConfigError(f"columns: give a list of them, as [Number(…), Category(…)], not {quoted(columns)}")
        counts: dict[str, int] = {}
        for column in columns:
            if column.name not in values:
                raise ConfigError(f"there is no column {quoted(column.name)} among the values: {listed(values)}")
            counts[column.name] = len(values[column.name])
        first = next(iter(counts))
        if odd := next((name for name in counts if counts[name] != counts[first]), None):
            rows = counted(counts[odd], "row")
            raise ConfigError(
                f"column {quoted(odd)} has {rows}, and {quoted(first)} has {counts[first]}: give equally many"
            )
        varying = [column for column in columns if column.coordinates]
        return cls(
            tuple(column.name for column in varying),
            {column.name: column.numbers(values[column.name]) for column in varying if isinstance(column, Number)},
            {column.name: _codes(values[column.name], column) for column in varying if isinstance(column, Category)},
        )

    def __len__(self) -> int:
        return next((len(values) for values in (*self.numbers.values(), *self.codes.values())), 0)

    def missing(self, name: str) -> NDArray[np.bool_]:
        """Return where a column's value is missing, (N,)."""
        absent: NDArray[np.bool_] = np.isnan(self.numbers[name]) if name in self.numbers else self.codes[name] < 0
        return absent

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Table:
        """Return some of the rows."""
        return replace(
            self,
            numbers={name: values[rows] for name, values in self.numbers.items()},
            codes={name: codes[rows] for name, codes in self.codes.items()},
        )

    def only(self, names: Sequence[str]) -> Table:
        """Return some of the columns."""
        return Table(
            tuple(names),
            {name: self.numbers[name] for name in names if name in self.numbers},
            {name: self.codes[name] for name in names if name in self.codes},
        )

    def joined(self, other: Table) -> Table:
        """Return the rows of both; they have the same columns."""
        numbers, codes = (
            {name: np.concatenate([values, there[name]]) for name, values in here.items()}
            for here, there in ((self.numbers, other.numbers), (self.codes, other.codes))
        )
        return Table(self.names, numbers, codes)

    @cached_property
    def keys(self) -> list[bytes]:
        """Of the N rows, equal where rows agree in all columns, in what is missing too."""
        every = np.column_stack(
            [self.numbers[name] if name in self.numbers else self.codes[name] for name in self.names]
        )
        every = np.where(np.isnan(every), np.nan, every + 0.0)  # one NaN, and one 0
        found: list[bytes] = every.view(f"V{8 * len(self.names)}").ravel().tolist()
        return found


def _codes(values: Values, column: Category) -> Codes:
    at = {level: i for i, level in enumerate(column.levels)}
    found = (MISSING if v is None or v != v else at.setdefault(v, len(at)) for v in values.tolist())
    return np.fromiter(found, np.int64, len(values))


def columns_of(events: Events | None) -> tuple[Column, ...]:
    """Return the columns of rows.

    Raises:
        TypeError: they have none.
    """
    if isinstance(events, Mixed):
        return events.parts
    if isinstance(events, Vectors):
        return tuple(Number(name, "float64", -np.inf, np.inf) for name in events.columns)
    raise TypeError("the rows have no columns")


def tables(evidence: Evidence, which: Which) -> list[Table]:
    """Return one of the three sets, a table for every arm, of values that their columns may have."""
    columns, events = columns_of(evidence.events), evidence.events
    assert isinstance(events, Mixed | Vectors)
    rows = getattr(evidence, which)
    return evidence.shared(("table", which), lambda: [Table.of(events.table(arm), columns) for arm in rows])


def coordinates(evidence: Evidence, which: Which) -> list[Table]:
    """Return the same with numbers in model units, neither rounded nor kept within their bounds."""
    parts, rows = columns_of(evidence.events), getattr(evidence, which)
    at = np.cumsum([0, *(len(part.coordinates) for part in parts)])
    first = {part.name: i for part, i in zip(parts, at, strict=False)}
    found = []
    for arm, table in zip(rows, tables(evidence, which), strict=True):
        x = arm.detach().to("cpu", evidence.generated.dtype).double().numpy()
        drawn = {name: np.where(table.missing(name), np.nan, x[:, first[name]]) for name in table.numbers}
        found.append(replace(table, numbers=drawn))
    return found
