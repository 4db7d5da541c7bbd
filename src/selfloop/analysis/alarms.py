"""Which arms raised an alarm, when, by which statistic, and what the rate of false alarms rests on."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from selfloop.alarm import EARLIEST, Alarm, badness, refuse_unrecorded
from selfloop.analysis.curves import Array, Curves, Setting
from selfloop.analysis.verdict import controls_of
from selfloop.core.frames import Table, frame, html_table
from selfloop.core.sequential import Monitor, Raised, maximum, tickets, watched
from selfloop.metrics.base import Metric

if TYPE_CHECKING:
    import pandas as pd

WHOLE = "controls' maxima"
"""The calibration on controls that are known up to the horizon."""

HEADINGS = ("setting", "alarms", "at generation", "by", "calibrated on")


@dataclass(frozen=True, kw_only=True)
class Alarmed:
    """One arm that is watched.

    Attributes:
        setting: its label.
        arm: its index.
        seed: of it.
        generation: of its alarm, None where it raised none.
        statistic: the metric that was furthest from the controls or had the most evidence; "" without an alarm.
        calibration: what the level rests on.
    """

    setting: str
    arm: int
    seed: int
    generation: int | None
    statistic: str
    calibration: str


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """The alarms of a loop.

    Attributes:
        statistics: names of the metrics that are watched, all together.
        level: the probability of a false alarm of an arm, over all statistics and generations.
        arms: those that are watched, the controls not among them.
    """

    statistics: tuple[str, ...]
    level: float
    arms: tuple[Alarmed, ...]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A line per setting, under :data:`HEADINGS`; the generation is the median, "–" where most arms have none."""
        found: list[tuple[str, ...]] = []
        for label in dict.fromkeys(arm.setting for arm in self.arms):
            arms = [arm for arm in self.arms if arm.setting == label]
            raised = [arm for arm in arms if arm.generation is not None]
            at = float(np.median([math.inf if arm.generation is None else arm.generation for arm in arms]))
            by = Counter(arm.statistic for arm in raised).most_common(1)
            calibration = ", ".join(dict.fromkeys(arm.calibration for arm in arms))
            when, what = f"{at:g}" if math.isfinite(at) else "–", by[0][0] if by else "–"
            found.append((label, f"{len(raised)} of {len(arms)}", when, what, calibration))
        return found

    @property
    def says(self) -> str:
        """What is watched, and at which level."""
        if not self.statistics:
            return "No metric that was recorded can raise an alarm: neither more nor less of it is worse."
        if not self.arms:
            return "No arm is watched: there are controls alone."
        return (
            f"{', '.join(self.statistics)}: an arm that is no worse than its control raises a false alarm with "
            f"probability {100 * self.level:.3g} % at most, over all of these and all generations together."
        )

    def __str__(self) -> str:
        return "\n".join([self.says, *([str(Table(list(HEADINGS), list(map(list, self.rows))))] if self.rows else [])])

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.says)}</p>{html_table(HEADINGS, self.rows) if self.arms else ''}"

    def to_frame(self) -> pd.DataFrame:
        """Return a row per arm that is watched; the generation is NaN where it raised no alarm.

        Raises:
            ConfigError: pandas is not installed.
        """
        names = ("setting", "arm", "seed", "generation", "statistic", "calibration")
        rows = [{name: getattr(arm, name) for name in names} for arm in self.arms]
        return frame(rows, columns=names).astype({"generation": float})


def alarms(
    curves: Curves,
    metrics: Mapping[str, Metric],
    *,
    alarm: Alarm | None = None,
    control: Mapping[str, Any] | None = None,
    horizon: int | None = None,
) -> Alarms:
    """Return the alarms of a loop.

    Args:
        curves: of a run.
        metrics: what is known of its metrics.
        alarm: that of the experiment, tested as it was while the run was under way; None looks back at the statistics
            that see a collapse first, out of those that were recorded.
        control: keys of the grid and the values of the control, in place of λ = 0.
        horizon: the retrainings that are to come in all; None: those that there are. Once there are so many, controls
            that were known by then only are known whole.

    Raises:
        ConfigError: a statistic of the alarm was not recorded or has no direction, or no setting is the control.
    """
    if alarm is not None:
        refuse_unrecorded(alarm.statistics, curves.metrics, metrics)
    statistics = _recorded(curves, metrics) if alarm is None else tuple(alarm.statistics)
    level = (alarm or Alarm()).level
    against = _against(curves, controls_of(curves, control))
    if not statistics or not curves.generations:
        return Alarms(statistics=statistics, level=level, arms=())
    values = [curves.values[name] for name in statistics]
    bad = np.stack(
        [
            badness([metrics[n] for n in statistics], [v[:, t].tolist() for v in values])
            for t in range(curves.generations)
        ]
    )
    known = alarm is None and curves.generations - 1 >= (horizon or 0)
    whole = {arm: others for arm, others in against.items() if known and tickets(len(others), level)}
    found = _whole(bad, whole, level) + _alongside(bad, {a: o for a, o in against.items() if a not in whole}, level)
    raised = {each.arm: each for each in found}
    tests = Monitor(against, level).calibrations | dict.fromkeys(whole, WHOLE)
    return Alarms(
        statistics=statistics,
        level=level,
        arms=tuple(
            _alarmed(arm, setting, curves, statistics, raised.get(arm), tests[arm])
            for setting in curves.settings
            for arm in setting.arms
            if arm in against
        ),
    )


def _recorded(curves: Curves, metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    """Return what is watched where nothing was named: what sees a collapse early, else what has a floor."""
    known = [name for name in curves.metrics if name in metrics and metrics[name].goal is not None]
    # Loops that were run elsewhere are measured against held-out rows.
    early = [name if name in known else name.replace("_train", "_held_out") for name in EARLIEST]
    return tuple(name for name in early if name in known) or tuple(name for name in known if metrics[name].floor)


def _against(curves: Curves, controls: Mapping[str, Setting]) -> dict[int, list[int]]:
    places = {setting.label: place for place, setting in enumerate(curves.settings)}
    control = [places[controls[s.label].label] if s.label in controls else None for s in curves.settings]
    return watched(control, [s.arms for s in curves.settings], curves.seeds)


def _whole(bad: Array, against: Mapping[int, Sequence[int]], level: float) -> list[Raised]:
    worse = np.moveaxis(bad - bad[:1], 0, 2)  # (S, A, T + 1)
    tests = ((arm, maximum(worse[:, arm], worse[:, others], level)) for arm, others in against.items())
    return [
        Raised(arm=arm, generation=found[0], statistic=found[1], calibration=WHOLE)
        for arm, found in tests
        if found is not None
    ]


def _alongside(bad: Array, against: Mapping[int, Sequence[int]], level: float) -> list[Raised]:
    monitor = Monitor(against, level)
    return [raised for generation in bad for raised in monitor.see(generation)]


def _alarmed(
    arm: int, setting: Setting, curves: Curves, statistics: Sequence[str], raised: Raised | None, calibration: str
) -> Alarmed:
    by = "" if raised is None else statistics[raised.statistic]
    if raised is not None and curves.ended[arm] == raised.generation:
        by = curves.endings[arm]
    return Alarmed(
        setting=setting.label,
        arm=arm,
        seed=curves.seeds[arm],
        generation=None if raised is None else raised.generation,
        statistic=by,
        calibration=calibration,
    )
