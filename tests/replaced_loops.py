"""Loops of a generator alone, all arms in one stack, for what theory says of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.generators.base import Generator
from selfloop.learning.training import Budget

BUDGET = Budget(steps=1)


def fit(generator: Generator, data: Samples, state: State | None = None, generation: int = 0) -> State:
    """Return the fit to the data of R arms with the seeds 0 … R − 1."""
    streams = Streams(tuple(range(len(data.x))), generation)
    state = generator.init(data.x.shape[2:], streams) if state is None else state
    return generator.fit(state, data, BUDGET, streams)


def replaced(generator: Generator, x: Tensor, generations: int) -> Iterator[State]:
    """Yield the states of generations 0, 1, … of R arms (R, n, d) that each train on as many samples of the last."""
    r, n = x.shape[:2]
    state = fit(generator, Samples.full(x, born=0))
    yield state
    for t in range(1, generations + 1):
        x = generator.sample(state, n, Streams(tuple(range(r)), t - 1))
        state = fit(generator, Samples.full(x, born=t), state, t)
        yield state


def agrees(values: Tensor | np.ndarray, expected: float, sigmas: float = 5) -> None:
    """Assert that the mean of independent values is what was expected, within so many of its standard errors."""
    values = np.asarray(values)
    error = values.std(ddof=1) / len(values) ** 0.5
    assert abs(values.mean() - expected) < sigmas * error, f"{values.mean():.5g} ± {error:.2g}, not {expected:.5g}"


def weighed(x: Tensor, weight: Tensor) -> Samples:
    """Return rows (n, d) of one arm that count ``weight`` (n,)."""
    return Samples.full(x[None], born=0).weighed(weight[None])


def repeated(x: Tensor, times: Tensor) -> Samples:
    """Return each row (n, d) of one arm as often as ``times`` (n,) says."""
    return Samples.full(x.repeat_interleave(times.long(), 0)[None], born=0)
