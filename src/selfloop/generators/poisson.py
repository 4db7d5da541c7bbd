"""Independent counts: a rate that has come to 0 stays there."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from selfloop.generators.base import GENERATORS
from selfloop.generators.independent import Independent, refuse_unless

_GREATEST = 2.0**53  # beyond it float64 has not every whole number


@GENERATORS.register
class Poisson(Independent):
    """Columns of counts, each Poisson with its own ``rate``, the mean of the training rows (R, d)."""

    name: Literal["poisson"] = "poisson"
    parameter: ClassVar[str] = "rate"
    untrained: ClassVar[float] = 1.0

    def refuse(self, x: Tensor) -> None:
        """Refuse other numbers than counts."""
        refuse_unless(_counts(x) & (x <= _GREATEST), x, "whole numbers from 0 to 2^53")

    def draw(self, rng: np.random.Generator, mean: np.ndarray, n: int) -> np.ndarray:
        """Return (n, d) counts."""
        return rng.poisson(mean, (n, *mean.shape))

    def possible(self, mean: Tensor) -> Tensor:
        """Return which are rates."""
        return (mean >= 0) & (mean <= _GREATEST)

    def log_density(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return x ln λ − λ − ln x!."""
        log_prob = torch.xlogy(x, mean) - mean - torch.lgamma(x + 1)
        return torch.where(_counts(x), log_prob, -torch.inf)


def _counts(x: Tensor) -> Tensor:
    return (x >= 0) & (x == x.round())
