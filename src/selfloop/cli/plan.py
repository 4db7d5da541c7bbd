"""What a run would take, before it is begun: fits, steps, events, time by measurement, disk, memory."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from selfloop.arms import Arm, arms, first_alike, stacks, twins
from selfloop.core.errors import FOREIGN, ConfigError, SelfloopError, counted, said
from selfloop.core.events import Kind, row_size
from selfloop.core.memory import in_words
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.cost import refuse_excess
from selfloop.data.base import DATA
from selfloop.engines.device import Device
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker
from selfloop.environment import missing
from selfloop.experiment import Experiment
from selfloop.generators.base import GENERATORS
from selfloop.generators.network import NetworkModel
from selfloop.learning.training import Budget, parameters
from selfloop.mixing.base import MIXINGS, draws
from selfloop.rehearsal import trained_on

Rows = list[tuple[str, str]]
Result = TypeVar("Result")

_STEPS = 20  # of gradients, by which a short fit is timed
_LONG = 10.0  # seconds of a call that is not worth another
_PROBES = 20  # generations, at which regimes are asked how many rows they draw and train on
_FEW = 100  # rows with which they are asked what they train on


@dataclass(frozen=True)
class _Work:
    """How much there is to do."""

    first: int  # fits of generation 0
    later: int  # and of those after it
    steps_first: int
    steps_later: int
    rows: int  # drawn by one arm in a generation

    @property
    def steps(self) -> int:
        return self.first * self.steps_first + self.later * self.steps_later

    @property
    def drawn(self) -> int:
        return (self.first + self.later) * self.rows


def plan(experiment: Experiment, team: Team, seconds: float = 30.0) -> Rows:
    """Return rows (what, how much) on a run; nothing is written.

    Of a large network a step and a sample are computed, of any other generator a short fit to the rows of one seed.

    Args:
        experiment: to be run.
        team: on whose first device a step and a sample are timed, and over which the time is shared.
        seconds: to measure a network for, at most, besides a first step and a first sample.

    Raises:
        ConfigError: it would take more memory than there is, or a generator fails.
        DataError: its size cannot be known without data that are not there.
    """
    model, data = experiment.generator, experiment.data
    if not isinstance(model, NetworkModel):
        return _of_small(experiment)
    event, n = data.extent()
    refuse_excess(experiment, lambda arm: arm.experiment.data.extent())
    work = _work(experiment, model, n)
    # Weights do not change how long a step takes; the checkpoint may not even be there.
    fresh = model.model_copy(update={"checkpoint": None}) if model.starts_from is not None else model
    with as_in_a_worker():  # as fits are
        step, row, count = _measured(fresh, data.holds, event, team, seconds)
    seconds_in_all = (work.steps * step + work.drawn * row) / team.size
    state = 4 * count * (3 + (model.ema is not None))
    size = row_size(data.holds, event, torch.uint8)
    what = "images" if data.holds == "images" else "rows"
    generations, count_arms = experiment.generations + 1, len(arms(experiment))
    kept = generations if experiment.keep_states == "all" else 3
    disk = count_arms * (kept * state + generations * work.rows * size)
    few = Samples.full(_noise(data.holds, event, min(n, _FEW)), born=0)
    regimes = {str(MIXINGS.plain(arm.experiment.mixing)): arm for arm in arms(experiment)}
    most = max(max(_shares(arm, few)) for arm in regimes.values())
    memory = _memory(model, state, n, most, data.holds, event)
    devices = f"{team.size} × {team.device}" if team.size > 1 else f"{team.device}"
    rows = [
        ("data", f"{n:,} {what} of {_row(data.holds, event)}"),
        ("network", counted(count, "parameter")),
        ("arms", f"{count_arms:,}"),
        ("fits", _fits(work.first, experiment.generations, count_arms)),
        ("a fit trains on", _mixed([most * n], what)),
        ("gradient steps", f"{work.steps:,}: {work.steps_first:,} in a first fit, {work.steps_later:,} in a later one"),
        (f"{what} seen", f"{work.steps * model.batch_size:,} in all steps"),
        (f"{what} drawn", f"{work.drawn:,}"),
        ("a step", f"takes {step * 1e3:.3g} ms on {team.device}, of a batch of {model.batch_size:,}"),
        ("drawing", f"takes {row * 1e3:.3g} ms for one of {model.sample_batch:,} {what} that are drawn at once"),
        ("time", f"{_time(seconds_in_all)} on {devices}, metrics not counted"),
        ("disk", f"{in_words(round(disk))} of samples and weights"),
        ("memory", f"at least {in_words(round(memory))} of {what} and weights, beside what a step and Python need"),
    ]
    return rows + [("missing", words) for words in missing(experiment)]


@dataclass(frozen=True)
class _Small:
    """What one arm takes: its rows, bytes of a row and of a state, seconds of a first and a later fit and of a row."""

    few: Samples  # rows of its data
    kind: Kind
    event: tuple[int, ...]
    n: int
    row: int
    state: int
    first: float
    later: float
    sample: float


def _of_small(experiment: Experiment) -> Rows:
    """Return the rows of a plan for generators that are no large networks, whatever the grid varies."""
    chosen = arms(experiment)
    groups = stacks(chosen)
    firsts = set(first_alike(groups))
    known: dict[str, _Small] = {}
    begun, drawn, memory, disk, seconds = 0, 0, 0, 0, 0.0
    last, probes, most = experiment.generations, _probes(experiment), list[float]()
    asked: dict[tuple[str, str], list[float]] = {}  # of a regime and the rest
    for i, members in enumerate(groups):
        of = members[0].experiment
        key = json.dumps([GENERATORS.plain(of.generator), DATA.plain(of.data), str(of.budget), str(of.pretrain)])
        one = known[key] = known.get(key) or _measured_small(of)
        first, later = len(set(twins(members))) * (i in firsts), len(members) * last
        begun += first
        counts = [draws(arm.experiment.mixing, t, one.n) for arm in members for t in probes]
        rows = round(sum(counts) / len(probes) * (last + 1))
        drawn += rows
        regimes = [(key, str(MIXINGS.plain(arm.experiment.mixing))) for arm in members]
        for arm, regime in zip(members, regimes, strict=True):
            asked[regime] = asked.get(regime) or _shares(arm, one.few)
        shares = [asked[regime] for regime in regimes]
        most.append(max(map(max, shares)) * one.n)
        memory = max(memory, len(members) * (round(one.row * (one.n + max(counts) + most[-1])) + one.state))
        kept = last + 1 if experiment.keep_states == "all" else 3
        disk += rows * one.row + len(members) * kept * one.state
        # Steps are as many whatever they choose from; other fits look at all rows.
        larger = 1.0 if of.generator.trained else sum(map(sum, shares)) / sum(map(len, shares))
        seconds += first * one.first + later * one.later * larger + rows * one.sample
    sets = dict.fromkeys(f"{one.n:,} rows of {_row(one.kind, one.event)}" for one in known.values())
    beside = " that may run side by side" if len(groups) > 1 else ""
    return [
        ("data", "; ".join(sets)),
        ("arms", f"{len(chosen):,}, in {counted(len(groups), 'task')}{beside}"),
        ("fits", _fits(begun, last, len(chosen))),
        ("a fit trains on", _mixed(most, "rows")),
        ("rows drawn", f"{drawn:,}"),
        ("time", f"{_time(seconds)} of one core, arm by arm, metrics not counted"),
        ("disk", f"{in_words(disk)} of samples and weights"),
        ("memory", f"at least {in_words(memory)} of rows, samples and weights, beside what Python needs"),
        *(("missing", words) for words in missing(experiment)),
    ]


def _measured_small(experiment: Experiment) -> _Small:
    """Fit one arm's generator once, by gradients for a few steps alone, and draw its samples.

    Raises:
        ConfigError: that fails.
    """
    model, streams = experiment.generator, Streams(seeds=(0,))
    split = experiment.data.load([0])
    x = split.events.typed(split.train, model.dtype)
    event, n = split.events.space, x.shape[1]
    refuse_excess(experiment, lambda arm: (event, n))
    rows = replace(Samples.full(x, born=0, label=split.train_label), categories=split.events.categories)
    budgets = [(each or experiment.budget or Budget(epochs=1)).resolve(n) for each in (experiment.pretrain, None)]
    batch = getattr(model, "batch_size", 1)
    try:
        state = model.init(event, streams)
        fitted, whole = _timed(lambda: model.fit(state, rows, Budget(steps=1), streams))
        step = 0.0
        if model.trained:
            more = _timed(lambda: model.fit(state, rows, Budget(steps=1 + _STEPS), streams))[1]
            step = max(more - whole, 0.0) / _STEPS
        sample = _timed(lambda: model.sample(fitted, n, streams))[1] / n
    except SelfloopError:
        raise
    except FOREIGN as error:  # whatever the generator's own code raises
        raise ConfigError(f"generator {GENERATORS.name_of(model)!r} fails: {said(error)}") from error
    first, later = ((whole if not model.trained else step * budget.count(batch)) for budget in budgets)
    size = sum(leaf.numel() * leaf.element_size() for leaf in fitted.values())
    few = rows.first(min(n, _FEW))
    return _Small(few, experiment.data.holds, event, n, x[0, 0].nbytes, size, first, later, sample)


def _timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """Return what a call returns and its seconds; what is short is called again, as the first call compiles."""
    times = list[float]()
    while True:
        begun = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - begun)
        if len(times) == 2 or times[0] > _LONG:
            return found, min(times)


def _work(experiment: Experiment, model: NetworkModel, n: int) -> _Work:
    chosen = arms(experiment)
    groups = stacks(chosen)
    budget = experiment.budget or Budget(epochs=1)
    return _Work(
        first=sum(len(set(twins(groups[i]))) for i in set(first_alike(groups))),
        later=len(chosen) * experiment.generations,
        steps_first=(experiment.pretrain or budget).resolve(n).count(model.batch_size),
        steps_later=budget.resolve(n).count(model.batch_size),
        rows=max(draws(arm.experiment.mixing, 1, n) for arm in chosen),
    )


def _measured(
    model: NetworkModel, kind: Kind, event: tuple[int, ...], team: Team, seconds: float
) -> tuple[float, float, int]:
    """Return the seconds of a step and of a row drawn, and the network's parameters.

    Where a whole batch would take too long it is timed on as many rows as fit, and its time is proportional.
    """
    streams, device = Streams(seeds=(0,)), Device(Team(team.device))
    state = model.init(event, streams)
    data = Samples.full(_noise(kind, event, model.batch_size), born=0)

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


def _noise(kind: Kind, event: tuple[int, ...], n: int) -> Tensor:
    """Return rows (1, n, *event) of images or of text that mean nothing."""
    shape, high, dtype = (event, 256, torch.uint8) if kind == "images" else (event[:1], event[-1], torch.int32)
    return torch.randint(0, high, (1, n, *shape), dtype=dtype, generator=torch.Generator())


def _probes(experiment: Experiment) -> list[int]:
    last = experiment.generations
    return sorted({round(last * i / _PROBES) for i in range(_PROBES + 1)})


def _shares(arm: Arm, rows: Samples) -> list[float]:
    """Return how many rows a fit of an arm has for every real one, at some generations from 1 on.

    Where a regime refuses rows that mean nothing in place of real ones, it is taken to have what it draws beside these.
    """
    found, n = [], rows.x.shape[1]
    for t in _probes(arm.experiment)[1:] or [1]:
        try:
            found.append(trained_on(arm, rows, t))
        except SelfloopError:
            found.append(1 + draws(arm.experiment.mixing, t, n) / n)
    return found


def _mixed(most: list[float], what: str) -> str:
    """Return in words how many rows a fit has at most, by the most of every stack."""
    low, high = (f"{round(each):,}" for each in (min(most), max(most)))
    return f"at most {high} {what}" if low == high else f"at most {low} to {high} {what}, by arm"


def _fits(first: int, generations: int, count_arms: int) -> str:
    """Return in words how many fits there are: arms that differ in their regime alone share those of generation 0."""
    return f"{first + generations * count_arms:,}: {first:,} in generation 0, then {generations:,} of each arm"


def _row(kind: Kind, event: tuple[int, ...]) -> str:
    """Return in words what a row is."""
    if kind == "text":
        return f"{counted(event[0], 'token')}, out of {event[1]:,} different ones"
    return counted(event[0], "number") if len(event) == 1 else f"{' × '.join(map(str, event))} numbers"


def _time(seconds: float) -> str:
    """Return in words how long something takes, in the unit in which that is a number one can picture."""
    if seconds < 1:
        return "less than a second"
    units = (("second", 1, 100), ("minute", 60, 100), ("hour", 3600, 72), ("day", 86400, math.inf))
    name, size = next((name, size) for name, size, most in units if seconds < most * size)
    number = f"{seconds / size:.2g}" if seconds < 100 * size else f"{seconds / size:,.0f}"
    return f"about {number} {name}{'' if number == '1' else 's'}"


def _as_many_as_fit(one: float, most: int, seconds: float) -> int:
    return max(1, min(most, int(seconds / one)))


def _memory(model: NetworkModel, state: int, n: int, share: float, kind: Kind, event: tuple[int, ...]) -> float:
    """Return the bytes of a state and its gradients, of what is not trained, and of real, mixed and drawn rows.

    ``share`` is how many rows are mixed for every real one.
    """
    gradients, rows = state / (3 + (model.ema is not None)), (3 + share) * n * row_size(kind, event, torch.uint8)
    return state + gradients + model.shared_size(event) + rows
