"""Where a loop goes: what a metric will be at a later generation, with 50 and 90 % intervals, and when it has doubled.

A metric is looked at on the scale on which loops are about linear (:class:`Scale`), and forecast there by
:mod:`selfloop.analysis.panel`, for the mean of a setting's arms on that scale and, if asked, for every arm. Half of the
prior weight of ρ is at the rate that theory predicts, where it does.

What is forecast is the metric as it will be measured, noise and all, if the loop goes on as it does.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfloop.analysis import panel, verdict
from selfloop.analysis.curves import Array, Curves, Setting, read
from selfloop.analysis.stability import plain, predicted_rate
from selfloop.core.errors import ConfigError, counted, nearest, refuse_unlike
from selfloop.core.frames import frame, html_table
from selfloop.metrics.base import Metric
from selfloop.store import Run

if TYPE_CHECKING:
    import pandas as pd

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the quantiles: both ends of the 90 % interval, of the 50 % interval, and the median."""

FARTHEST = 1000
"""Generations ahead that are forecast at most."""

_SHOWN = 8  # generations at which a chart has the forecast
_SMOOTH = 0.005  # added to a share and to its rest, so that 0 and 1 have a logit

Kind = Literal["logit", "log", "plain"]
Factor = Literal["doubled", "halved"]


@dataclass(frozen=True)
class Scale:
    """The scale on which a metric is forecast: logits of shares, logarithms of positive ratios, else itself."""

    kind: Kind

    @classmethod
    def of(cls, about: Metric, values: Array) -> Scale:
        """Return a metric's scale, given values of it."""
        if about.unit == "share":
            return cls("logit")
        positive = bool((values[np.isfinite(values)] > 0).all())
        return cls("log" if about.scale == "ratio" and positive else "plain")

    def there(self, values: Array) -> Array:
        """Return values on the scale."""
        if self.kind == "logit":
            return np.asarray(np.log((values + _SMOOTH) / (1 - values + _SMOOTH)))
        return np.asarray(np.log(values)) if self.kind == "log" else values

    def back(self, scaled: Array) -> Array:
        """Return what has these values on the scale; infinite where that is too large for a number."""
        with np.errstate(over="ignore"):
            if self.kind == "logit":
                share = (1 + 2 * _SMOOTH) / (1 + np.exp(-scaled)) - _SMOOTH
                return np.asarray(np.clip(share, 0.0, 1.0))
            return np.asarray(np.exp(scaled)) if self.kind == "log" else scaled


@dataclass(frozen=True, kw_only=True)
class Reached:
    """When a metric will have doubled or halved, in generations from the last one seen; inf: later than was asked for.

    Attributes:
        what: of the two.
        median: from when on that is as likely as not.
        early: from when on its probability is 5 %,
        late: and 95 %.
    """

    what: Factor
    median: float
    early: float
    late: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting, or one arm, and one metric.

    Attributes:
        setting: what distinguishes it, for people.
        arm: its index, None for the mean of the setting's arms.
        metric: its name.
        title: of the metric.
        unit: of the metric.
        arms: that the forecast is from.
        left_out: arms of the setting that have diverged or starved, or lack the last value.
        scale: on which it is forecast; the mean of a setting is one on this scale, a geometric one of a ratio.
        rate: ρ as theory predicts it, None where it says nothing.
        now: the metric at the last generation seen.
        median: at the one asked for.
        half: its 50 % interval.
        most: its 90 % interval.
        reached: when it will have doubled, or halved, whichever is the more likely; None for metrics that have no
            factor. NaN stands for all numbers where no arm is left.
    """

    setting: str
    arm: int | None
    metric: str
    title: str
    unit: str
    arms: int
    left_out: int
    scale: Kind
    rate: float | None
    now: float
    median: float
    half: tuple[float, float]
    most: tuple[float, float]
    reached: Reached | None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What metrics will be.

    Attributes:
        name: of the experiment.
        last: the last generation that was looked at.
        to: the generation that is forecast.
        rows: one per setting and metric, each followed by those of its arms where they were asked for.
    """

    name: str
    last: int
    to: int
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return "\n".join(sentences(self))

    def _repr_html_(self) -> str:
        return html_table(headings(self), cells(self))

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a pandas frame, both ends of an interval in columns of their own.

        Raises:
            ConfigError: pandas is not installed.
        """
        return frame([_flat(row) | {"last": self.last, "to": self.to} for row in self.rows])

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        found: dict[str, Any] = plain(dataclasses.asdict(self))
        return found


def _flat(row: Row) -> dict[str, Any]:
    found = {name: value for name, value in vars(row).items() if name not in ("half", "most", "reached")}
    for level, (low, high) in ((50, row.half), (90, row.most)):
        found |= {f"low_{level}": low, f"high_{level}": high}
    there = row.reached or Reached(what="doubled", median=math.nan, early=math.nan, late=math.nan)
    return found | {
        "factor": None if row.reached is None else there.what,
        "factor_after": there.median,
        "factor_early": there.early,
        "factor_late": there.late,
    }


def forecast(
    run: Run | str | Path, to: int, *, metric: str | None = None, seen: int | None = None, arms: bool = False
) -> Forecast:
    """Forecast the metrics of a run, finished or not.

    Args:
        run: opened for reading, or its directory.
        to: the generation that is asked for.
        metric: the one to forecast; None takes those that the verdict looks at.
        seen: the last generation to look at, as if there were no later one; None takes the run's last.
        arms: whether every arm is forecast, too.

    Raises:
        ConfigError: the run did not record the metric or has fewer than three generations, ``seen`` is none of them, or
            ``to`` is not after it or too far.
        RunError: the run is damaged.

    Examples:
        >>> from selfloop import Experiment, forecast, run
        >>> experiment = Experiment(
        ...     name="first", data="gaussian", generator="gaussian", generations=6, metrics=["variance_ratio"]
        ... )
        >>> for generation in run(experiment, "runs/first"): pass
        >>> found = forecast("runs/first", to=12)
        >>> found.last, found.to
        (6, 12)
    """
    refuse_unlike("the run", run, (Run, str, PathLike), "a run directory or its path")
    for name, number in (("to", to), ("seen", 0 if seen is None else seen)):
        refuse_unlike(name, number, Integral, "the whole number of a generation")
    opened = run if isinstance(run, Run) else Run.open(run)
    curves = read(opened)
    if metric is None:
        by = verdict.judged(curves, opened.metrics)
        names = [name for name in (by.distance, by.spread) if name is not None] or list(curves.metrics)[:1]
    else:
        refuse_unlike("the metric", metric, str, "the name of one")
        if metric not in curves.values:
            raise ConfigError(f"the run did not record {metric!r}{nearest(metric, curves.metrics)}")
        names = [metric]
    last = opened.last if seen is None else seen
    _refuse(opened.last, last, to)
    until = dataclasses.replace(curves, values={name: curves.values[name][:, : last + 1] for name in names})
    expected = rates(opened, curves)
    found = [
        row
        for name in names
        for setting in curves.settings
        for row in _rows(until, setting, opened.metric(name), to - last, expected.get(setting.label), arms)
    ]
    return Forecast(name=opened.experiment.name, last=last, to=to, rows=tuple(found))


def _refuse(there: int, last: int, to: int) -> None:
    if there + 1 < panel.FEWEST:
        raise ConfigError(
            f"a forecast needs {panel.FEWEST} generations, 0 to {panel.FEWEST - 1}, and the run has {there + 1}: "
            "let it run on"
        )
    if not panel.FEWEST - 1 <= last <= there:
        raise ConfigError(f"a forecast is from generation {panel.FEWEST - 1} to {there} of this run, not from {last}")
    if to <= last:
        raise ConfigError(f"generation {to} is not to come: the last one looked at is {last}; ask for a later one")
    if to - last > FARTHEST:
        raise ConfigError(f"generation {to} is more than {FARTHEST:,} after {last}, which is too far: ask for less")


def rates(run: Run, curves: Curves) -> dict[str, float]:
    """Return ρ as theory predicts it, by label of the settings of which it says something."""
    if run.last < 1:
        return {}
    second = {record["arm"]: record for record in run.of_generation(1)}
    found = {}
    for setting in curves.settings:
        arm = run.arms[setting.arms[0]].index
        rate = predicted_rate(run, arm, second.get(arm))
        if rate is not None:
            found[setting.label] = rate
    return found


@dataclass(frozen=True, kw_only=True)
class Coming:
    """A setting's metric, generation by generation.

    Attributes:
        scale: on which the predictive is.
        arms: indices of the arms that it is from.
        paths: (S, T) what was seen of them, on the scale.
        predictive: of the mean of the arms.
    """

    scale: Scale
    arms: tuple[int, ...]
    paths: Array
    predictive: panel.Predictive

    def quantiles(self, ahead: NDArray[np.int64]) -> Array:
        """Return the quantiles (H, 5) at some generations ahead, 1 is the next one, in the units of the metric."""
        return self.scale.back(self.predictive.at(ahead).quantiles(LEVELS))

    @property
    def now(self) -> float:
        """The mean of the arms at the last generation seen, on the scale, in the units of the metric."""
        return float(self.scale.back(self.paths[:, -1].mean()))


def coming(curves: Curves, setting: Setting, about: Metric, ahead: int, rate: float | None = None) -> Coming | None:
    """Forecast a setting's metric by those of its arms that have gone on; None where these are none.

    Generations at which one of these arms has no value are passed over at the beginning, and end it at the end: what is
    used is the latest stretch without a gap.
    """
    last = curves.values[about.name].shape[1] - 1
    alive = tuple(arm for arm in setting.arms if not 0 <= curves.ended[arm] <= last)
    values = curves.values[about.name][list(alive)]
    whole = np.isfinite(values[:, -1]) if len(alive) else np.zeros(0, bool)
    arms, values = tuple(arm for arm, use in zip(alive, whole, strict=True) if use), values[whole]
    if not arms:
        return None
    gaps = np.flatnonzero(~np.isfinite(values).all(0))
    values = values[:, gaps[-1] + 1 if len(gaps) else 0 :]
    if values.shape[1] < panel.FEWEST:
        return None
    scale = Scale.of(about, values)
    paths = scale.there(values)
    return Coming(scale=scale, arms=arms, paths=paths, predictive=panel.predict(paths, ahead, rate=rate))


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A setting's metric at some generations to come, for a chart, and at the last of them in words.

    Attributes:
        t: (H,) generations, the first of them the last that was seen; empty where there is no forecast.
        low: (H,) the lower end of the 90 % interval.
        median: (H,).
        high: (H,) its upper end.
        sentence: see :func:`sentence`.
    """

    t: NDArray[np.int64]
    low: Array
    median: Array
    high: Array
    sentence: str


def unforeseen(curves: Curves, metric: str | None) -> str:
    """Return why no setting has an outlook; "" where one may have."""
    if metric is None:
        return "No forecast: no distance was recorded that could be judged."
    if curves.generations < panel.FEWEST:
        return f"No forecast: it needs {panel.FEWEST} generations, and the run has {curves.generations}. Let it run on."
    return ""


def outlooks(run: Run, curves: Curves, metric: str | None) -> dict[str, Outlook]:
    """Return by label of each setting how a metric goes on for as many generations as there were, from 3 on."""
    last = curves.generations - 1
    if metric is None or unforeseen(curves, metric):
        return {}
    ahead = min(last, FARTHEST)
    shown = np.unique(np.linspace(1, ahead, min(_SHOWN, ahead)).round().astype(np.int64))
    about, expected = run.metric(metric), rates(run, curves)
    found = {}
    for setting in curves.settings:
        rate = expected.get(setting.label)
        goes_on = coming(curves, setting, about, ahead, rate)
        row = _row(setting, about, None, goes_on, rate, 0 if goes_on is None else len(goes_on.arms))
        spans = np.empty((0, len(LEVELS)))
        if goes_on is not None:
            spans = np.vstack([np.full(len(LEVELS), goes_on.now), goes_on.quantiles(shown)])
        found[setting.label] = Outlook(
            t=last + np.append(0, shown)[: len(spans)],
            low=spans[:, 0],
            median=spans[:, 2],
            high=spans[:, -1],
            sentence=sentence(row, last, last + ahead),
        )
    return found


def _rows(curves: Curves, setting: Setting, about: Metric, ahead: int, rate: float | None, arms: bool) -> list[Row]:
    found = coming(curves, setting, about, ahead, rate)
    if found is None:
        return [_row(setting, about, None, None, rate, 0)]
    rows = [_row(setting, about, None, found, rate, len(found.arms))]
    for i, arm in enumerate(found.arms if arms else ()):
        predictive = panel.predict(found.paths, ahead, rate=rate, arm=i)
        one = dataclasses.replace(found, paths=found.paths[i : i + 1], predictive=predictive)
        rows.append(_row(setting, about, arm, one, rate, len(found.arms)))
    return rows


def _row(setting: Setting, about: Metric, arm: int | None, found: Coming | None, rate: float | None, arms: int) -> Row:
    nothing = (math.nan, math.nan)
    row = Row(
        setting=setting.label,
        arm=arm,
        metric=about.name,
        title=about.title,
        unit=about.unit,
        arms=arms,
        left_out=len(setting.arms) - arms,
        scale="plain",
        rate=rate,
        now=math.nan,
        median=math.nan,
        half=nothing,
        most=nothing,
        reached=None,
    )
    if found is None:
        return row
    ahead = len(found.predictive.centre)
    lowest, low, median, high, highest = found.quantiles(np.array([ahead]))[0].tolist()
    return dataclasses.replace(
        row,
        scale=found.scale.kind,
        now=found.now,
        median=median,
        half=(low, high),
        most=(lowest, highest),
        reached=reached(found, about, median),
    )


def reached(found: Coming, about: Metric, median: float) -> Reached | None:
    """Return when a metric will be at or beyond twice or half of what it is now.

    That is by its distribution at each generation, not when it first will be: one that scatters may be there before.
    """
    now = found.now
    if about.scale != "ratio" or not now > 0:
        return None
    what: Factor = "doubled" if median >= now else "halved"
    factor = 2.0 if what == "doubled" else 0.5
    if found.scale.kind == "logit" and factor * now >= 1:
        return Reached(what=what, median=math.inf, early=math.inf, late=math.inf)
    edge = float(found.scale.there(np.array(factor * now)))
    below = found.predictive.below(np.full(len(found.predictive.centre), edge))
    there = 1 - below if what == "doubled" else below
    median_, early, late = (_first(there >= level) for level in (0.5, 0.05, 0.95))
    return Reached(what=what, median=median_, early=early, late=late)


def _first(there: np.ndarray) -> float:
    return float(there.argmax() + 1) if there.any() else math.inf


def headings(found: Forecast) -> list[str]:
    """Return the headings of :func:`cells`."""
    return ["setting", "metric", "now", f"at {found.to}", "50 %", "90 %", "generations until doubled or halved"]


def cells(found: Forecast) -> list[list[str]]:
    """Return the table of the rows, in words."""
    return [
        [
            row.setting if row.arm is None else f"  arm {row.arm}",
            row.title,
            _number(row.now),
            _number(row.median),
            _span(row.half),
            _span(row.most),
            _when(row.reached, found.to - found.last),
        ]
        for row in found.rows
    ]


def notes(found: Forecast) -> list[str]:
    """Return what there is to say below the table."""
    lines = [
        f"From generations up to {found.last}, if the loop goes on as it does. Of a setting the mean over its arms, "
        "a geometric one of ratios; values as they will be measured."
    ]
    out = {row.setting: row.left_out for row in found.rows if row.left_out}
    lines += [
        f"{setting}: left out {counted(count, 'arm')}, which ended early or without a value."
        for setting, count in out.items()
    ]
    return lines


def sentences(found: Forecast) -> list[str]:
    """Return one sentence per row."""
    return [sentence(row, found.last, found.to) for row in found.rows]


def sentence(row: Row, last: int, to: int) -> str:
    """Say what a row says: now, at the generation asked for, and when it will have doubled."""
    whose = row.setting if row.arm is None else f"{row.setting}, arm {row.arm}"
    if math.isnan(row.now):
        return f"{whose}: no forecast of {row.title}, as no arm has values up to generation {last}."
    of = f" of {counted(row.arms, 'arm')}, {row.left_out} left out" if row.left_out and row.arm is None else ""
    low, high = row.most
    words = f"{whose}: {row.title}{of} {_number(row.now)} at generation {last}"
    words += f", {_number(row.median)} expected at {to} (90 %: {_number(low)} to {_number(high)})"
    if row.reached is not None and math.isfinite(row.reached.early):
        middle, interval = _until(row.reached, to - last)
        words += f"; {row.reached.what} after {middle} generation{'s' * (middle != '1')} ({interval})"
    return f"{words}."


def _when(reached_: Reached | None, ahead: int) -> str:
    if reached_ is None:
        return "–"
    if math.isinf(reached_.early):
        return f"not within {ahead}"
    middle, interval = _until(reached_, ahead)
    return f"{reached_.what}: {middle} ({interval})"


def _until(reached_: Reached, ahead: int) -> tuple[str, str]:
    """Return after how many generations something is reached, and the interval of it, which begins within ``ahead``."""
    middle = f"more than {ahead}" if math.isinf(reached_.median) else f"{reached_.median:.0f}"
    late = "or more" if math.isinf(reached_.late) else f"to {reached_.late:.0f}"
    return middle, f"90 %: {reached_.early:.0f} {late}"


def _span(interval: tuple[float, float]) -> str:
    low, high = interval
    return "–" if math.isnan(low) else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.3g}"
