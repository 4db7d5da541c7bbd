"""The mean of all fits so far."""

from __future__ import annotations

from typing import Literal

from selfloop.core.samples import State
from selfloop.updates.base import UPDATES, Update


@UPDATES.register
class Average(Update):
    """The running mean of the weights of all fits from generation 0 on, which a warm fit goes on from."""

    name: Literal["average"] = "average"

    def __call__(self, t: int, fitted: State, last: State, first: State) -> State:
        """Return θ̄ + (θ − θ̄) / (t + 1), θ̄ being the mean of the t fits before."""
        return {name: mean + (fitted[name] - mean) / (t + 1) for name, mean in last.items()}
