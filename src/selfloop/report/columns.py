"""Columns of tables over generations: how their values are distributed, which go together, which levels are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from selfloop.analysis.curves import Curves
from selfloop.analysis.profile import Rows
from selfloop.core.columns import Category, Column, Number
from selfloop.core.events import Events, Mixed, Vectors
from selfloop.core.forms import Form
from selfloop.data.reading.times import times_in_words
from selfloop.metrics.association import associations
from selfloop.metrics.levels import RARE
from selfloop.metrics.marginals import shape_errors
from selfloop.metrics.tables import MISSING, Codes, Floats, Table, columns_of
from selfloop.report.style import spaced

MOST = 16
"""Columns that are drawn at most."""

_ROWS = 20_000  # that are looked at
_CANDIDATES = 100  # columns of which all pairs are looked at
_BARS = 24
_LEVELS = 10  # of a category that have a bar of their own
_LOST = 8  # levels that are named
_WORD = 40  # characters of a level
_BANDS = (
    (0.1, "in 10 % of the rows or more"),
    (RARE, "in 1 to 10 %"),
    (0.001, "in 0.1 to 1 %"),
    (0.0, "in less than 0.1 %"),
)


def has_columns(events: Events) -> bool:
    """Whether rows are of a table of the user's own."""
    return isinstance(events, Mixed) or (isinstance(events, Vectors) and bool(events.numbers))


def columns(rows: Rows, curves: Curves, most: int) -> dict[str, Any]:
    """Return what is drawn of up to ``most`` generations of each setting's first arm; {} where none is of a table.

    Of many columns those are drawn whose distribution, at the last generation, is furthest from the real one in some
    setting, and as many whose associations with all others are.
    """
    views = [view for i in range(len(curves.settings)) if (view := _View.of(rows, curves, i)) is not None]
    if not views or not most:
        return {}
    ends = [(view, view.generated(end)) for view in views if (end := view.end) >= 0]
    shapes = _greatest([shape_errors(view.real, end) for view, end in ends])
    pairs = _greatest(
        [_pair_errors(view.real, end, _first(view.real.names, shapes, _CANDIDATES)) for view, end in ends]
    )
    shown = spaced(range(curves.generations), most)
    names = list(dict.fromkeys(name for view in views for name in view.real.names))
    drawn, paired = (names if len(names) <= MOST else _first(names, found, MOST) for found in (shapes, pairs))
    return {
        "generations": shown,
        "settings": [view.plain(shown, drawn, paired) for view in views],
        "of": len(names),
        "worst": drawn if len(names) > MOST else [],
        "paired": paired if len(names) > MOST else [],
        "categories": any(view.real.codes for view in views),
        "rows": min(len(view.real) for view in views) if any(len(view.real) < view.n for view in views) else 0,
    }


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How a column of a table is distributed.

    Attributes:
        name: of the column.
        labels: of each bar.
        ordered: whether bars are of numbers, in their order.
        real: how many of 10,000 real rows are in each bar.
        generated: the same of samples, by the label of their setting.
    """

    name: str
    labels: list[str]
    ordered: bool
    real: list[int]
    generated: dict[str, list[int]]


def distributions(rows: Rows, curves: Curves, t: int, most: int = MOST) -> list[Distribution]:
    """Return how the columns of a table are distributed at generation t, of each setting's first arm that has one.

    Of more than ``most`` columns those are returned that are furthest from the real ones in some setting. Bars are
    those of the first setting's real rows.
    """
    views = [view for i in range(len(curves.settings)) if (view := _View.of(rows, curves, i)) is not None]
    tables = {view.label: view.generated(t) for view in views if t <= view.end}
    real, events = views[0].real, views[0].events
    errors = _greatest([shape_errors(real, table) for table in tables.values()])
    known = {column.name: column for column in columns_of(events)}
    drawn = set(real.names if len(real.names) <= most else _first(real.names, errors, most))
    bars = [_bars(known[name], real, events.form) for name in real.names if name in drawn]
    return [
        Distribution(
            name=each.name,
            labels=each.labels,
            ordered=each.edges is not None,
            real=each.shares(real),
            generated={label: each.shares(table) for label, table in tables.items()},
        )
        for each in bars
    ]


def _greatest(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the greatest of the numbers of each name."""
    return {name: max(each.get(name, 0.0) for each in found) for each in found for name in each}


def _first(names: Sequence[str], errors: Mapping[str, float], most: int) -> list[str]:
    """Return up to so many of the names, greatest errors first; equal ones by name."""
    return sorted(names, key=lambda name: (-errors.get(name, 0.0), name))[:most]


def _pair_errors(real: Table, generated: Table, names: Sequence[str]) -> dict[str, float]:
    """Return the mean error of each column's associations with the others."""
    error = np.abs(associations(real.only(names)) - associations(generated.only(names)))
    return dict(zip(names, (error.sum(0) / max(len(names) - 1, 1)).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class _View:
    """The first arm of a setting.

    Attributes:
        rows: where its samples are.
        label: of the setting.
        index: of it, among those that are drawn.
        arm: its number.
        end: the last generation that has samples, −1 for none.
        ended: why there is none after it.
        events: what a row is.
        real: the real rows that are kept.
        n: how many there are to train on.
    """

    rows: Rows
    label: str
    index: int
    arm: int
    end: int
    ended: str
    events: Mixed | Vectors
    real: Table
    n: int

    @classmethod
    def of(cls, rows: Rows, curves: Curves, index: int) -> _View | None:
        """Return the view of a setting; None where its rows are of no table."""
        setting = curves.settings[index]
        arm = setting.arms[0]
        kept = rows.real(arm)
        if not has_columns(kept.events):
            return None
        assert isinstance(kept.events, Mixed | Vectors)
        ended = int(curves.ended[arm])
        return cls(
            rows=rows,
            label=setting.label,
            index=index,
            arm=arm,
            end=(curves.generations if ended < 0 else ended) - 1,
            ended=curves.endings[arm],
            events=kept.events,
            real=_table(kept.events, kept.rows),
            n=kept.n,
        )

    def generated(self, t: int) -> Table:
        """Return the samples of a generation."""
        return _table(self.events, self.rows.samples(t, self.arm))

    def plain(self, shown: Sequence[int], drawn: Sequence[str], paired: Sequence[str]) -> dict[str, Any]:
        """Return what is drawn of it, as JSON takes it: shares in 1/10,000, associations in 1/100."""
        known = {column.name: column for column in columns_of(self.events)}
        bars = [_bars(known[name], self.real, self.events.form) for name in drawn if name in known]
        paired = [name for name in paired if name in known]
        levels = _Levels.of(self.real, known)
        return {
            "label": self.label,
            "index": self.index,
            "ended": self.ended,
            "columns": [each.plain(self.real) for each in bars],
            "pairs": {"names": paired, "real": _hundredths(self.real, paired)},
            "bands": levels.bands,
            "frames": [self._frame(t, bars, paired, levels) if t <= self.end else None for t in shown],
        }

    def _frame(self, t: int, bars: Sequence[_Bars], paired: Sequence[str], levels: _Levels) -> dict[str, Any]:
        table = self.generated(t)
        errors = shape_errors(self.real, table)
        return {
            "errors": [round(errors[each.name], 3) for each in bars],
            "shares": [each.shares(table) for each in bars],
            "pairs": _hundredths(table, paired),
        } | levels.left(table)


def _table(events: Mixed | Vectors, x: Tensor) -> Table:
    return Table.of(events.table(x[:_ROWS]), columns_of(events))


def _hundredths(table: Table, names: Sequence[str]) -> list[int]:
    """Return the associations of the pairs, row by row of the upper triangle without its diagonal."""
    found = associations(table.only(names))[np.triu_indices(len(names), 1)] if names else np.empty(0)
    return [int(x) for x in np.rint(100 * found)]


@dataclass(frozen=True, kw_only=True)
class _Bars:
    """Bars of a column's values.

    Attributes:
        name: of the column.
        labels: of each bar.
        edges: between bars of numbers, rising; None of categories.
        at: the bar of each code of a category, the last one of those that are missing; None of numbers.
        missing: whether missing values have the last bar.
    """

    name: str
    labels: list[str]
    edges: Floats | None = None
    at: Codes | None = None
    missing: bool = False

    def plain(self, real: Table) -> dict[str, Any]:
        """Return what all frames have in common."""
        kind = "category" if self.edges is None else "number"
        return {"name": self.name, "kind": kind, "labels": self.labels, "real": self.shares(real)}

    def shares(self, table: Table) -> list[int]:
        """Return how many of 10,000 rows are in each bar."""
        if self.edges is None:
            assert self.at is not None
            bar = self.at[np.clip(table.codes[self.name], MISSING, len(self.at) - 2)]
        else:
            numbers = table.numbers[self.name]
            bar = np.searchsorted(self.edges, numbers, side="right")
            bar = np.where(np.isnan(numbers), len(self.labels) - 1, bar)
        counts = np.bincount(bar, minlength=len(self.labels))
        return [int(x) for x in np.rint(10_000 * counts / max(len(bar), 1))]


def _bars(column: Column, real: Table, form: Form) -> _Bars:
    if isinstance(column, Category):
        return _level_bars(column, real.codes[column.name])
    assert isinstance(column, Number)
    return _number_bars(column, real.numbers[column.name], form)


def _level_bars(column: Category, codes: Codes) -> _Bars:
    """Return a bar of each of the most frequent levels, of all others, and of what is missing."""
    k = len(column.levels)
    often = np.argsort(-np.bincount(codes[codes >= 0], minlength=k)[:k], kind="stable")
    own = often if k <= _LEVELS else often[: _LEVELS - 1]
    labels = [_word(column.levels[i]) for i in own]
    at = np.full(k + 1, len(own))
    at[own] = np.arange(len(own))
    if len(own) < k:
        labels.append(f"{k - len(own)} other levels")
    if column.missing:
        at[MISSING] = len(labels)
        labels.append("missing")
    return _Bars(name=column.name, labels=labels, at=at, missing=column.missing)


def _number_bars(column: Number, numbers: Floats, form: Form) -> _Bars:
    """Return bars of equal width over all but the outermost hundredths of the real numbers, which end bars take in."""
    there = numbers[~np.isnan(numbers)]
    low, high = np.quantile(there, [0.005, 0.995]) if len(there) else (0.0, 1.0)
    if low == high:
        low, high = there.min(), there.max()
    if _whole(column) or column.epoch is not None:
        low, high = np.rint(low), max(np.rint(high), np.rint(low) + 1)
        step = np.ceil((high - low + 1) / _BARS)
        inner = np.arange(low + step, high + 1, step) - 0.5  # between one whole number and the next
    else:
        inner = np.linspace(low, high if high > low else low + 1.0, _BARS + 1)[1:-1]
    words = [_said(column, cut, form) for cut in inner]
    one = len(inner) > 1 and column.epoch is None and inner[1] - inner[0] == 1  # whole number a bar
    between = words[:-1] if one else map(" to ".join, pairwise(words))
    labels = [f"below {words[0]}", *between, f"{words[-1]} or more"]
    return _Bars(
        name=column.name,
        labels=[*labels, "missing"] if column.missing else labels,
        edges=np.asarray(inner),
        missing=column.missing,
    )


def _whole(column: Number) -> bool:
    return np.dtype(column.dtype).kind in "iu" or column.decimals == 0


def _said(column: Number, number: float, form: Form) -> str:
    """Return a number in words, or a time as the file has it."""
    if column.epoch is None:
        return f"{np.ceil(number):,.0f}" if _whole(column) and abs(number) < 1e9 else f"{number:.4g}"
    start, unit = column.epoch
    time = np.array([start], f"datetime64[{unit}]") + np.array([np.ceil(number)]).astype(f"timedelta64[{unit}]")
    return times_in_words(time, column.name, form)[0]


def _word(level: Any) -> str:
    text = str(level)
    return text if len(text) <= _WORD else f"{text[: _WORD - 1]}…"


@dataclass(frozen=True)
class _Levels:
    """The levels of all categories that the real rows have, a missing one being a level.

    Attributes:
        names: of each, with its column.
        codes: by column, the codes of its levels, in the order of ``names``.
        band: of how rare they are, (L,).
    """

    names: list[str]
    codes: dict[str, Codes]
    band: Codes

    @classmethod
    def of(cls, real: Table, known: Mapping[str, Column]) -> _Levels:
        """Return those of real rows."""
        names, codes, share = list[str](), dict[str, Codes](), [np.empty(0)]
        for name, those in real.codes.items():
            column = known[name]
            assert isinstance(column, Category)
            codes[name], count = np.unique(those, return_counts=True)
            share.append(count / len(those))
            words = [column.levels[code] if code >= 0 else "missing" for code in codes[name]]
            names += [f"{name}: {_word(word)}" for word in words]
        rarity = np.concatenate(share)
        band = (rarity[:, None] < [least for least, _ in _BANDS]).sum(1)
        return cls(names, codes, band)

    @property
    def bands(self) -> list[dict[str, Any]]:
        """The bands that have levels, and how many."""
        count = np.bincount(self.band, minlength=len(_BANDS))
        return [{"label": words, "levels": int(n)} for (_, words), n in zip(_BANDS, count, strict=True) if n]

    def left(self, table: Table) -> dict[str, Any]:
        """Return how many levels of each band are among generated rows, and names of the others."""
        seen = [np.isin(codes, table.codes[name]) for name, codes in self.codes.items()]
        kept = np.concatenate(seen) if seen else np.empty(0, bool)
        bands = np.unique(self.band)
        lost = [name for name, there in zip(self.names, kept, strict=True) if not there]
        return {"left": [int(kept[self.band == b].sum()) for b in bands], "lost": lost[:_LOST], "gone": len(lost)}
