"""The profile of a collapse: which of the eight things that are called model collapse happen in a loop, and how far.

Schaeffer, Kazdan, Arulandu and Koyejo, "Position: Model Collapse Does Not Mean What You Think" (arXiv:2503.03150, 2025)
find eight definitions in the literature, some at odds with others, and ask for a profile of all of them in place of one
word. They say what the eight are, and leave open how they are measured: that is chosen here.

Legend: S seeds; T retrainings; x how much worse an arm's risk is than what it is held against.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from torch import Tensor

from selfloop.analysis import verdict
from selfloop.analysis.curves import Array, Curves, Setting, mean, read
from selfloop.analysis.landmarks import FEWEST, Landmarks
from selfloop.analysis.paired import LAST, paired, ratio
from selfloop.analysis.verdict import Change, Judged, made_elsewhere, repeated
from selfloop.core.errors import counted
from selfloop.core.frames import frame, html_table
from selfloop.data.real import Real
from selfloop.metrics.base import Metric
from selfloop.store import Run
from selfloop.theory.measured import student_interval

if TYPE_CHECKING:
    import pandas as pd

Word = Literal["yes", "no", "cannot tell", "not measured"]

RULE = """\
Eight things are called model collapse (Schaeffer et al. 2025, arXiv:2503.03150). For each there is a number with an
interval at 95 %, and a word: yes where the interval lies beyond the threshold, no where it lies on this side of it, and
cannot tell where it does both. Risk is the judged distance to held-out data. Arms are held against what the verdict
holds them against, retraining by retraining, and "at the end" means the mean of the last three.

1, catastrophic rise: at the end risk is at least twice the control's, or half of the arms diverged. 2, any rise: risk
is larger, at all; no, where at most by the tolerance. 3, divergence: risk rises, and the second half of the retrainings
added more than a quarter of what the first half did; a loop that forgets has levelled off by then, unless an error
takes more than a third of the retrainings to fall to 1/e. 4, collapsing variance: the total variance fell by more than
the tolerance. 5, change of scaling law: between settings that differ in n alone, risk falls more slowly with n at the
end than in generation 0; no, where its exponent changed by at most 0.1.

The others ask what the samples keep of places that the real rows mark, and say yes where more than the tolerance is
lost. 6, modes: clusters of the real rows by density; lost, where fewer samples lie in one than real rows; entangled,
where samples lie between two. 7, tails: the tenth of the real rows in the emptiest places. 8, hallucinated data:
samples outside the balls of the real rows, so that precision falls.
"""

FACTOR = 2.0
LEVELLED = 0.25
EXPONENT = 0.1
HALVES = 8
"""Retrainings that it takes to tell their halves apart."""

ARMS = 6
"""Of a setting whose samples are looked at, its first."""

LOOKS = 9
"""Generations of fewer than five arms, whose noise is taken from between them."""


@dataclass(frozen=True, kw_only=True)
class Notion:
    """One meaning of collapse: its number in the paper's list, what it is called, and what its number says."""

    number: str
    title: str
    says: str


NOTIONS = (
    Notion(number="1", title="Catastrophic rise of risk", says="ratio of risk at the end"),
    Notion(number="2", title="Any rise of risk", says="ratio of risk at the end"),
    Notion(number="3", title="Diverging risk", says="rise in the second half over that in the first"),
    Notion(number="4", title="Collapsing variance", says="ratio of variance"),
    Notion(number="5", title="Change of scaling law", says="loss of the exponent of n"),
    Notion(number="6a", title="Lost modes", says="ratio of modes kept"),
    Notion(number="6b", title="Entangled modes", says="ratio of samples not between modes"),
    Notion(number="7", title="Lost tails", says="ratio of tails kept"),
    Notion(number="8", title="Hallucinated data", says="ratio of samples on the manifold"),
)
"""In the paper's order; its sixth, modes that disappear or become entangled, is two numbers."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is found of one notion in one setting.

    Attributes:
        notion: which.
        word: whether it happens.
        value: its number; NaN where there is none.
        low: lower end of its interval at 95 %.
        high: upper end.
        note: what it was measured by, or what would tell.
    """

    notion: Notion
    word: Word
    value: float
    low: float
    high: float
    note: str

    @property
    def text(self) -> str:
        """The word, and the number that led to it."""
        if math.isnan(self.value):
            return self.word
        span = f" ({_number(self.low)} to {_number(self.high)})" if self.low < self.high else ""
        return f"{self.word}: {_number(self.value)}{span}"

    @property
    def about(self) -> str:
        """What the number says and by what it was measured; where there is none, what would tell."""
        if math.isnan(self.value):
            return self.note
        return f"{self.notion.says}, {self.note}" if self.note else self.notion.says


@dataclass(frozen=True, kw_only=True)
class SettingProfile:
    """The nine findings of one setting, and against what it was held."""

    label: str
    against: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is found of every setting after so many retrainings."""

    retrainings: int
    settings: tuple[SettingProfile, ...]

    def rows(self) -> list[list[str]]:
        """Return the table: a row per setting, its label first, then a cell per notion."""
        return [[setting.label, *(finding.text for finding in setting.findings)] for setting in self.settings]

    def __str__(self) -> str:
        lines = []
        for setting in self.settings:
            lines.append(f"{setting.label}, after {counted(self.retrainings, 'retraining')}, against {setting.against}")
            for found in setting.findings:
                note = f"  [{found.about}]" if found.about else ""
                lines.append(f"  {found.notion.number:>2} {found.notion.title:<26} {found.text}{note}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(("", *(notion.title for notion in NOTIONS)), self.rows())

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas frame: a row per setting and notion.

        Raises:
            ConfigError: pandas is not installed.
        """
        return frame(self.plain())

    def plain(self) -> list[dict[str, Any]]:
        """Return a dictionary per setting and notion."""
        return [
            {
                "setting": setting.label,
                "against": setting.against,
                "notion": found.notion.number,
                "title": found.notion.title,
                "says": found.notion.says,
                "word": found.word,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "note": found.note,
            }
            for setting in self.settings
            for found in setting.findings
        ]


class Rows(Protocol):
    """Where the rows of arms are: a run, or several."""

    def real(self, arm: int) -> Real:
        """Return what is kept of an arm's real rows."""

    def samples(self, t: int, arm: int) -> Tensor:
        """Return the samples of an arm's generation t."""

    def labels(self, t: int, arm: int) -> Tensor | None:
        """Return the classes of these samples; None where they have none."""


def of_run(run: Run, **judging: Any) -> Profile:
    """Return the profile of a run, finished or not; ``judging`` as of :func:`selfloop.analysis.verdict.judged`.

    Raises:
        ConfigError: as of ``judged``.
        RunError: the run is damaged.
    """
    curves = read(run)
    return profile(curves, verdict.judged(curves, run.metrics, **judging), run, run.metrics)


def profile(
    curves: Curves, by: Judged, rows: Rows, metrics: Mapping[str, Metric], settings: Sequence[Setting] | None = None
) -> Profile:
    """Say which notions of collapse a loop shows.

    Args:
        curves: of it.
        by: what the verdict is by, and what settings are held against.
        rows: real rows and samples of its arms.
        metrics: what is known of the recorded ones.
        settings: of which; None for all.

    Raises:
        RunError: samples are damaged.
    """
    chosen = curves.settings if settings is None else settings
    looked = look(curves, by, rows, metrics, chosen)
    return Profile(retrainings=max(curves.generations - 1, 0), settings=tuple(map(looked.profile, chosen)))


def _finding(place: int, word: Word, value: float, low: float, high: float, note: str = "") -> Finding:
    return Finding(notion=NOTIONS[place], word=word, value=value, low=low, high=high, note=note)


def _nothing(place: int, word: Word, note: str) -> Finding:
    return _finding(place, word, math.nan, math.nan, math.nan, note)


def _word(low: float, high: float, yes: float, no: float) -> Word:
    """Return yes beyond one threshold, no up to the other."""
    return "yes" if low > yes else "no" if high <= no else "cannot tell"


def _factors(c: Change, sign: float = 1.0) -> tuple[float, float, float]:
    """Return a change of logarithms and its interval as factors; of what is better where the sign is −1."""
    value, low, high = (math.exp(sign * x) if sign * x < 700 else math.inf for x in (c.value, c.low, c.high))
    return (value, low, high) if sign > 0 else (value, high, low)


@dataclass(frozen=True)
class _Risk:
    """The judged distance of one setting."""

    setting: Setting
    curves: Curves
    by: Judged

    def _change(self) -> Change | None:
        alive = self._alive
        return verdict.change(self.by.distance, alive, self.setting, self.curves, self.by) if self.by.distance else None

    @property
    def _alive(self) -> tuple[int, ...]:
        return tuple(arm for arm in self.setting.arms if self.curves.ended[arm] < 0)

    @property
    def _gone(self) -> bool:
        return 2 * len(self._alive) <= len(self.setting.arms)

    def _rise(self, place: int, yes: float, no: float) -> Finding:
        if self._gone:
            return _finding(place, "yes", math.inf, math.inf, math.inf, self._ended)
        if self.by.distance is None:
            return _nothing(place, "not measured", "record a distance to held-out data, such as w2_held_out")
        c = self._change()
        if c is None:
            return _nothing(place, "cannot tell", "there is nothing to compare yet")
        about = self.by.about[self.by.distance]
        if about.scale == "difference":  # shares of the control's size
            yes, no = math.expm1(yes), math.expm1(no)
            return _finding(place, _word(c.low, c.high, yes, no), 1 + c.value, 1 + c.low, 1 + c.high, about.title)
        return _finding(place, _word(c.low, c.high, yes, no), *_factors(c), about.title)

    @property
    def _ended(self) -> str:
        words = {self.curves.endings[arm] for arm in self.setting.arms} - {""}
        arms = len(self.setting.arms)
        return f"{arms - len(self._alive)} of {counted(arms, 'arm')} {' or '.join(sorted(words))}"

    def catastrophic(self) -> Finding:
        """Whether risk at least doubled."""
        return self._rise(0, math.log(FACTOR), math.log(FACTOR))

    def rising(self) -> Finding:
        """Whether risk rose."""
        return self._rise(1, 0.0, math.log1p(self.by.tolerance))

    def diverging(self) -> Finding:
        """Whether risk rises without a sign of levelling off."""
        rose = self.rising()
        if self._gone or rose.word == "not measured":
            return replace(rose, notion=NOTIONS[2])
        if rose.word == "no":
            return _nothing(2, "no", "risk has not risen")
        if rose.word == "cannot tell":
            return _nothing(2, "cannot tell", "whether risk has risen is not told")
        first, second = self._halves()
        if len(first) < 2:
            least = f"{HALVES} retrainings" if self.curves.generations <= HALVES else f"2 {repeated(self.setting)}"
            return _nothing(2, "cannot tell", f"at least {least} would tell")
        # r above a quarter is what the mean of second − first/4 being above 0 says, whatever the sign of the first.
        left = student_interval((second - LEVELLED * first).tolist())
        word = _word(left.low, left.high, 0.0, 0.0)
        if first.mean() <= 0:
            return _finding(2, word, math.inf, -math.inf, math.inf, "nothing rose in the first half")
        share = ratio(second, first, (1 + verdict.LEVEL) / 2)
        return _finding(2, word, share.value, share.low, share.high)

    def _halves(self) -> tuple[Array, Array]:
        """Return by how much each arm got worse in either half, (S,), of arms with values; empty of too few."""
        name, last = self.by.distance, self.curves.generations - 1
        if name is None or last < HALVES:
            return np.empty(0), np.empty(0)
        control = self.by.controls.get(self.setting.label)
        alive = replace(self.setting, arms=self._alive)
        if control is None:
            here = self.curves.of(alive, name)
            there = here[:, :1]
        else:
            pairs = paired(self.curves, alive, control, name)
            here, there = pairs.here, pairs.there
        badness = np.vectorize(self.by.about[name].badness, otypes=[np.float64])
        x = badness(here) - badness(there)
        middle = last // 2
        half, end = mean(x[:, middle - 1 : middle + 2].T), mean(x[:, -LAST:].T)
        use = np.isfinite(half) & np.isfinite(end)
        return half[use], (end - half)[use]


def _scaling(setting: Setting, curves: Curves, by: Judged) -> Finding:
    """Whether risk falls more slowly with n at the end than in generation 0."""
    if by.distance is None:
        return _nothing(4, "not measured", "record a distance to held-out data, such as w2_held_out")
    if by.about[by.distance].scale != "ratio" or by.about[by.distance].goal != "lower":
        return _nothing(4, "not measured", f"{by.about[by.distance].title} has no power law")
    sizes = {other.settings["data.n"]: other for other in curves.settings if _alike(other, setting)}
    if len(sizes) < 2:
        return _nothing(
            4, "not measured", "loops of other n" if made_elsewhere(setting) else "let data.n vary in the grid"
        )
    if curves.generations < 2:
        return _nothing(4, "cannot tell", "there is nothing to compare yet")
    arms = [{curves.seeds[arm]: arm for arm in other.arms} for other in sizes.values()]
    seeds = sorted(set.intersection(*(set(each) for each in arms)))
    x = np.log(np.array(list(sizes), dtype=np.float64))
    values = np.stack([curves.values[by.distance][[each[seed] for seed in seeds]] for each in arms])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)  # (sizes, S, T + 1)
    slopes = np.einsum("k,kst->st", (x - x.mean()) / np.square(x - x.mean()).sum(), logs)
    end = np.where(np.isfinite(slopes[:, -1]), mean(slopes[:, 1:][:, -LAST:].T), np.nan)
    lost = (end - slopes[:, 0])[np.isfinite(end - slopes[:, 0])]
    if len(lost) < 2:
        return _nothing(4, "cannot tell", "it takes 2 seeds that all n share")
    c = student_interval(lost.tolist())
    note = f"α from {-slopes[:, 0].mean():.2f} to {-mean(end):.2f}, n = {min(sizes):g} to {max(sizes):g}"
    return _finding(4, _word(c.low, c.high, 0.0, EXPONENT), c.value, c.low, c.high, note)


def _alike(a: Setting, b: Setting) -> bool:
    """Whether two settings differ in n alone, or not at all."""
    plain = [json.dumps({k: v for k, v in each.settings.items() if k != "data.n"}, default=str) for each in (a, b)]
    return "data.n" in a.settings and "data.n" in b.settings and plain[0] == plain[1]


@dataclass(frozen=True)
class Looked:
    """What samples keep, as curves beside the recorded ones, and by what each share is measured.

    Attributes:
        curves: with shares that are best at 1; NaN at generations that were not looked at.
        by: as the verdict's, with what is known of the shares.
        sources: by the name of a share, the title of the recorded metric that it is; none of one that was looked at.
        missing: by the label of a setting, why there are none.
    """

    curves: Curves
    by: Judged
    sources: Mapping[str, str]
    missing: Mapping[str, str]

    def profile(self, setting: Setting) -> SettingProfile:
        """Return what is found of a setting."""
        risk = _Risk(setting, self.curves, self.by)
        control = self.by.controls.get(setting.label)
        return SettingProfile(
            label=setting.label,
            against="its own generation 0" if control is None else control.label,
            findings=(
                risk.catastrophic(),
                risk.rising(),
                risk.diverging(),
                self._finding(3, "variance", setting),
                _scaling(setting, self.curves, self.by),
                self._finding(5, "modes", setting),
                self._finding(6, "apart", setting),
                self._finding(7, "tails", setting),
                self._finding(8, "manifold", setting),
            ),
        )

    def _finding(self, place: int, share: str, setting: Setting) -> Finding:
        """Whether more than the tolerance of a share is lost."""
        alive = tuple(arm for arm in setting.arms if self.curves.ended[arm] < 0)
        if not alive:
            return _nothing(place, "cannot tell", "no arm is left to look at")
        if share not in self.sources and setting.label in self.missing:
            return _nothing(place, "not measured", self.missing[setting.label])
        c = verdict.change(share, alive, setting, self.curves, self.by)
        if c is None:
            one = share in ("modes", "apart") and not np.isfinite(self.curves.of(setting, share)).any()
            return _nothing(place, "cannot tell", "the real rows are one cluster" if one else "nothing to compare yet")
        level = math.log1p(self.by.tolerance)
        return _finding(place, _word(c.low, c.high, level, level), *_factors(c, -1.0), self.sources.get(share, ""))


def look(
    curves: Curves,
    by: Judged,
    rows: Rows,
    metrics: Mapping[str, Metric],
    settings: Sequence[Setting],
    arms: int = ARMS,
    last: int | None = None,
) -> Looked:
    """Look at the samples of settings and of their controls, as :func:`profile`.

    Args:
        curves: of the loop.
        by: what settings are held against.
        rows: of its arms.
        metrics: what is known of the recorded ones.
        settings: of which.
        arms: of a setting, its first.
        last: generations, besides generation 0; None for three, and nine of fewer than five arms.
    """
    shares, missing = _shares(curves, by, rows, settings, arms, last)
    recorded = {
        "variance": by.spread,
        "manifold": next((m for m in ("precision_held_out", "precision_train") if m in curves.values), None),
    }
    sources = {}
    for share, name in recorded.items():
        if name is not None:
            shares[share] = curves.values[name]
            sources[share] = metrics[name].title if name in metrics else name
    return Looked(
        curves=replace(curves, values=curves.values | shares),
        by=replace(by, about={**by.about, **{name: _share(name) for name in shares}}),
        sources=sources,
        missing=missing,
    )


def _share(name: str) -> Metric:
    """Return what there is to know of a share, for the rule that compares it."""

    def never(evidence: Any) -> Tensor:
        raise NotImplementedError

    return Metric(name=name, title=name, definition="", version=1, unit="share", compute=never, goal="higher")


_SHARES = ("variance", "modes", "apart", "tails", "manifold")


def _shares(
    curves: Curves, by: Judged, rows: Rows, settings: Sequence[Setting], most: int, last: int | None
) -> tuple[dict[str, Array], dict[str, str]]:
    """Return by name the shares (A, T + 1) that samples keep, and by setting why there are none."""
    values = {name: np.full((len(curves.seeds), curves.generations), np.nan) for name in _SHARES}
    missing: dict[str, str] = {}
    known: dict[bytes, Landmarks | None] = {}
    controls = [by.controls[setting.label] for setting in settings if setting.label in by.controls]
    for setting in {each.label: each for each in (*settings, *controls)}.values():
        arms = setting.arms[:most]
        for arm in arms:
            kept = rows.real(arm).rows
            key = kept.numpy().tobytes()
            if key not in known:
                known[key] = Landmarks.of(kept) if len(kept) >= FEWEST else None
            marks = known[key]
            if marks is None:
                missing[setting.label] = f"{len(kept)} real rows are kept of the {FEWEST} that it takes"
                break
            for t in _generations(curves, len(arms), last):
                if not 0 <= curves.ended[arm] <= t:
                    found = marks.kept(rows.samples(t, arm))
                    for name in _SHARES:
                        values[name][arm, t] = getattr(found, name)
    return values, missing


def _generations(curves: Curves, arms: int, last: int | None) -> list[int]:
    """Return which generations are looked at: 0 and the last three, more where noise is taken from between them."""
    looks = last or (LAST if arms >= verdict.FEW_SEEDS else LOOKS)
    return [t for t in range(curves.generations) if t == 0 or t >= curves.generations - looks]


def _number(x: float) -> str:
    return "∞" if x == math.inf else "−∞" if x == -math.inf else f"{x:.2f}" if abs(x) < 100 else f"{x:.3g}"
