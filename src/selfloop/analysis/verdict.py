"""Is the loop stable? One rule, stated in words beside the numbers it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from selfloop.analysis.curves import Array, Curves, Setting, mean, median
from selfloop.metrics.base import Metric

Word = Literal["stable", "drifting", "collapsed", "too short", "not judged"]

RULE = """\
Two curves are judged, each relative to its value at generation 0, which saw real data alone: the distance to held-out
data (W2, else W1, else the first recorded distance that has a floor) and the total variance of the generated samples.
"At the end" means the mean of the last three retrainings.

Collapsed: the arm diverged; or at the end its distance is at least 2 times that of generation 0; or it is at least
1.25 times that of generation 0 and its excess over the floor, the distance between real training and held-out rows, is
at least 2 times the excess of generation 0; or its variance is at most half or at least twice that of generation 0.

Drifting: not collapsed, but at the end its distance is at least 1.25 times that of generation 0, or its variance is
off by as much; or over the second half of the generations the least-squares slope worsens by more than 2 standard
errors, and takes the distance up by more than 10 % of its value at generation 0, or the variance more than 10 % further
away from its value at generation 0.

Stable: neither of these. Too short: not collapsed, and fewer than 4 retrainings. Not judged: neither of these, but no
distance was recorded: samples can dissolve into noise of the right variance.

A setting is judged by the same rule on the median over its seeds; it is collapsed too if at least half of its arms are.
"""

FACTOR = 2.0
MOVED = 1.25
DRIFT = 0.10
ERRORS = 2.0
ENOUGH = 4
LAST = 3


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One word, and the numbers that led to it as a phrase."""

    word: Word
    reason: str


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The names of the two judged metrics; None where a run recorded none that qualifies."""

    distance: str | None
    spread: str | None


def judged(curves: Curves, metrics: Mapping[str, Metric]) -> Judged:
    """Choose what is judged, from what was recorded."""
    candidates = ["w2_held_out", "w1_held_out", *curves.metrics]
    distance = next((name for name in candidates if _qualifies(name, curves, metrics)), None)
    spreads = ("variance_ratio", "sqrt_covariance_ratio")
    spread = next((name for name in spreads if name in curves.values), None)
    return Judged(distance=distance, spread=spread)


def _qualifies(name: str, curves: Curves, metrics: Mapping[str, Metric]) -> bool:
    if name not in curves.values or name not in metrics:
        return False
    return metrics[name].floor and metrics[name].goal == "lower"


def of_arm(arm: int, curves: Curves, by: Judged) -> Verdict:
    """Judge one arm."""
    return _judge(
        None if by.distance is None else curves.values[by.distance][arm],
        _spread(None if by.spread is None else curves.values[by.spread][arm], by),
        int(curves.diverged[arm]),
        float(curves.floors[by.distance][arm]) if by.distance in curves.floors else math.nan,
    )


def of_setting(setting: Setting, curves: Curves, by: Judged) -> Verdict:
    """Judge a setting by the median over its seeds, and by how many of its arms collapsed."""
    words = [of_arm(arm, curves, by).word for arm in setting.arms]
    fallen, total = words.count("collapsed"), len(words)
    verdict = _judge(
        None if by.distance is None else median(curves.of(setting, by.distance)),
        _spread(None if by.spread is None else median(curves.of(setting, by.spread)), by),
        -1,
        curves.floor(setting, by.distance) if by.distance in curves.floors else math.nan,
    )
    word: Word = "collapsed" if 2 * fallen >= total else verdict.word
    if total == 1:
        return of_arm(setting.arms[0], curves, by)
    return Verdict(word=word, reason=f"{verdict.reason} (median over seeds); {fallen} of {total} arms collapsed")


def _spread(curve: Array | None, by: Judged) -> Array | None:
    """Return a variance: tr √Σ is of the order of a standard deviation, so its ratio is squared."""
    return curve**2 if curve is not None and by.spread == "sqrt_covariance_ratio" else curve


def _judge(distance: Array | None, spread: Array | None, diverged: int, floor: float) -> Verdict:
    if diverged >= 0:
        return Verdict(word="collapsed", reason=f"diverged at generation {diverged}")
    far, wide = _relative(distance), _relative(spread)
    known = [curve for curve in (far, wide) if curve is not None]
    if not known:
        return Verdict(word="not judged", reason="there is nothing to judge by")
    reason = f"at the end {_phrase(far, wide)} that of generation 0"
    if _off(far, wide, FACTOR) or (far is not None and distance is not None and _left(far, floor / distance[0])):
        return Verdict(word="collapsed", reason=reason)
    if max(map(len, known)) - 1 < ENOUGH:
        return Verdict(word="too short", reason=reason)
    drifting = _off(far, wide, MOVED) or _worsens(far, wide)
    if far is None and not drifting:
        return Verdict(word="not judged", reason=f"{reason}, which holds, and no distance was recorded")
    return Verdict(word="drifting" if drifting else "stable", reason=reason)


def _off(far: Array | None, wide: Array | None, factor: float) -> bool:
    """Return whether the distance grew by a factor, or the variance changed by it, up or down."""
    grew = far is not None and _end(far) >= factor
    return grew or (wide is not None and not 1 / factor < _end(wide) < factor)


def _left(far: Array, floor: float) -> bool:
    """Return whether the excess over the floor doubled: in many dimensions the distance itself can hardly double."""
    return floor < 1 and _end(far) >= MOVED and _end(far) - floor >= FACTOR * (1 - floor)


def _worsens(far: Array | None, wide: Array | None) -> bool:
    """Return whether the distance rises, or the variance leaves that of generation 0, over the second half."""
    tiny = np.finfo(np.float64).tiny
    leaving = wide is not None and rise(np.abs(np.log(np.maximum(wide, tiny)))) > DRIFT
    return leaving or (far is not None and rise(far) > DRIFT)


def _relative(curve: Array | None) -> Array | None:
    """Return a curve over its value at generation 0; None where that is no scale or nothing follows it."""
    if curve is None or len(curve) < 2 or not np.isfinite(curve[1:]).any():
        return None
    return curve / curve[0] if np.isfinite(curve[0]) and curve[0] > 0 else None


def _end(curve: Array) -> float:
    """Return the mean of the last three retrainings."""
    return float(mean(curve[1:][-LAST:]))


def _phrase(far: Array | None, wide: Array | None) -> str:
    named = (("distance", far), ("variance", wide))
    return " and ".join(f"{name} {_times(_end(curve))}" for name, curve in named if curve is not None)


def _times(ratio: float) -> str:
    return f"{ratio:.2f} ×" if 0.1 <= ratio < 100 else f"{ratio:.2g} ×"


def rise(curve: Array) -> float:
    """Return the fitted rise over the second half of a curve, 0 unless it exceeds 2 standard errors."""
    t = np.arange(len(curve))
    use = (2 * t >= len(curve) - 1) & np.isfinite(curve)
    if use.sum() < 3:
        return 0.0
    x, y = t[use] - t[use].mean(), curve[use] - curve[use].mean()
    slope = (x @ y) / (x @ x)
    residual = y - slope * x
    error = np.sqrt(residual @ residual / (len(x) - 2) / (x @ x))
    return float(slope * np.ptp(x)) if slope > ERRORS * error else 0.0
