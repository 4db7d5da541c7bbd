"""How fast a loop gets worse: the half-life of its variance, and when its loss is twice the control's, over seeds.

Legend: S seeds; T generations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfloop.analysis.curves import Array
from selfloop.analysis.verdict import FACTOR, badness
from selfloop.metrics.base import Metric
from selfloop.theory.measured import Interval, student_interval

_SURE = 0.95


@dataclass(frozen=True, kw_only=True)
class Decline:
    """What becomes of a setting's arms.

    Attributes:
        half_life: generations after which the geometric mean of the variance is halved; negative where it grows, when
            it is doubled. Infinite where it stays; None where no variance was recorded, or of fewer than two seeds.
        collapse: generation at which half of the arms have twice their control's loss, a median; infinite where fewer
            than half ever have.
        arms: S.
    """

    half_life: Interval | None
    collapse: Interval
    arms: int


def half_life(variance: Array) -> Interval | None:
    """Return after how many generations a variance is halved, with Student's 95 % interval over seeds of its rate.

    The rate is (ln v_T − ln v_0) / T of each arm. Where its interval holds 0, that of the half-life has no upper end:
    the variance may stay.

    Args:
        variance: (S, T + 1) of the samples, on any scale; arms with a value that is not above 0 are left out.
    """
    use = (np.isfinite(variance) & (variance > 0)).all(1)
    steps = variance.shape[1] - 1
    if use.sum() < 2 or steps < 1:
        return None
    logs = np.log(variance[use])
    rate = student_interval(((logs[:, -1] - logs[:, 0]) / steps).tolist(), _SURE)
    value, low, high = (-math.log(2) / each if each else math.inf for each in (rate.value, rate.low, rate.high))
    if rate.low < 0 < rate.high:
        return Interval(value, min(low, -high), math.inf)
    return Interval(value, min(low, high, key=abs), max(low, high, key=abs))


def collapse(here: Array, there: Array, metric: Metric) -> Interval:
    """Return the generation at which arms first have twice their control's loss: the median and its 95 % interval.

    The interval is that of order statistics, which holds for any distribution. Arms that never have it, or of which
    the value that would tell is not there, are infinitely late; arms that diverge have it then.

    Args:
        here: (S, T + 1) the metric, by seed.
        there: (S, T + 1) of the control in the same seeds.
        metric: says what is worse.
    """
    if metric.scale == "difference":
        unit = float(np.sqrt(np.mean(there**2))) or 1.0
        twice = badness(metric, here) - badness(metric, there) > (FACTOR - 1) * unit
    else:
        twice = badness(metric, here) - badness(metric, there) > math.log(FACTOR)
    return median(first(twice | ~np.isfinite(here)))


def first(which: NDArray[np.bool_]) -> Array:
    """Return of rows (S, T) of truth values the number of the first true one, (S,); inf where none is."""
    return np.where(which.any(1), which.argmax(1), np.inf)


def median(times: Array) -> Interval:
    """Return the median of independent values (S,), and its distribution-free 95 % interval, infinite where S < 6."""
    from scipy.stats import binom  # not before: it takes half a second

    times, count = np.sort(times), len(times)
    value = float(np.quantile(times, 0.5, method="inverted_cdf"))
    rank = int(binom.ppf((1 - _SURE) / 2, count, 0.5))  # P(fewer than rank values below the median) is at most 2.5 %
    if not rank:
        return Interval(value, -math.inf, math.inf)
    return Interval(value, float(times[rank - 1]), float(times[count - rank]))
