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
from selfloop.core.errors import ConfigError
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
    """

    by: Mapping[str, Bracket]
    all: Bracket
    most: float = 1.0

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
class More:
    """What the next look would take.

    Attributes:
        seeds: that there would be then; None where there are as many as are ever looked at.
        seconds: about how long it would take on this machine; NaN where nothing was run that would tell.
    """

    seeds: int | None
    seconds: float = field(default=math.nan, compare=False)

    def __str__(self) -> str:
        if self.seeds is None:
            return f"{LOOKS[-1]} seeds do not tell it from the tolerance"
        about = "" if math.isnan(self.seconds) else f", about {duration(self.seconds)} more"
        return f"{self.seeds} seeds{about}, would tell more"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """An answer: printed, its five sentences.

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
    def sentences(self) -> tuple[str, str, str, str, str]:
        """How much, what happens above it, what fresh data does, what rescues, and what to watch."""
        return _how_much(self), _how_fast(self), _fresh(self), _rescue(self), _watch(self)

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
        try:
            import pandas as pd
        except ImportError as error:
            raise ConfigError("to_frame needs pandas: pip install 'selfloop[frames]'") from error
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
        return pd.DataFrame(rows, columns=columns)


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
    bracket, within = found.loop.all, _within(found)
    fine, worse = bracket.fine or Fraction(0), bracket.worse
    if fine == 1:
        words = f"Training sets may be synthetic altogether: with {SURE} confidence the loss is {within}"
    elif fine:
        words = (
            f"Up to {share(float(fine))} of each training set may be synthetic (λ = {_lam(fine)}): with {SURE} "
            f"confidence the loss is {within}"
        )
    else:
        words = f"No share of synthetic data that was tried is shown with {SURE} confidence to keep the loss {within}"
    if worse is not None:
        words += f"; it reaches that at a share between {share(float(fine))} and {share(float(worse))} ({SURE}, both)"
    elif fine < 1:
        words += "; no share is shown to exceed that"
    if len(found.loop.by) > 1:
        each = ", ".join(f"{_range(bracket)} by {found.criteria[name]}" for name, bracket in found.loop.by.items())
        words += f"; of {each}, the smaller counts"
    return f"{words}{_open(bracket, found)}."


def _within(found: Advice) -> str:
    titles = " and ".join(found.criteria.values())
    return f"no more than {share(found.tolerance)} above that of real data alone after {found.horizon} retrainings ({titles})"


def _range(bracket: Bracket) -> str:
    low, high = bracket.fine or Fraction(0), bracket.worse
    return f"{share(float(low))} to {share(float(high))}" if high is not None else f"{share(float(low))} or more"


def _lam(synthetic: Fraction) -> str:
    return lam(math.inf if synthetic == 1 else float(synthetic / (1 - synthetic)))


def _open(bracket: Bracket, found: Advice) -> str:
    """Return what is missing where a bracket is wide."""
    if bracket.narrow:
        return ""
    tried = [f"{share(float(each.share))} ({_excess(each)})" for each in bracket.between]
    neither = f"{', '.join(tried)} {'is' if len(tried) == 1 else 'are'} shown neither way, and " if tried else ""
    return f"; {neither}{found.more}" if found.more is not None else ""


def _excess(each: Tried) -> str:
    return "∞" if math.isinf(each.excess.value) else f"{each.excess.value:+.0%}"


def _how_fast(found: Advice) -> str:
    if not found.above:
        if found.loop is None:
            return f"What happens above it cannot be said: {found.missing['loop']}."
        if found.loop.all.fine == 1:
            return "Nothing is worse than that: the fully synthetic loop was tried."
        more = "" if found.more is None else f"; {found.more}"
        return f"What happens above it cannot be said: no share is shown to be worse{more}."
    words = [_fall(each, found) for each in found.above]
    return f"Above it the loop gets worse: {'; '.join(words)}."


def _fall(above: Above, found: Advice) -> str:
    where = "fully synthetic" if above.share == 1 else f"at a share of {share(float(above.share))}"
    excess, twice = above.excess, above.decline.collapse
    if math.isinf(excess.value):
        words = f"{where}, arms diverge by generation {found.horizon}"
    else:
        words = f"{where}, the loss is {excess.value:+.0%} ({_span(excess, '{:+.0%}')}) at generation {found.horizon}"
    if math.isfinite(twice.value):
        words += f", twice that of real data from generation {twice.value:g} ({_span(twice, '{:g}')}) on"
    else:
        words += f" and in most arms not twice that of real data by then{_early(twice)}"
    if above.share == 1:
        words += f", and {_halved(above.decline.half_life)}"
    return words


def _early(twice: Interval) -> str:
    return f" ({SURE}: from generation {twice.low:g})" if math.isfinite(twice.low) else ""


def _halved(half_life: Interval | None) -> str:
    if half_life is None:
        return "no variance was recorded that would tell its half-life"
    if math.isinf(half_life.high):
        return f"its variance neither falls nor grows measurably: halved in {abs(half_life.low):.3g} generations at soonest"
    sign = "halved" if half_life.value > 0 else "doubled"
    low, high = sorted((abs(half_life.low), abs(half_life.high)))
    return f"its variance is {sign} every {abs(half_life.value):.3g} generations ({low:.3g} to {high:.3g})"


def _span(interval: Interval, shape: str) -> str:
    """Return "a to b", never where an end is infinite."""
    ends = (interval.low, interval.high)
    return " to ".join(
        "never" if math.isinf(x) and x > 0 else "any" if math.isinf(x) else shape.format(x) for x in ends
    )


def _fresh(found: Advice) -> str:
    if found.fresh is None:
        return f"How much fresh real data a generation needs cannot be said: {found.missing['fresh']}."
    each = f"of {found.rows} in every training set, beside samples of the last model"
    return _real(found, found.fresh, each, "fresh real rows", "keep the loss")


def _rescue(found: Advice) -> str:
    if found.rescue is None:
        return f"What brings a damaged loop back cannot be said: {found.missing['rescue']}."
    bracket, half = found.rescue.all, found.horizon // 2
    after = f"After {half} fully synthetic retrainings"
    if bracket.fine is None:
        return (
            f"{after} not even real rows alone are shown to bring the loss back to {_within(found)}"
            f"{_open(bracket, found)}."
        )
    if bracket.fine == 1:
        return f"{after} and as many more there is nothing to bring back: the loss is {_within(found)}."
    least, none = 1 - bracket.fine, None if bracket.worse is None else 1 - bracket.worse
    words = f"{after}, training sets with {share(float(least))} real rows (λ = {_lam(bracket.fine)}) bring the loss back to "
    words += f"{_within(found)}, with {SURE} confidence"
    if none is not None:
        words += f"; {share(float(none))} do not" if none else "; none do not"
    return f"{words}{_open(bracket, found)}."


def _real(found: Advice, limit: Limit, each: str, what: str, keep: str) -> str:
    bracket = limit.all
    count = lambda synthetic: f"{math.floor(limit.real(synthetic) * found.rows)}"  # noqa: E731
    if bracket.fine is None:
        most = math.floor(limit.most * found.rows)
        return f"Not even {most} {what} {each} are shown to {keep} {_within(found)}{_open(bracket, found)}."
    if bracket.fine == 1:
        return f"No {what} are needed: without any the loss is {_within(found)}."
    words = f"{count(bracket.fine)} {what} {each}, {keep} {_within(found)}, with {SURE} confidence"
    if bracket.worse is not None:
        words += f"; {count(bracket.worse)} do not" if bracket.worse < 1 else "; none do not"
    return f"{words}{_open(bracket, found)}."


def _watch(found: Advice) -> str:
    if not found.watch:
        return f"Which statistic to watch cannot be said: {found.missing['loop'] if found.loop is None else 'no arm ends worse'}."
    first, reference = found.watch[0], next(iter(found.criteria))
    title = found.titles[first.statistic]
    if math.isinf(first.alarm_at.value):
        return f"No recorded statistic raises an alarm in half of the fully synthetic arms within {found.horizon} generations."
    at = f"generation {first.alarm_at.value:g} ({_span(first.alarm_at, '{:g}')}) of the fully synthetic loop"
    words = f"Watch {title}: it raises the alarm at {at}"
    if first.statistic != reference:
        lead = first.lead
        sure = lead.low > 0 and not math.isinf(lead.low)
        early = "some" if math.isinf(lead.value) else f"{lead.value:g}"
        words += f", {early} generations ({_span(lead, '{:g}')}) before {found.titles[reference]}"
        words += "" if sure else ", which these arms do not tell from none"
    few = "" if found.alarms <= FALSE_ALARMS else f"; {LOOKS[-1]} seeds would compare at {share(FALSE_ALARMS)}"
    return (
        f"{words}, where {share(found.alarms)} of control arms would raise a false one ({first.arms} arms judged{few})."
    )
