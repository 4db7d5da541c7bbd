"""Samples: a stack of data sets, one per arm, with the generation in which each row was born and what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
"""What a model is, by name; every leaf leads with R."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """R data sets of up to N rows; arms of different regimes share one stack because ``count`` may differ.

    Attributes:
        x: (R, N, *event) rows; those at and after ``count[r]`` are padding, zero, and mean nothing.
        born: (R, N) int16, 0 for a real row and t for one sampled from the model of generation t − 1,
            that is one that first enters the training set of generation t.
        count: (R,) int64, rows in use.
        weight: (R, N) float64, what each row counts, 0 or more; None where all rows count alike.
    """

    x: Tensor
    born: Tensor
    count: Tensor
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        rows = tuple(self.x.shape[:2])
        weighed = self.weight is None or tuple(self.weight.shape) == rows
        if tuple(self.born.shape) != rows or tuple(self.count.shape) != rows[:1] or not weighed:
            weight = "" if self.weight is None else f", weight {tuple(self.weight.shape)}"
            raise ValueError(
                f"x {tuple(self.x.shape)}, born {tuple(self.born.shape)} and count {tuple(self.count.shape)}{weight} "
                "disagree"
            )

    @classmethod
    def full(cls, x: Tensor, born: int) -> Samples:
        """Wrap (R, N, *event) rows that are all in use and all born in one generation."""
        r, n = x.shape[:2]
        return cls(x=x, born=torch.full((r, n), born, dtype=torch.int16), count=torch.full((r,), n))

    @classmethod
    def union(cls, parts: Sequence[Samples], weights: Sequence[float] | None = None) -> Samples:
        """Join full sets of the same arms one behind the other.

        Args:
            parts: sets without padding.
            weights: what every row of each counts; None leaves the parts' own.
        """
        if weights is not None:
            parts = [part.weighed(torch.full(part.born.shape, w)) for part, w in zip(parts, weights, strict=True)]
        own = [part.weight for part in parts]
        weight = None
        if any(w is not None for w in own):
            ones = [torch.ones(part.born.shape, dtype=torch.float64) for part in parts]
            weight = torch.cat([one if w is None else w for w, one in zip(own, ones, strict=True)], 1)
        return cls(
            x=torch.cat([part.x for part in parts], 1),
            born=torch.cat([part.born for part in parts], 1),
            count=torch.stack([part.count for part in parts]).sum(0),
            weight=weight,
        )

    def arm(self, r: int) -> Tensor:
        """Return the rows in use of arm r, (count[r], *event)."""
        return self.x[r, : int(self.count[r])]

    def select(self, rows: list[int]) -> Samples:
        """Return the stack of the arms ``rows``; those that follow each other are a view, not a copy."""
        follow = rows == list(range(rows[0], rows[-1] + 1))
        of = slice(rows[0], rows[-1] + 1) if follow else rows
        weight = None if self.weight is None else self.weight[of]
        return Samples(x=self.x[of], born=self.born[of], count=self.count[of], weight=weight)

    def first(self, k: int) -> Samples:
        """Return the first k rows of every arm, a view.

        Raises:
            ValueError: an arm has fewer.
        """
        if k > (least := int(self.count.min())):
            raise ValueError(f"{k} rows are asked for, and there are {least}")
        weight = None if self.weight is None else self.weight[:, :k]
        return Samples(x=self.x[:, :k], born=self.born[:, :k], count=torch.full_like(self.count, k), weight=weight)

    def keep(self, use: Tensor) -> Samples:
        """Return the rows of a single arm of which ``use``, (N,) bool, is true, in their order."""
        rows = torch.nonzero(use[: int(self.count[0])]).squeeze(1)
        weight = None if self.weight is None else self.weight[:, rows]
        return Samples(x=self.x[:, rows], born=self.born[:, rows], count=torch.tensor([len(rows)]), weight=weight)

    def weighed(self, weight: Tensor) -> Samples:
        """Return the same rows, counting ``weight`` (R, N)."""
        return Samples(x=self.x, born=self.born, count=self.count, weight=weight.to(torch.float64))


def stack(parts: Sequence[Samples]) -> Samples:
    """Stack arms whose training sets differ in size, padding the shorter ones with zeros; one alone is not copied."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.x.shape[1] for part in parts)

    def pad(x: Tensor) -> Tensor:
        padding = x.new_zeros(x.shape[0], longest - x.shape[1], *x.shape[2:])
        return torch.cat([x, padding], 1)

    weight = None
    if any(part.weight is not None for part in parts):
        weights = [torch.ones_like(p.born, dtype=torch.float64) if p.weight is None else p.weight for p in parts]
        weight = torch.cat([pad(w) for w in weights])
    return Samples(
        x=torch.cat([pad(part.x) for part in parts]),
        born=torch.cat([pad(part.born) for part in parts]),
        count=torch.cat([part.count for part in parts]),
        weight=weight,
    )
