"""Algorithm 1 of Bertrand et al. 2024 for a stack of arms: mix, fit, sample, measure."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from selfloop import mixing
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.data import Split
from selfloop.engines.device import HERE, Device
from selfloop.engines.team import Team
from selfloop.experiment import Arm
from selfloop.features.networks import AnyFeatures, cached
from selfloop.learning.training import FAILED, Budget, State, parameters, reset_optimizer
from selfloop.metrics import METRICS, Evidence
from selfloop.mixing.augment import History

Record = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What one generation of a stack of arms produced."""

    state: State
    samples: Samples
    records: list[Record]


def load(arms: Sequence[Arm]) -> Split:
    """Load the real data of a stack of arms, in the generator's number type; images stay uint8."""
    experiment = arms[0].experiment
    split = experiment.data.load([arm.seed for arm in arms])
    dtype = torch.uint8 if split.train.dtype == torch.uint8 else experiment.generator.dtype
    return replace(split, train=split.train.to(dtype), held_out=split.held_out.to(dtype))


def data_key(arms: Sequence[Arm]) -> str:
    """Return what :func:`load` depends on: stacks of which this is the same share their real data."""
    experiment = arms[0].experiment
    return f"{experiment.data.model_dump_json()} {[arm.seed for arm in arms]} {experiment.generator.dtype}"


def advance(
    arms: Sequence[Arm],
    split: Split,
    t: int,
    state: State | None,
    history: History,
    first: State | None,
    device: Device = HERE,
) -> Outcome:
    """Run generation t of Algorithm 1 for arms that differ in seed and λ only.

    An arm whose weights or samples are not finite has diverged: it keeps what it has, produces no more samples, and
    its neighbours go on. Its record has ``failed_step``, the step at which its loss was first not finite.

    Args:
        arms: R arms of one stack.
        split: their real data.
        t: 0 trains on real data alone; later ones on what the mixing regime makes of ``history``.
        state: after generation t − 1; None at t = 0.
        history: maps a generation before t to its samples.
        first: after generation 0; None at t = 0.
        device: where to fit and sample.

    Returns:
        The state, max(n, ⌊λ·n⌋) samples per arm, and one record per arm.
    """
    alive = [r for r in range(len(arms)) if t == 0 or int(history(t - 1).count[r])]
    if not alive:
        return Outcome(_required(state), history(t - 1), [_record(arm, t, split, None) for arm in arms])
    rows = Rows(alive, len(arms))
    living = [arms[r] for r in alive]
    real = split if rows.all else replace(split, train=split.train[alive], held_out=split.held_out[alive])
    then = None if state is None else rows.narrow(state)
    fitted, samples = _step(living, real.train, t, then, functools.cache(lambda g: history(g).select(alive)), device)
    origin = fitted if first is None else rows.narrow(first)
    records = _measure(living, real, t, fitted, origin, samples, device.team)
    for record, step in zip(records, fitted[FAILED].tolist() if FAILED in fitted else [], strict=False):
        if step >= 0:
            record["failed_step"] = step
    if rows.all:
        return Outcome(fitted, samples, records)
    every = {arm.index: _record(arm, t, split, None) for arm in arms} | {r["arm"]: r for r in records}
    return Outcome(rows.widen(fitted, _required(state)), rows.widen_samples(samples), list(every.values()))


def _step(
    arms: Sequence[Arm], train: Tensor, t: int, state: State | None, history: History, device: Device
) -> tuple[State, Samples]:
    """Mix, fit and sample: the three lines of Algorithm 1."""
    experiment = arms[0].experiment
    generator, n = experiment.generator, train.shape[1]
    streams = Streams(seeds=tuple(arm.seed for arm in arms), generation=t)
    real = Samples.full(train, born=0)

    data = mixing.stack(
        [
            arm.experiment.mixing(t, real.select([r]), _of(history, r), Streams((arm.seed,), t))
            for r, arm in enumerate(arms)
        ]
    )
    if state is None or experiment.retrain == "scratch":
        state = generator.init(train.shape[2:], streams)
    elif experiment.optimizer == "reset":
        state = reset_optimizer(state)
    budget = (experiment.pretrain if t == 0 else None) or experiment.budget or Budget(epochs=1)
    state = generator.fit(state, data, budget.resolve(n), streams, device)
    latents = streams if experiment.latents == "fresh" else streams.at(0)
    x = generator.sample(state, max(n, *(arm.experiment.mixing.synthetic(n) for arm in arms)), latents, device)
    return state, _freeze(Samples.full(x, born=t + 1), state, train.dtype)


def _of(history: History, r: int) -> History:
    return lambda t: history(t).select([r])


def _freeze(samples: Samples, state: State, dtype: torch.dtype) -> Samples:
    """Empty the sample sets of arms that have diverged, and turn the others into ``dtype`` if they are not yet."""
    leaves = (samples.x, *parameters(state).values())
    finite = torch.stack([torch.isfinite(v).reshape(len(v), -1).all(1) for v in leaves]).all(0)
    if finite.all():
        return replace(samples, x=samples.x.to(dtype))
    x = torch.zeros(samples.x.shape, dtype=dtype)
    x[finite] = samples.x[finite].to(dtype)
    return Samples(x=x, born=samples.born, count=samples.count * finite)


def _measure(
    arms: Sequence[Arm], split: Split, t: int, state: State, first: State, samples: Samples, team: Team
) -> list[Record]:
    """Compute the metrics of the arms that are finite, and their floors at generation 0.

    The processes of a team share the features of the generated images; the first alone goes on to the metrics.
    """
    experiment, n = arms[0].experiment, split.train.shape[1]
    sound = [r for r in range(len(arms)) if int(samples.count[r])]
    names, records = experiment.metrics, [_record(arm, t, split, None) for arm in arms]
    if not sound:
        return records
    rows = Rows(sound, len(arms))
    real = split if rows.all else replace(split, train=split.train[sound], held_out=split.held_out[sound])
    streams = Streams(seeds=tuple(arms[r].seed for r in sound))
    evidence = Evidence(
        generator=experiment.generator,
        state=rows.narrow(state),
        first=rows.narrow(first),
        untrained=experiment.generator.init(split.train.shape[2:], streams),
        train=real.train,
        held_out=real.held_out,
        generated=samples.x if rows.all and samples.x.shape[1] == n else samples.x[sound, :n],
        features=functools.partial(_features, experiment.features, split),
        modes=split.modes,
    )
    if team.size > 1 and experiment.features.images:
        together = [_features_together(experiment.features, split.pixels(x), team) for x in evidence.generated]
        evidence.shared("generated", lambda: together)
    if team.rank > 0:
        return records
    values = {name: METRICS[name].compute(evidence).tolist() for name in names}
    floor = replace(evidence, generated=evidence.train)
    floors = {name: METRICS[name].compute(floor).tolist() for name in names if t == 0 and METRICS[name].floor}
    for i, r in enumerate(sound):
        records[r] = _record(arms[r], t, split, {name: values[name][i] for name in names})
        if floors:
            records[r]["reference"] = {name: floors[name][i] for name in floors}
    return records


def _features(extractor: AnyFeatures, split: Split, x: Tensor, real: bool) -> Tensor:
    """Return the features (N, k) of (N, *event) rows in model units."""
    seen = split.pixels(x) if extractor.images else x
    return cached(extractor, seen) if real else extractor(seen)


def _features_together(extractor: AnyFeatures, images: Tensor, team: Team) -> Tensor:
    """Return the features of (N, C, H, W) images, of which every process computes its share."""
    own = extractor(images[team.rank :: team.size])
    every = own.new_zeros(len(images), own.shape[1])
    every[team.rank :: team.size] = own
    every = every.to(team.device)
    team.all_reduce([every])
    return every.cpu()


def named(record: Record, arm: Arm) -> Record:
    """Return an arm's record of generation 0 as that of another arm that differs from it in λ."""
    return record | {"arm": arm.index, "seed": arm.seed, "settings": _settings(arm)}


def _settings(arm: Arm) -> dict[str, Any]:
    return {k: "inf" if v == math.inf else v for k, v in arm.settings.items()}


def _record(arm: Arm, t: int, split: Split, metrics: dict[str, float] | None) -> Record:
    """Return a JSON-ready record; a number that is not finite becomes null, λ = inf the word "inf"."""
    n = split.train.shape[1]
    lam = arm.experiment.mixing
    synthetic = 0 if t == 0 else lam.synthetic(n)
    values = metrics or dict.fromkeys(arm.experiment.metrics, math.nan)
    return {
        "generation": t,
        "arm": arm.index,
        "seed": arm.seed,
        "settings": _settings(arm),
        "status": "diverged" if metrics is None else "ok",
        "n_real": 0 if t > 0 and math.isinf(lam.lam) else n,
        "n_synthetic": synthetic,
        "metrics": {name: value if math.isfinite(value) else None for name, value in values.items()},
    }


def _required(state: State | None) -> State:
    if state is None:
        raise ValueError("generations after the first need the state of the one before")
    return state


@dataclass(frozen=True)
class Rows:
    """Some of the R rows of a stack."""

    chosen: list[int]
    of: int

    @property
    def all(self) -> bool:
        """Whether these are all of them."""
        return len(self.chosen) == self.of

    def narrow(self, state: State) -> State:
        """Return the chosen rows of every leaf."""
        return state if self.all else {k: v[self.chosen] for k, v in state.items()}

    def widen(self, state: State, rest: State) -> State:
        """Return ``rest`` with the chosen rows replaced."""
        out = {k: v.clone() for k, v in rest.items()}
        for k, v in state.items():
            out[k][self.chosen] = v
        return out

    def widen_samples(self, samples: Samples) -> Samples:
        """Return the samples in a full stack whose other arms are empty."""
        x = samples.x.new_zeros(self.of, *samples.x.shape[1:])
        born = samples.born.new_zeros(self.of, samples.born.shape[1])
        count = samples.count.new_zeros(self.of)
        x[self.chosen], born[self.chosen], count[self.chosen] = samples.x, samples.born, samples.count
        return Samples(x=x, born=born, count=count)
