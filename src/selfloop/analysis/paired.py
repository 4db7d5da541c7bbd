"""Two settings compared seed by seed: arms of one seed share their real rows and random numbers, whatever their λ.

What both owe to the seed leaves their difference. A share is bounded as a ratio of two means (Fieller 1954): the test
that a metric is r worse is Student's of b − c − r c, seed by seed. Among small numbers of seeds that keeps its level
where logarithms of ratios do not: they are skewed by controls that came out well by chance.

Legend: S seeds; T generations; b badness of the setting, c of the control, larger is worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from selfloop.analysis.curves import Array, Curves, Setting, mean
from selfloop.metrics.base import Metric
from selfloop.theory.measured import Interval

LEVEL = 0.95
"""Of confidence, on one side."""

LAST = 3
"""Retrainings whose mean is the end of a curve."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The curves of two settings in the arms of S common seeds.

    Attributes:
        seeds: in increasing order.
        here: (S, T) of the setting; NaN where an arm diverged or a value was not measured.
        there: (S, T) of the control.
    """

    seeds: tuple[int, ...]
    here: Array
    there: Array


def paired(curves: Curves, setting: Setting, control: Setting, metric: str) -> Pairs:
    """Return a metric of two settings by seed; S = 0 where no seed is in both."""
    arms, others = ({curves.seeds[arm]: arm for arm in each.arms} for each in (setting, control))
    seeds = tuple(sorted(arms.keys() & others.keys()))
    values = curves.values[metric]
    return Pairs(
        seeds=seeds,
        here=values[[arms[seed] for seed in seeds]],
        there=values[[others[seed] for seed in seeds]],
    )


def ends(values: Array) -> Array:
    """Return the means of curves (S, T) over the last three retrainings, (S,); NaN for one that is not finite at T."""
    found = mean(values[:, 1:][:, -LAST:].T)
    return np.where(np.isfinite(values[:, -1]), found, np.nan) if values.shape[1] > 1 else np.full(len(values), np.nan)


def excess(here: Array, there: Array, metric: Metric, level: float = LEVEL) -> Interval | None:
    """Return by what share a metric is worse than in a control, in the mean over seeds, with one-sided bounds.

    That is of the control's own badness (0.1: a distance is 10 % larger, a share 10 % smaller), but for ratios, whose
    badness is a logarithm: 0.1 says 10 % further from their goal.

    Args:
        here: (S,) of the setting, seed by seed; not finite where an arm diverged, which is infinitely worse.
        there: (S,) of the control, the same seeds.
        metric: says what is worse.
        level: of each of the two bounds.

    Returns:
        The share, and what it is more and less than with that confidence each: infinite where the seeds do not tell.
        None where the metric has no direction, or the control is not finite.
    """
    b, c = (np.array([metric.badness(value) for value in values.tolist()]) for values in (here, there))
    if metric.goal is None or not len(c) or not np.isfinite(c).all():
        return None
    if not np.isfinite(b).all():
        return Interval(math.inf, math.inf, math.inf)
    if isinstance(metric.goal, str) or metric.goal <= 0:
        return ratio(b - c, c if c.mean() > 0 else -c, level)
    found = ratio(b - c, np.ones(len(c)), level)
    return Interval(*(math.expm1(x) if x < 700 else math.inf for x in (found.value, found.low, found.high)))


def ratio(above: Array, below: Array, level: float = LEVEL) -> Interval:
    """Return the ratio of the means of S pairs, the second of which is not negative, with one-sided Fieller bounds.

    They are infinite where the pairs do not tell: of one pair, of a mean below that is not told from 0, and of fewer
    than 5 pairs that are all the same, as shares of few cases often are by chance.
    """
    pairs, scales = len(above), [float(np.abs(x).max(initial=0.0)) or 1.0 for x in (above, below)]
    above, below, unit = above / scales[0], below / scales[1], scales[0] / scales[1]
    a, b = float(above.mean()), float(below.mean())
    value = unit * a / b if b else math.copysign(math.inf, a) if a else 0.0
    same = not np.ptp(above) and not np.ptp(below)
    if pairs < 2 or (same and 0.5**pairs > 1 - level):
        return Interval(value, -math.inf, math.inf)
    (aa, ab), (_, bb) = (np.cov(above, below) / pairs * stdtrit(pairs - 1, level) ** 2).tolist()
    middle, free = a * b - ab, b * b - bb
    if free <= 0:
        return Interval(value, -math.inf, math.inf)
    wide = math.sqrt(max(middle * middle - (a * a - aa) * free, 0.0))
    return Interval(value, unit * (middle - wide) / free, unit * (middle + wide) / free)


def upper(differences: Array, level: float = LEVEL) -> float:
    """Return Student's one-sided upper bound of the mean of independent differences (S,); inf where S < 2."""
    return ratio(differences, np.ones(len(differences)), level).high
