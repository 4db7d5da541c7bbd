"""A generator: the uniform distribution on the box that its rows span."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators import Sampler
from selfloop.learning.training import Budget


class Uniform(Sampler):
    """The uniform distribution between the least and the greatest value of each coordinate."""

    name: Literal["uniform"] = "uniform"
    dtype: ClassVar[torch.dtype] = torch.float64

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return the unit box."""
        shape = (len(streams.seeds), *event)
        return {"low": torch.zeros(shape, dtype=self.dtype), "high": torch.ones(shape, dtype=self.dtype)}

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the box of each arm's rows."""
        arms = [data.arm(r) for r in range(len(data.count))]
        return {
            "low": torch.stack([x.min(0).values for x in arms]),
            "high": torch.stack([x.max(0).values for x in arms]),
        }

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> Tensor:
        """Draw from each arm's own stream."""
        u = streams.uniform("uniform", (n, *state["low"].shape[1:])).to(self.dtype)
        return state["low"].unsqueeze(1) + u * (state["high"] - state["low"]).unsqueeze(1)
