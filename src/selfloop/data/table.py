"""The user's tables, standardised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator

from selfloop.core.capabilities import Capability
from selfloop.core.config import DataPath
from selfloop.core.errors import DataError, listed, quoted
from selfloop.core.events import Numbers, Vectors
from selfloop.core.urls import fetched
from selfloop.data.base import DATA, Split, divide
from selfloop.data.finite import Finite, refuse_twice
from selfloop.data.reading.exact import EXACT
from selfloop.data.reading.tables import Choice, Coded, Rows, matched, parts_of, read_like, read_rows, refuse_target


class Tabular(Finite):
    """Rows with columns of the user's own.

    Attributes:
        target: the column that models are to predict from the others, where there is one.
    """

    always: ClassVar[frozenset[Capability]] = frozenset(("columns",))
    target: str | None = None

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """Its columns, one to predict where it is set, and fresh rows where some are set aside."""
        return super().offers | ({"target"} if self.target is not None else set())

    def predicted(self) -> str | None:
        """Return the target."""
        return self.target


@DATA.register
class Table(Tabular):
    """A file of rows: of numbers alone, each column standardised by its mean and deviation, or of columns of any kind.

    ``path`` ends in .csv or .tsv (UTF-8, header line), .parquet, .feather, .arrow, .db or .sqlite, of which ``table``
    or ``query`` is read, .npy or .npz (exactly one array). NumPy arrays are 2-D and their columns are called x0, x1, ….
    ``columns`` picks some, in that order, or ``leave_out`` leaves some out; an index that pandas wrote is none unless
    it is picked. ``types`` declares what columns are, see :data:`selfloop.data.reading.kinds.TYPES`. ``n`` None trains
    on all rows that are not held out or set aside, ``held_out`` None holds out 20 % of the rows.

    ``held_out_path`` holds out the rows of another file instead, all of them or as many as ``held_out``, drawn by the
    seed. It has the same columns in any order, and they are encoded as those of ``path`` are.
    """

    name: Literal["table"] = "table"
    path: DataPath
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)
    held_out_path: DataPath | None = None
    columns: list[str] | None = Field(default=None, min_length=1)
    leave_out: list[str] = Field(default_factory=list)
    types: dict[str, str] = Field(default_factory=dict)
    table: str | None = None
    query: str | None = None

    @model_validator(mode="after")
    def _two_files(self) -> Table:
        refuse_twice(self.path, self.held_out_path)
        if self.columns is not None and self.leave_out:
            raise ValueError("columns and leave_out both say which are taken: give one of them")
        return self

    def load(self, seeds: Sequence[int]) -> Split:
        """Read, check, encode and divide the table, events (number of columns,) or, where they are mixed, encoded."""
        choice = Choice(self.columns, self.leave_out, self.types, self.table, self.query)
        rows, source = read_rows(fetched(self.path), choice=choice), f"table {quoted(self.path)}"
        refuse_target(rows.columns, parts_of(rows), self.target, source)
        apart = None
        if self.held_out_path is not None:
            like = rows.events if isinstance(rows, Coded) else Vectors.unscaled(tuple(rows.columns))
            apart = read_like(fetched(self.held_out_path), like, choice)
        return divide_rows(rows, self.n, self.held_out, seeds, source, self.fresh_rows, apart)


class Units(NamedTuple):
    """Units of columns: shift and scale (d,) float64, and what a unit is."""

    shift: np.ndarray
    scale: np.ndarray
    word: str


def divide_rows(
    rows: Rows | Coded,
    n: int | None,
    held_out: int | None,
    seeds: Sequence[int],
    source: str,
    fresh_rows: int,
    apart: np.ndarray | None,
    units: Units | None = None,
) -> Split:
    """Bring rows into units, and divide them as :func:`selfloop.data.base.divide` does.

    ``held_out`` None holds out 20 %; ``units`` None are the means and deviations of the rows.
    """
    if apart is None and held_out is None:
        held_out = max(1, round(0.2 * len(rows.values)))
    if isinstance(rows, Coded):
        parts = divide(rows.values, n, held_out, seeds, source, fresh_rows=fresh_rows, apart=apart)
        return Split(train=parts.train, held_out=parts.held_out, events=rows.events, aside=parts.aside)
    shift, scale, word = units or Units(*moments(rows, source), "standard deviations")
    others = None if apart is None else (apart - shift) / scale
    values = (rows.values - shift) / scale
    parts = divide(values, n, held_out, seeds, source, fresh_rows=fresh_rows, apart=others)
    events = Vectors(
        tuple(rows.columns),
        torch.from_numpy(shift),
        torch.from_numpy(scale),
        word=word,
        numbers=_numbers(rows),
        form=rows.form,
    )
    return Split(train=parts.train, held_out=parts.held_out, events=events, aside=parts.aside)


def _numbers(rows: Rows) -> tuple[Numbers, ...]:
    """Return what the columns hold; one that has no number type of its own holds whole numbers if all of them are."""
    dtypes = rows.dtypes or [
        "int64" if (x == np.rint(x)).all() and np.abs(x).max() <= EXACT else "float64" for x in rows.values.T
    ]
    low, high = rows.values.min(axis=0).tolist(), rows.values.max(axis=0).tolist()
    return tuple(Numbers(*each) for each in zip(dtypes, low, high, strict=True))


def in_order(rows: Rows, columns: Sequence[str], source: str) -> np.ndarray:
    """Return rows to hold out, (M, d), with their columns in the order of those to train on.

    Raises:
        DataError: they have other columns.
    """
    matched(rows.columns, columns, source)
    return rows.values[:, [rows.columns.index(name) for name in columns]]


def moments(rows: Rows, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation (ddof 0) of each column, (d,) both.

    Raises:
        DataError: a column never changes, or its spread is beyond float64.
    """
    constant = rows.values.min(axis=0) == rows.values.max(axis=0)
    if constant.any():
        names = [name for name, same in zip(rows.columns, constant, strict=True) if same]
        raise DataError(f"{source}: column {listed(names)} never changes and has no scale; leave it out")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean, std = rows.values.mean(axis=0), rows.values.std(axis=0)
    usable = np.isfinite(mean) & np.isfinite(std) & (std > 0)
    if not usable.all():
        name = rows.columns[int(np.argmin(usable))]
        raise DataError(f"{source}: the spread of column {quoted(name)} is beyond float64; change its unit")
    return mean, std
