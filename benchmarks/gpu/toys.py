"""Stage d: Figure 8's two-dimensional arms, trained as one stack on the device and on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.gpu.place import Place
from selfloop import Experiment
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators import OTCFM
from selfloop.generators.otcfm import conditional_path
from selfloop.learning.nets.mlp import time_mlp
from selfloop.learning.training import Batches, Blocks, Budget, train
from selfloop.learning.transport.coupling import optimal_pairs

_ARMS, _FEW = (200, 50, 800), (4,)
_ARM_STEPS = 1600  # that one thing is timed for


def stage(place: Place) -> None:
    """Report the rows: the fit as it is on one thread, and network and optimiser alone here and there."""
    for many in _FEW if place.small else _ARMS:
        place.attempt(f"{many} arms of Figure 8", lambda many=many: _compared(place, many), seconds=many / 40)


def _compared(place: Place, many: int) -> None:
    experiment = Experiment.load("fig8")
    generator, streams = experiment.generator, Streams(tuple(range(many)))
    assert isinstance(generator, OTCFM)
    split = experiment.data.load([0])
    rows = split.events.typed(split.train, generator.dtype)
    data = Samples.full(rows.expand(many, *rows.shape[1:]).contiguous(), born=0)
    state = generator.init(data.x.shape[2:], streams)
    steps = 4 if place.small else max(2, _ARM_STEPS // many)
    with as_in_a_worker():
        whole = _per_step(place, steps, lambda n: generator.fit(state, data, Budget(steps=n), streams))
        pairs = _pairs(generator, data, streams)
        coupling = _per_step(place, steps, lambda n: [pairs(step) for step in range(n)])
        given = pairs(0)
        alone = _per_step(place, steps, lambda n: _train(generator, state, given, n))
    there = {name: leaf.to(place.device) for name, leaf in state.items()}
    moved = tuple(tensor.to(place.device) for tensor in given)
    device = _per_step(place, steps, lambda n: _train(generator, there, moved, n))
    unit = "arm steps/s"
    place.say(f"{many} arms, whole step, one core", value=many / whole, unit=unit, ratio=1.0)
    place.say(
        f"{many} arms, batches and exact couplings alone, one core",
        value=many / coupling,
        unit=unit,
        ratio=whole / coupling,
        note="stays on the CPU: no device makes a step quicker than this",
    )
    place.say(f"{many} arms, network and Adam alone, one core", value=many / alone, unit=unit, ratio=whole / alone)
    place.say(f"{many} arms, network and Adam alone, the device", value=many / device, unit=unit, ratio=whole / device)


def _per_step(place: Place, steps: int, run: Callable[[int], object]) -> float:
    run(1)
    return place.seconds(lambda: run(steps)) / steps


def _pairs(generator: OTCFM, data: Samples, streams: Streams) -> Callable[[int], tuple[torch.Tensor, ...]]:
    b, d = generator.batch_size, data.x.shape[2]
    batches = Batches(data, b, streams)
    noise = Blocks(lambda shape, i: streams.normal("noise", shape, i), (b, d))
    times = Blocks(lambda shape, i: streams.uniform("times", shape, i), (b, 1))
    draws = Blocks(lambda shape, i: streams.integers("pairs", b, shape, i), (b,))
    return lambda step: (*optimal_pairs(noise[step], batches[step], draws[step]), times[step])


def _train(generator: OTCFM, state: State, given: tuple[torch.Tensor, ...], steps: int) -> State:
    x0, x1, t = given
    xt, ut = conditional_path(x0, x1, t, 0.0, None)

    def loss(params: State, step: int) -> torch.Tensor:
        return (time_mlp(params, xt, t.squeeze(-1)) - ut).square().mean((1, 2))

    return train(state, loss, steps=steps, adam=generator.optimizer, batch_size=generator.batch_size)
