"""How much synthetic data a loop bears: one run that grows where its own numbers leave the answer open.

A plan is so many seeds of some regimes. What was recorded of one says which is the next, and nothing else does, but
that one stops where a budget of time is spent: the same question in the same directory goes on from there, and comes to
the same answer.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from selfloop.analysis.advice import Above, Advice, Axis, Downstream, Limit, More, of_target
from selfloop.analysis.curves import Array
from selfloop.analysis.decline import Decline, collapse, half_life
from selfloop.analysis.paired import ends, excess
from selfloop.analysis.threshold import BEGIN, LOOKS, brackets
from selfloop.analysis.verdict import refuse_tolerance
from selfloop.analysis.warning import expected_false_alarms, rank
from selfloop.arms import arms, key
from selfloop.core.columns import Category
from selfloop.core.errors import (
    ConfigError,
    DataError,
    RunError,
    counted,
    nearest,
    quoted,
    refuse_no_names,
    refuse_unlike,
)
from selfloop.core.events import Events, Kind, Mixed
from selfloop.core.paths import expanded, here, is_url
from selfloop.core.registry import FAMILIES
from selfloop.core.samples import State
from selfloop.core.settings import assign, read_assignments
from selfloop.core.urls import fetched
from selfloop.data.base import DATA, Dataset
from selfloop.engines.local import cores
from selfloop.experiment import Experiment, files_of, making, member
from selfloop.generators.base import GENERATORS, Generator
from selfloop.metrics.base import METRICS, NUMBERS, Evidence, Metric, computed
from selfloop.metrics.tables import columns_of
from selfloop.mixing.base import MIXINGS
from selfloop.runner import run
from selfloop.starter import of_file
from selfloop.store import Run, belongs
from selfloop.store.remote import working
from selfloop.theory.measured import Interval

CRITERION = "w2_held_out"
"""By which a loss is judged unless another metric is named."""

CRITERION_OF_TEXT = "frechet_held_out"
"""By which it is judged of text, which has no numbers."""

WATCHED = ("variance_ratio", "precision_train", "coverage_train", "density_train", "neighbour_entropy")
"""Recorded besides, of which one may speak earlier."""

CRITERION_OF_TABLES = "sliced_w2_held_out"
"""By which it is judged of tables with a target or with columns that are not all numbers, as their hundreds of arms are
measured with what predicts, and W2 takes longer than all else."""

WATCHED_OF_TABLES = ("variance_ratio", "shape_error_held_out", "association_error_held_out", "levels_kept")

GENERATOR_OF_TABLES = "copula"
"""That is retrained where none is named: it takes columns of any kind, and no settings."""

FEWEST_ROWS = 32
"""To train on: of the smallest share on the ladder there must be a row."""

_TWO_SIDED = 0.975  # of each bound of a 95 % interval
_ASKED = "selfloop advise:"
_SHORTEST_RESCUE = 6  # retrainings: three of them after the damage, which are judged
_REAL = "the real rows"  # in place of a regime: what metrics of a target are of these rows, in every generation
_CONTROL: dict[str, Any] = {"name": "augment", "lam": 0.0}
_SYNTHETIC: dict[str, Any] = {"name": "augment", "lam": math.inf}
_OWN = ("name", "description", "mixing", "generations", "seeds", "grid", "metrics", "figures")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is being run, and why.

    Attributes:
        seeds: S, of every regime.
        regimes: how many.
        why: in words.
        done: of its generations.
        total: generations.
        left: seconds that the rest will take, about; NaN where nothing tells yet.
        most: seconds that the most seeds of as many regimes would take from the start, likewise.
    """

    seeds: int
    regimes: int
    why: str
    done: int
    total: int
    left: float
    most: float


Progress = Callable[[Step], None]


@dataclass(frozen=True)
class _Plan:
    """So many seeds of some regimes, in the order in which these came."""

    seeds: int
    regimes: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class _Axis:
    """Shares of synthetic rows from 0 to 1 and the regimes that have them.

    Attributes:
        regime: plain settings of that of a share.
        zero: whether a share of 0 is the control.
        most: the share of real rows that goes with it.
    """

    regime: Callable[[Fraction], dict[str, Any]]
    zero: bool
    most: float = 1.0


def advise(
    data: Any,
    *,
    generator: str | Mapping[str, Any] | Generator | None = None,
    target: str | None = None,
    tolerance: float = 0.1,
    horizon: int = 20,
    budget: float | None = None,
    metrics: Sequence[str] = (),
    out: str | Path | None = None,
    settings: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> Advice:
    """Say how much synthetic data a loop bears, what happens above that, and what keeps or rescues it.

    Args:
        data: a file or folder, the name of a built-in data set or its settings; or an array, a frame, a function.
        generator: its name, or its settings; None is a Gaussian copula, for data that have columns.
        target: a column of theirs, by which is judged besides what the samples are worth to a model that is trained on
            them to predict it: against the same model trained on the real rows.
        tolerance: by what share the loss may be larger than that of real data alone, above 0 and at most 1.
        horizon: T, retrainings after which it is compared.
        budget: seconds after which to stop at the next generation; None goes on until the answer is narrow or there are
            64 seeds. A later call goes on from there.
        metrics: one or several by which to judge: all must be within the tolerance. Where none is of the distribution,
            there is W2 to held-out data, sliced for tables with a target or columns that are not all numbers; where
            none is of the target, the area under the ROC curve of one with classes, and R² of a number.
        out: the run directory; None is ``runs/advice-DATA-GENERATOR``.
        settings: ``key.path=value`` settings of the experiment besides these, as ``budget.epochs=5``.
        leave_out: columns of a table that are not taken, as one that numbers the rows.
        seed: the first; others give an independent answer.
        workers: processes; None is one per core for generators that are trained and for targets, and this one for
            others.
        progress: is told of every generation.
        notice: called with a line on what was chosen because nobody had named it, and on what may be meant otherwise.

    Raises:
        ConfigError, DataError: it cannot be asked so; nothing is written.
        RunError: the directory holds something else, or is damaged.
        StorageFull: the disk is full; the same call goes on when there is space.

    Examples:
        >>> from selfloop import advise
        >>> found = advise("gaussian", generator="gaussian", horizon=4, budget=1.0, settings=["data.n=200"])
        >>> found.horizon, found.criteria
        (4, {'w2_held_out': 'W₂ to held-out data'})
    """
    _refuse_metrics(metrics)
    _refuse(tolerance, horizon, budget)
    refuse_unlike("the seed", seed, Integral, "a whole number")
    if workers is not None:
        refuse_unlike("workers", workers, Integral, "a number of processes")
        if workers < 0:
            raise ConfigError(f"workers is {workers}: a number of processes, 0 for this one alone")
    if out is not None:
        refuse_unlike("out", out, (str, PathLike), "the path of a run directory")
    if isinstance(settings, str) or not isinstance(settings, list | tuple):
        raise ConfigError(f"settings: give a list of them, such as ['budget.epochs=5'], not {quoted(settings)}")
    refuse_no_names(leave_out, "leave_out")
    base, criteria = _experiment(data, generator, target, horizon, metrics, settings, leave_out)
    question = f"{_ASKED} tolerance {tolerance:g}, horizon {horizon}, by {', '.join(criteria)}, seed {seed}"
    base = base.model_copy(update={"description": question})
    folder = here(out) if out is not None else Path("runs") / _folder(base)
    with working(folder):
        _refuse_other(folder, base)
        rows = base.data.extent()[1]
        if rows < FEWEST_ROWS:
            raise DataError(
                f"data {DATA.name_of(base.data)} has {rows} rows to train on: advice takes {FEWEST_ROWS} or more"
            )
        _refuse_chance(base, criteria, seed)
        axes, missing = _axes(base, rows)
        if workers is None:
            workers = cores() if base.generator.trained or base.data.predicted() is not None else 0
        growth = _Growth(base, folder, seed, workers, budget, progress, notice)
        found, plan = None, _first(axes)
        while (recorded := growth.reach(plan)) is not None:
            found = _Found.of(growth.seeds(plan), recorded, axes, criteria, tolerance)
            following = _next(plan, axes, found)
            if following is None:
                return _answer(base, folder, criteria, tolerance, rows, axes, missing, found, _enough(found))
            plan = following
        return _answer(base, folder, criteria, tolerance, rows, axes, missing, found, growth.more(plan))


# The question


def _refuse_metrics(names: Sequence[str]) -> None:
    refuse_no_names(names, "metrics")
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"no metric is called {name!r}{nearest(name, list(METRICS))}")
        if METRICS[name].goal is None:
            raise ConfigError(f"{name!r} has no direction to judge by: neither more nor less of it is better")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ConfigError(f"metric {twice!r} is named twice: name each once")


def _criteria(named: Sequence[str], events: Events | None, target: str | None, holds: Kind) -> dict[str, Metric]:
    """Return by what is judged: what is named, and what is lacking of the distribution and of the target."""
    downstream = [name for name in named if of_target(METRICS[name])]
    others = [name for name in named if name not in downstream]
    if not others and (target is not None or not named):
        usual = CRITERION_OF_TEXT if holds == "text" else CRITERION
        others = [usual if events is None else CRITERION_OF_TABLES]
    if not downstream and target is not None:
        downstream = ["tstr_auc" if _classes(events, target) else "tstr_score"]
    return {name: METRICS[name] for name in (*others, *downstream)}


def _classes(events: Events | None, target: str) -> bool:
    """Whether a target is of classes, and not a number."""
    return any(part.name == target and isinstance(part, Category) for part in columns_of(events))


def _refuse(tolerance: float, horizon: int, budget: float | None) -> None:
    refuse_unlike("the horizon", horizon, Integral, "a whole number of retrainings")
    if budget is not None:
        refuse_unlike("the budget", budget, Real, "a number of seconds")
    refuse_tolerance(tolerance)
    if horizon < 1:
        raise ConfigError(f"the horizon is at least 1 retraining, not {horizon}")
    if budget is not None and not budget > 0:
        raise ConfigError("the budget is a time above 0, such as 30m; leave it out for as long as it takes")


def _experiment(
    data: Any,
    generator: Any,
    target: str | None,
    horizon: int,
    metrics: Sequence[str],
    settings: Sequence[str],
    leave_out: Sequence[str],
) -> tuple[Experiment, dict[str, Metric]]:
    """Return the experiment without its seeds and regimes, and by what it is judged.

    Raises:
        ConfigError, DataError: there is none.
    """
    dataset = _dataset(data)
    if leave_out:
        dataset = _without(dataset, leave_out)
    if target is not None:
        dataset = _aimed(dataset, target, settings)
    if generator is None and "columns" not in dataset.offers:
        offered = ", ".join(making(dataset.holds))
        raise ConfigError(
            f"name a generator that is retrained on data {DATA.name_of(dataset)} by --generator: {offered}"
        )
    model = member(GENERATORS, GENERATOR_OF_TABLES if generator is None else generator)
    name = f"advice-{DATA.name_of(dataset)}-{GENERATORS.name_of(model)}"[:64]
    usual = {"name": name, "data": "gaussian", "generator": "gaussian", "generations": horizon}
    plain = Experiment.build(usual).model_dump()
    plain |= {"data": DATA.plain(dataset), "generator": GENERATORS.plain(model)}
    if dataset.holds == "text":
        del plain["features"]  # those that suit it are found where the run begins
    for path, value in read_assignments(settings):
        if path.split(".")[0] in _OWN:
            raise ConfigError(f"{path} is what advise sets itself: leave it out")
        assign(plain, path, value, {word: family for word, family in FAMILIES.items() if word in plain})
    if model.trained and plain["budget"] is None and dataset.holds in model.makes:
        name = GENERATORS.name_of(model)
        raise ConfigError(
            f"generator {name} is trained by gradient steps: say how long a retraining lasts, as --set budget.epochs=20"
        )
    set_ = DATA.parse(plain["data"])
    events, aim = _table(set_), set_.predicted()
    there = [] if aim is None else [part.name for part in columns_of(events)]
    if aim is not None and aim not in there:
        raise ConfigError(f"target: there is no column {quoted(aim)}{nearest(aim, there)}")
    criteria = _criteria(metrics, events, aim, set_.holds)
    watched = [*(WATCHED if events is None else WATCHED_OF_TABLES), *(["tstr_score"] if aim is not None else [])]
    if set_.holds == "text":
        watched = [each for each in watched if not METRICS[each].needs & NUMBERS]
    plain["metrics"] = list(dict.fromkeys([*criteria, *(each for each in watched if METRICS[each].goal is not None)]))
    return Experiment.build(plain), criteria


def _without(dataset: Dataset, leave_out: Sequence[str]) -> Dataset:
    """Return data without some columns.

    Raises:
        ConfigError: it is no file of columns, or names those that are taken.
    """
    named = getattr(dataset, "leave_out", None)
    if named is None:
        raise ConfigError(f"leave_out is of the columns of a file, and data {DATA.name_of(dataset)} is none")
    return member(DATA, DATA.plain(dataset) | {"leave_out": [*named, *leave_out]})  # type: ignore[no-any-return]


def _aimed(dataset: Dataset, target: str, settings: Sequence[str]) -> Dataset:
    """Return data with a column to predict.

    Raises:
        ConfigError: they have none, or another one is set.
    """
    refuse_unlike("the target", target, str, "the name of a column")
    if "target" not in type(dataset).model_fields:
        raise ConfigError(f"data {DATA.name_of(dataset)} has no columns to predict: leave the target out")
    named = [dataset.predicted(), *(value for path, value in read_assignments(settings) if path == "data.target")]
    for other in named:
        if other is not None and other != target:
            raise ConfigError(f"the target is {quoted(target)} and, in the settings, {quoted(other)}: name one")
    return dataset.model_copy(update={"target": target})


def _table(dataset: Dataset) -> Events | None:
    """Return what the rows of a table are that has a target or columns that are not all numbers, None of others."""
    if "columns" not in dataset.offers:
        return None
    events = dataset.load([0]).events
    return events if dataset.predicted() is not None or isinstance(events, Mixed) else None


def _dataset(data: Any) -> Dataset:
    """Return what a source of data is: a name, settings in YAML, a file or folder, or what a program holds."""
    if isinstance(data, str) and is_url(data):
        return of_file(Path(fetched(data)), data)
    if isinstance(data, Path) or (isinstance(data, str) and data not in DATA and not data.lstrip().startswith("{")):
        return of_file(expanded(data))
    return member(DATA, data)  # type: ignore[no-any-return]


def _folder(base: Experiment) -> str:
    """Return what the run directory of some data is called: by their file if they have one, or their name."""
    files = files_of(base.data)
    data = Path(files[0]).stem if files else DATA.name_of(base.data)
    return f"advice-{data}-{GENERATORS.name_of(base.generator)}"[:64]


def _refuse_other(folder: Path, base: Experiment) -> None:
    """Refuse a directory that holds another question's run, or one of other data.

    Raises:
        RunError: it does.
    """
    if not (folder / "experiment.yaml").is_file():
        return
    there = Run.open(folder)
    if (asked := there.experiment.description) != base.description:
        what = f"other advice, {quoted(asked, 200)}" if asked.startswith(_ASKED) else "a run that is no advice"
        raise RunError(f"{str(folder)!r} holds {what}: choose another --out")
    belongs(there, base.model_copy(update={"grid": there.experiment.grid, "seeds": there.experiment.seeds}))
    if there.present:  # the run's own data may lie elsewhere, and be others: those that are asked about count
        arm = there.arms[0]
        there.holds(arm, base.data.load([arm.seed]), 0)


def _refuse_chance(base: Experiment, criteria: Mapping[str, Metric], seed: int) -> None:
    """Refuse a target that nobody can predict: of what real rows are not worth samples cannot be worth less.

    Raises:
        DataError: a model that is trained on the real rows predicts the held-out ones no better than chance does.
    """
    target = base.data.predicted()
    if target is None:
        return
    split = base.data.load([seed])
    nothing: State = {}
    evidence = Evidence(
        generator=base.generator,
        state=nothing,
        first=nothing,
        untrained=nothing,
        train=split.train,
        held_out=split.held_out,
        generated=split.train,
        events=split.events,
        target=target,
    )
    name, chance = ("tstr_auc", 0.5) if _classes(split.events, target) else ("tstr_score", 0.0)
    if name in criteria and not (score := computed(name, evidence)[0]) > chance:
        raise DataError(
            f"the target {quoted(target)} is not predicted by the other columns, even by the real rows: "
            f"{METRICS[name].title} is {score:.3g}, and that of chance {chance:g}; name another target"
        )


def _axes(base: Experiment, rows: int) -> tuple[dict[Axis, _Axis], dict[Axis, str]]:
    """Return the axes that can be tried, and why others cannot."""
    axes: dict[Axis, _Axis] = {"loop": _Axis(_augment, zero=True)}
    missing: dict[Axis, str] = {}
    name, there = DATA.name_of(base.data), getattr(base.data, "fresh_rows", None)
    if "fresh" not in base.data.offers:
        advice = (
            ""
            if there is None
            else f"; --set data.fresh_rows=N sets N/{base.generations} of them aside for each generation"
        )
        missing["fresh"] = f"data {name} offers no fresh rows{advice}"
    else:
        most = 1.0 if there is None else min(1.0, math.ceil(1e9 * (there // base.generations) / rows) / 1e9)
        if most * rows < 2:
            missing["fresh"] = (
                f"{there} fresh rows are less than 2 in each of {counted(base.generations, 'generation')}"
            )
        else:
            axes["fresh"] = _Axis(lambda share: _replenished(share, most), zero=False, most=most)
    half = base.generations // 2
    if base.generations < _SHORTEST_RESCUE:
        missing["rescue"] = f"a horizon of at least {_SHORTEST_RESCUE} retrainings would tell"
    else:
        axes["rescue"] = _Axis(lambda share: _rescued(share, half), zero=False)
    return axes, missing


def _augment(share: Fraction) -> dict[str, Any]:
    return _SYNTHETIC if share == 1 else {"name": "augment", "lam": float(share / (1 - share))}


def _replenished(share: Fraction, most: float) -> dict[str, Any]:
    """Return the regime of n rows, of which ``most`` times 1 − share are fresh."""
    if share == 1:
        return _SYNTHETIC
    fresh = most * float(1 - share)
    parts = [{"from": "fresh", "rows": fresh}, *([{"from": "newest", "rows": 1 - fresh}] if fresh < 1 else [])]
    return {"name": "compose", "parts": parts}


def _rescued(share: Fraction, half: int) -> dict[str, Any]:
    return _SYNTHETIC if share == 1 else {"name": "then", "first": _SYNTHETIC, "until": half, "then": _augment(share)}


def _text(regime: Mapping[str, Any]) -> str:
    """Return a regime as text that is the same for equal ones."""
    return json.dumps(MIXINGS.plain(MIXINGS.parse(dict(regime))), sort_keys=True)


# The plan


def _first(axes: Mapping[Axis, _Axis]) -> _Plan:
    regimes = [_CONTROL, *(axis.regime(share) for axis in axes.values() for share in (Fraction(0), *BEGIN))]
    return _Plan(
        LOOKS[0], tuple(dict.fromkeys(map(_text, regimes))), "real data alone, halves, and synthetic data alone"
    )


def _next(plan: _Plan, axes: Mapping[Axis, _Axis], found: _Found) -> _Plan | None:
    """Return what to run next: shares that halve what is open, else more seeds; None where no more is asked."""
    last = plan.seeds == LOOKS[-1]
    new = {
        name: list(dict.fromkeys(share for bracket in limit.open for share in bracket.asks(last)))
        for name, limit in found.limits.items()
    }
    regimes = dict.fromkeys([*plan.regimes, *(_text(axes[name].regime(s)) for name in new for s in new[name])])
    if len(regimes) > len(plan.regimes):
        words = [
            f"{name} {', '.join(f'{100 * float(s):.4g} %' for s in shares)}" for name, shares in new.items() if shares
        ]
        return _Plan(plan.seeds, tuple(regimes), f"halves what is open: {'; '.join(words)} synthetic")
    wide = [name for name, limit in found.limits.items() if limit.open]
    if last or not wide:
        return None
    return _Plan(LOOKS[LOOKS.index(plan.seeds) + 1], plan.regimes, f"more seeds: {', '.join(wide)} undecided")


# What was run


class _Growth:
    """A run directory that grows to plans."""

    def __init__(
        self,
        base: Experiment,
        folder: Path,
        seed: int,
        workers: int,
        budget: float | None,
        progress: Progress | None,
        notice: Callable[[str], None] | None,
    ) -> None:
        self.notice, self.noted = notice, set[str]()
        self.base, self.folder, self.seed, self.workers = base, folder, seed, workers
        self.progress = progress
        self.began = time.monotonic()
        self.until = math.inf if budget is None else self.began + budget
        self.seconds, self.arms = 0.0, 0  # spent on so many generations of arms

    def experiment(self, plan: _Plan) -> Experiment:
        """Return the experiment of a plan."""
        regimes = [json.loads(regime) for regime in plan.regimes]
        plain = self.base.given() | {"grid": {"mixing": regimes}, "seeds": self.seeds(plan)}
        return Experiment.build(plain)

    def seeds(self, plan: _Plan) -> list[int]:
        """Return the seeds of a plan."""
        return list(range(self.seed, self.seed + plan.seeds))

    def _note(self, line: str) -> None:
        """Pass on what a run has to say, once."""
        if self.notice is not None and line not in self.noted:
            self.noted.add(line)
            self.notice(line)

    def reach(self, plan: _Plan) -> _Recorded | None:
        """Run what a plan lacks, and return what is recorded of it; None where the budget was spent before."""
        experiment = self.experiment(plan)
        if (there := self._recorded(plan)) is not None:
            return there
        total, done, count = experiment.generations + 1, 0, len(arms(experiment))
        before = time.monotonic()

        def begun(t: int, stacks: int, of: int) -> None:  # not before: what cannot be run is refused first
            if not done and stacks == 1:
                self._tell(plan, 0, total)

        for generation in run(experiment, self.folder, workers=self.workers, progress=begun, notice=self._note):
            now = time.monotonic()
            self.seconds, before = self.seconds + now - before, now
            self.arms += min(len(generation.records), count)
            done += 1
            each = self.seconds / self.arms
            most = each * LOOKS[-1] * len(plan.regimes) * total
            self._tell(plan, done, total, each * len(generation.records) * (total - done), most)
            if now > self.until:
                break
        return self._recorded(plan)

    def _tell(self, plan: _Plan, done: int, total: int, left: float = math.nan, most: float = math.nan) -> None:
        if self.progress is not None:
            seeds, regimes = plan.seeds, len(plan.regimes)
            self.progress(
                Step(seeds=seeds, regimes=regimes, why=plan.why, done=done, total=total, left=left, most=most)
            )

    def more(self, plan: _Plan) -> More:
        """Return what a plan that was not reached would take."""
        experiment = self.experiment(plan)
        generations = experiment.generations + 1
        left = len(arms(experiment)) * generations - self._present(experiment)
        seconds = self.seconds / self.arms * left if self.arms else math.nan
        return More(seeds=plan.seeds, arms=math.ceil(left / generations), seconds=seconds)

    def _present(self, experiment: Experiment) -> int:
        """Return how many generations of arms of an experiment there are."""
        if not (self.folder / "experiment.yaml").exists():
            return 0
        there, wanted = Run.open(self.folder), {arm.key for arm in arms(experiment)}
        return sum(
            key(record["settings"], record["seed"]) in wanted
            for t in range(there.present)
            for record in there.everything_of(t)
        )

    def _recorded(self, plan: _Plan) -> _Recorded | None:
        """Return what is recorded of a plan, None where it is not there as a whole."""
        if not (self.folder / "experiment.yaml").exists():
            return None
        there = Run.open(self.folder)
        if there.present <= self.base.generations:
            return None
        seeds = {seed: i for i, seed in enumerate(self.seeds(plan))}
        row = {
            arm.index: (regime, seeds[arm.seed])
            for arm in there.arms
            if (regime := _text(arm.settings["mixing"])) in plan.regimes and arm.seed in seeds
        }
        shape = len(seeds), self.base.generations + 1
        every = (*plan.regimes, _REAL)
        found = {regime: {name: np.full(shape, np.nan) for name in self.base.metrics} for regime in every}
        for t in reversed(range(shape[1])):  # the last first, which tells at once whether all is there
            records = [record for record in there.everything_of(t) if record["arm"] in row]
            if len(records) < len(seeds) * len(plan.regimes):
                return None
            for record in records:
                regime, s = row[record["arm"]]
                for name, value in record["metrics"].items():
                    if value is not None:
                        found[regime][name][s, t] = value
                for name, value in record.get("reference", {}).items():
                    if value is not None:
                        found[_REAL][name][s] = value
        return found


_Recorded = dict[str, dict[str, Array]]  # by regime, or the real rows, and metric, (S, T + 1)


def _control(recorded: _Recorded, name: str) -> Array:
    """Return what a metric is held against: of a target the real rows' score, else arms that see no others."""
    return recorded[_REAL if of_target(METRICS[name]) else _text(_CONTROL)][name]


# The answer


@dataclass(frozen=True)
class _Found:
    """What a plan's records show.

    Attributes:
        seeds: of every regime.
        recorded: by regime and metric.
        limits: by axis; without those that cannot be compared.
    """

    seeds: Sequence[int]
    recorded: _Recorded
    limits: dict[Axis, Limit]

    @classmethod
    def of(
        cls,
        seeds: Sequence[int],
        recorded: _Recorded,
        axes: Mapping[Axis, _Axis],
        criteria: Mapping[str, Metric],
        tolerance: float,
    ) -> _Found:
        """Read a plan's records along every axis."""
        control = {name: ends(_control(recorded, name)) for name in criteria}
        limits: dict[Axis, Limit] = {}
        for name, axis in axes.items():
            at = _shares(axis, recorded)
            values = {share: {each: ends(recorded[regime][each]) for each in criteria} for share, regime in at.items()}
            known = [each for each in criteria if axis.zero and not of_target(METRICS[each])]
            shown = brackets(values, control, criteria, tolerance, known=known)
            if shown is not None:
                limits[name] = Limit(by=shown[0], all=shown[1], most=axis.most, each=axis.zero)
        return cls(seeds, recorded, limits)


def _shares(axis: _Axis, recorded: Mapping[str, object]) -> dict[Fraction, str]:
    """Return the shares of an axis whose regimes are recorded, and these."""
    rungs = [Fraction(i, 32) for i in range(33)]
    found = {share: _text(axis.regime(share)) for share in rungs}
    return {share: regime for share, regime in found.items() if regime in recorded}


def _enough(found: _Found) -> More | None:
    return More(seeds=None) if any(limit.open for limit in found.limits.values()) else None


def _answer(
    base: Experiment,
    folder: Path,
    criteria: Mapping[str, Metric],
    tolerance: float,
    rows: int,
    axes: Mapping[Axis, _Axis],
    missing: Mapping[Axis, str],
    found: _Found | None,
    more: More | None,
) -> Advice:
    known = {} if found is None else found.limits
    why = f"{more}" if found is None else "the loss of real data alone is not finite"
    names = {name: METRICS[name].title for name in base.metrics}
    advice = Advice(
        data=DATA.name_of(base.data),
        generator=GENERATORS.name_of(base.generator),
        criteria={name: metric.title for name, metric in criteria.items()},
        tolerance=tolerance,
        horizon=base.generations,
        rows=rows,
        seeds=0 if found is None else len(found.seeds),
        loop=known.get("loop"),
        fresh=known.get("fresh"),
        rescue=known.get("rescue"),
        above=(),
        watch=(),
        alarms=math.nan,
        titles=names,
        missing=dict(missing) | {name: why for name in axes if name not in known},
        more=more,
        target=base.data.predicted(),
        downstream=() if found is None else tuple(_downstream(found, axes["loop"], criteria)),
        run=folder,
    )
    if found is None or "loop" not in known:
        return advice
    return replace(advice, above=tuple(_above(found, axes["loop"], criteria)), **_alarms(found, criteria))


def _downstream(found: _Found, axis: _Axis, criteria: Mapping[str, Metric]) -> Iterator[Downstream]:
    """Yield what rows are worth to a model that predicts the target: the real ones, and those of every share."""
    for name in (name for name, metric in criteria.items() if of_target(metric)):
        real, at = found.recorded[_REAL][name], _shares(axis, found.recorded)
        scores = {share: float(ends(found.recorded[regime][name]).mean()) for share, regime in at.items()}
        yield Downstream(criterion=name, real=float(ends(real).mean()), scores=scores)


def _above(found: _Found, axis: _Axis, criteria: Mapping[str, Metric]) -> Iterator[Above]:
    """Yield what becomes of the loop from the smallest share on that is worse, by the criterion that says so."""
    limit, at = found.limits["loop"], _shares(axis, found.recorded)
    worse = limit.all.worse
    if worse is None:
        return
    name = next(name for name in criteria if limit.by[name].worse is not None and limit.by[name].worse == worse)
    metric, control = criteria[name], _control(found.recorded, name)
    for share in dict.fromkeys((worse, Fraction(1))):
        arms_of = found.recorded[at[share]]
        over = excess(ends(arms_of[name]), ends(control), metric, _TWO_SIDED)
        decline = Decline(
            half_life=half_life(arms_of["variance_ratio"]) if "variance_ratio" in arms_of else None,
            collapse=collapse(arms_of[name], control, metric),
            arms=len(found.seeds),
        )
        yield Above(share=share, excess=over or Interval(math.nan, -math.inf, math.inf), decline=decline)


def _alarms(found: _Found, criteria: Mapping[str, Metric]) -> dict[str, Any]:
    """Return the statistics by how early they tell the fully synthetic loop from its control, if that ends worse."""
    bracket = found.limits["loop"].all
    if bracket.tried[-1].word != "worse":
        return {}
    control, loop = (found.recorded[_text(regime)] for regime in (_CONTROL, _SYNTHETIC))
    ranked = rank(control, loop, found.seeds, {name: METRICS[name] for name in control}, next(iter(criteria)))
    return {"watch": tuple(ranked), "alarms": expected_false_alarms(found.seeds)}
