"""What a network of numbers says of rows with categories: probabilities of their levels, and numbers elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from selfloop.core.samples import Samples, State, category_numbers, numbered_categories
from selfloop.learning.training import CATEGORY

Way = Literal["softmax", "one-hot"]
"""How a network learns categories: by :class:`Head`, or as numbers like all others."""


@dataclass(frozen=True)
class Head:
    """Reads the outputs (…, d) of a network by the kind of column that each coordinate is of.

    Those of a category are logits of its levels: cross-entropy makes of them the probabilities of the levels given what
    the network has seen, which are the mean of the one-hot coordinates. A category of one coordinate, 1 or 0, has its
    logit, and 0 beside it. Outputs for numbers are taken as they are; without categories all of them are.

    Attributes:
        categories: the coordinates of each, ascending, as :class:`~selfloop.core.samples.Samples` has them.
        d: how many coordinates there are.
    """

    categories: tuple[range, ...]
    d: int

    @classmethod
    def of(cls, state: State, d: int) -> Head:
        """Return that of a state which :func:`told` has made; all its arms have the same columns."""
        return cls(numbered_categories(state[CATEGORY][0]) if CATEGORY in state else (), d)

    @cached_property
    def _runs(self) -> list[tuple[int, int]]:
        """How many coordinates are of categories of equally many levels, 0 of numbers, and how many: run after run."""
        runs: list[tuple[int, int]] = []
        at = 0
        for category in (*self.categories, range(self.d, self.d)):
            for size, levels in ((category.start - at, 0), (len(category), len(category))):
                if size and runs and runs[-1][1] == levels:
                    runs[-1] = (runs[-1][0] + size, levels)
                elif size:
                    runs.append((size, levels))
            at = category.stop
        return runs

    def _apart(self, *every: Tensor) -> list[tuple[int, tuple[Tensor, ...]]]:
        """Return the levels of each run, and its coordinates of tensors (…, d)."""
        sizes = [size for size, _ in self._runs]
        parts = zip(*(torch.split(x, sizes, -1) for x in every), strict=True)
        return [(levels, own) for (_, levels), own in zip(self._runs, parts, strict=True)]

    @cached_property
    def numbers(self) -> Tensor:
        """Whether each coordinate is a number's, (d,) bool."""
        return torch.cat([torch.full((size,), levels == 0) for size, levels in self._runs])

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of levels, and the outputs for numbers, (…, d)."""
        if not self.categories:
            return outputs
        return torch.cat([_softmax(x, levels) if levels else x for levels, (x,) in self._apart(outputs)], -1)

    def loss(self, outputs: Tensor, target: Tensor, rows: Tensor) -> Tensor:
        """Return what outputs lose at each coordinate, (…, d): over a category the sum is its cross-entropy in nats.

        Args:
            outputs: of the network.
            target: (…, d) what they are to be for numbers, whose loss is the squared error.
            rows: (…, d) the data, whose categories are one-hot.
        """
        if not self.categories:
            return (outputs - target).square()
        parts = self._apart(outputs, target, rows)
        return torch.cat([_entropy(x, y, levels) if levels else (x - u).square() for levels, (x, u, y) in parts], -1)

    def drawn(self, probabilities: Tensor, uniform: Tensor) -> Tensor:
        """Return rows (…, d) with one level of each category, one-hot, drawn by its probability; numbers stay.

        What is not finite stays as well.

        Args:
            probabilities: (…, d), of each category about 1 together.
            uniform: (…, number of categories) numbers on [0, 1).
        """
        if not self.categories:
            return probabilities
        each = iter(torch.split(uniform, [size // levels for size, levels in self._runs if levels], -1))
        parts = [_drawn(x, next(each), levels) if levels else x for levels, (x,) in self._apart(probabilities)]
        return torch.cat(parts, -1)


def told(state: State, data: Samples, way: Way) -> State:
    """Return a state that knows the categories of the rows it is fitted to, where a network is to have a head."""
    if way == "one-hot" or not data.categories:
        return state
    return state | {CATEGORY: category_numbers(data.categories, data.x.shape[2]).repeat(len(data.x), 1)}


# Softmax and its logarithm go row by row, so that no number depends on where in a stack it stands; an exponential of
# all at once would round some by where vectors end.


def _logits(x: Tensor, levels: int) -> Tensor:
    """Return logits (…, m, levels), or (…, m, 2) of single coordinates."""
    return torch.stack([x, torch.zeros_like(x)], -1) if levels == 1 else x.view(*x.shape[:-1], -1, levels)


def _softmax(x: Tensor, levels: int) -> Tensor:
    """Return the probabilities (…, m levels) of logits."""
    found = _logits(x, levels).softmax(-1)
    return found[..., 0] if levels == 1 else found.flatten(-2)


def _entropy(x: Tensor, rows: Tensor, levels: int) -> Tensor:
    """Return −y ln p at each of the coordinates (…, m levels) of logits x, y being one-hot."""
    logs = _logits(x, levels).log_softmax(-1)
    if levels == 1:
        return -(rows * logs[..., 0] + (1 - rows) * logs[..., 1])
    return -rows * logs.flatten(-2)


def _drawn(x: Tensor, uniform: Tensor, levels: int) -> Tensor:
    """Return one-hot levels (…, m levels) by their probabilities and m uniform numbers."""
    if levels == 1:
        found = uniform < x
    else:
        edges = x.view(*x.shape[:-1], -1, levels).clamp_min(0).cumsum(-1)
        passed = uniform.unsqueeze(-1) * edges[..., -1:] >= edges
        which = passed.sum(-1, keepdim=True).clamp_max(levels - 1)
        found = (which == torch.arange(levels)).flatten(-2)
    return torch.where(torch.isfinite(x), found.to(x.dtype), x)
