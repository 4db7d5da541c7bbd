"""The alarms of a run under way."""

from __future__ import annotations

from selfloop.alarm import Alarm, badness
from selfloop.arms import Arm, key
from selfloop.core.controls import controls
from selfloop.core.sequential import Monitor, Raised, watched
from selfloop.metrics.base import METRICS
from selfloop.mixing.base import ratio
from selfloop.store import Run


class Alarms:
    """What an experiment's alarm says of each generation, from the records alone: whoever resumes comes to the same."""

    def __init__(self, run: Run) -> None:
        self._run, self._alarm, self._raised, self._seen = run, run.experiment.alarm, list[Raised](), -1
        self._monitor = None if self._alarm is None else _monitor(run.arms, self._alarm)

    @property
    def stop(self) -> bool:
        """Whether an alarm ends its arm, so that nobody knows who takes part before the generation before is known."""
        return self._alarm is not None and self._alarm.action == "stop"

    def of(self, t: int) -> list[str]:
        """Return the alarms of generation t, which is committed, a line each."""
        self._see(t)
        return [self._line(raised) for raised in self._raised if raised.generation == t]

    def stopped(self, t: int) -> frozenset[int]:
        """Return the arms that take no part in generation t any more."""
        if not self.stop:
            return frozenset()
        self._see(t - 1)
        return frozenset(raised.arm for raised in self._raised if raised.generation < t)

    def _see(self, t: int) -> None:
        while self._alarm is not None and self._monitor is not None and self._seen < t:
            self._seen += 1
            records, names = self._run.everything_of(self._seen), self._alarm.statistics
            values = [[record["metrics"][name] for record in records] for name in names]
            self._raised += self._monitor.see(badness([METRICS[name] for name in names], values))

    def _line(self, raised: Raised) -> str:
        arm, alarm = self._run.arms[raised.arm], self._alarm or Alarm()
        of = ", ".join(f"{name} = {value}" for name, value in (*arm.plain.items(), ("seed", arm.seed)))
        words = f"{alarm.statistics[raised.statistic]}, calibrated on {raised.calibration}"
        does = ": it is stopped" if alarm.action == "stop" else ""
        return f"alarm of arm {raised.arm} ({of}) at generation {raised.generation}: {words}{does}"


def _monitor(arms: list[Arm], alarm: Alarm) -> Monitor:
    settings: dict[str, list[Arm]] = {}
    for arm in arms:
        settings.setdefault(key(arm.plain, 0), []).append(arm)
    heads = [members[0] for members in settings.values()]
    control = controls([head.plain for head in heads], [ratio(head.experiment.mixing) == 0 for head in heads])
    places = [[arm.index for arm in members] for members in settings.values()]
    return Monitor(watched(control, places, [arm.seed for arm in arms]), alarm.level)
