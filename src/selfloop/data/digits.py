"""The handwritten digits of scikit-learn as rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field

from selfloop.data.base import Dataset, Split, split_rows


class Digits(Dataset):
    """The 1,797 handwritten digits of scikit-learn: 64 pixels 0 … 16, mapped to [−1, 1] by x/8 − 1.

    ``n`` None trains on all rows that are not held out.
    """

    name: Literal["digits"] = "digits"
    images: ClassVar[bool] = True
    n: int | None = Field(default=None, ge=2)
    held_out: int = Field(default=360, ge=1)

    def load(self, seeds: Sequence[int]) -> Split:
        """Split the digits by one permutation per seed, events (64,)."""
        from sklearn.datasets import load_digits  # takes a second that only this data set should cost

        train, held_out = split_rows(load_digits().data / 8 - 1, self.n, self.held_out, seeds, "digits")
        return Split(
            train=train,
            held_out=held_out,
            shift=torch.full((64,), 8.0, dtype=torch.float64),
            scale=torch.full((64,), 8.0, dtype=torch.float64),
            columns=tuple(f"pixel_{i}_{j}" for i in range(8) for j in range(8)),
            image_shape=(8, 8),
            image_range=(0.0, 16.0),
        )
