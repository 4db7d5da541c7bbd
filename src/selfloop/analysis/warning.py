"""Which statistic tells first that a loop gets worse, at equal false alarms?

Arms of a control and of the loop share their seeds. A statistic becomes a badness, larger is worse, less its value at
generation 0 of the same arm. It raises the alarm at the first generation whose badness is above a threshold, which is
the one that a given share of the control arms of half of the seeds would ever have crossed. It is judged on the other
half.

Legend: S seeds; T generations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from selfloop.analysis.curves import Array
from selfloop.analysis.decline import first, median
from selfloop.metrics.base import Metric
from selfloop.theory.measured import Interval

FALSE_ALARMS = 0.05
"""Share of the control arms that may ever raise an alarm."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """How early a statistic speaks.

    Attributes:
        statistic: its name.
        false_alarms: share of the control arms that were judged which raise it at any generation.
        found: share of the loop's arms that raise it.
        alarm_at: generation of the alarm, a median over them with its 95 % interval; never is infinitely late.
        lead: generations by which it comes before the alarm of the reference in the same arm, likewise.
        arms: of either kind that were judged.
    """

    statistic: str
    false_alarms: float
    found: float
    alarm_at: Interval
    lead: Interval
    arms: int


def first_alarms(
    control: Mapping[str, Array], loop: Mapping[str, Array], seeds: Sequence[int], metrics: Mapping[str, Metric]
) -> dict[str, tuple[Array, Array]]:
    """Return by statistic the generations of alarms in the arms judged, the control's and the loop's; inf for none.

    Args:
        control: as of :func:`rank`, as are the others.
        loop: of the arms of the loop.
        seeds: of both.
        metrics: by name.

    Raises:
        ValueError: there are no even seeds, or no odd ones.
    """
    even = np.array([seed % 2 == 0 for seed in seeds])
    if even.all() or not even.any():
        raise ValueError("even seeds set the thresholds and odd ones are judged: have some of both")
    alarms: dict[str, tuple[Array, Array]] = {}
    for name in (name for name in control if metrics[name].goal is not None):
        of = np.vectorize(metrics[name].badness, otypes=[float])
        quiet, loud = ((b := of(values)) - b[:, :1] for values in (control[name], loop[name]))
        worst = np.nanmax(np.where(np.isnan(quiet[even]), -np.inf, quiet[even]), axis=1)
        threshold = np.quantile(worst, 1 - FALSE_ALARMS, method="higher")
        alarms[name] = tuple(first((each[~even] > threshold) | np.isnan(each[~even])) for each in (quiet, loud))  # type: ignore[assignment]
    return alarms


def leads(found: Array, reference: Array) -> Array:
    """Return by how many generations alarms come before the reference's of the same arms; 0 where neither comes."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(reference) & np.isinf(found), 0.0, reference - found)


def rank(
    control: Mapping[str, Array],
    loop: Mapping[str, Array],
    seeds: Sequence[int],
    metrics: Mapping[str, Metric],
    reference: str,
) -> list[Ranked]:
    """Return statistics by the generation of their alarm, those that most arms raise first among equals.

    Args:
        control: by statistic, (S, T) values of the control's arms.
        loop: likewise of the loop's, the same seeds.
        seeds: of the arms; the even ones set the thresholds.
        metrics: what is known of the statistics; those without a direction are left out.
        reference: the statistic that leads are measured against.

    Raises:
        ValueError: there are no even seeds, or no odd ones.
    """
    alarms = first_alarms(control, loop, seeds, metrics)
    late = alarms[reference][1]
    ranked = []
    for name, (quiet, found) in alarms.items():
        ranked.append(
            Ranked(
                statistic=name,
                false_alarms=float(np.isfinite(quiet).mean()),
                found=float(np.isfinite(found).mean()),
                alarm_at=median(found),
                lead=median(leads(found, late)),
                arms=len(found),
            )
        )
    return sorted(ranked, key=lambda r: (r.alarm_at.value, -r.found, r.false_alarms))


def expected_false_alarms(seeds: Sequence[int]) -> float:
    """Return the share of control arms that thresholds from the even seeds let raise an alarm: 1/(m + 1) of m few."""
    few = sum(seed % 2 == 0 for seed in seeds)
    return max(FALSE_ALARMS, 1 / (few + 1)) if few else math.inf
