"""What a table's columns are taken for, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from selfloop.core.columns import Category, Number
from selfloop.core.errors import DataError, counted, quoted
from selfloop.core.events import Mixed
from selfloop.core.forms import Form
from selfloop.data.reading.kinds import Known, columns_of, numbering_note
from selfloop.data.reading.tables import Choice, chosen, refuse_target, refuse_wide
from selfloop.data.reading.times import dated, times_in_words

_TOP = 5  # levels that are named
_LAST_YEAR = 9999  # that calendars of databases have


@dataclass(frozen=True)
class Line:
    """One column.

    Attributes:
        name: of it.
        type: what it holds.
        values: its range, or its most frequent levels and how often each is there.
        missing: how many values are.
        model: how it is modelled.
        coordinates: how many numbers stand for it.
    """

    name: str
    type: str
    values: str
    missing: int
    model: str
    coordinates: int


@dataclass(frozen=True)
class Summary:
    """A table.

    Attributes:
        rows: how many.
        form: of the file.
        lines: one a column that can be modelled.
        left_out: columns that were left out.
        refused: what is wrong with each of the others or with all together, with what to do.
        plain: whether all columns are numbers that are there and vary.
        notes: what is taken as it stands, and may mean something else.
        target: the column to predict, "" where none was named.
    """

    rows: int
    form: Form
    lines: tuple[Line, ...]
    left_out: tuple[str, ...]
    refused: tuple[str, ...]
    plain: bool
    notes: tuple[str, ...] = ()
    target: str = ""

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    @property
    def conclusion(self) -> str:
        """What rows become, in a sentence."""
        width = sum(line.coordinates for line in self.lines)
        out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        aim = "".join(f"; to predict: {self.target}, {line.type}" for line in self.lines if line.name == self.target)
        return f"{counted(self.rows, 'row')} of {len(self.lines)} columns, {width} numbers a row{out}{aim}"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "rows": self.rows,
            "columns": [asdict(line) for line in self.lines],
            "left_out": list(self.left_out),
            "target": self.target or None,
            "refused": list(self.refused),
            "notes": list(self.notes),
            "form": self.form.plain(),
        }


def summary(path: str, choice: Choice, target: str | None = None) -> Summary:
    """Say what the columns of a file are taken for.

    Raises:
        DataError: the file cannot be read.
    """
    sheet = chosen(path, choice)
    if len(sheet) < 3:
        raise DataError(f"{sheet.source} has {counted(len(sheet), 'row')}; it needs 3, 2 to train on and 1 to hold out")
    refuse_wide(sheet, len(sheet.columns))
    found = columns_of(sheet, choice.types)
    lines = [_line(known, found.plain, found.form) for known in found.known]
    refused = list(found.refused)
    try:
        refuse_target(sheet.columns, [known.column for known in found.known], target, sheet.source)
    except DataError as error:
        refused.append(str(error))
    notes = [note for known in found.known for note in _notes(known)]
    notes += map(numbering_note, found.numbering)
    width = sum(line.coordinates for line in lines)
    if not width and not refused:
        refused.append(f"{sheet.source}: no column ever changes, and there is nothing to model")
    try:
        refuse_wide(sheet, width, Mixed(tuple(known.column for known in found.known)))
    except DataError as error:
        refused.append(str(error))
    return Summary(
        len(sheet),
        found.form,
        tuple(lines),
        tuple(choice.leave_out),
        tuple(refused),
        found.plain,
        tuple(notes),
        target or "",
    )


def _notes(known: Known) -> list[str]:
    """Return a note on times in the first or the last year of calendars, which tables have in place of none."""
    column, values = known
    if values.dtype.kind != "M":
        return []
    years = values.astype("datetime64[Y]").astype(np.int64) + 1970
    odd = ~np.isnat(values) & ((years <= 1) | (years >= _LAST_YEAR))
    return [
        f"column {quoted(column.name)}: the year {year:04d} in {count} of {counted(len(values), 'row')} is taken for "
        "just that; if it stands for none, leave these empty"
        for year, count in sorted(Counter(years[odd].tolist()).items())
    ]


def _line(known: Known, plain: bool, form: Form) -> Line:
    column, values = known
    absent = np.array([value is None or value != value for value in values.tolist()])
    missing, width = int(absent.sum()), len(column.coordinates)
    if isinstance(column, Number):
        if column.epoch is not None:
            ends = np.array([values[~absent].min(), values[~absent].max()])
            kind = "times of day" if form.is_clock(column.name) else "dates"
            kind = "dates and times" if kind == "dates" and column.epoch[1] not in "MD" else kind
            span = " … ".join(times_in_words(ends, column.name, form))
        else:
            whole = column.decimals == 0
            kind = (
                "whole numbers" if whole else f"numbers, {column.decimals} decimals" if column.decimals else "numbers"
            )
            span = f"{column.low:.10g} … {column.high:.10g}"
        model = "normal scores" if column.values and not plain else "standard scores"
        return Line(column.name, kind, span, missing, model + (" + missing" if column.missing else ""), width)
    there = dated(values[~absent], form.types().get(column.name))
    words = times_in_words(there, column.name, form) if there.dtype.kind == "M" else there.tolist()
    counts = Counter(words).most_common()
    top = ", ".join(f"{_shown(level)} {count}" for level, count in counts[:_TOP])
    more = f" and {len(counts) - _TOP} more" if len(counts) > _TOP else ""
    if isinstance(column, Category):
        kind = f"{len(column.levels)} categories"
        return Line(column.name, kind, top + more, missing, "one-hot" + (" + missing" if column.missing else ""), width)
    return Line(column.name, "constant", top or "nothing", missing, "carried through", 0)


def _shown(level: Any) -> str:
    """Return a level in words, in quotes where it begins or ends with blanks."""
    text = str(level)
    return text if text == text.strip() else quoted(text)
