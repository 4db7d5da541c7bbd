"""What is said of a loop that was run elsewhere: its curves, a verdict, and the numbers behind them."""

from __future__ import annotations

import functools
import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from selfloop.analysis import verdict
from selfloop.analysis.alarms import Alarms, alarms
from selfloop.analysis.curves import Curves, Setting, mean, read, spread
from selfloop.analysis.forecast import outlooks
from selfloop.analysis.profile import Profile, profile
from selfloop.core.errors import RunError, counted
from selfloop.core.frames import Table, html_table
from selfloop.store import Run

if TYPE_CHECKING:
    import pandas as pd

CODES: dict[verdict.Word, int] = {
    "stable so far": 0,
    "worse": 3,
    "collapsed": 4,
    "starved": 4,
    "stopped": 3,
    "cannot tell yet": 5,
}
"""What the command line exits with, so that a pipeline can stop on it."""

_SHOWN = 24  # generations in a printed table


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A loop that was run elsewhere, judged.

    Attributes:
        run: the run directory that holds its generations and what was measured of them.
        curves: every metric of it over the generations.
        by: what it is judged by, and against what.
        verdict: on the loop.
        loop: the setting that the verdict is on; another one is the control.

    Examples:
        >>> import numpy as np
        >>> from selfloop import judge
        >>> real = np.random.default_rng(0).normal(size=(400, 2))
        >>> found = judge(real[200:], [real[:200] * 0.7**t for t in range(6)], metrics=["sliced_w2_held_out"])
        >>> found.verdict.word, found.code
        ('collapsed', 4)
    """

    run: Run
    curves: Curves
    by: verdict.Judged
    verdict: verdict.Verdict
    loop: Setting

    @property
    def code(self) -> int:
        """What ``selfloop judge`` exits with: 0 stable so far, 3 worse, 4 collapsed, 5 cannot tell yet."""
        return CODES[self.verdict.word]

    @property
    def table(self) -> Table:
        """Generation by generation what was measured, the mean over repetitions."""
        curves, last = self.curves, self.curves.generations - 1
        titles = [self.run.metric(name).title for name in curves.metrics]
        several = len(curves.settings) > 1
        names = [self._sources(setting, t)[0]["name"] for setting in curves.settings for t in range(last + 1)]
        folder = os.path.commonpath(map(os.path.dirname, names)) if len({*map(os.path.isabs, names)}) == 1 else ""
        shown = sorted({round(i * last / (_SHOWN - 1)) for i in range(_SHOWN)}) if last >= _SHOWN else range(last + 1)
        rows = []
        for setting in curves.settings:
            values = [mean(curves.of(setting, name)) for name in curves.metrics]
            for t in shown:
                sources = self._sources(setting, t)
                more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
                counts = dict.fromkeys(str(pick(source["rows"] for source in sources)) for pick in (min, max))
                name = sources[0]["name"].removeprefix(folder).removeprefix(os.sep)
                kind = str(setting.settings["mixing.sequence"])
                head = [str(t), *([kind] if several else []), name + more, "–".join(counts)]
                rows.append(head + [spread(float(middle[t]), math.nan) for middle in values])
        floors = [spread(curves.floor(self.loop, name), math.nan) for name in curves.metrics]
        blank = [""] * (several + 2)
        rows.append(["floor", *blank, *floors])
        return Table(["generation", *(["sequence"] if several else []), "from", "rows", *titles], rows)

    def _sources(self, setting: Setting, t: int) -> list[dict[str, Any]]:
        """Return where the repetitions of a generation come from."""
        return [source for arm in setting.arms if (source := self.run.source(t, arm)) is not None]

    @property
    def notes(self) -> list[str]:
        """What else there is to say of what was measured, a sentence each."""
        repetitions = len(self.loop.arms)
        means = [f"Means over {repetitions} repetitions."] if repetitions > 1 else []
        return [*means, *notes(self.run)]

    @functools.cached_property
    def profile(self) -> Profile:
        """Which notions of collapse the loop shows."""
        return profile(self.curves, self.by, self.run, self.run.metrics, [self.loop])

    @functools.cached_property
    def alarms(self) -> Alarms:
        """When the loop became worse than its control or, without one, than it had been."""
        return alarms(self.curves, self.run.metrics, horizon=self.run.experiment.generations)

    @functools.cached_property
    def forecast(self) -> str:
        """How the judged distance goes on, in a sentence; "" where nothing tells."""
        found = outlooks(self.run, self.curves, self.by.distance).get(self.loop.label)
        return "" if found is None else found.sentence

    @property
    def sentence(self) -> str:
        """The verdict and why."""
        reason = f": {self.verdict.reason}" if self.verdict.reason else ""
        return f"{self.loop.label[:1].upper()}{self.loop.label[1:]} is {_said(self.verdict)}{reason}."

    @property
    def told(self) -> list[str]:
        """What comes last: the forecast, if there is one, and the verdict."""
        return [self.forecast, self.sentence] if self.forecast else [self.sentence]

    def __str__(self) -> str:
        return "\n".join([str(self.table), *self.notes, str(self.profile), str(self.alarms), *self.told])

    def _repr_html_(self) -> str:
        table = html_table(*self.table)
        notes, told = ("".join(f"<p>{html.escape(line)}</p>" for line in lines) for lines in (self.notes, self.told))
        return table + notes + self.profile._repr_html_() + self.alarms._repr_html_() + told

    def to_frame(self) -> pd.DataFrame:
        """Return a row per repetition, generation and metric, see :meth:`selfloop.store.Run.to_frame`."""
        return self.run.to_frame()

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it; what was not finite is null."""
        curves = self.curves
        return {
            "run": str(self.run.path),
            "verdict": asdict(self.verdict),
            "exit": self.code,
            "judged_by": [name for name in (self.by.distance, self.by.spread) if name is not None],
            "tolerance": self.by.tolerance,
            "notes": self.notes,
            "profile": [finite(finding) for finding in self.profile.plain()],
            "alarms": [
                {"statistic": each.statistic, "generation": each.generation, "calibration": each.calibration}
                | {"repetition": each.seed, "level": self.alarms.level}
                for each in self.alarms.arms
            ],
            "forecast": self.forecast,
            "metrics": {
                name: {
                    "title": about.title,
                    "definition": about.definition,
                    "unit": about.unit,
                    "direction": about.direction,
                    "floor": _finite([curves.floor(self.loop, name)])[0],
                }
                for name in curves.metrics
                for about in [self.run.metric(name)]
            },
            "generations": [
                {
                    "sequence": self.run.arms[arm].settings["mixing.sequence"],
                    "repetition": curves.seeds[arm],
                    "generation": t,
                    **(self.run.source(t, arm) or {}),
                    **dict(
                        zip(curves.metrics, _finite([curves.values[n][arm, t] for n in curves.metrics]), strict=True)
                    ),
                }
                for setting in curves.settings
                for arm in setting.arms
                for t in range(curves.generations)
            ],
        }


def notes(run: Run) -> list[str]:
    """Return what there is to say of the numbers of rows in a run whose generations were made elsewhere."""
    split = run.split(0)
    n, held_out = split.train.shape[1], split.held_out.shape[1]
    counts = {source["rows"] for arm in range(len(run.arms)) for source in sources(run, arm)}
    found = [f"Held against {n} real rows and {held_out} held out; the floor is the distance between these."]
    if max(counts, default=n) > n:
        found.append(f"Of generations with more rows {n} are measured, drawn at random.")
    measured = sorted({min(count, n) for count in counts})
    if len(measured) > 1:
        found.append(
            f"Of generations {measured[0]} to {measured[-1]} rows are measured, as many as there are: fewer rows look "
            "worse, so that a change of their number can look like one of the loop."
        )
    elif measured and measured[0] < n:
        found.append(f"Generations have {counted(measured[0], 'row')}, and so look a little worse than the floor is.")
    return found


def sources(run: Run, arm: int) -> list[dict[str, Any]]:
    """Return where the generations of an arm come from, see :meth:`selfloop.store.Run.source`."""
    return [source for t in range(run.last + 1) if (source := run.source(t, arm)) is not None]


def _said(found: verdict.Verdict) -> str:
    return {"cannot tell yet": "undecided (cannot tell yet)"}.get(found.word, found.text)


def finite(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has a name as JSON takes it: a number that is not finite becomes null."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in plain.items()}


def _finite(values: Sequence[float]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def judgement(run: Run, *, metric: str | None = None, tolerance: float = verdict.TOLERANCE) -> Judgement:
    """Judge the loop in a run directory whose generations were made elsewhere.

    Args:
        run: of ``selfloop judge`` or :func:`selfloop.judge`.
        metric: to judge by, in place of the first distance.
        tolerance: by what share the loop may be worse than the control or, without one, than its generation 0.

    Raises:
        RunError: its generations were not made elsewhere, or it is damaged.
        ConfigError: the metric was not recorded or has no direction, or the tolerance is no positive number.
    """
    if not run.elsewhere:
        raise RunError(f"{str(run.path)!r} was run here: selfloop report and stability judge it")
    curves = read(run)
    by = verdict.judged(curves, run.metrics, metric=metric, tolerance=tolerance)
    loop = next(setting for setting in curves.settings if setting.settings["mixing.sequence"] == "loop")
    return Judgement(run=run, curves=curves, by=by, verdict=verdict.of_setting(loop, curves, by), loop=loop)
