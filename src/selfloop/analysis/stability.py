"""How stable a run's loop is, λ by λ, and how much synthetic data it bears: what ``selfloop stability`` prints.

For each setting there is the local rate ρ that theory predicts, where it can, and the one that the arms show; what a
retraining's error grows to; the report's verdict; and a metric at the end against that of the λ = 0 control.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfloop.analysis import verdict
from selfloop.analysis.curves import Curves, Setting, mean, of_mixing, read
from selfloop.core.capabilities import Capability
from selfloop.core.errors import ConfigError
from selfloop.core.records import Record
from selfloop.core.registry import Absent
from selfloop.core.streams import Streams, generator
from selfloop.generators.base import OfParameters
from selfloop.store import Run
from selfloop.theory.bounds import amplification, times
from selfloop.theory.contraction import Contraction
from selfloop.theory.measured import FEWEST_ARMS, FEWEST_RETRAININGS, Interval, memory
from selfloop.theory.plug_in import plug_in

Doubles = NDArray[np.float64]

_DRAWS = 2000  # of the bootstrap over seeds
_LEVEL = 0.95
_MOST_PARAMETERS = 200  # of a mixture whose Hessians are formed
_LATEST = 100  # retrainings in which the arms' rates are looked for: more make a long run slow to read, for little


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting.

    Attributes:
        setting: what distinguishes it, for people.
        ratio: synthetic rows per real one, λ of the paper's regime; NaN where the regime has no such number.
        arms: how many seeds.
        predicted: ρ from theory; None where it says nothing of the generator.
        estimated: whether that is an estimate from rows, not a closed form.
        centre: ρ seen in the means of the samples that the next generation trains on; None where it cannot be.
        spread: ρ seen in the logarithm of their total variance.
        amplification: 1/√(1 − ρ²) of the predicted ρ, or else of the larger seen one; None where neither is known.
        value: the metric over the last three retrainings, a mean over seeds; NaN where an arm diverged.
        excess: by what share it is worse than that of λ = 0, inf where an arm diverged; None without a control.
        verdict: the report's word.
        reason: and its reason.
    """

    setting: str
    ratio: float
    arms: int
    predicted: float | None
    estimated: bool
    centre: Interval | None
    spread: Interval | None
    amplification: float | None
    value: float
    excess: Interval | None
    verdict: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Bearable:
    """The largest λ of a grid that is within tolerance of λ = 0, as are all smaller ones.

    Attributes:
        among: the settings besides λ that its arms share, "" where λ alone varies.
        ratio: it; 0 where the smallest other λ is outside already. None where it cannot be said.
        low: of its bootstrap interval over seeds, a λ of the grid; None where there are not enough seeds.
        high: of the interval.
        top: whether no larger λ was run.
        notes: what is missing.
    """

    among: str
    ratio: float | None
    low: float | None
    high: float | None
    top: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Stability:
    """All of it.

    Attributes:
        name: of the experiment.
        retrainings: committed so far.
        planned: in all.
        metric: that was compared; None where none was recorded.
        tolerance: a share.
        rows: one per setting.
        bearable: one per combination of the other settings.
    """

    name: str
    retrainings: int
    planned: int
    metric: str | None
    tolerance: float
    rows: tuple[Row, ...]
    bearable: tuple[Bearable, ...]


def stability(run: Run, *, metric: str | None = None, tolerance: float = 0.1) -> Stability:
    """Assess a run, finished or not.

    Args:
        run: opened for reading.
        metric: to compare with λ = 0; None takes the one that the verdict looks at.
        tolerance: by what share a λ may be worse than λ = 0.

    Raises:
        ConfigError: the run did not record the metric, or the tolerance is no positive number.
        RunError: the run is damaged.
    """
    if not 0 < tolerance < math.inf:
        raise ConfigError(f"the tolerance is a share above 0, such as 0.1, not {tolerance}")
    curves = read(run)
    by = verdict.judged(curves, run.metrics)
    name = metric or by.distance or next(iter(curves.values), None)
    if name is not None and name not in run.experiment.metrics:
        near = difflib.get_close_matches(name, run.experiment.metrics, n=1, cutoff=0.5)
        there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(run.experiment.metrics)}"
        raise ConfigError(f"the run did not record {name!r}: {there}")
    paths = _paths(run)
    rows: dict[int, Row] = {}
    bearable = []
    for among, members in _families(run, curves).items():
        ends = {i: _ends(curves, curves.settings[i], name) for i in members}
        control = next((i for i in members if curves.settings[i].ratio == 0), None)
        goal = run.metric(name).goal if name is not None else None
        draws = _draws(len(curves.settings[members[0]].arms))
        excesses = {i: _excess(ends[i], ends[control], goal, draws) for i in members} if control is not None else {}
        found = linearised(run, curves.settings[members[0]].arms[0])
        for i in members:
            rows[i] = _row(run, curves, i, by, paths, ends[i], excesses.get(i), found)
        bearable.append(_bearable(among, curves, members, excesses, run.last, tolerance))
    return Stability(
        name=run.experiment.name,
        retrainings=max(run.last, 0),
        planned=run.experiment.generations,
        metric=name,
        tolerance=tolerance,
        rows=tuple(rows[i] for i in sorted(rows)),
        bearable=tuple(bearable),
    )


def predicted_rate(run: Run, arm: int, found: Contraction | None = None) -> float | None:
    """Return ρ of one arm's loop from theory, None where there is none.

    The Hessian of an exponential family does not depend on x, so that A = B for whatever data: ρ = m/(n + m) for m
    synthetic rows beside n real ones. Of others ``found`` says it, with m/n for λ. Both hold where a generation is
    trained on real rows and on those of the last model, unselected, as regimes with a ratio are.
    """
    if found is None and "exponential" not in _offers(run, arm):
        return None
    record = _second(run, arm)
    if record is None or record["ratio"] is None or not set(record["born"]) <= {"0", "1"}:
        return None
    n, m = record["n_real"], record["n_synthetic"]
    if not n:
        return 1.0
    return m / (n + m) if found is None else found.rate(m / n)


def _offers(run: Run, arm: int) -> frozenset[Capability]:
    """Return what an arm's generator offers, nothing where its code is not here."""
    generator = run.arms[arm].experiment.generator
    return frozenset() if isinstance(generator, Absent) else generator.offers


def _second(run: Run, arm: int) -> Record | None:
    """Return an arm's record of generation 1, the first that may be trained on samples; None where it has none."""
    if run.last < 1:
        return None
    return next((r for r in run.of_generation(1) if r["arm"] == arm and r["born"]), None)


def linearised(run: Run, arm: int) -> Contraction | None:
    """Estimate A and B at generation 0's fit, which arms that differ in λ share.

    None for generators that offer no function of their parameters, where that fit is no strict maximum, and for more
    than 200 parameters.
    """
    generator = run.arms[arm].experiment.generator
    if "parametric" not in _offers(run, arm) or not isinstance(generator, OfParameters) or run.last < 0:
        return None
    stack, row = run.row(arm)
    state = {name: leaf[row : row + 1] for name, leaf in run.state(0, stack).items()}
    family = generator.parametric(state)
    if family.parameters > _MOST_PARAMETERS:
        return None
    try:
        return plug_in(generator, family, state, run.real(arm).rows.double(), Streams((run.arms[arm].seed,)))
    except ValueError:
        return None


def _families(run: Run, curves: Curves) -> dict[str, list[int]]:
    """Group settings that differ in λ alone, each in the order of λ, by what else they share."""
    families: dict[str, list[int]] = {}
    for i, setting in enumerate(curves.settings):
        shared = run.arms[setting.arms[0]].settings
        words = [f"{key} = {_plain(value)}" for key, value in shared.items() if key != "seed" and not of_mixing(key)]
        families.setdefault(", ".join(words), []).append(i)
    return {among: sorted(found, key=lambda i: curves.settings[i].ratio) for among, found in families.items()}


def _plain(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict) else str(value)


def _paths(run: Run) -> dict[int, Doubles]:
    """Return by arm what is seen of it, (T, d + 1): means of the rows that train the next, and their log variance.

    Both are against the arm's own real rows, in their standard deviations, over the latest generations; NaN from a
    divergence on.
    """
    paths: dict[int, Doubles] = {}
    if run.last < 0:
        return paths
    generations = range(max(0, run.last - _LATEST), run.last + 1)
    second = {record["arm"]: record for record in run.of_generation(1)} if run.last >= 1 else {}
    for s, members in enumerate(run.stacks):
        kept = [run.real(arm.index) for arm in members]
        centre = np.stack([real.mean.numpy() for real in kept])[:, None]
        scale = np.stack([real.std.numpy() for real in kept])[:, None]
        scale = np.where(scale > 0, scale, 1.0)
        used = np.array([_used(second.get(arm.index), real.n) for arm, real in zip(members, kept, strict=True)])
        path = np.full((len(members), len(generations), centre.shape[2] + 1), np.nan)
        for k, t in enumerate(generations):
            samples = run.stack_samples(t, s)
            for m in np.unique(used):
                rows = np.flatnonzero((used == m) & (samples.count.numpy() >= m))
                if len(rows) and m > 1:
                    x = (samples.x[rows, :m].flatten(2).double().numpy() - centre[rows]) / scale[rows]
                    path[rows, k, :-1] = x.mean(1)
                    with np.errstate(divide="ignore"):
                        path[rows, k, -1] = np.log(x.var(1).sum(1))
        paths |= {arm.index: path[r] for r, arm in enumerate(members)}
    return paths


def _used(record: Record | None, n: int) -> int:
    """Return how many of a generation's samples train the next, as many as there are real rows where none do."""
    return n if record is None else record["born"].get("1", 0) or n


def _row(
    run: Run,
    curves: Curves,
    i: int,
    by: verdict.Judged,
    paths: dict[int, Doubles],
    ends: Doubles,
    excess: Doubles | None,
    found: Contraction | None,
) -> Row:
    setting = curves.settings[i]
    indices = [run.arms[arm].index for arm in setting.arms]
    seen = [paths[k] for k in indices if k in paths and np.isfinite(paths[k]).all()]
    stack = np.stack(seen) if seen else np.empty((0, 0, 2))
    centre, spread = memory(stack[..., :-1]), memory(stack[..., -1:])
    predicted = predicted_rate(run, setting.arms[0], found)
    rates = [predicted] if predicted is not None else [max(0.0, m.value) for m in (centre, spread) if m is not None]
    judged = verdict.of_setting(setting, curves, by)
    return Row(
        setting=setting.label,
        ratio=setting.ratio,
        arms=len(setting.arms),
        predicted=predicted,
        estimated=found is not None,
        centre=centre,
        spread=spread,
        amplification=amplification(max(rates)) if rates else None,
        value=float(ends.mean()),
        excess=None if excess is None else _interval(excess, len(ends)),
        verdict=judged.word,
        reason=judged.reason,
    )


def _ends(curves: Curves, setting: Setting, metric: str | None) -> Doubles:
    """Return the metric of each seed over the last three retrainings, NaN for an arm that diverged."""
    if metric is None or metric not in curves.values or curves.generations < 2:
        return np.full(len(setting.arms), np.nan)
    values = mean(curves.of(setting, metric)[:, 1:][:, -verdict.LAST :].T)
    return np.where(curves.diverged[list(setting.arms)] >= 0, np.nan, values)


def _draws(seeds: int) -> NDArray[np.int64]:
    """Return which seeds each draw of the bootstrap takes, (1 + draws, S); the first takes each once.

    Every λ is given the same: arms of one seed share their real rows and random numbers.
    """
    drawn = generator(0, "stability").integers(seeds, size=(_DRAWS, seeds))
    return np.concatenate([np.arange(seeds)[None], drawn])


def _excess(ends: Doubles, control: Doubles, goal: object, draws: NDArray[np.int64]) -> Doubles:
    """Return by what share the mean is worse than the control's, for every draw; inf with a diverged arm among them."""
    if len(ends) != len(control):
        return np.full(len(draws), np.nan)
    here, there = ends[draws].mean(1), control[draws].mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (here - there) / np.abs(there)
    if goal == "higher":
        change = -change
    elif goal != "lower":
        change = np.abs(change)
    return np.where(np.isfinite(here), change, np.inf)


def _interval(excess: Doubles, seeds: int) -> Interval:
    if seeds < FEWEST_ARMS:
        return Interval(float(excess[0]), math.nan, math.nan)
    low, high = _quantiles(excess[1:])
    return Interval(float(excess[0]), low, high)


def _quantiles(values: Sequence[float] | Doubles) -> tuple[float, float]:
    # By order, not by interpolation: values may be infinite, or λs of a grid.
    low, high = np.quantile(values, [0.5 - _LEVEL / 2, 0.5 + _LEVEL / 2], method="inverted_cdf")
    return float(low), float(high)


def _bearable(
    among: str, curves: Curves, members: Sequence[int], excesses: dict[int, Doubles], last: int, tolerance: float
) -> Bearable:
    lams, seeds = [curves.settings[i].ratio for i in members], len(curves.settings[members[0]].arms)
    notes = []
    if 0.0 not in lams:
        notes.append("there is no λ = 0 to compare with")
    if len(lams) < 2:
        notes.append("there is one λ only")
    if last < verdict.ENOUGH:
        notes.append(f"not enough generations: {max(last, 0)} retrainings of the {verdict.ENOUGH} that it takes")
    control = members[lams.index(0.0)] if 0.0 in lams else None
    if control is not None and not np.isfinite(excesses[control][0]):
        notes.append("the metric of λ = 0 is not there, or not finite")
    few = [f"not enough seeds for an interval: {seeds} of the {FEWEST_ARMS} that it takes"] * (seeds < FEWEST_ARMS)
    if notes:
        notes += few
        return Bearable(among=among, ratio=None, low=None, high=None, top=False, notes=tuple(notes))
    within = np.stack([excesses[i] <= tolerance for i in members])
    found = np.array(lams)[np.maximum(np.cumprod(within, 0).sum(0) - 1, 0)]
    notes += few
    low, high = (None, None) if few else _quantiles(found[1:])
    if last < FEWEST_RETRAININGS:
        notes.append(
            f"not enough generations to measure ρ: {last} retrainings of the {FEWEST_RETRAININGS} that it takes"
        )
    top = bool(found[0] == max(lams))
    return Bearable(among=among, ratio=float(found[0]), low=low, high=high, top=top, notes=tuple(notes))


def plain(value: Any) -> Any:
    """Return what JSON takes of a result: λ = inf is "inf", what is not known null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value


def cells(found: Stability) -> list[list[str]]:
    """Return the table of :class:`Row`, in words."""
    return [
        [
            row.setting,
            "–" if row.predicted is None else f"{'≈ ' if row.estimated else ''}{row.predicted:.3f}",
            _between(row.centre, "{:.2f}"),
            _between(row.spread, "{:.2f}"),
            "–" if row.amplification is None else times(row.amplification),
            f"{row.value:.4g}" if math.isfinite(row.value) else "–",
            _between(row.excess, "{:+.0%}"),
            row.verdict,
        ]
        for row in found.rows
    ]


def sentences(found: Stability) -> list[str]:
    """Return what there is to say below the table: the largest λ that is borne, and what is missing."""
    level = f"{100 * found.tolerance:.3g} %"
    lines = [f"After {found.retrainings} of {found.planned} retrainings; intervals are at {_LEVEL:.0%}, over seeds."]
    for each in found.bearable:
        where = f"{each.among}: " if each.among else ""
        if each.ratio is not None:
            span = "" if each.low is None or each.high is None else f" (between {_lam(each.low)} and {_lam(each.high)})"
            top = ", the largest that was run" if each.top else ""
            lines.append(f"{where}Within {level} of λ = 0 up to λ = {_lam(each.ratio)}{span}{top}.")
        lines += [f"{where}{note[0].upper()}{note[1:]}." for note in each.notes]
    return lines


def _between(interval: Interval | None, form: str) -> str:
    if interval is None:
        return "–"
    value, low, high = (_number(x, form) for x in (interval.value, interval.low, interval.high))
    return value if math.isnan(interval.low) else f"{value} ({low} to {high})"


def _number(x: float, form: str) -> str:
    return "∞" if math.isinf(x) else form.format(x)


def _lam(lam: float) -> str:
    return "∞" if math.isinf(lam) else f"{lam:g}"
