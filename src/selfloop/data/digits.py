"""The handwritten digits of scikit-learn as rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field

from selfloop.core.capabilities import Capability
from selfloop.core.events import Raster, Vectors
from selfloop.data.base import DATA, Dataset, Split, split_rows


@DATA.register
class Digits(Dataset):
    """The 1,797 handwritten digits of scikit-learn: 64 pixels 0 … 16, mapped to [−1, 1] by x/8 − 1.

    ``n`` None trains on all rows that are not held out.
    """

    name: Literal["digits"] = "digits"
    offers: ClassVar[frozenset[Capability]] = frozenset(("pixels",))
    n: int | None = Field(default=None, ge=2)
    held_out: int = Field(default=360, ge=1)

    def load(self, seeds: Sequence[int]) -> Split:
        """Split the digits by one permutation per seed, events (64,)."""
        from sklearn.datasets import load_digits  # takes a second that only this data set should cost

        train, held_out = split_rows(load_digits().data / 8 - 1, self.n, self.held_out, seeds, "digits")
        columns = tuple(f"pixel_{i}_{j}" for i in range(8) for j in range(8))
        eight = torch.full((64,), 8.0, dtype=torch.float64)
        return Split(train=train, held_out=held_out, events=Vectors(columns, eight, eight, Raster(8, 8, 0.0, 16.0)))
