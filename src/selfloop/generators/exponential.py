"""Independent waiting times: the logarithm of their scale walks with the drift ψ(n) − ln n."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from selfloop.generators.base import GENERATORS
from selfloop.generators.independent import Independent, refuse_unless


@GENERATORS.register
class Exponential(Independent):
    """Columns of positive numbers, each exponential with its own ``scale``, the mean of the training rows (R, d)."""

    name: Literal["exponential"] = "exponential"
    parameter: ClassVar[str] = "scale"
    untrained: ClassVar[float] = 1.0

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
