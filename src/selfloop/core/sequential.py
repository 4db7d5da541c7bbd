"""Sequential tests of whether an arm gets worse: the rate of false alarms holds for all looks at it together.

What is tested is how much worse each statistic of an arm is than at its own generation 0, of all statistics together. A
value that is not a number is infinitely bad.

Legend: S statistics; m controls of an arm; T retrainings; α the level; k the rank of a value among n.
"""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BAR = 4.0
"""Robust standard deviations that a runner of :class:`Race` must pass twice running: they move power, not level."""

BETS = (0.25, 0.5, 1.0, 2.0)
"""Exponents of :class:`Ranks`: how much more a high rank is bet on than the next one."""

_NORMAL = (1.4826, 1.2533)  # from median and mean absolute deviation to the standard deviation of a normal variable


def watched(control: Sequence[int | None], arms: Sequence[Sequence[int]], seeds: Sequence[int]) -> dict[int, list[int]]:
    """Return by arm that is watched those that it is held against: the controls themselves are not watched.

    The control of the arm's own seed saw the same real rows, which makes the two more alike than any others: it is left
    out.

    Args:
        control: of every setting, the place of the setting that is its control.
        arms: of every setting.
        seeds: of every arm.
    """
    found: dict[int, list[int]] = {}
    for place, (own, of) in enumerate(zip(arms, control, strict=True)):
        others = () if of is None else arms[of]
        found |= {arm: [o for o in others if seeds[o] != seeds[arm]] for arm in own if of != place}
    return found


@dataclass(frozen=True, kw_only=True)
class Raised:
    """An alarm.

    Attributes:
        arm: its place among the arms.
        generation: of which the samples raised it.
        statistic: the place of the one that was furthest from the controls, or had the most evidence.
        calibration: of the test, in a word.
    """

    arm: int
    generation: int
    statistic: int
    calibration: str


class Test(ABC):
    """A sequential test of one arm, shown its generations one by one; it may be looked at after each.

    Attributes:
        calibration: what its level rests on, in a word.
    """

    calibration: ClassVar[str]

    @abstractmethod
    def see(self, arm: Array, controls: Array) -> int | None:
        """Return the statistic by which the arm raises an alarm, None where it raises none.

        Args:
            arm: (S,) how much worse than at generation 0.
            controls: (S, m) likewise.
        """


class Race(Test):
    """Calibrated on m controls that run alongside: exact for exchangeable arms, over any horizon.

    Every generation scores each of the m + 1 by its robust distance from all of them, (b − median) / (1.4826 MAD), the
    largest of the statistics. The first ⌊α (m + 1)⌋ above the bar in two generations running, so that one of chance is
    not enough, have an alarm, the others never. Each of m + 1
    exchangeable arms is among the first as likely as any other: the watched one with probability ⌊α (m + 1)⌋ / (m + 1)
    at most, however generations depend on each other and however often one looks. Ties count against an alarm.
    """

    calibration = "controls alongside"

    def __init__(self, controls: int, level: float) -> None:
        self.first, self._passed = tickets(controls, level), np.zeros(controls + 1, dtype=bool)
        self._last = np.zeros(controls + 1)

    def see(self, arm: Array, controls: Array) -> int | None:
        """Return as :meth:`Test.see`."""
        z = robust(np.column_stack([arm, controls]))
        score, self._last = np.minimum(z.max(0), self._last), z.max(0)
        new = (score > BAR) & ~self._passed
        before = int(self._passed.sum()) + int((new & (score >= score[0]))[1:].sum())
        self._passed |= new
        return int(z[:, 0].argmax()) if new[0] and before < self.first else None


class Ranks(Test):
    """Calibrated on the arm's own generations: a test martingale, of level α if these are exchangeable.

    The rank of every generation's badness among all so far (1 is the worst) is uniform and independent of the ranks
    before it, if the order of generations means nothing. A bet of n k^−a / Σ_j j^−a on the rank k of n has expectation
    1, so that the product over generations, averaged over the exponents a and over statistics, reaches 1/α at any time
    with probability α at most (Ville's inequality). Where there are controls, though too few for :class:`Race`, their
    mean is subtracted. A control whose generations depend on each other breaks the assumption.
    """

    calibration = "ranks over generations"

    def __init__(self, level: float) -> None:
        self._past: list[list[float]] = []  # of every statistic, in increasing order
        self._level, self._n, self._log, self._sums = level, 0, np.zeros(()), np.zeros(len(BETS))

    def see(self, arm: Array, controls: Array) -> int | None:
        """Return as :meth:`Test.see`."""
        now = finite(arm - _mean(controls) if controls.shape[1] else arm).tolist()
        self._past, self._n, a = self._past or [[] for _ in now], self._n + 1, np.array(BETS)
        for past, value in zip(self._past, now, strict=True):
            bisect.insort_left(past, value)
        k = [self._n - bisect.bisect_left(past, value) for past, value in zip(self._past, now, strict=True)]
        self._sums = self._sums + float(self._n) ** -a
        self._log = self._log + math.log(self._n) - np.log(k)[:, None] * a - np.log(self._sums)
        with np.errstate(over="ignore"):
            wealth = np.exp(self._log).mean(1)
        return int(wealth.argmax()) if wealth.mean() >= 1 / self._level else None


def tickets(controls: int, level: float) -> int:
    """Return ⌊α (m + 1)⌋: how many of an arm and its m controls may have an alarm."""
    return math.floor(level * (controls + 1) + 1e-9)


def finite(worse: Array) -> Array:
    """Return badness in which what is not a number is infinite."""
    return np.where(np.isnan(worse), np.inf, worse)


def _mean(controls: Array) -> Array:
    count = np.isfinite(controls).sum(1)
    return np.asarray(np.where(np.isfinite(controls), controls, 0.0).sum(1) / np.maximum(count, 1))


def robust(worse: Array) -> Array:
    """Return (S, P) badness in robust standard deviations of the P runners above their median."""
    worse = finite(worse)
    middle = np.median(worse, axis=1, keepdims=True)
    return standardised(worse, worse, np.where(np.isfinite(middle), middle, np.inf))


def standardised(values: Array, among: Array, middle: Array) -> Array:
    """Return (values − middle) / deviation (S, P), by the median absolute deviation of ``among``, else the mean one.

    A statistic of few values may have no median deviation, and is 0 where there is no deviation at all.
    """
    with np.errstate(invalid="ignore"):
        away = np.abs(among - middle)
    away = finite(away)
    held = np.where(np.isfinite(away), away, 0.0)
    count = np.maximum(np.isfinite(away).sum(1, keepdims=True), 1)
    scales = [_NORMAL[0] * np.median(away, axis=1, keepdims=True), _NORMAL[1] * held.sum(1, keepdims=True) / count]
    scale = np.where((scales[0] > 0) & np.isfinite(scales[0]), scales[0], scales[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(values == middle, 0.0, (values - middle) / scale))


def maximum(arm: Array, controls: Array, level: float) -> tuple[int, int] | None:
    """Return generation and statistic of an alarm against controls that are known up to the horizon, None for none.

    Conformal prediction of the running maximum: the alarm is raised above the ⌈(1 − α)(m + 1)⌉-th smallest of the m
    controls' own maxima over the horizon, which m + 1 exchangeable arms exceed with probability α at most. Of several
    statistics the largest counts, each in robust standard deviations of the m + 1 maxima: all are treated alike, and
    the level stays exact.

    Args:
        arm: (S, T + 1) how much worse than at generation 0, as far as it is known.
        controls: (S, m, T' + 1) likewise, T' ≥ T the horizon.
        level: α.

    Raises:
        ValueError: there are too few controls for the level.
    """
    arm, m = finite(arm), controls.shape[1]
    if tickets(m, level) < 1:
        raise ValueError(f"{m} controls are too few for level {level:g}")
    worst = np.column_stack([arm.max(1), finite(controls).max(2)])
    middle = np.median(worst, axis=1, keepdims=True)
    of_controls = standardised(worst, worst, middle)[:, 1:].max(0)
    scores = standardised(arm, worst, middle)
    above = np.flatnonzero(scores.max(0) > np.sort(of_controls)[m - tickets(m, level)])
    return (int(above[0]), int(scores[:, above[0]].argmax())) if len(above) else None


class Monitor:
    """The tests of all arms that are watched, shown one generation after the other.

    Attributes:
        calibrations: by arm, what the level of its test rests on.
    """

    def __init__(self, controls: Mapping[int, Sequence[int]], level: float) -> None:
        """Begin before generation 0.

        Args:
            controls: by arm that is watched, those that it is held against.
            level: α.
        """
        self._controls = {arm: list(others) for arm, others in controls.items()}
        self._tests: dict[int, Test] = {
            arm: Race(len(others), level) if tickets(len(others), level) else Ranks(level)
            for arm, others in controls.items()
        }
        self.calibrations = {arm: test.calibration for arm, test in self._tests.items()}
        self._first: Array | None = None
        self._t = -1

    def see(self, badness: Array) -> list[Raised]:
        """Return the alarms of the next generation, given the badness (S, A) of all arms; an arm raises one."""
        self._first = badness if self._first is None else self._first
        worse, found = badness - self._first, []
        self._t += 1
        for arm, test in list(self._tests.items()):
            if (statistic := test.see(worse[:, arm], worse[:, self._controls[arm]])) is not None:
                found.append(Raised(arm=arm, generation=self._t, statistic=statistic, calibration=test.calibration))
                del self._tests[arm]
        return found
