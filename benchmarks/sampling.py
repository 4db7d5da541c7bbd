"""Sampling 1000 points of a trained flow by dopri5, beside torchdiffeq."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchdiffeq import odeint

from benchmarks.timing import Row, compare
from benchmarks.training import Plain, moons
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators import OTCFM
from selfloop.learning.training import Budget, parameters

REPLICAS, POINTS = 8, 1000


def rows() -> Iterator[Row]:
    """Yield the comparisons."""
    with as_in_a_worker():
        streams, generator = Streams(tuple(range(REPLICAS))), OTCFM()
        data = Samples.full(torch.from_numpy(np.stack([moons(seed) for seed in range(REPLICAS)])), born=0)
        state = generator.fit(generator.init((2,), streams), data, Budget(epochs=150).resolve(1000), streams)
        model = Plain()
        model.load_state_dict({k: v[0] for k, v in parameters(state).items()})
        start = streams.normal("latents", (POINTS, 2))[0]

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            return model(torch.cat([x, t.expand(len(x), 1)], 1))

        @torch.no_grad()
        def theirs(times: int) -> Tensor:
            path: Tensor = odeint(velocity, start, torch.linspace(0, 1, times), rtol=1e-5, atol=1e-5, method="dopri5")
            return path[-1]

        apart = float((theirs(2) - generator.sample(state, POINTS, streams)[0]).abs().max())
        for times, what in ((2, "the end point"), (100, "100 times, as torchcfm's examples do")):
            yield compare(
                f"{POINTS} points, dopri5 at 1e-5, a stack of {REPLICAS}, one thread",
                lambda: generator.sample(state, POINTS, streams),
                f"torchdiffeq, one replica, {what}",
                lambda times=times: theirs(times),
                per=REPLICAS,
                note=f"largest difference of a coordinate {apart:.1g}",
            )
