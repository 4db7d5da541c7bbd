"""What a generator is: frozen hyperparameters whose methods take and return states that lead with R."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.learning.training import Budget, State


class Generator(Protocol):
    """A family of generative models; no method lets an arm see its neighbours.

    Attributes:
        trained: whether ``fit`` takes gradient steps, and so needs a budget.
        dtype: of samples and parameters.
        stack: how many arms to train in one tensor program.
    """

    trained: ClassVar[bool]
    dtype: ClassVar[torch.dtype]
    stack: ClassVar[int]

    @property
    def name(self) -> str:
        """By which a configuration selects the family."""

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return the state of R untrained models of events of the given shape."""

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the state after fitting each model to its own data, going on from ``state``."""

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> Tensor:
        """Draw (R, n, *event) samples; of an arm that has diverged, NaN, and floats where ``dtype`` has no NaN."""


@runtime_checkable
class Density(Protocol):
    """A generator whose likelihood can be computed."""

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log density of (R, N, *event) points in nats, (R, N)."""
