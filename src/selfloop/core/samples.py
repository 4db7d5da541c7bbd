"""Samples: a stack of data sets, one per arm, with the generation in which each row was born."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Samples:
    """R data sets of up to N rows; arms of different λ share one stack because ``count`` may differ.

    Attributes:
        x: (R, N, *event) rows; those at and after ``count[r]`` are padding, zero, and mean nothing.
        born: (R, N) int16, 0 for a real row and t for one sampled from the model of generation t − 1,
            that is one that first enters the training set of generation t.
        count: (R,) int64, rows in use.
    """

    x: Tensor
    born: Tensor
    count: Tensor

    def __post_init__(self) -> None:
        rows = tuple(self.x.shape[:2])
        if tuple(self.born.shape) != rows or tuple(self.count.shape) != rows[:1]:
            raise ValueError(
                f"x {tuple(self.x.shape)}, born {tuple(self.born.shape)} and count {tuple(self.count.shape)} disagree"
            )

    @classmethod
    def full(cls, x: Tensor, born: int) -> Samples:
        """Wrap (R, N, *event) rows that are all in use and all born in one generation."""
        r, n = x.shape[:2]
        return cls(x=x, born=torch.full((r, n), born, dtype=torch.int16), count=torch.full((r,), n))

    def arm(self, r: int) -> Tensor:
        """Return the rows in use of arm r, (count[r], *event)."""
        return self.x[r, : int(self.count[r])]

    def select(self, rows: list[int]) -> Samples:
        """Return the stack of the arms ``rows``; those that follow each other are a view, not a copy."""
        follow = rows == list(range(rows[0], rows[-1] + 1))
        of = slice(rows[0], rows[-1] + 1) if follow else rows
        return Samples(x=self.x[of], born=self.born[of], count=self.count[of])
