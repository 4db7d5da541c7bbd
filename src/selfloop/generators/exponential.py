"""Independent waiting times: the logarithm of their scale walks with the drift ψ(n) − ln n."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS
from selfloop.generators.independent import Independent, refuse_unless


@GENERATORS.register
class Exponential(Independent):
    """Columns of positive numbers, each exponential with its own ``scale``, the mean of the training rows (R, d)."""

    name: Literal["exponential"] = "exponential"
    parameter: ClassVar[str] = "scale"
    untrained: ClassVar[float] = 1.0
    offers: ClassVar[frozenset[Capability]] = Independent.offers | {"temperature"}

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw every column by itself; at a temperature τ with the scale τ s, which is of e^(−x/s) to the power 1/τ."""
        return super().sample({self.parameter: temperature * state[self.parameter]}, n, streams, device)

    def refuse(self, x: Tensor) -> None:
        """Refuse numbers below 0, and columns without any above."""
        refuse_unless(x >= 0, x, "numbers from 0 on")
        if not (x > 0).any(0).all():
            raise ValueError("it makes positive numbers, and a column has none")

    def draw(self, rng: np.random.Generator, mean: np.ndarray, n: int) -> np.ndarray:
        """Return (n, d) positive numbers."""
        return rng.exponential(mean, (n, *mean.shape))

    def possible(self, mean: Tensor) -> Tensor:
        """Return which are scales."""
        return (mean > 0) & torch.isfinite(mean)

    def log_density(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return −ln s − x / s."""
        return torch.where(x >= 0, -mean.log() - x / mean, -torch.inf)
