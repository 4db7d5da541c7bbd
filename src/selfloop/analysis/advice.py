"""What there is to say of how much synthetic data a loop bears, in five sentences, and the numbers behind them."""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from selfloop.analysis import stability
from selfloop.analysis.bearable import lam, share
from selfloop.analysis.decline import Decline
from selfloop.analysis.paired import LEVEL
from selfloop.analysis.threshold import LOOKS, Bracket, Tried
from selfloop.analysis.warning import FALSE_ALARMS, Ranked
from selfloop.core.errors import counted, quoted
from selfloop.core.frames import frame
from selfloop.metrics.base import Metric
from selfloop.mixing.parts import multiple
from selfloop.theory.measured import Interval

if TYPE_CHECKING:
    import pandas as pd

Axis = Literal["loop", "fresh", "rescue"]

SURE = f"{100 * LEVEL:g} %"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What is shown along one axis: of synthetic beside real data, beside fresh data, or after damage.

    Attributes:
        by: by criterion, what is shown of the shares of synthetic rows that were tried.
        all: of all criteria together.
        most: the share of real rows where that of synthetic ones is 0: 1, or less where too few are fresh.
        each: whether every criterion is to be answered, and not only all together.
    """

    by: Mapping[str, Bracket]
    all: Bracket
    most: float = 1.0
    each: bool = False

    @property
    def open(self) -> list[Bracket]:
        """The brackets that are to be narrower."""
        return [bracket for bracket in (self.by.values() if self.each else [self.all]) if not bracket.narrow]

    def real(self, synthetic: Fraction) -> float:
        """Return the share of real rows that goes with one of synthetic rows on the ladder."""
        return self.most * float(1 - synthetic)


@dataclass(frozen=True, kw_only=True)
class Above:
    """What becomes of the loop at a share that is shown to be worse.

    Attributes:
        share: of synthetic rows.
        excess: by what share the loss is larger at the end, with 95 % bounds on either side.
        decline: how fast.
    """

    share: Fraction
    excess: Interval
    decline: Decline


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """What rows are worth to a model that is trained on them to predict the target, in the mean over seeds.

    Attributes:
        criterion: the score's name.
        real: of a model trained on the real rows.
        scores: of one trained on the samples at the end, by the share of synthetic rows in the training sets.
    """

    criterion: str
    real: float
    scores: Mapping[Fraction, float]


def of_target(metric: Metric) -> bool:
    """Whether a metric is of what models predict, so that it is held against the real rows themselves."""
    return "target" in metric.needs


@dataclass(frozen=True, kw_only=True)
class More:
    """What the next look would take.

    Attributes:
        seeds: of every regime; None where all that is ever looked at has been.
        arms: that would be new or go on.
        seconds: about how long it would take on this machine; NaN where nothing was run that would tell.
    """

    seeds: int | None
    arms: int = field(default=0, compare=False)
    seconds: float = field(default=math.nan, compare=False)

    def __str__(self) -> str:
        if self.seeds is None:
            return f"{LOOKS[-1]} seeds do not tell it from the tolerance"
        about = "" if math.isnan(self.seconds) else f", about {duration(self.seconds)},"
        return f"{self.arms} more arms ({counted(self.seeds, 'seed')} of each regime){about} would tell more"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """An answer: printed, its five sentences, six where there is a target.

    Attributes:
        data: the data set's name.
        generator: the generator's name.
        criteria: metrics by which the loss is judged, and what they are called.
        tolerance: by what share the loss may be larger than that of real data alone.
        horizon: T, retrainings.
        rows: n, to train on.
        seeds: S, in which all arms were run; 0 before the first look.
        loop: how much synthetic data; None where nothing can be said.
        fresh: how many fresh real rows a generation; likewise.
        rescue: how many real rows bring a damaged loop back; likewise.
        above: the smallest share that is shown to be worse, then the fully synthetic loop, if it is another one.
        watch: the recorded statistics by how early they speak of the fully synthetic loop.
        alarms: the share of false alarms at which they are compared.
        titles: of the statistics.
        missing: by axis, why nothing can be said of it.
        more: what would tell more; None where all is told that is asked for.
        target: the column that models predict, None where nothing is judged by that.
        downstream: by every criterion that is of the target, what rows are worth to such a model.
        run: the run directory.
    """

    data: str
    generator: str
    criteria: Mapping[str, str]
    tolerance: float
    horizon: int
    rows: int
    seeds: int
    loop: Limit | None
    fresh: Limit | None
    rescue: Limit | None
    above: tuple[Above, ...]
    watch: tuple[Ranked, ...]
    alarms: float
    titles: Mapping[str, str]
    missing: Mapping[Axis, str]
    more: More | None
    target: str | None = None
    downstream: tuple[Downstream, ...] = ()
    run: Path = field(compare=False)

    @property
    def share(self) -> float | None:
        """The largest share of synthetic rows that is shown to be within the tolerance, None where nothing is said."""
        return None if self.loop is None or self.loop.all.fine is None else float(self.loop.all.fine)

    @property
    def interval(self) -> tuple[float, float]:
        """Between which shares the loss reaches the tolerance, with 95 % confidence; the second is inf for none."""
        if self.loop is None:
            return 0.0, math.inf
        return float(self.loop.all.fine or 0), math.inf if self.loop.all.worse is None else float(self.loop.all.worse)

    @property
    def sentences(self) -> tuple[str, ...]:
        """How much, what happens above it, what fresh data does, what rescues, what to watch, what a target tells.

        What cannot be said of several for one reason is said once.
        """
        every = [_how_much(self), _how_fast(self), _fresh(self), _rescue(self), _watch(self)]
        every += [] if self.target is None else [_what_for(self)]
        if self.loop is not None:
            return tuple(every)
        why = f"cannot be said: {self.missing['loop']}."
        others = [each for each in every if not each.endswith(why)]
        return (f"How much synthetic data the loop bears, and what follows from that, {why}", *others)

    def __str__(self) -> str:
        return "\n".join(f"{i}. {sentence}" for i, sentence in enumerate(self.sentences, 1))

    def _repr_html_(self) -> str:
        return f"<ol>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in self.sentences)}</ol>"

    def plain(self) -> dict[str, Any]:
        """Return all of it as JSON takes it, the sentences among it."""
        found: dict[str, Any] = stability.plain(_numbers(dataclasses.asdict(self)))
        return found | {"run": str(self.run), "share": self.share, "sentences": list(self.sentences)}

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.plain(), indent=1, ensure_ascii=False)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for every axis, criterion and share that was tried.

        Raises:
            ConfigError: pandas is not installed.
        """
        rows = [
            {"axis": axis, "criterion": name, "share": float(each.share), "real": limit.real(each.share)}
            | {"seeds": each.seeds, "excess": each.excess.value, "low": each.excess.low, "high": each.excess.high}
            | {"word": each.word}
            for axis, limit in (("loop", self.loop), ("fresh", self.fresh), ("rescue", self.rescue))
            if limit is not None
            for name, bracket in limit.by.items()
            for each in bracket.tried
        ]
        columns = ["axis", "criterion", "share", "real", "seeds", "excess", "low", "high", "word"]
        return frame(rows, columns=columns)


def _numbers(value: Any) -> Any:
    """Return nested values with shares as floats and paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, Fraction) else str(value) if isinstance(value, Path) else value


def duration(seconds: float) -> str:
    """Return how long, in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _how_much(found: Advice) -> str:
    if found.loop is None:
        return f"How much synthetic data the loop bears cannot be said: {found.missing['loop']}."
    bracket = found.loop.all
    fine, worse = bracket.fine or Fraction(0), bracket.worse
    loss = _promise(found)
    if fine == 1:
        words = f"Training sets may be synthetic altogether: with {SURE} confidence {loss}"
    elif fine:
        most = f"Up to {_percent(fine)} of each training set may be synthetic (λ = {_lam(fine)})"
        words = f"{most}: with {SURE} confidence {loss}"
    else:
        words = f"Of no share of synthetic data that was tried is it shown with {SURE} confidence that {loss}"
    if worse == 0:
        words += "; it is shown that it is not, even of samples of a model that saw real data alone"
    elif worse is not None:
        words += f"; it reaches that at a share between {_percent(fine)} and {_percent(worse)} ({SURE}, both ends)"
    elif fine < 1:
        words += "; no share is shown to exceed that"
    if len(found.loop.by) > 1:
        each = " and ".join(f"{_range(of)} by {found.criteria[name]}" for name, of in found.loop.by.items())
        words += f"; it is {each}, of which the smaller counts"
    return f"{words}{_open(bracket, found)}."


def _promise(found: Advice) -> str:
    """Return what is not to happen to the criteria, as a clause."""
    downstream = [each.criterion for each in found.downstream]
    losses = " and ".join(title for name, title in found.criteria.items() if name not in downstream)
    scores = " and ".join(found.criteria[name] for name in downstream)
    parts = []
    if losses:
        parts.append(
            f"the loss after {counted(found.horizon, 'retraining')} ({losses}) is no more than "
            f"{share(found.tolerance)} above that of real data alone"
        )
    if scores:
        after = "" if losses else f" after {counted(found.horizon, 'retraining')}"
        parts.append(
            f"what samples are worth to a model that predicts {quoted(found.target)}{after} ({scores}) is no more than "
            f"{share(found.tolerance)} below what the real rows are"
        )
    return ", and ".join(parts)


def _percent(of: Fraction) -> str:
    return f"{100 * float(of):.4g} %"


def _within(found: Advice) -> str:
    words = f"within {share(found.tolerance)} of that of real data alone"
    return f"{words}, and {_scores(found)} within as much of that of the real rows" if found.downstream else words


def _scores(found: Advice) -> str:
    return " and ".join(found.criteria[each.criterion] for each in found.downstream)


def _range(bracket: Bracket) -> str:
    low, high = bracket.fine or Fraction(0), bracket.worse
    if high == 0 or low == 1:
        return "no share" if high == 0 else _percent(low)
    return f"{_percent(low)} to {_percent(high)}" if high is not None else f"{_percent(low)} or more"


def _lam(synthetic: Fraction) -> str:
    return lam(math.inf if synthetic == 1 else round(float(synthetic / (1 - synthetic)), 3))


def _open(bracket: Bracket, found: Advice) -> str:
    """Return what is missing where a bracket is wide."""
    if bracket.narrow or found.more is None:
        return ""
    tried = ", ".join(f"{_percent(each.share)} ({_excess(each)})" for each in bracket.between)
    some = f"a synthetic share of {tried} is" if len(bracket.between) == 1 else f"synthetic shares of {tried} are"
    neither = f"{some} shown neither way, and " if tried else ""
    return f"; {neither}{found.more}"


def _excess(each: Tried, sign: int = 1) -> str:
    """Return by how much a loss is larger or, with the sign −1, a score; such a one is of what is better if larger."""
    return "∞" if math.isinf(each.excess.value) else f"{sign * each.excess.value:+.0%}"


def _how_fast(found: Advice) -> str:
    if found.above:
        return f"Above it the loop gets worse: {'; '.join(_fall(each, found) for each in found.above)}."
    if found.loop is None:
        return f"What happens above it cannot be said: {found.missing['loop']}."
    if found.loop.all.fine == 1:
        return "There is nothing above it: the fully synthetic loop was tried."
    more = "" if found.more is None else f", and {found.more}"
    return f"What happens above it cannot be said: no share is shown to be worse{more}."


def _fall(above: Above, found: Advice) -> str:
    where = "fully synthetic" if above.share == 1 else f"at a share of {_percent(above.share)}"
    excess, twice = above.excess, above.decline.collapse
    if math.isinf(excess.value):
        words = f"{where}, arms diverge by generation {found.horizon}"
    else:
        words = f"{where}, the loss is {excess.value:+.0%} ({_span(excess, '{:+.0%}')}) at generation {found.horizon}"
    if math.isfinite(twice.value):
        words += f", twice that of real data from generation {twice.value:g} on ({_span(twice, '{:g}')})"
    else:
        words += " and by then in most arms never twice that of real data"
    return words if above.share < 1 else f"{words}, and {_halved(above.decline.half_life)}"


def _halved(half_life: Interval | None) -> str:
    if half_life is None:
        return "no variance was recorded that would have a half-life"
    if math.isinf(half_life.high):
        least = f"{half_life.low:.3g} generations or more"
        return f"its variance is not seen to change: to halve or double takes it {least}"
    verb = "halved" if half_life.value > 0 else "doubled"
    low, high = sorted((abs(half_life.low), abs(half_life.high)))
    return f"its variance is {verb} every {abs(half_life.value):.3g} generations ({low:.3g} to {high:.3g})"


def _span(interval: Interval, shape: str) -> str:
    """Return an interval, "never" and "?" for ends that are infinite."""

    def word(end: float) -> str:
        return shape.format(end) if math.isfinite(end) else "never" if end > 0 else "?"

    return f"{word(interval.low)} to {word(interval.high)}"


def _fresh(found: Advice) -> str:
    if found.fresh is None:
        return f"How much fresh real data a generation needs cannot be said: {found.missing['fresh']}."
    limit, bracket = found.fresh, found.fresh.all
    if bracket.fine is None:
        most = f"{_rows(limit, Fraction(0), found)} fresh real rows of {found.rows} in each generation"
        keep = "keep" if bracket.worse == 0 else "are shown to keep"
        return f"Not even {most} {keep} the loss {_within(found)}{_open(bracket, found)}."
    if bracket.fine == 1:
        return f"No fresh real rows are needed: without any the loss is {_within(found)}."
    words = (
        f"{_rows(limit, bracket.fine, found)} fresh real rows of {found.rows} in each generation, beside samples of "
        f"the last model, keep the loss {_within(found)}, with {SURE} confidence"
    )
    if bracket.worse is not None:
        words += f"; {_rows(limit, bracket.worse, found) or 'samples alone'} do not"
    return f"{words}{_open(bracket, found)}."


def _rows(limit: Limit, synthetic: Fraction, found: Advice) -> int:
    return multiple(limit.real(synthetic), found.rows)


def _rescue(found: Advice) -> str:
    if found.rescue is None:
        return f"What brings a damaged loop back cannot be said: {found.missing['rescue']}."
    bracket = found.rescue.all
    damaged = f"A loop damaged by {found.horizon // 2} fully synthetic retrainings"
    by = f"by generation {found.horizon}"
    if bracket.fine is None:
        back = "is not brought back" if bracket.worse == 0 else "is not shown to be brought back"
        return f"{damaged} {back} {by} even by real data alone{_open(bracket, found)}."
    if bracket.fine == 1:
        return f"{damaged}, and by as many more, needs no rescue: its loss is {_within(found)}."
    words = (
        f"{damaged} is brought back {_within(found)} {by}, with {SURE} confidence, by training sets of which "
        f"{_percent(1 - bracket.fine)} are real (λ = {_lam(bracket.fine)})"
    )
    if bracket.worse is not None:
        words += f"; {_percent(1 - bracket.worse) if bracket.worse < 1 else 'fully synthetic ones'} do not"
    return f"{words}{_open(bracket, found)}."


def _watch(found: Advice) -> str:
    if not found.watch:
        why = found.missing["loop"] if found.loop is None else "the fully synthetic loop is not shown to be worse"
        return f"Which statistic to watch cannot be said: {why}."
    first, reference = found.watch[0], next(iter(found.criteria))
    if math.isinf(first.alarm_at.value):
        most = f"in half of the fully synthetic arms within {counted(found.horizon, 'generation')}"
        return f"Which statistic to watch cannot be said: none that was recorded raises an alarm {most}."
    words = (
        f"Watch {found.titles[first.statistic]}: of the fully synthetic loop it raises the alarm at generation "
        f"{first.alarm_at.value:g} ({_span(first.alarm_at, '{:g}')})"
    )
    if first.statistic != reference:
        early = f"{first.lead.value:g}" if math.isfinite(first.lead.value) else "many"
        words += (
            f", {early} generation{'s' * (early != '1')} ({_span(first.lead, '{:g}')}) before {found.titles[reference]}"
        )
        words += "" if first.lead.low > 0 else ", which these arms do not tell from none"
    few = "" if found.alarms <= FALSE_ALARMS else f"; {LOOKS[-1]} seeds would compare at {share(FALSE_ALARMS)}"
    rate = f"where {share(found.alarms)} of control arms would raise a false one"
    return f"{words}, {rate} ({counted(first.arms, 'arm')} of each kind judged{few})."


def _what_for(found: Advice) -> str:
    """Return what rows are worth to a model that predicts the target."""
    begin = f"What rows are worth to a model that predicts {quoted(found.target)}"
    if found.loop is None or not found.downstream:
        return f"{begin} cannot be said: {found.missing.get('loop', 'no metric of it was named')}."
    return f"{begin}: {'; '.join(_worth(each, found.loop.by[each.criterion], found) for each in found.downstream)}."


def _worth(of: Downstream, bracket: Bracket, found: Advice) -> str:
    def by(share: Fraction) -> str:
        return f"{of.scores[share]:.3g} ({next(_excess(each, -1) for each in bracket.tried if each.share == share)})"

    words = (
        f"{found.criteria[of.criterion]} is {of.real:.3g} where it is trained on the real rows, {by(Fraction(0))} on"
    )
    words += " samples of a generator that saw real rows alone"
    if bracket.fine and bracket.fine < 1:
        words += f", {by(bracket.fine)} on those of the loop at {_percent(bracket.fine)} synthetic"
    words += f", and {by(Fraction(1))} on those of the fully synthetic loop"
    if bracket.worse == 0:
        words += (
            "; as the generator alone costs more than the tolerance, another generator would help, not a smaller share"
        )
    return words
