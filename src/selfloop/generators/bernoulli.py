"""Independent bits: the share of ones walks until it is 0 or 1, as an allele's does in the Wright–Fisher model."""

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
class Bernoulli(Independent):
    """Columns of 0 and 1, each 1 with its own ``probability``, the share of ones that training rows have (R, d)."""

    name: Literal["bernoulli"] = "bernoulli"
    parameter: ClassVar[str] = "probability"
    untrained: ClassVar[float] = 0.5
    offers: ClassVar[frozenset[Capability]] = Independent.offers | {"temperature"}

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw every column by itself; at a temperature τ with p^(1/τ) / (p^(1/τ) + (1 − p)^(1/τ)) for p."""
        if temperature != 1:
            state = {self.parameter: (state[self.parameter].logit() / temperature).sigmoid()}
        return super().sample(state, n, streams, device)

    def refuse(self, x: Tensor) -> None:
        """Refuse other numbers than 0 and 1."""
        refuse_unless((x == 0) | (x == 1), x, "columns of 0 and 1")

    def draw(self, rng: np.random.Generator, mean: np.ndarray, n: int) -> np.ndarray:
        """Return (n, d) zeros and ones."""
        return rng.random((n, *mean.shape)) < mean

    def possible(self, mean: Tensor) -> Tensor:
        """Return which are shares."""
        return (mean >= 0) & (mean <= 1)

    def log_density(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return x ln p + (1 − x) ln(1 − p)."""
        log_prob = torch.xlogy(x, mean) + torch.xlogy(1 - x, 1 - mean)
        return torch.where((x == 0) | (x == 1), log_prob, -torch.inf)
