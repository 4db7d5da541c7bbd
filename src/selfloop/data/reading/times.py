"""Dates and times as text has them: found out, read and written."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfloop.core.errors import DataError, quoted, to_install
from selfloop.core.forms import Form

_MONTHS = [datetime.date(2000, month, 1).strftime("%B") for month in range(1, 13)]
_MARKS = {
    "Y": r"(?P<Y>[0-9]{4})",
    "m": r"(?P<m>[0-9]{1,2})",
    "d": r"(?P<d>[0-9]{1,2})",
    "H": r"(?P<H>[0-9]{1,2})",
    "M": r"(?P<M>[0-9]{2})",
    "S": r"(?P<S>[0-9]{2})",
    "f": r"(?P<f>[0-9]{1,6})",
    "b": f"(?P<b>{'|'.join(month[:3] for month in _MONTHS)})",
    "B": f"(?P<B>{'|'.join(_MONTHS)})",
}
_DATES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
)
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
_DIGITS, _FINEST = "-|[1-9](?=f)", 6  # of a mark, how many there are; and of a second's fraction, the most
_ZONE = re.compile(r"(?<=[0-9])( ?Z|[+-][0-9]{2}:?[0-9]{2})$")
_TRIED = 50  # values by which forms are chosen that are tried on all of them


class Times(NamedTuple):
    """Text read by a form.

    Attributes:
        values: (N,) datetime64, NaT where there is none.
        other: (N,) whether it is text of another form.
        impossible: (N,) whether it is of this form and there is no such time, as 30 February.
    """

    values: NDArray[Any]
    other: NDArray[np.bool_]
    impossible: NDArray[np.bool_]


def forms(texts: Sequence[str]) -> list[str]:
    """Return the forms, in the words of ``strftime``, that most of the first texts have."""
    first = [text for text in texts[:_TRIED] if any(mark in text for mark in "-/.: ")]
    if 2 * len(first) <= len(texts[:_TRIED]):
        return []
    zones = [zone[0] for text in first if ":" in text and (zone := _ZONE.search(text))]
    ends = ["", *dict.fromkeys(zones)]
    whole = [f"{date}{between}{clock}" for date, between, clock in itertools.product(_DATES, " T", _CLOCKS)]
    every = [form + end for form, end in itertools.product((*whole, *_CLOCKS), ends)]
    return [form for form in ("%Y-%m", *_DATES, *every) if 2 * _fitting(form, first) > len(texts[:_TRIED])]


def _fitting(form: str, texts: Sequence[str]) -> int:
    """Return how many texts are of a form."""
    pattern = re.compile(_pattern(form))
    return sum(pattern.fullmatch(text) is not None for text in texts)


def is_form(form: str) -> bool:
    """Whether text can be read by a form: of known marks, each once, with a clock or a year and a month."""
    marks = re.findall("%(.)", _padded(form))
    known = set(marks) <= {*_MARKS} and len(set(marks)) == len(marks)
    return known and ("H" in marks or ("Y" in marks and bool({"m", "b", "B"} & {*marks})))


def _padded(form: str) -> str:
    """Return the form that reads what one writes: how many digits there are does not matter."""
    return re.sub(f"%({_DIGITS})", "%", form)


def _pattern(form: str) -> str:
    parts = re.split("%(.)", _padded(form))
    pattern = "".join(_MARKS[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return pattern.replace(rf"\.{_MARKS['f']}", rf"(?:\.{_MARKS['f']})?")  # whole seconds may have no fraction


def read_times(texts: Any, form: str) -> Times:
    """Read an Arrow array of texts (N,), null where one is missing."""
    import pyarrow.compute as pc

    form = _padded(form)
    found = pc.extract_regex(texts, f"^{_pattern(form)}$").combine_chunks()
    there = np.asarray(texts.is_valid())
    matched = np.asarray(found.is_valid())

    def numbers(mark: str, default: int) -> NDArray[np.int64]:
        if f"%{mark}" not in form:
            return np.full(len(texts), default, np.int64)
        cut = found.field(mark)
        if mark in "bB":
            names = [name[: 3 if mark == "b" else None] for name in _MONTHS]
            return np.array([names.index(name) + 1 if name else 1 for name in cut.to_pylist()], np.int64)
        if mark == "f":
            cut = pc.utf8_rpad(cut, 6, "0")
        valid = np.asarray(found.is_valid())
        return np.where(valid, np.asarray(pc.cast(pc.fill_null(pc.if_else(valid, cut, None), "0"), "int64")), default)

    year, day = numbers("Y", 1970), numbers("d", 1)
    month = numbers("b" if "%b" in form else "B" if "%B" in form else "m", 1)
    hour, minute, second, fraction = (numbers(mark, 0) for mark in "HMSf")
    months = (year - 1970) * 12 + month.clip(1, 12) - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]") + (day.clip(1) - 1)
    bad = (month < 1) | (month > 12) | (day < 1) | (days.astype("datetime64[M]").astype(np.int64) != months)
    bad |= (hour > 23) | (minute > 59) | (second > 59) | (year < 1)
    values: NDArray[Any] = days
    if "%d" not in form and "%H" not in form:
        values = days.astype("datetime64[M]")
    elif "%H" in form:
        seconds = (hour * 60 + minute) * 60 + second
        values = days.astype("datetime64[s]") + seconds
        if "%f" in form:
            values = values.astype("datetime64[us]") + fraction
    bad &= matched
    values[~matched | bad] = np.datetime64("NaT")
    return Times(values, there & ~matched, bad)


def as_written(form: str, texts: Any) -> str:
    """Return a form with as many digits as texts have, an Arrow array (N,) without nulls, each read by the form."""
    import pyarrow.compute as pc

    form = _padded(form)
    cut = pc.extract_regex(texts, f"^{_pattern(form)}$").combine_chunks()
    for mark in re.findall("%([mdH])", form):
        digits, padded = pc.utf8_length(cut.field(mark)), pc.match_substring_regex(cut.field(mark), "^0[0-9]")
        if pc.min(digits).as_py() == 1 and not pc.any(padded).as_py():
            form = form.replace(f"%{mark}", f"%-{mark}")
    if "%f" in form:
        fewest, most = pc.min_max(pc.utf8_length(cut.field("f"))).as_py().values()
        padded = fewest == most > 0 or pc.any(pc.ends_with(cut.field("f"), "0")).as_py()
        form = form.replace("%f", ("%f" if most == _FINEST else f"%{most}f") if padded else "%-f")
    return form


def write_times(values: NDArray[Any], form: str) -> list[str]:
    """Return times (N,) as texts of a form, "" where one is missing."""
    distinct, which = np.unique(values, return_inverse=True)
    every = distinct.astype("datetime64[us]").astype(object)
    texts = ["" if time is None else _written(time, form) for time in every]
    return [texts[i] for i in which]


def _written(time: datetime.datetime, form: str) -> str:
    def text(found: re.Match[str]) -> str:
        point, digits, mark = found[1], found[2], found[3]
        if mark == "f":
            fraction = f"{time.microsecond:0{_FINEST}d}"
            shown = fraction.rstrip("0") if digits == "-" else fraction[: int(digits or _FINEST)]
            return point + shown if shown else ""
        own = f"{time.year:04d}" if mark == "Y" else time.strftime(f"%{mark}")
        return point + (own.removeprefix("0") if digits else own)

    return re.sub(f"(\\.?)%({_DIGITS})?(.)", text, form)


def dated(values: NDArray[Any], kind: Any) -> NDArray[Any]:
    """Return a column's values (N,): the one time that it has, which is kept as text, as a time.

    Args:
        values: as columns are decoded.
        kind: the type of the file's own column, None where it has none.
    """
    import pyarrow as pa

    return values if kind is None or not pa.types.is_temporal(kind) else values.astype("datetime64")


def times_in_words(values: NDArray[Any], name: str, form: Form) -> list[str]:
    """Return a column's times (N,) as its file writes them, else as ISO 8601 does; "" where one is missing.

    Raises:
        DataError: they have a time zone that is not known here.
    """
    if name in form.times:
        return write_times(values, form.times[name])
    zone = getattr(form.types().get(name), "tz", None)
    if zone is not None:
        return _zoned(values, zone)
    texts: list[str] = np.datetime_as_string(values).tolist()
    return ["" if text == "NaT" else text.partition("T")[2] if form.is_clock(name) else text for text in texts]


def _zoned(values: NDArray[Any], zone: str) -> list[str]:
    """Return times of UTC (N,) with the offset that a zone has then; with none where its calendar has no such year."""
    import pyarrow as pa

    try:
        of = pa.lib.string_to_tzinfo(zone)
    except (ValueError, KeyError, OSError) as error:
        raise DataError(to_install(f"the time zone {quoted(zone)}", "tzdata")) from error
    found = []
    for value, second in zip(values, values.astype("datetime64[s]").astype(object), strict=True):
        offset, words = datetime.timedelta(), "+00:00"
        with contextlib.suppress(AttributeError, OverflowError):  # years before 1 and after 9999
            local = second.replace(tzinfo=datetime.UTC).astimezone(of)
            offset, words = local.utcoffset(), local.isoformat()[len("2000-01-01T00:00:00") :]
        found.append("" if np.isnat(value) else f"{value + np.timedelta64(offset, 's')}{words}")
    return found
