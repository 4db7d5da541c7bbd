"""The handwritten digits of scikit-learn as rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field

from selfloop.core.capabilities import Capability
from selfloop.core.events import Raster, Vectors
from selfloop.data.base import DATA, Split, divide
from selfloop.data.finite import Finite


@DATA.register
class Digits(Finite):
    """The 1,797 handwritten digits of scikit-learn: 64 pixels 0 … 16, mapped to [−1, 1] by x/8 − 1.

    ``n`` None trains on all rows that are not held out.
    """

    name: Literal["digits"] = "digits"
    always: ClassVar[frozenset[Capability]] = frozenset(("pixels",))
    n: int | None = Field(default=None, ge=2)
    held_out: int = Field(default=360, ge=1)

    def load(self, seeds: Sequence[int]) -> Split:
        """Split the digits by one permutation per seed, events (64,)."""
        from sklearn.datasets import load_digits  # takes a second that only this data set should cost

        rows = load_digits().data / 8 - 1
        parts = divide(rows, self.n, self.held_out, seeds, "digits", fresh_rows=self.fresh_rows)
        columns = tuple(f"pixel_{i}_{j}" for i in range(8) for j in range(8))
        eight = torch.full((64,), 8.0, dtype=torch.float64)
        events = Vectors(columns, eight, eight, Raster(8, 8, 0.0, 16.0), "8 grey levels")
        return Split(train=parts.train, held_out=parts.held_out, events=events, aside=parts.aside)
