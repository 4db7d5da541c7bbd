"""The user's tables, standardised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from selfloop.core.config import FilePath
from selfloop.core.errors import DataError, quoted
from selfloop.core.events import Vectors
from selfloop.data.base import DATA, Dataset, Split, split_rows
from selfloop.data.reading.tables import Rows, listed, read_rows


@DATA.register
class Table(Dataset):
    """A file of numeric rows, each column standardised by its mean and deviation over the whole table.

    ``path`` ends in .csv (UTF-8, commas, header line), .npy, .npz (exactly one array) or .parquet. NumPy
    arrays are 2-D and their columns are called x0, x1, …. ``columns`` picks some, in that order. ``n`` None
    trains on all rows that are not held out, ``held_out`` None holds out 20 % of the rows.
    """

    name: Literal["table"] = "table"
    path: FilePath
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)
    columns: list[str] | None = Field(default=None, min_length=1)

    def load(self, seeds: Sequence[int]) -> Split:
        """Read, check, standardise and split the table, events (number of columns,)."""
        source = f"table {quoted(self.path)}"
        rows = read_rows(self.path, self.columns)
        shift, scale = _moments(rows, source)
        m = max(1, round(0.2 * len(rows.values))) if self.held_out is None else self.held_out
        train, held_out = split_rows((rows.values - shift) / scale, self.n, m, seeds, source)
        events = Vectors(tuple(rows.columns), torch.from_numpy(shift), torch.from_numpy(scale))
        return Split(train=train, held_out=held_out, events=events)


def _moments(rows: Rows, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation (ddof 0) of each column, (d,) both; refuse constants."""
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
