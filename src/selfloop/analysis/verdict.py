"""Is the loop stable so far? One rule, stated in words beside the numbers and the intervals that it gives.

Legend: S arms that differ in seed; T retrainings; z how much worse an arm is than what it is held against, on a scale
on which a factor is a difference; τ the tolerance on that scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from selfloop.analysis.curves import Array, Curves, Setting, mean
from selfloop.analysis.paired import LAST, paired
from selfloop.core.controls import controls
from selfloop.core.errors import ConfigError, counted, nearest, refuse_unlike
from selfloop.core.settings import in_words
from selfloop.metrics.arrays import ordinary
from selfloop.metrics.base import Metric

Word = Literal["stable so far", "worse", "collapsed", "starved", "stopped", "cannot tell yet"]

RULE = """\
Two curves are judged: the distance to held-out data (W2, else W1, else the first recorded metric that has a floor and a
direction) and how far the total variance of the samples is from that of real data, up or down. Each arm is held against
the arm of the control with the same seed, retraining by retraining; the control is λ = 0, or the one that was declared.
The control itself, arms without one, and all arms where the control did get worse, are held against their generation 0,
which saw real data alone.

"At the end" means the mean of the last three retrainings. What is compared are logarithms, so that a change is a
factor (for metrics that scatter about zero, such as KID, it is a share of the control's root mean square), and a change
beyond a factor of 8 counts as 8. The interval about the change is Student's at 95 %, over seeds; with fewer than five
seeds the noise between an arm's generations counts too, and the larger of the two is taken.

Collapsed: the interval lies above a factor of 2; or it lies above 1.25 and the distance's excess over the floor, the
distance between real training and held-out rows, has doubled; or at least half of the arms diverged, starved or
collapsed, each by itself. Starved: at least half of the arms ended because their regime left no row to train on, as a
verifier does that nothing passes. Stopped: at least half of the arms ended because an alarm of the experiment stopped
them. Worse: the interval lies above the tolerance, 10 % unless another was asked for; or
more than half of the arms got worse, each by itself, or were stopped.

Stable so far: after at least 4 retrainings both intervals lie below the tolerance, no arm diverged, starved or was
stopped, more than a variance is judged, as noise may have the right one, and there are real rows in the loop: without
any, exact theory expects a collapse that has only not come yet.
Cannot tell yet: anything else, with what would tell.

In the long run an arm or a setting that never changed is called worse or collapsed in at most 5 % of runs.
"""

TOLERANCE = 0.1
FACTOR = 2.0
MOVED = 1.25
MOST = 8.0
LEVEL = 0.95
ENOUGH = 4

FEW_SEEDS = 5  # from which seeds alone tell the noise
_MOST_SEEDS = 300  # that are worth proposing
_UNTOLD = math.log(1e6)  # an interval so wide says nothing
_TINY = float(np.finfo(np.float64).tiny)
_SPREADS = ("variance_ratio", "sqrt_covariance_ratio")
_VARIANCES = (*_SPREADS, "leading_variance_ratio")  # by which alone no loop is called stable


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A word, the retrainings it was given after, and the numbers that led to it as a phrase."""

    word: Word
    retrainings: int
    reason: str

    @property
    def text(self) -> str:
        """The word as it is shown: "stable so far (T = 5)"."""
        return f"{self.word} (T = {self.retrainings})" if self.word == "stable so far" else self.word


@dataclass(frozen=True, kw_only=True)
class Judged:
    """By what arms are judged, and against what.

    Attributes:
        distance: the first judged metric; None where a run recorded none that qualifies.
        spread: the second, a variance against that of real data.
        tolerance: share by which the control may be exceeded.
        controls: for every setting that of its control, by label; the others are held against their generation 0.
        failed: labels of controls that got worse themselves.
        about: what is known of the two metrics.
    """

    distance: str | None
    spread: str | None
    tolerance: float = TOLERANCE
    controls: Mapping[str, Setting] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    about: Mapping[str, Metric] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Change:
    """How much worse arms are at the end, and Student's interval about it; infinitely wide where nothing tells."""

    value: float
    low: float
    high: float


def judged(
    curves: Curves,
    metrics: Mapping[str, Metric],
    *,
    metric: str | None = None,
    control: Mapping[str, Any] | None = None,
    tolerance: float = TOLERANCE,
) -> Judged:
    """Choose by what to judge, from what was recorded, and against what.

    Args:
        curves: of a run.
        metrics: what is known of its metrics.
        metric: to judge by in place of the first distance.
        control: keys of the grid and the values of the control in place of λ = 0.
        tolerance: by what share a setting may be worse than its control.

    Raises:
        ConfigError: the metric was not recorded or has no direction, no setting is the control, or the tolerance is
            no positive number.
    """
    refuse_tolerance(tolerance)
    distance = _distance(curves, metrics) if metric is None else _named(metric, curves, metrics)
    spread = next((name for name in _SPREADS if name in curves.values and name in metrics and name != distance), None)
    about = {name: metrics[name] for name in (distance, spread) if name is not None}
    by = Judged(distance=distance, spread=spread, tolerance=tolerance, about=about)
    found = controls_of(curves, control)
    kept = {c.label: c for c in found.values()}
    failed = {label for label, c in kept.items() if of_setting(c, curves, by).word in ("worse", "collapsed", "starved")}
    held = {label: c for label, c in found.items() if label != c.label and c.label not in failed}
    return replace(by, controls=held, failed=frozenset(failed))


def _distance(curves: Curves, metrics: Mapping[str, Metric]) -> str | None:
    first = [name for name in ("w2_held_out", "w1_held_out") if name in curves.values]
    known = [name for name in (*first, *curves.metrics) if name in metrics and metrics[name].floor]
    known.sort(key=lambda name: metrics[name].goal != "lower")
    return next((name for name in known if metrics[name].goal is not None), None)


def _named(metric: str, curves: Curves, metrics: Mapping[str, Metric]) -> str:
    if metric not in curves.values or metric not in metrics:
        there = [name for name in curves.metrics if name in metrics and metrics[name].goal is not None]
        meant = nearest(metric, there) if there else ": there are none with a direction"
        raise ConfigError(f"the run did not record {metric!r}{meant}")
    if metrics[metric].goal is None:
        raise no_direction(metric)
    return metric


def refuse_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that is no share: 10 is a slip for 10 %, and beyond 1 a collapse would be within it.

    Raises:
        ConfigError: it is none.
    """
    refuse_unlike("the tolerance", tolerance, Real, "a share above 0 and at most 1, such as 0.1")
    if not 0 < tolerance <= 1:
        raise ConfigError(f"the tolerance is a share above 0 and at most 1, such as 0.1 or 10%, not {tolerance:g}")


def no_direction(metric: str) -> ConfigError:
    """Return the error of a metric that cannot be judged by."""
    return ConfigError(f"{metric!r} has no direction to judge by: neither more nor less of it is better")


def controls_of(curves: Curves, declared: Mapping[str, Any] | None) -> dict[str, Setting]:
    """Return by label of each setting its control: they differ in their regimes, or in what was declared, alone."""
    if declared is not None:
        refuse_unlike("the control", declared, Mapping, "a dict of a setting's keys and values, as {'mixing.lam': 0}")
    chosen = [other.ratio == 0 if declared is None else _is(other, declared) for other in curves.settings]
    places = controls([setting.settings for setting in curves.settings], chosen, tuple(declared or ()))
    pairs = zip(curves.settings, places, strict=True)
    found = {setting.label: curves.settings[place] for setting, place in pairs if place is not None}
    if declared is not None and not found:
        asked = ", ".join(f"{key}={in_words(value)}" for key, value in declared.items())
        there = "; ".join(
            ", ".join(f"{key}={in_words(value)}" for key, value in s.settings.items()) for s in curves.settings[:8]
        )
        raise ConfigError(f"no setting of this run is {asked}: there are {there or 'none that vary'}")
    return found


def _is(setting: Setting, declared: Mapping[str, Any]) -> bool:
    return all(key in setting.settings and _same(setting.settings[key], value) for key, value in declared.items())


def _same(found: Any, asked: Any) -> bool:
    """Whether a setting is the one asked for: infinite ones are kept as words, and of a member its name may do."""
    if isinstance(found, Mapping):
        wanted = {"name": asked} if isinstance(asked, str) else asked
        return isinstance(wanted, Mapping) and all(key in found and _same(found[key], wanted[key]) for key in wanted)
    return bool(found == asked) or str(found).lstrip(".") == str(asked).lstrip(".")


def of_arm(arm: int, curves: Curves, by: Judged) -> Verdict:
    """Judge one arm."""
    return _of_arm(arm, next(s for s in curves.settings if arm in s.arms), curves, by)


def _of_arm(arm: int, setting: Setting, curves: Curves, by: Judged) -> Verdict:
    if curves.ended[arm] >= 0:
        word, reason = _ended(curves.endings[arm], int(curves.ended[arm]))
        return Verdict(word=word, retrainings=_retrainings(curves), reason=reason)
    found = _judge((arm,), setting, curves, by)
    return _verdict(found.word, [found.phrase, found.missing], curves)


def _ended(how: str, at: int) -> tuple[Word, str]:
    """Return the word and the reason of an arm that ended, the generation being the first that it has no samples of."""
    if how == "stopped":
        return "stopped", f"stopped by its alarm at generation {at - 1}"
    if how == "starved":
        return "starved", f"starved at generation {at}, left without rows to train on"
    return "collapsed", f"{how} at generation {at}"


def of_setting(setting: Setting, curves: Curves, by: Judged) -> Verdict:
    """Judge a setting by all its arms together; by one, where it has no other."""
    if len(setting.arms) == 1:
        return _of_arm(setting.arms[0], setting, curves, by)
    words = [_of_arm(arm, setting, curves, by).word for arm in setting.arms]
    starved, stopped, worse, total = words.count("starved"), words.count("stopped"), words.count("worse"), len(words)
    fallen = words.count("collapsed") + starved
    endings = [curves.endings[arm] for arm in setting.arms]
    gone = len(endings) - endings.count("")
    found = _judge(_alive(setting, curves), setting, curves, by)
    counts = (
        (endings.count("diverged"), "diverged"),
        (starved, "starved"),
        (stopped, "stopped by their alarms"),
        (fallen + stopped - gone, "collapsed by themselves"),
        (worse, "got worse by themselves"),
    )
    said = [f"{count} of {counted(total, 'arm')} {what}" for count, what in counts if count]
    most: Word | None = "starved" if 2 * starved >= total else "collapsed" if 2 * fallen >= total else None
    if most is None and 2 * stopped >= total:
        most = "stopped"
    if most is None and 2 * (fallen + stopped + worse) > total and found.word != "collapsed":
        most = "worse"
    if most is not None and most != found.word:  # what decides is said first
        return _verdict(most, [*said, found.phrase], curves)
    word: Word = "cannot tell yet" if gone and found.word == "stable so far" else found.word
    return _verdict(word, [found.phrase, *said, found.missing], curves)


def _verdict(word: Word, parts: Sequence[str], curves: Curves) -> Verdict:
    return Verdict(word=word, retrainings=_retrainings(curves), reason="; ".join(part for part in parts if part))


def made_elsewhere(setting: Setting) -> bool:
    """Whether a setting is a loop that was run elsewhere, or its control."""
    return not {"mixing.sequence", "run"}.isdisjoint(setting.settings)  # by the run alone where several are compared


def repeated(setting: Setting) -> str:
    """Return what is repeated of a setting, for people: seeds or, of what was run elsewhere, the loop."""
    return "repetitions of the loop" if made_elsewhere(setting) else "seeds"


def _alive(setting: Setting, curves: Curves) -> tuple[int, ...]:
    return tuple(arm for arm in setting.arms if curves.ended[arm] < 0)


def _retrainings(curves: Curves) -> int:
    return max(curves.generations - 1, 0)


@dataclass(frozen=True)
class _Found:
    """A word, the numbers as a phrase, and what would tell where the word is that nothing does."""

    word: Word
    phrase: str
    missing: str


def _judge(arms: Sequence[int], setting: Setting, curves: Curves, by: Judged) -> _Found:
    """Judge arms that did not diverge."""
    changes = {name: change(name, arms, setting, curves, by) for name in (by.distance, by.spread) if name is not None}
    known = {name: c for name, c in changes.items() if c is not None}
    grown = {name: _grown(name, c, arms, curves, by) for name, c in known.items()}
    phrase = _phrase(known, grown, setting, by)
    if any(_fell(c, grown[name], by.about[name], by) for name, c in known.items()):
        return _Found("collapsed", phrase, "")
    if any(c.low > _tolerance(by.about[name], by.tolerance) for name, c in known.items()):
        return _Found("worse", phrase, "")
    missing = _missing(known, setting, curves, by)
    return _Found("cannot tell yet" if missing else "stable so far", phrase, missing)


def _missing(known: Mapping[str, Change], setting: Setting, curves: Curves, by: Judged) -> str:
    """Return what would tell where nothing got worse; "" where it is told that it holds."""
    retrainings = _retrainings(curves)
    if not retrainings:
        return "there is no retraining yet"
    if by.distance is None or by.distance in _VARIANCES:
        what = "recorded" if by.distance is None else "judged"
        return f"no distance to held-out data was {what}, which would tell: noise may have the right variance"
    if by.distance not in known:
        return f"{by.about[by.distance].title} has no values to compare"
    if retrainings < ENOUGH:
        return f"at least {ENOUGH} retrainings would tell"
    if math.isinf(setting.ratio):
        return "without real rows theory expects a collapse: more retrainings would tell"
    wide = {name: c for name, c in known.items() if c.high >= _tolerance(by.about[name], by.tolerance)}
    if wide:
        more = repeated(setting)
        needed = max(_seeds(name, c, len(setting.arms), by) for name, c in wide.items())
        if needed <= len(setting.arms):
            return f"more {more} would tell"
        if needed > _MOST_SEEDS:
            return f"too near the tolerance for {more} to tell: more retrainings would, or another tolerance"
        return f"about {needed:.0f} {more} would tell"
    return ""


def _seeds(name: str, c: Change, seeds: int, by: Judged) -> float:
    """Return how many seeds would bring the interval to one side of the tolerance in 4 of 5 runs, at this noise."""
    gap, half = abs(_tolerance(by.about[name], by.tolerance) - c.value), (c.high - c.low) / 2
    if math.isinf(half):
        return 0.0
    if not gap:
        return math.inf
    # The half width is Student's quantile × deviation / √S: with more seeds both factors shrink, the first to 2; and in
    # 1 of 5 runs the mean falls short of its expectation by 0.84 standard errors.
    quantile = float(stdtrit(max(seeds - 1, 2), 0.5 + LEVEL / 2))
    return math.ceil(seeds * (half * 2.84 / quantile / gap) ** 2) + 2


def _tolerance(about: Metric, share: float) -> float:
    """Return a share on the scale of a metric's changes."""
    return share if about.scale == "difference" else math.log1p(share)


def _fell(c: Change, grown: float, about: Metric, by: Judged) -> bool:
    return c.low > _tolerance(about, max(FACTOR - 1, by.tolerance)) or grown >= FACTOR


def _grown(name: str, c: Change, arms: Sequence[int], curves: Curves, by: Judged) -> float:
    """Return by what factor the excess of a distance over its floor grew; NaN where that does not count.

    In many dimensions the distance itself can hardly double.
    """
    floors = curves.floors.get(name)
    if by.about[name].goal != "lower" or by.about[name].scale != "ratio" or floors is None or c.low <= math.log(MOVED):
        return math.nan
    first, last, floor = (
        float(mean(x)) for x in (curves.values[name][list(arms), 0], _end(curves, name, arms), floors[list(arms)])
    )
    return (last - floor) / (first - floor) if first > floor else math.nan


def _end(curves: Curves, name: str, arms: Sequence[int]) -> Array:
    return mean(curves.values[name][list(arms), 1:][:, -LAST:].T)


def change(name: str, arms: Sequence[int], setting: Setting, curves: Curves, by: Judged) -> Change | None:
    """Return by how much arms of a setting are worse at the end in one metric than what they are held against.

    Arms whose seed the control lacks, and arms without a value at the end, are left out; None where none is left, or
    where what they are held against is 0 throughout, which is no scale.
    """
    if _retrainings(curves) < 1:
        return None
    control = by.controls.get(setting.label)
    if control is None:
        here = curves.values[name][list(arms)]
        there = here[:, :1]
        unit = _unit(by.about[name], there, np.diff(here, axis=1) / math.sqrt(2))
    else:
        pairs = paired(curves, replace(setting, arms=tuple(arms)), replace(control, arms=_alive(control, curves)), name)
        here, there = pairs.here, pairs.there
        unit = _unit(by.about[name], there)
    if not unit > 0:
        return None
    most = MOST - 1 if by.about[name].scale == "difference" else math.log(MOST)
    z = badness(by.about[name], here / unit) - badness(by.about[name], there / unit)
    return interval(np.clip(z, -most, most), paired=control is not None)


def _unit(about: Metric, *references: Array) -> float:
    """Return what values are divided by: 1 but for those that scatter about zero, and 0 where there is no scale."""
    finite = [x[np.isfinite(x)] for x in references if np.isfinite(x).any()]
    if about.scale != "difference":
        return float(about.scale == "log" or any(x.any() for x in finite[:1]))
    scale = ordinary(max((float(np.abs(x).max()) for x in finite), default=0.0))
    return scale * math.sqrt(sum(float(((x / scale) ** 2).mean()) for x in finite))


def badness(about: Metric, values: Array) -> Array:
    """Return values on the scale on which they are compared, where more is worse."""
    logs = np.log(np.maximum(values, _TINY)) if about.scale == "ratio" else values
    if isinstance(about.goal, float):
        return np.abs(logs - (math.log(about.goal) if about.scale == "ratio" else about.goal))
    return -logs if about.goal == "higher" else logs


def interval(z: Array, paired: bool) -> Change | None:
    """Return the mean of what arms came to at the end, and its interval.

    The noise is taken from the ends of the S arms, n − 1 below; with fewer than five seeds also from the differences of
    successive generations (von Neumann), whose mean square is twice the variance and worth 2/3 of a degree of freedom
    each, and the larger of the two counts.

    Args:
        z: (S, T + 1) how much worse an arm is at each generation than what it is held against.
        paired: whether that is a control's generation, and not generation 0, whose noise all others share.
    """
    last = z[:, 1:][:, -LAST:]
    use = np.isfinite(last).any(1)
    if not use.any():
        return None
    z, ends = z[use], mean(last[use].T)
    seeds, value = len(ends), float(ends.mean())
    variance, freedom = (float(ends.var(ddof=1)), seeds - 1.0) if seeds > 1 else (0.0, 0.0)
    if seeds < FEW_SEEDS:
        steps = np.diff(z[:, 1:] if paired else z, axis=1)
        steps = steps[np.isfinite(steps)]
        if not len(steps):
            return Change(value, -math.inf, math.inf)
        share = 1 / min(LAST, z.shape[1] - 1) + (not paired)
        variance, freedom = max(variance, float((steps**2).mean()) / 2 * share), freedom + 2 * len(steps) / 3
    half = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * math.sqrt(variance / seeds)
    return Change(value, value - half, value + half)


def _phrase(known: Mapping[str, Change], grown: Mapping[str, float], setting: Setting, by: Judged) -> str:
    if not known:
        return ""
    control = by.controls.get(setting.label)
    against = f"against {control.label}" if control is not None else "against generation 0"
    if control is None and by.failed and setting.label not in by.failed:
        against += ", as the control got worse itself"
    words = []
    for name, c in known.items():
        about = by.about[name]
        of = "" if isinstance(about.goal, str) else f"further from {about.goal:g} by "
        # Said where it is what decides: an excess of nearly nothing grows by any factor.
        decides = grown[name] >= FACTOR and c.low <= _tolerance(about, max(FACTOR - 1, by.tolerance))
        over = f", and {_most(grown[name])} × its excess over the floor" if decides else ""
        words.append(f"{about.title} {of}{span(c, about, '95 % interval ')}{over}")
    return f"at the end {'; '.join(words)} {against}"


def span(c: Change, about: Metric, words: str = "") -> str:
    """Return a change as a factor, of metrics that scatter about zero as a share, and its interval after ``words``."""
    if about.scale != "difference" and c.high - c.low > _UNTOLD:
        return f"{_number(c.value)} × (with an interval too wide to tell)"
    if about.scale == "difference":
        return f"{c.value:+.0%} ({words}{c.low:+.0%} to {c.high:+.0%})"
    return f"{_number(c.value)} × ({words}{_number(c.low)} to {_number(c.high)})"


def _most(factor: float) -> str:
    return "over 100" if factor > 100 else f"{factor:.3g}"


def _number(log: float) -> str:
    factor = math.exp(min(log, 700.0))
    return "∞" if math.isinf(log) and log > 0 else f"{factor:.2f}" if 0.1 <= factor < 100 else f"{factor:.2g}"
