"""Algorithm 1 of Bertrand et al. 2024 for a stack of arms: mix, fit, sample, measure."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from selfloop.arms import Arm, twins
from selfloop.core.errors import ConfigError
from selfloop.core.records import Record, Status
from selfloop.core.samples import Samples, State, stack
from selfloop.core.streams import Streams
from selfloop.data.base import Split
from selfloop.engines.device import HERE, Device
from selfloop.engines.journal import Journal, Took
from selfloop.engines.team import Team
from selfloop.features.base import FEATURES, Extractor, cached
from selfloop.generators.base import GENERATORS, Conditional, Density, Generator, Sampler, Tempered, attributed
from selfloop.learning.training import FAILED, Budget, parameters, reset_optimizer
from selfloop.metrics.base import METRICS, Evidence, computed
from selfloop.mixing.base import History, Pool, draws, label, needs, ratio, sampling_temperature, training_set
from selfloop.updates.base import updated


@dataclass(frozen=True)
class Outcome:
    """What one generation of a stack of arms produced.

    Attributes:
        state: after it.
        samples: of it.
        records: one per arm.
        losses: of the steps of its fits, as :meth:`~selfloop.engines.journal.Journal.tensors` has them.
        took: how long it was at work; None where nothing was fitted.
    """

    state: State
    samples: Samples
    records: list[Record]
    losses: State = field(default_factory=dict)
    took: Took | None = None

    @property
    def tensors(self) -> dict[str, State]:
        """What is stored of it, by kind of file: no losses of models without gradient steps."""
        found = {"state": self.state, "samples": self.samples.stored()}
        return found | {"losses": self.losses} if self.losses else found


def load(arms: Sequence[Arm], check: Callable[[Arm, Split, int], None] | None = None) -> Split:
    """Load the real data of a stack of arms, in the number type that the generator takes.

    Args:
        arms: of one stack.
        check: is shown each arm, the data as they were loaded, and the arm's row there.
    """
    experiment = arms[0].experiment
    split = experiment.data.load([arm.seed for arm in arms])
    if check is not None:
        for r, arm in enumerate(arms):
            check(arm, split, r)
    typed = functools.partial(split.events.typed, dtype=experiment.generator.dtype)
    aside = None if split.aside is None else typed(split.aside)
    found = replace(split, train=typed(split.train), held_out=typed(split.held_out), aside=aside)
    if "labels" in experiment.generator.offers:
        return found
    return replace(found, train_label=None, held_out_label=None, aside_label=None)  # for nobody to be told of


def data_key(arms: Sequence[Arm]) -> str:
    """Return what :func:`load` depends on: stacks of which this is the same share their real data."""
    return f"{[arm.data_key for arm in arms]} {arms[0].experiment.generator.dtype}"


def looks_back(arms: Sequence[Arm]) -> bool:
    """Whether a metric, an update or a regime of a stack looks at the weights of generation 0."""
    first = arms[0].experiment
    if first.update is not None or any(METRICS[name].weights for name in first.metrics):
        return True
    return any("density" in needs(arm.experiment.mixing) for arm in arms)


def mix(arms: Sequence[Arm], split: Split, t: int, history: History, first: State | None = None) -> Samples:
    """Return the training sets of generation t of a stack of arms, as each arm's regime makes them.

    Args:
        arms: of one stack.
        split: their real data.
        t: the generation.
        history: maps a generation before t to its samples.
        first: the state after generation 0, whose density regimes may ask for; None or {} where none needs it.

    Raises:
        ConfigError: a regime asks for what is not there, or returns something else than rows.
        DataError: the data have too few fresh rows left.
    """
    real = Samples.full(split.train, born=0, label=split.train_label)

    def pool(r: int, arm: Arm) -> Pool:
        data, dtype = arm.experiment.data, arm.experiment.generator.dtype
        needed = needs(arm.experiment.mixing)
        fresh: Callable[[int], Tensor] | None = None
        fresh_label: Callable[[int], Tensor | None] | None = None
        if "fresh" in needed:
            fresh = lambda k: split.events.typed(data.fresh(arm.seed, t, k), dtype)  # noqa: E731
            if split.aside is not None:  # loaded, and known by its hash
                fresh = functools.partial(split.fresh, r, t)
                fresh_label = functools.partial(split.fresh_label, r, t)
        past = lambda g: attributed(arm.experiment.generator, history(g).select([r]))  # noqa: E731
        score = functools.partial(_density, arm.experiment.generator, first, r) if first else None
        density = score if "density" in needed else None
        streams, modes = Streams((arm.seed,), t), data.modes()
        return Pool(t, real.select([r]), streams, past, fresh, density, modes, fresh_label=fresh_label)

    found = stack([training_set(arm.experiment.mixing, pool(r, arm)) for r, arm in enumerate(arms)])
    classes = split.events.classes
    if found.label is not None and int(found.label.max()) >= classes:
        what = f"label {int(found.label.max())}, and classes are 0 to {classes - 1}"
        raise ConfigError(f"the training sets of generation {t} have a row of {what}")
    return replace(found, categories=split.events.categories)


def _density(generator: Generator, first: State, r: int, x: Tensor) -> Tensor:
    """Return the log density (N,) of rows (N, *event) under arm r's model of generation 0.

    Raises:
        ConfigError: it has none.
    """
    if not isinstance(generator, Density):
        raise ConfigError(f"generator {GENERATORS.name_of(generator)} has no log_prob, which the mixing asks for")
    return generator.log_prob({k: v[[r]] for k, v in first.items()}, x[None])[0]


def advance(
    arms: Sequence[Arm],
    split: Split,
    t: int,
    state: State | None,
    history: History,
    first: State | None,
    device: Device = HERE,
    before: Callable[[], Sequence[Record]] | None = None,
    stopped: frozenset[int] = frozenset(),
) -> Outcome:
    """Run generation t of Algorithm 1 for arms that differ in seed and regime only.

    Arms whose regimes do not tell generation 0 apart have one fit in it, whose outcome is that of each.

    An arm whose weights or samples are not finite has diverged: it keeps what it has, produces no more samples, and
    its neighbours go on. Its record has ``failed_step``, the step at which its loss was first not finite, or
    ``failure``, what a model of the user's raised. So it is with an arm whose regime finds no row to train on, as a
    verifier's that keeps none: it has starved; and with one that is stopped.

    A record says by ``device`` where the networks ran, if not on the CPU.

    Args:
        arms: R arms of one stack.
        split: their real data.
        t: 0 begins; later ones may train on what ``history`` holds.
        state: after generation t − 1; None at t = 0.
        history: maps a generation before t to its samples.
        first: after generation 0; None at t = 0, and {} where no regime, update or metric looks at it.
        device: where to fit and sample.
        before: returns the records of generation t − 1, which know how arms have ended; without them, they diverged.
        stopped: indices of the arms that an alarm has ended, at generation t − 1 or before.

    Returns:
        The state, as many samples per arm as its regime wants, and one record per arm.
    """
    if t == 0 and (first_of := twins(arms)) != (chosen := [r for r, first in enumerate(first_of) if first == r]):
        made = advance([arms[r] for r in chosen], split.select(chosen), 0, None, history, None, device, before, stopped)
        return _repeated(made, [chosen.index(r) for r in first_of], arms)
    there = [r for r in range(len(arms)) if t == 0 or int(history(t - 1).count[r])]
    alive = [r for r in there if arms[r].index not in stopped]
    known = before() if before is not None and len(alive) < len(arms) else ()
    ended: dict[int, Status] = {record["arm"]: record["status"] for record in known}
    ended |= {arms[r].index: "stopped" for r in there if r not in alive}
    if not alive:
        none = history(t - 1).first(0) if there else history(t - 1)
        return Outcome(_required(state), none, [_ended(arm, t, ended) for arm in arms])
    rows = Rows(alive, len(arms))
    past = functools.cache(lambda g: history(g).select(alive))
    begun = None if first is None else rows.narrow(first)
    data = mix([arms[r] for r in alive], split if rows.all else split.select(alive), t, past, begun)
    generator = arms[0].experiment.generator
    given = generator.given(data) if isinstance(generator, Sampler) else data.count
    if int(given.min()) == 0:
        fed = torch.nonzero(given).flatten().tolist()
        ended |= {arms[r].index: "starved" for i, r in enumerate(alive) if i not in fed}
        if not fed:
            return Outcome(_required(state), history(t - 1).first(0), [_ended(arm, t, ended) for arm in arms])
        rows, data = Rows([alive[i] for i in fed], len(arms)), data.select(fed)
    living = [arms[r] for r in rows.chosen]
    real = split if rows.all else split.select(rows.chosen)
    last = None if state is None else rows.narrow(state)
    begun = None if first is None else rows.narrow(first)
    journal = device.journal or Journal()
    journal.arms = [arm.index for arm in arms]
    device = replace(device, journal=journal, rows=tuple(rows.chosen))
    fitted = _trained(living, data, split, t, last, begun, device)
    journal.stage("samples")
    samples = _sample(living, real, t, fitted, device)
    journal.stage("metrics")
    records = measure(living, real, t, fitted, fitted if begun is None else begun, samples, device.team, data)
    for record, step in zip(records, fitted[FAILED].tolist() if FAILED in fitted else [], strict=False):
        if step >= 0:
            record["failed_step"] = step
    for row, why in journal.failures.items():
        records[rows.chosen.index(row)]["failure"] = why
    if "devices" in generator.offers and (where := device.team.name) is not None:
        for record in records:
            record["device"] = where
    losses, took = journal.tensors(), journal.took
    if rows.all:
        return Outcome(fitted, samples, records, losses, took)
    every = {arm.index: _ended(arm, t, ended) for arm in arms} | {r["arm"]: r for r in records}
    samples = rows.widen_samples(samples)
    return Outcome(rows.widen(fitted, _required(state)), samples, list(every.values()), losses, took)


def _repeated(made: Outcome, places: list[int], arms: Sequence[Arm]) -> Outcome:
    """Return the outcome of generation 0 of arms, of each that at its place among those that had a fit."""
    return Outcome(
        state={k: v[places] for k, v in made.state.items()},
        samples=made.samples.select(places),
        records=[named(made.records[place], arm) for place, arm in zip(places, arms, strict=True)],
        losses={k: v[places] for k, v in made.losses.items()},
        took=made.took,
    )


def _alike(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the numbers of equal keys together, in the order in which each first comes."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def _trained(
    arms: Sequence[Arm], data: Samples, split: Split, t: int, last: State | None, first: State | None, device: Device
) -> State:
    """Fit every arm, and make the experiment's update to the weights, if it has one."""
    update = arms[0].experiment.update
    if update is None or last is None:
        return _fit(arms, data, split, t, last, device)
    first = _required(first)
    fitted = _fit(arms, data, split, t, first if getattr(update, "starts", "last") == "first" else last, device)
    return updated(update, t, fitted, last, first)


def _fit(arms: Sequence[Arm], data: Samples, split: Split, t: int, state: State | None, device: Device) -> State:
    """Fit every arm to its training set; those whose rows are weighed apart from the others, which go another way."""
    experiment = arms[0].experiment
    generator, streams = experiment.generator, _streams(arms, t)
    if state is None or experiment.retrain == "scratch":
        state = generator.init(split.events.space, streams)
    elif experiment.optimizer == "reset":
        state = reset_optimizer(state)
    budget = ((experiment.pretrain if t == 0 else None) or experiment.budget or Budget(epochs=1)).resolve(
        split.train.shape[1]
    )
    weighed = [not data.alike(r) for r in range(len(arms))]
    groups = _alike(weighed)
    if len(groups) == 1:
        data = data if weighed[0] else replace(data, weight=None)
        return _state(generator.fit(state, data, budget, streams, device), len(arms), generator)
    out: State = {}
    for g, chosen in enumerate(groups):
        rows, part = Rows(chosen, len(arms)), data.select(chosen)
        part = part if weighed[chosen[0]] else replace(part, weight=None)
        among = _streams([arms[r] for r in chosen], t)
        where = device.apart(g).of(chosen)
        fitted = _state(generator.fit(rows.narrow(state), part, budget, among, where), len(chosen), generator)
        out = rows.widen(fitted, out or {k: v.new_zeros(len(arms), *v.shape[1:]) for k, v in fitted.items()})
    return out


def _state(fitted: Any, r: int, generator: Generator) -> State:
    """Return what a fit returned, if it is a state of R arms.

    Raises:
        ConfigError: it is something else.
    """
    leaves = fitted.values() if isinstance(fitted, dict) else ()
    if not leaves or not all(isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == r for leaf in leaves):
        name = GENERATORS.name_of(generator)
        raise ConfigError(f"generator {name!r}: fit must return a dict of tensors that lead with R = {r}")
    return dict(fitted)


def _sample(arms: Sequence[Arm], split: Split, t: int, state: State, device: Device) -> Samples:
    """Draw samples of every arm as its regime wants them; those that want equally many at one temperature together."""
    experiment, (_, n, *event) = arms[0].experiment, split.train.shape
    latents = t if experiment.latents == "fresh" else 0
    mixings = [arm.experiment.mixing for arm in arms]
    wanted = [(draws(mixing, t, n), sampling_temperature(mixing, t)) for mixing in mixings]
    drawn: dict[int, Samples] = {}
    for chosen in _alike(wanted):
        rows = Rows(chosen, len(arms))
        part, streams = rows.narrow(state), _streams([arms[r] for r in chosen], latents)
        count, temperature = wanted[chosen[0]]
        x = _drawn(experiment.generator, part, count, streams, device.of(chosen), temperature)
        shape = (len(chosen), count, *event)
        if not isinstance(x, Tensor) or tuple(x.shape) != shape:
            what = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            name = GENERATORS.name_of(experiment.generator)
            raise ConfigError(f"generator {name!r} sampled {what} in generation {t}, and must sample a tensor {shape}")
        label = _labels(experiment.generator, part, count, streams)
        found = _freeze(Samples.full(x, born=t + 1, label=label), part, split)
        if rows.all:
            return found
        drawn |= {r: found.select([i]) for i, r in enumerate(chosen)}
    return stack([drawn[r] for r in range(len(arms))])


def _labels(generator: Generator, state: State, n: int, streams: Streams) -> Tensor | None:
    """Return the classes (R, n) of the samples that the same streams draw; None where a generator has none.

    Raises:
        ConfigError: it offers labels, and has others.
    """
    if "labels" not in generator.offers:
        return None
    model = cast(Conditional, generator)
    found, shape = model.labels(state, n, streams), (len(streams.seeds), n)
    sound = isinstance(found, Tensor) and found.dtype == torch.int64 and tuple(found.shape) == shape
    if not sound or (n and not 0 <= int(found.min()) <= int(found.max()) < (model.classes or 0)):
        name = GENERATORS.name_of(generator)
        raise ConfigError(f"generator {name!r}: labels must be int64 {shape}, from 0 to {(model.classes or 0) - 1}")
    return found


def _drawn(generator: Generator, state: State, n: int, streams: Streams, device: Device, temperature: float) -> Tensor:
    """Return n samples of every arm at a temperature.

    Raises:
        ConfigError: it is not 1, and the generator has no other.
    """
    if temperature == 1:
        return generator.sample(state, n, streams, device)
    if "temperature" not in generator.offers:
        what = f"samples at temperature {temperature:g}"
        raise ConfigError(f"mixing asks for {what}, which generator {GENERATORS.name_of(generator)} does not have")
    return cast(Tempered, generator).sample(state, n, streams, device, temperature)


def _streams(arms: Sequence[Arm], t: int) -> Streams:
    return Streams(seeds=tuple(arm.seed for arm in arms), generation=t)


def _freeze(samples: Samples, state: State, split: Split) -> Samples:
    """Empty the sample sets of arms that have diverged, and turn the others into events of the real ones' type."""
    leaves = (samples.x, *parameters(state).values())
    finite = torch.stack([torch.isfinite(v).reshape(len(v), -1).all(1) for v in leaves]).all(0)
    dtype, snap = split.train.dtype, split.events.snap
    if finite.all():
        return replace(samples, x=snap(samples.x.to(dtype).flatten(0, 1)).view(samples.x.shape))
    x = torch.zeros(samples.x.shape, dtype=dtype)
    for r in torch.nonzero(finite).flatten().tolist():
        x[r] = snap(samples.x[r].to(dtype))
    return replace(samples, x=x, count=samples.count * finite)


def measure(
    arms: Sequence[Arm],
    split: Split,
    t: int,
    state: State,
    first: State,
    samples: Samples,
    team: Team,
    data: Samples | None = None,
    names: Sequence[str] | None = None,
) -> list[Record]:
    """Compute the metrics of the arms that are finite, and their floors at generation 0.

    The processes of a team share the features of the generated images; the first alone goes on to the metrics.

    Args:
        arms: R arms of one stack.
        split: their real data.
        t: the generation.
        state: after it, {} where no metric looks at weights.
        first: after generation 0, likewise.
        samples: of it.
        team: this process and those beside it.
        data: what the arms were trained on.
        names: of metrics; None is those of the experiment.
    """
    n = split.train.shape[1]
    records = [_record(arm, t, None, None if data is None else _born(data, r)) for r, arm in enumerate(arms)]
    sound = [r for r in range(len(arms)) if int(samples.count[r])]
    for chosen in _alike(min(n, int(samples.count[r])) for r in sound):
        among = [sound[i] for i in chosen]
        found = _measured(arms, split, t, state, first, samples, team, among, names)
        for r, values in zip(among, found, strict=False):
            records[r]["status"], records[r]["metrics"] = "ok", values.metrics
            if values.floors:
                records[r]["reference"] = values.floors
    return records


@dataclass(frozen=True)
class _Values:
    """The metrics of one arm and, at generation 0, their floors."""

    metrics: dict[str, float | None]
    floors: dict[str, float | None]


def _measured(
    arms: Sequence[Arm],
    split: Split,
    t: int,
    state: State,
    first: State,
    samples: Samples,
    team: Team,
    sound: list[int],
    names: Sequence[str] | None,
) -> list[_Values]:
    """Return the metrics of some arms, which have equally many samples."""
    experiment, n = arms[0].experiment, split.train.shape[1]
    rows, names = Rows(sound, len(arms)), experiment.metrics if names is None else names
    count = min(n, int(samples.count[sound[0]]))
    real = split if rows.all else split.select(sound)
    streams = Streams(seeds=tuple(arms[r].seed for r in sound))
    evidence = Evidence(
        generator=experiment.generator,
        state=rows.narrow(state),
        first=rows.narrow(first),
        untrained=experiment.generator.init(split.events.space, streams) if state else {},
        train=real.train,
        held_out=real.held_out,
        generated=samples.x if rows.all and samples.x.shape[1] == count else samples.x[sound, :count],
        features=functools.partial(_features, experiment.features, split),
        modes=experiment.data.modes(),
        coefficients=experiment.data.true_coefficients(),
        classes=split.events.classes,
        train_label=real.train_label,
        held_out_label=real.held_out_label,
        generated_label=None if samples.label is None else samples.label[sound, :count],
        named=getattr(experiment.features, "named", None),
        events=split.events,
        target=experiment.data.predicted(),
    )
    if team.size > 1 and "pixels" in experiment.features.needs:
        together = [_features_together(experiment.features, split, x, team) for x in evidence.generated]
        evidence.shared("generated", lambda: together)
    if team.rank > 0:
        return []
    values = {name: computed(name, evidence) for name in names}
    floor = replace(evidence, generated=evidence.train, generated_label=evidence.train_label)
    floors = {name: computed(name, floor) for name in names if t == 0 and METRICS[name].floor}
    found: list[_Values] = []
    for i in range(len(sound)):
        reference = {name: _number(floors[name][i]) for name in floors}
        found.append(_Values({name: _number(values[name][i]) for name in names}, reference))
    return found


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _features(extractor: Extractor, split: Split, x: Tensor, real: bool) -> Tensor:
    """Return the features (N, k) of (N, *event) rows in model units."""
    seen = _seen(extractor, split, x)
    found = cached(extractor, seen) if real else extractor(seen)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(seen):
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        name = FEATURES.name_of(extractor)
        raise ConfigError(f"features {name!r} are {what} of {len(seen)} rows, and must be a tensor ({len(seen)}, k)")
    return found


def _seen(extractor: Extractor, split: Split, x: Tensor) -> Tensor:
    pixels = split.events.pixels(x) if "pixels" in extractor.needs else None
    return x if pixels is None else pixels


def _features_together(extractor: Extractor, split: Split, x: Tensor, team: Team) -> Tensor:
    """Return the features of (N, *event) rows, of which every process computes its share."""
    images = _seen(extractor, split, x)
    own = extractor(images[team.rank :: team.size])
    every = own.new_zeros(len(images), own.shape[1])
    every[team.rank :: team.size] = own
    every = every.to(team.device)
    team.all_reduce([every])
    return every.cpu()


def named(record: Record, arm: Arm) -> Record:
    """Return an arm's record of generation 0 as that of another arm, which was trained on the same rows."""
    mine = _record(arm, record["generation"], record["metrics"], record["born"])
    mine["status"] = record["status"]
    if "reference" in record:
        mine["reference"] = record["reference"]
    if "failed_step" in record:
        mine["failed_step"] = record["failed_step"]
    if "device" in record:
        mine["device"] = record["device"]
    return mine


def _born(data: Samples, r: int) -> dict[str, int]:
    """Return how many of an arm's training rows were born in which generation."""
    counts = torch.bincount(data.born[r, : int(data.count[r])])
    return {str(g): int(counts[g]) for g in torch.nonzero(counts).flatten().tolist()}


def _record(arm: Arm, t: int, metrics: dict[str, float | None] | None, born: dict[str, int] | None) -> Record:
    """Return a record, of an arm that has diverged where there are no metrics."""
    of, born = ratio(arm.experiment.mixing), born or {}
    return Record(
        generation=t,
        arm=arm.index,
        seed=arm.seed,
        settings=arm.plain,
        regime=label(arm.experiment.mixing),
        ratio="inf" if of == math.inf else of,
        status="diverged" if metrics is None else "ok",
        n_real=born.get("0", 0),
        n_synthetic=sum(born.values()) - born.get("0", 0),
        born=born,
        metrics=dict.fromkeys(arm.experiment.metrics) if metrics is None else metrics,
    )


def _ended(arm: Arm, t: int, ended: Mapping[int, Status]) -> Record:
    """Return the record of an arm that has ended, by arm how; one of which nothing is known has diverged."""
    record = _record(arm, t, None, None)
    record["status"] = ended.get(arm.index, "diverged")
    return record


def _required(state: State | None) -> State:
    if state is None:
        raise ValueError(
            "generations after the first need the states of the one before and, with an update, of generation 0"
        )
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
        label = None if samples.label is None else self._wide(samples.label)
        wide = self._wide
        return Samples(x=wide(samples.x), born=wide(samples.born), count=wide(samples.count), label=label)

    def _wide(self, leaf: Tensor) -> Tensor:
        wide = leaf.new_zeros(self.of, *leaf.shape[1:])
        wide[self.chosen] = leaf
        return wide
