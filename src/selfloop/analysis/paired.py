"""Two settings compared seed by seed: arms of one seed share their real rows and random numbers, whatever their λ.

What both owe to the seed leaves their difference. Distances are compared in logarithms: their noise is in proportion to
them, and a difference of logarithms is a share. Intervals are Student's: normality of S differences is assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from selfloop.analysis.curves import Array, Curves, Setting

LEVEL = 0.95
"""Of confidence, on one side."""


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


def upper(differences: Array, level: float = LEVEL) -> float:
    """Return Student's one-sided upper bound of the mean of independent differences (S,).

    inf where they do not tell: of fewer than two, of one that is not finite, or of fewer than 5 that are all the same,
    which values on a lattice are by chance.
    """
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        return math.inf
    spread = float(np.std(differences, ddof=1))
    if spread == 0 and 0.5**count > 1 - level:  # of a symmetric law all may be on one side by chance
        return math.inf
    return float(np.mean(differences)) + float(student.ppf(level, count - 1)) * spread / math.sqrt(count)


def lower(differences: Array, level: float = LEVEL) -> float:
    """Return the one-sided lower bound of the mean, −inf where the differences do not tell."""
    return -upper(-differences, level)
