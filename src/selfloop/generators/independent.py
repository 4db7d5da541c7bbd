"""Independent columns of a family with one parameter each, which maximum likelihood sets to the mean of the column."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import Sampler
from selfloop.learning.training import Budget


class Independent(Sampler):
    """Columns that know nothing of each other; of rows that count w_i the parameter is Σ_i w_i x_i / Σ_i w_i.

    State: ``parameter`` (R, d) float64, under the name that the family has for it.

    Attributes:
        parameter: that name.
        untrained: its value before the first fit.
    """

    parameter: ClassVar[str]
    untrained: ClassVar[float]
    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "parameters", "exponential"))
    dtype: ClassVar[torch.dtype] = torch.float64
    stack: ClassVar[int] = 256

    @abstractmethod
    def draw(self, rng: np.random.Generator, mean: np.ndarray, n: int) -> np.ndarray:
        """Return (n, d) rows of columns with the means (d,), all of which are possible ones."""

    @abstractmethod
    def possible(self, mean: Tensor) -> Tensor:
        """Return which means the family has, bool of the same shape."""

    @abstractmethod
    def log_density(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return the log density of (R, N, d) values by column, given the means (R, 1, d); −∞ where there is none."""

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of a number a column."""
        return self.dtype.itemsize * math.prod(event)

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return the same parameter for all columns."""
        return {self.parameter: torch.full((len(streams.seeds), *event), self.untrained, dtype=self.dtype)}

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the means of the columns; neither ``state`` nor ``budget`` plays a part."""
        # One arm at a time: the order of a sum depends on the padding.
        rows = [data.rows(r, self.dtype) for r in range(len(data.count))]
        return {self.parameter: torch.stack([(w.unsqueeze(1) * x).sum(0) / w.sum() for x, w in rows])}

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> Tensor:
        """Draw every column by itself; NaN where the family has no such parameter."""
        drawn = []
        for rng, mean in zip(streams.numpy("latents"), state[self.parameter], strict=True):
            usable = self.possible(mean)
            safe = torch.where(usable, mean, torch.full_like(mean, self.untrained))
            x = torch.from_numpy(self.draw(rng, safe.numpy(), n)).to(self.dtype)
            drawn.append(torch.where(usable, x, torch.full_like(x, math.nan)))
        return torch.stack(drawn)

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the sum over columns of their log densities, of whole numbers log probabilities."""
        return self.log_density(state[self.parameter].unsqueeze(1), x.to(self.dtype)).sum(2)


def refuse_unless(sound: Tensor, x: Tensor, what: str) -> None:
    """Refuse rows some of whose numbers are not what they should be.

    Args:
        sound: (n, d) bool.
        x: the rows, (n, d).
        what: they should be.

    Raises:
        ValueError: with the first that is not.
    """
    if not sound.all():
        row, column = torch.nonzero(~sound)[0].tolist()
        raise ValueError(f"it makes {what}, and row {row} has {float(x[row, column]):g} in column {column}")
