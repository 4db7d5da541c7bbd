"""What a run of large networks would take, before it is begun: steps, events, time by measurement, disk, memory."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from selfloop.arms import arms, first_alike, stacks
from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.cost import refuse_excess
from selfloop.engines.device import Device
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker
from selfloop.environment import missing
from selfloop.experiment import Experiment
from selfloop.generators.base import GENERATORS
from selfloop.generators.network import NetworkModel
from selfloop.learning.training import Budget, parameters
from selfloop.mixing.base import draws

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class _Work:
    """How much there is to do."""

    first: int  # fits of generation 0
    later: int  # and of those after it
    steps_first: int
    steps_later: int
    images: int  # drawn by one arm in a generation

    @property
    def steps(self) -> int:
        return self.first * self.steps_first + self.later * self.steps_later

    @property
    def drawn(self) -> int:
        return (self.first + self.later) * self.images


def plan(experiment: Experiment, team: Team, seconds: float = 30.0) -> Rows:
    """Return rows (what, how much) on a run of images; nothing is written, and nothing but a step is computed.

    Args:
        experiment: of images.
        team: on whose first device a step and a sample are timed, and over which the time is shared.
        seconds: to measure for, at most, besides a first step and a first sample.

    Raises:
        ConfigError: the generator is no large network.
        DataError: its size cannot be known without data that are not there.
    """
    model, data = experiment.generator, experiment.data
    if not isinstance(model, NetworkModel):
        raise ConfigError(f"--plan is for large networks, such as those of images, not for {GENERATORS.name_of(model)}")
    event, n = data.extent()
    refuse_excess(experiment, lambda arm: arm.experiment.data.extent())
    work = _work(experiment, model, n)
    # Weights do not change how long a step takes; the checkpoint may not even be there.
    fresh = model.model_copy(update={"checkpoint": None}) if model.starts_from is not None else model
    with as_in_a_worker():  # as fits are
        step, image, count = _measured(fresh, event, team, seconds)
    hours = (work.steps * step + work.drawn * image) / 3600 / team.size
    state = 4 * count * (3 + (model.ema is not None))
    generations, count_arms = experiment.generations + 1, len(arms(experiment))
    kept = generations if experiment.keep_states == "all" else 3
    disk = count_arms * (kept * state + generations * work.images * math.prod(event))
    rows = [
        ("data", f"{n:,} images of {' × '.join(map(str, event))}"),
        ("network", f"{count:,} parameters"),
        ("arms", f"{count_arms}"),
        ("fits", f"{work.first + work.later}: generation 0 once a seed, then {experiment.generations} of each arm"),
        (
            "gradient steps",
            f"{work.steps:,}: {work.steps_first:,} in generation 0, {work.steps_later:,} in a later fit",
        ),
        ("images trained on", f"{work.steps * model.batch_size:,}"),
        ("images drawn", f"{work.drawn:,}"),
        ("a step", f"{step * 1e3:.3g} ms on {team.device}, batch {model.batch_size}"),
        ("an image", f"{image * 1e3:.3g} ms, {model.sample_batch} at once"),
        ("time", f"about {hours:.3g} hours on {team.size} × {team.device}, metrics not counted"),
        ("disk", f"{disk / 1e9:.3g} GB"),
        ("memory", f"at least {_memory(model, state, n, event) / 1e9:.3g} GB beside what a step needs"),
    ]
    return rows + [("missing", words) for words in missing(experiment)]


def _work(experiment: Experiment, model: NetworkModel, n: int) -> _Work:
    chosen = arms(experiment)
    groups = stacks(chosen)
    budget = experiment.budget or Budget(epochs=1)
    return _Work(
        first=sum(len(groups[i]) for i in set(first_alike(groups))),
        later=len(chosen) * experiment.generations,
        steps_first=(experiment.pretrain or budget).resolve(n).count(model.batch_size),
        steps_later=budget.resolve(n).count(model.batch_size),
        images=max(draws(arm.experiment.mixing, 1, n) for arm in chosen),
    )


def _measured(model: NetworkModel, event: tuple[int, ...], team: Team, seconds: float) -> tuple[float, float, int]:
    """Return the seconds of a step and of an image drawn, and the network's parameters.

    Where a whole batch would take too long it is timed on as many images as fit, and its time is proportional.
    """
    streams, device = Streams(seeds=(0,)), Device(Team(team.device))
    state = model.init(event, streams)
    images = torch.randint(0, 256, (1, model.batch_size, *event), dtype=torch.uint8, generator=torch.Generator())
    data = Samples.full(images, born=0)

    def step(batch: int) -> float:
        """Return the seconds of a step on a batch, without what a fit takes once."""
        smaller = model.model_copy(update={"batch_size": batch, "accumulate": 1})
        times = []
        for count in (1, 2):
            begun = time.perf_counter()
            smaller.fit(state, data, Budget(steps=count), streams, device)
            times.append(time.perf_counter() - begun)
        return max(times[1] - times[0], 1e-9)

    def sample(count: int) -> float:
        begun = time.perf_counter()
        model.sample(state, count, streams, device)
        return time.perf_counter() - begun

    step(1)  # compiles and allocates
    batch = _as_many_as_fit(step(1), model.batch_size, seconds / 6)
    count = _as_many_as_fit(sample(1), model.sample_batch, seconds / 3)
    numbers = sum(leaf.numel() for leaf in parameters(state).values())
    return step(batch) * model.batch_size / batch, sample(count) / count, numbers


def _as_many_as_fit(one: float, most: int, seconds: float) -> int:
    return max(1, min(most, int(seconds / one)))


def _memory(model: NetworkModel, state: int, n: int, event: tuple[int, ...]) -> float:
    """Return the bytes of a state and its gradients, and of the real, the mixed and the drawn images."""
    return state + state / (3 + (model.ema is not None)) + 4 * n * math.prod(event)
