"""What the columns of a table are taken for: numbers, categories, times, one value, and what they must be told for."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfloop.core.columns import Category, Column, Constant, Number, Values, is_number, scores
from selfloop.core.errors import DataError, listed_near, quoted
from selfloop.core.events import Mixed
from selfloop.core.forms import Form
from selfloop.data.reading.delimited import MISSING, Marks, is_beyond
from selfloop.data.reading.exact import EXACT, rounded
from selfloop.data.reading.sheets import Sheet
from selfloop.data.reading.times import as_written, forms, is_form, read_times

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

TYPES = ("number", "normal", "category", "time", "constant")
"""What columns can be declared as, beside the form of times such as %d/%m/%Y: numbers, numbers of which normal scores
are modelled, categories, dates and times, and one value in every row."""

_ATOM, _SKEW = 0.1, 2.0  # the share of one value, and the skewness, beyond which normal scores are modelled
_OWN = 0.9  # words a row, beyond which they are taken to name the rows
_FEW = 20  # rows, below which whole numbers may all differ by chance
_DECIMALS = 6  # at most, to which numbers that have no text are found to be rounded
_UNITS = (("D", 86_400_000_000_000), ("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1))  # nanoseconds
_ZEROS = r"^[+-]?0[0-9]"
_NAMES_ROWS = re.compile(r"(.*[^a-zA-Z])?(id|ID|Id)|.*[a-z](ID|Id)")


def ids(sheet: Sheet) -> list[str]:
    """Return the columns that name the rows: called an id, with a whole number or a word of its own in each."""
    from pyarrow import types as is_a

    found = []
    for name, values in zip(sheet.columns, sheet.values, strict=True):
        of = values.type
        plain = is_a.is_integer(of) or is_a.is_string(of) or is_a.is_large_string(of)
        if _NAMES_ROWS.fullmatch(name) and plain and len(sheet) > 2 and len(values.unique()) == len(sheet):
            found.append(name)
    return found


class Known(NamedTuple):
    """A column and its values, as :meth:`selfloop.core.columns.Column.encode` takes them."""

    column: Column
    values: Values


@dataclass(frozen=True)
class Numbers:
    """A column of numbers as it was read.

    Attributes:
        values: (N,) float64, NaN where one is missing.
        dtype: NumPy's name of their own type.
        decimals: to which they are rounded, None where they are not.
    """

    values: Floats
    dtype: str
    decimals: int | None

    @property
    def whole(self) -> bool:
        """Whether they are whole numbers by their type."""
        return np.dtype(self.dtype).kind in "iu"

    @property
    def there(self) -> Floats:
        """Those that are not missing."""
        return self.values[~np.isnan(self.values)]


class _Text(NamedTuple):
    """A column of text, null where a value is missing, and the numbers that stand there.

    Attributes:
        words: Arrow's (N,), as they stand.
        texts: the same without blanks around them, as numbers and times are read.
        numbers: (N,) NaN where there is none.
        other: (N,) whether it is text that is no number.
        comma: (N,) whether it is a number with a comma.
    """

    words: Any
    texts: Any
    numbers: Floats
    other: Mask
    comma: Mask


class _Reader:
    """Finds out what the columns of a sheet are.

    Args:
        sheet: them.
        types: what some are declared as.
    """

    def __init__(self, sheet: Sheet, types: Mapping[str, str]) -> None:
        self.sheet, self.types = sheet, types
        self.times: dict[str, str] = {}
        self.places: dict[str, int] = {}
        self._texts: dict[str, _Text] = {}
        self._numbers: dict[str, Numbers | None] = {}
        if sheet.form.is_text:
            self._texts = {name: _text(x) for name, x in zip(sheet.columns, sheet.values, strict=True)}

    def refused(self, name: str, why: str, row: int | None = None) -> DataError:
        where = "" if row is None else f", {self.sheet.where(row)}"
        return DataError(f"{self.sheet.source}{where}, column {quoted(name)}: {why}")

    def decimal(self) -> str:
        """Return the decimal mark of a text file.

        Raises:
            DataError: its commas may be decimal marks or marks of thousands.
        """
        marks = Marks(self.sheet.form.separator)
        for name, text in self._texts.items():
            if text.other.any() or self.types.get(name) not in (None, "number", "normal"):
                continue
            for row in np.flatnonzero(text.comma).tolist():
                marks.number(text.texts[row].as_py(), f"{self.sheet.source}, {self._place(name, row)}")
                if marks.sure:
                    break
            marks.point = marks.point or _has_point(text)
        marks.settle()
        return "," if marks.comma else "."

    def _place(self, name: str, row: int) -> str:
        return f"{self.sheet.where(row)}, column {quoted(name)}"

    # what a column is taken for

    def numbers(self, name: str) -> Numbers | None:
        """Return a column as numbers if it holds nothing else and was not declared otherwise."""
        if self.types.get(name) not in (None, "number", "normal", "constant"):
            return None
        if name in self._numbers:
            return self._numbers[name]
        found = self._text_numbers(name) if self.sheet.form.is_text else self._typed_numbers(name)
        self._numbers[name] = found
        if found is not None and np.isinf(found.values).any():
            row = int(np.argmax(np.isinf(found.values)))
            raise self.refused(name, "the value is infinite; remove the row or fill it in", row)
        return found

    def _text_numbers(self, name: str) -> Numbers | None:
        text = self._texts[name]
        if np.isnan(text.numbers).all() and not text.other.any():
            return None
        if text.other.any():
            if text.other.sum() == len(text.texts) - text.texts.null_count or self.types.get(name) == "constant":
                return None
            self._refuse_mixed(name, text)
        import pyarrow.compute as pc

        whole = not pc.any(pc.match_substring_regex(text.texts, "[^0-9+-]")).as_py()
        for row in np.flatnonzero(np.abs(text.numbers) >= EXACT).tolist():
            if is_beyond(text.texts[row].as_py()):
                raise rounded(f"{self.sheet.source}, {self._place(name, row)}")
        decimals = None
        if not pc.any(pc.match_substring_regex(text.texts, "[eE]")).as_py():
            after = pc.utf8_length(pc.replace_substring_regex(text.texts, "^[^.,]*[.,]?", ""))
            fewest, decimals = pc.min_max(after).as_py().values()
            if 0 < fewest == decimals and np.abs(text.numbers[~np.isnan(text.numbers)]).max() * 10.0**decimals < EXACT:
                self.places[name] = decimals
            if decimals and (np.isnan(text.numbers) | (text.numbers == np.rint(text.numbers))).all():
                decimals = 0  # as of whole numbers that pandas holds as floats, because some are missing
        found = Numbers(text.numbers, "int64" if whole else "float64", decimals)
        most = np.abs(found.there).max(initial=0.0) * 10.0 ** (decimals or 0)
        return found if most < EXACT else replace(found, decimals=None)

    def no_numbers(self, name: str) -> DataError:
        """Return the refusal of a column that was to be one of numbers."""
        if not self.sheet.form.is_text:
            kind = self.sheet.values[self.sheet.columns.index(name)].type
            return self.refused(name, f"it holds no numbers but {quoted(kind)}; leave it out")
        text = self._texts[name]
        row = int(np.argmax(text.other))
        if not text.other[row]:
            return self.refused(name, "the value is missing; remove the row or fill it in", 0)
        return self.refused(name, f"{quoted(text.texts[row].as_py(), 40)} is not a number; correct it", row)

    def _refuse_mixed(self, name: str, text: _Text) -> None:
        first, *rest = np.flatnonzero(text.other).tolist()
        also = f", as in {', '.join(self.sheet.where(row) for row in rest[:3])}" if rest else ""
        more = f" and {len(rest) - 3} more" if len(rest) > 3 else ""
        raise self.refused(
            name,
            f"{quoted(text.texts[first].as_py(), 40)} is not a number{also}{more}, and others are; "
            + self._or_set(f"correct {'them' if rest else 'it'}", "leave the column out", types=(name, "category")),
            first,
        )

    def _typed_numbers(self, name: str) -> Numbers | None:
        import pyarrow as pa

        column = self._values(name)
        kind, is_a = column.type, pa.types
        named = is_a.is_dictionary(self.sheet.values[self.sheet.columns.index(name)].type)
        if named and self.types.get(name) is None:
            return None  # numbers that are declared names of categories
        if not (is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind)):
            return None
        values = _floats(column, f"{self.sheet.source}, column {quoted(name)}")
        dtype = "float64" if is_a.is_decimal(kind) else np.dtype(kind.to_pandas_dtype()).name
        if is_a.is_integer(kind):
            return Numbers(values, dtype, 0)
        return Numbers(values, dtype, _rounding(values[~np.isnan(values)], dtype))

    def _values(self, name: str) -> Any:
        """Return a typed column, one of words by number as words."""
        import pyarrow as pa

        column = self.sheet.values[self.sheet.columns.index(name)]
        return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

    def known(self, name: str, plain: bool = False) -> Known:
        """Return what a column is taken for; of numbers alone, ``plain``, all are just that.

        Raises:
            DataError: it must be declared, corrected or left out.
        """
        declared = self.types.get(name)
        numbers = self.numbers(name)
        if plain and numbers is not None:
            return self._of_numbers(name, numbers)
        if declared is None and numbers is not None and self._names_rows(name, numbers):
            raise self.refused(name, f"it numbers the rows; {self._leave(name, 'number')}")
        if numbers is not None and not (declared is None and self._begins_with_zeros(name)):
            return self._of_numbers(name, numbers)
        if declared in ("number", "normal"):
            raise self.refused(name, f"it is declared a {declared}, and holds none")
        if declared is None or declared == "time" or "%" in declared:
            times = self._times(name)
            if times is not None:
                return self._of_times(name, times)
            if declared is not None:
                raise self.refused(name, f"it is declared {declared}, and holds no dates or times")
        return self._of_words(name)

    def _leave(self, name: str, otherwise: str) -> str:
        if self.sheet.form.ending and self.sheet.settings:
            return f"set leave_out: [{_key(name)}], or types: {{{_key(name)}: {otherwise}}}"
        typed = f" (--leave-out {shlex.quote(name)})" if self.sheet.form.ending and name.isprintable() else ""
        return self._or_set(f"leave the column out{typed}", types=(name, otherwise))

    def _or_set(self, *ways: str, types: tuple[str, str]) -> str:
        """Return ways to put a table right, of which the last is to declare a column, where that can be done."""
        name, kind = types
        every = [*ways, f"set types: {{{_key(name)}: {kind}}}"] if self.sheet.settings else [*ways]
        return every[0] if len(every) == 1 else f"{', '.join(every[:-1])}, or {every[-1]}"

    def numbers_rows(self, name: str) -> bool:
        """Whether a column has the numbers of rows."""
        numbers = self.numbers(name)
        return numbers is not None and self._names_rows(name, numbers)

    def _names_rows(self, name: str, numbers: Numbers) -> bool:
        """Whether whole numbers are those of rows: all different, and hardly any left out, or called an id."""
        there = numbers.there
        if numbers.decimals != 0 or len(there) < _FEW or len(there) < len(numbers.values):
            return False
        if len(np.unique(there)) < len(there):
            return False
        return bool(there.max() - there.min() < 2 * len(there)) or _NAMES_ROWS.fullmatch(name) is not None

    def _begins_with_zeros(self, name: str) -> bool:
        import pyarrow.compute as pc

        text = self._texts.get(name)
        if text is None or pc.any(pc.match_substring_regex(text.texts, "[^0-9]")).as_py():
            return False
        return bool(pc.any(pc.match_substring_regex(text.texts, _ZEROS)).as_py())

    def _of_numbers(self, name: str, numbers: Numbers) -> Known:
        there, missing = numbers.there, bool(np.isnan(numbers.values).any())
        if not len(there):
            return Known(Constant(name, None, missing=True), np.full(len(numbers.values), None, object))
        low, high = float(there.min()), float(there.max())
        if low == high:
            value = int(low) if numbers.whole else low
            values = _alike(value, np.isnan(numbers.values))
            return Known(Category(name, (value,), missing=True) if missing else Constant(name, value), values)
        if self.types.get(name) == "constant":
            raise self.refused(name, "it is declared constant, and has several values")
        column = Number(name, numbers.dtype, low, high, missing=missing, decimals=numbers.decimals)
        return Known(self._scaled(column, there), numbers.values)

    def _scaled(self, column: Number, there: Floats) -> Number:
        """Return a column of numbers with its units: normal scores if that was declared, or if it needs them."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            mean, std = float(there.mean()), float(there.std())
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise DataError(
                f"{self.sheet.source}: the spread of column {quoted(column.name)} is beyond float64; change its unit"
            )
        declared = self.types.get(column.name)
        if declared == "normal" or (declared != "number" and _uneven((there - mean) / std)):
            knots, of = scores(there)
            return replace(column, values=knots, scores=of)
        return replace(column, shift=mean, scale=std)

    # times

    def _times(self, name: str) -> Values | None:
        import pyarrow as pa

        declared = self.types.get(name)
        column = self._texts[name].texts if self.sheet.form.is_text else self._values(name)
        kind = column.type
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            unit = getattr(kind, "unit", "s" if pa.types.is_date32(kind) else "ms")
            return np.asarray(column.cast(pa.timestamp(unit)).to_numpy())
        if pa.types.is_time(kind):
            whole = column.cast("int32" if kind.bit_width == 32 else "int64").cast("int64")
            return np.asarray(whole.cast(pa.timestamp(kind.unit)).to_numpy())
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            return None
        present = column.drop_null()
        if declared is not None and "%" in declared:
            chosen = [declared]
        else:
            chosen = forms([text.strip() for text in present[:50].to_pylist()])
        if not chosen:
            self._refuse_several_forms(name, column)
            return None
        read = {form: read_times(column, form) for form in chosen}
        wrong = {form: int((found.other | found.impossible).sum()) for form, found in read.items()}
        least = min(wrong.values())
        best = [form for form in chosen if wrong[form] == least]
        if least == 0 and len(best) > 1 and not np.array_equal(read[best[0]].values, read[best[1]].values, True):
            which = f"{quoted(present[0].as_py(), 40)} may be {' or '.join(best[:2])}, and no row tells"
            apart = "write them as 2021-12-31"
            raise self.refused(name, f"{which}; {self._or_set(apart, types=(name, quoted(best[0])))}")
        found = read[best[0]]
        if least:
            bad = found.other | found.impossible
            row = int(np.argmax(bad))
            text, more = quoted(column[row].as_py(), 40), f", as in {least - 1} more rows" if least > 1 else ""
            why = "there is no such time" if found.impossible[row] else f"it is not of the form {best[0]}"
            raise self.refused(
                name, f"{text}: {why}{more}; {self._or_set('correct it', types=(name, 'category'))}", row
            )
        self.times[name] = as_written(best[0], present)
        return found.values

    def _refuse_several_forms(self, name: str, column: Any) -> None:
        """Refuse text that all is dates or times, but not of one form."""
        if self.types.get(name) is not None:
            return
        at = [i for i, there in enumerate(column.is_valid().to_pylist()) if there][:50]
        texts = [column[i].as_py().strip() for i in at]
        every: list[set[str]] = []
        for text in texts:
            every.append({*forms([text])})
            if not every[-1]:
                return
        other = next((i for i, found in enumerate(every) if not found & every[0]), None)
        if other is None:
            return
        raise self.refused(
            name,
            f"{quoted(texts[other], 40)} is not written as {quoted(texts[0], 40)}, and both are dates or times; "
            + self._or_set("write them alike", types=(name, "category")),
            at[other],
        )

    def _of_times(self, name: str, times: Values) -> Known:
        absent = np.isnat(times)
        there = times[~absent]
        if not len(there):
            return Known(Constant(name, None, missing=True), np.full(len(times), None, object))
        times = _coarse(times, there)
        there = times[~absent]
        start, unit = there.min(), np.datetime_data(times.dtype)[0]
        span = int((there.max() - start).astype(np.int64))
        if not span:
            if self.sheet.form.is_text:
                return self._of_words(name)
            text = str(start)
            values = _alike(text, absent)
            return Known(Category(name, (text,), missing=True) if absent.any() else Constant(name, text), values)
        if span > EXACT:
            raise self.refused(name, "its times are finer than float64 tells apart over their range; round them")
        column = Number(
            name, "datetime64", 0.0, float(span), missing=bool(absent.any()), decimals=0, epoch=(str(start), unit)
        )
        return Known(self._scaled(column, column.numbers(there)), times)

    # by another's columns

    def like(self, column: Column) -> Values:
        """Return values as a column of other rows has them, as far as it can have them."""
        name = column.name
        if isinstance(column, Number):
            if column.epoch is not None:
                times = self._times(name)
                if times is None:
                    raise self.refused(name, "it holds no dates or times, and that of the real rows does")
                return times
            numbers = self.numbers(name)
            if numbers is None:
                raise self.no_numbers(name)
            return numbers.values
        known = column.levels if isinstance(column, Category) else (column.value,)  # type: ignore[attr-defined]
        own = {word: level for level in known for word in (level, str(level), str(level).lower())} | {
            level: level for level in known
        }
        times = None if self.sheet.form.is_text else self._times(name)
        if times is not None:
            return np.array([*(_of_time(time, known) for time in times), None], dtype=object)[:-1]
        # Blanks around numbers matter as little as where the levels were found.
        blanks = any(isinstance(level, str) and not is_number(level) for level in known)
        values = self._as_it_stands(name, blanks)
        found = (None if value is None or value != value else value for value in values.to_pylist())
        if isinstance(column, Constant) and isinstance(column.value, int | float) and self.sheet.form.is_text:
            found = (float(value) if value is not None and is_number(value) else value for value in found)
        return np.array([*(own.get(_plain(value), value) for value in found), None], dtype=object)[:-1]

    # words

    def _as_it_stands(self, name: str, blanks: bool) -> Any:
        """Return a column as Arrow has it; of text, with or without the blanks around what stands there."""
        if not self.sheet.form.is_text:
            return self._values(name)
        return self._texts[name].words if blanks else self._texts[name].texts

    def _of_words(self, name: str) -> Known:
        import pyarrow as pa

        declared, is_a = self.types.get(name), pa.types
        column = self._as_it_stands(name, blanks=bool(self.sheet.form.is_text and self._texts[name].other.any()))
        kind = column.type
        plain = is_a.is_string(kind) or is_a.is_large_string(kind) or is_a.is_boolean(kind) or is_a.is_null(kind)
        if not (plain or is_a.is_integer(kind) or is_a.is_floating(kind)):
            raise self.refused(name, f"values of {quoted(kind)} are neither numbers, words nor times; leave it out")
        values = np.array([*column.to_pylist(), None], dtype=object)[:-1]
        absent = np.array([value is None or value != value for value in values], dtype=bool)
        values[absent] = None
        levels = sorted(set(values[~absent].tolist()))
        if self.sheet.form.is_text and all(is_number(x) and re.fullmatch("0|-?[1-9][0-9]{,15}", x) for x in levels):
            values = np.array([None if x is None else int(x) for x in values] + [None], dtype=object)[:-1]
            levels = sorted(map(int, levels))
        missing = bool(absent.any())
        if not levels or (len(levels) == 1 and not missing):
            return Known(Constant(name, levels[0] if levels else None, missing=missing), values)
        if declared == "constant":
            raise self.refused(name, f"it is declared constant, and has {len(levels)} values")
        there = len(values) - int(absent.sum())
        if declared is None and (len(levels) == there > 2 or (there >= _FEW and len(levels) > _OWN * there)):
            own = f"each of its {there} rows has a value of its own"
            words = own if len(levels) == there else f"its {there} rows have {len(levels)} values"
            such = f"such as {quoted(values[~absent][0], 40)}"
            raise self.refused(name, f"{words}, {such}: it names the rows; {self._leave(name, 'category')}")
        return Known(Category(name, tuple(levels), missing=missing), values)


def _key(name: str) -> str:
    """Return a column's name as YAML takes it, on one line."""
    return name if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) else json.dumps(name)


def _alike(value: Any, absent: Mask) -> Values:
    """Return one value in every row, None where it is absent."""
    values = np.full(len(absent), value, dtype=object)
    values[absent] = None
    return values


def _of_time(time: Any, known: Sequence[Any]) -> Any:
    """Return which of the known texts a time is; its own where it is none of them, None where it is missing."""
    if np.isnat(time):
        return None
    return next((text for text in known if text is not None and np.datetime64(text) == time), str(time))


def _plain(value: Any) -> Any:
    """Return a value of a category as a key: dates as they are written."""
    return value if isinstance(value, str | int | float) else str(value)


def _text(column: Any) -> _Text:
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(column)
    absent = pc.is_in(pc.utf8_lower(trimmed), pa.array(sorted(MISSING), trimmed.type))
    words, texts = (pc.if_else(absent, pa.scalar(None, trimmed.type), each) for each in (column, trimmed))
    none = np.zeros(len(texts), dtype=bool)
    try:
        return _Text(words, texts, np.asarray(texts.cast("float64").to_numpy()), none, none)
    except pa.ArrowInvalid:
        pass
    encoded = pa.chunked_array(texts.chunks, texts.type).combine_chunks().dictionary_encode()
    distinct = [*encoded.dictionary.to_pylist(), ""]
    which = np.asarray(encoded.indices.fill_null(len(distinct) - 1))
    own = [is_number(text) for text in distinct]
    comma = [not one and is_number(text.replace(",", ".")) for one, text in zip(own, distinct, strict=True)]
    numbers = [
        float(text.replace(",", ".")) if a or b else math.nan for a, b, text in zip(own, comma, distinct, strict=True)
    ]
    other = [not (a or b) for a, b in zip(own, comma, strict=True)]
    other[-1] = False
    return _Text(words, texts, np.array(numbers)[which], np.array(other)[which], np.array(comma)[which])


def _has_point(text: _Text) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.match_substring(text.texts, ".")).as_py())


def _floats(column: Any, where: str) -> Floats:
    """Return an Arrow column as float64, (N,), NaN where a value is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if len(column) and (pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale <= 0)):
        ends = pc.min_max(column).as_py()
        if any(end is not None and abs(end) > EXACT for end in ends.values()):
            raise rounded(where)
    return np.asarray(column.cast("float64", safe=False).to_numpy())


def _rounding(values: Floats, dtype: str) -> int | None:
    """Return to how many decimals all of some numbers are rounded, None where to more than six."""
    most = np.abs(values).max(initial=0.0)
    for decimals in range(_DECIMALS + 1):
        if most * 10.0**decimals >= EXACT:
            break
        rounded_ = values[:100].round(decimals).astype(dtype)
        if (rounded_ == values[:100]).all() and (values.round(decimals).astype(dtype) == values).all():
            return decimals
    return None


def _uneven(units: Floats) -> bool:
    """Whether standard scores are so far from normal that normal scores are modelled instead."""
    if abs(float((units**3).mean())) > _SKEW:
        return True
    return bool(np.unique(units, return_counts=True)[1].max() > _ATOM * len(units))


def _coarse(times: Values, there: Values) -> Values:
    """Return times in the coarsest unit that tells all of them apart."""
    unit = np.datetime_data(times.dtype)[0]
    steps = dict(_UNITS)
    if unit not in steps:
        return times
    whole = there.astype(np.int64)
    for coarser, nanoseconds in _UNITS:
        factor = nanoseconds // steps[unit]
        if factor <= 1:
            break
        if not (whole % factor).any():
            return times.astype(f"datetime64[{coarser}]")
    return times


def numbers_of(sheet: Sheet, i: int) -> Floats:
    """Return the numbers in a column of a sheet, (N,), NaN where there is none."""
    import pyarrow as pa

    kind = sheet.values[i].type
    if sheet.form.is_text:
        return _text(sheet.values[i]).numbers
    return (
        np.asarray(sheet.values[i].cast("float64").to_numpy())
        if pa.types.is_integer(kind)
        else np.full(len(sheet), np.nan)
    )


class Kinds(NamedTuple):
    """What a sheet holds: its columns and their values, or numbers alone, and its form.

    Attributes:
        known: the columns; () where it is plain.
        plain: of every column, its numbers; () where a column is something else, or lacks or repeats values.
        sheet: the sheet with the form that was found out.
        numbering: columns that number the rows, and are taken as numbers where it is plain.
    """

    known: tuple[Known, ...]
    plain: tuple[Numbers, ...]
    sheet: Sheet
    numbering: tuple[str, ...] = ()


def numbering_note(name: str) -> str:
    """Return what there is to say of a column that numbers the rows, and is taken as a number like the others."""
    leave = f" (--leave-out {shlex.quote(name)})" if name.isprintable() else ""
    return (
        f"column {quoted(name)} numbers the rows, and is taken as a number like the others: leave it out{leave} if it "
        "is an id"
    )


def check_types(types: Mapping[str, str], columns: list[str], source: str) -> None:
    """Refuse declarations of columns that are not there, or as what there is not.

    Raises:
        DataError: with the first.
    """
    for name, kind in types.items():
        if name not in columns:
            raise DataError(f"{source}: types names a column {quoted(name)}; it has {listed_near(name, columns)}")
        if kind not in TYPES and not ("%" in kind and is_form(kind)):
            raise DataError(
                f"{source}: types.{_key(name)} is {quoted(kind)}: there are {', '.join(TYPES)}, or the form of its "
                "times, such as '%d/%m/%Y'"
            )


def kinds(sheet: Sheet, types: Mapping[str, str]) -> Kinds:
    """Find out what a sheet's columns are.

    Raises:
        DataError: one must be declared, corrected or left out.
    """
    check_types(types, sheet.columns, sheet.source)
    reader = _Reader(sheet, types)
    decimal = reader.decimal() if sheet.form.is_text else "."
    sheet = replace(sheet, form=replace(sheet.form, decimal=decimal))
    if not types:
        plain: list[Numbers] = []
        for name in sheet.columns:
            numbers = reader.numbers(name)
            if numbers is None or np.isnan(numbers.values).any() or numbers.values.min() == numbers.values.max():
                break
            plain.append(numbers)
        else:
            sheet = replace(sheet, form=replace(sheet.form, places=reader.places))
            return Kinds((), tuple(plain), sheet, tuple(filter(reader.numbers_rows, sheet.columns)))
    known = tuple(reader.known(name) for name in sheet.columns)
    return Kinds(known, (), replace(sheet, form=replace(sheet.form, times=reader.times, places=reader.places)))


class Columns(NamedTuple):
    """What can be said of a sheet's columns, whether or not all can be taken.

    Attributes:
        known: those that can be taken.
        refused: what is wrong with each of the others.
        plain: whether all are numbers that are there and vary.
        form: of the file.
        numbering: columns that number the rows, and are taken as numbers among numbers alone.
    """

    known: tuple[Known, ...]
    refused: tuple[str, ...]
    plain: bool
    form: Form
    numbering: tuple[str, ...] = ()


def columns_of(sheet: Sheet, types: Mapping[str, str]) -> Columns:
    """Say what each column of a sheet is taken for, or why it is refused.

    Raises:
        DataError: it has none.
    """
    check_types(types, sheet.columns, sheet.source)
    reader, found, refused = _Reader(sheet, types), [], []
    form = sheet.form
    try:
        whole = kinds(sheet, types)
    except DataError:
        whole = Kinds((), (), sheet)
    plain = bool(whole.plain)
    for name in sheet.columns:
        try:
            found.append(reader.known(name, plain))
        except DataError as error:
            refused.append(str(error))
    try:
        decimal = reader.decimal() if form.is_text else "."
        form = replace(form, decimal=decimal, times=reader.times, places=reader.places)
    except DataError as error:
        refused.append(str(error))
    return Columns(tuple(found), tuple(refused), plain, form, whole.numbering)


def strictly_numbers(sheet: Sheet) -> list[Numbers]:
    """Return columns of a sheet that all have to be numbers.

    Raises:
        DataError: one holds anything else, or lacks values; the message names the row.
    """
    reader = _Reader(sheet, dict.fromkeys(sheet.columns, "number"))
    if sheet.form.is_text:
        reader.decimal()
    found = []
    for name in sheet.columns:
        numbers = reader.numbers(name)
        if numbers is None:
            raise reader.no_numbers(name)
        if np.isnan(numbers.values).any():
            row = int(np.argmax(np.isnan(numbers.values)))
            raise reader.refused(name, "the value is missing; remove the row or fill it in", row)
        found.append(numbers)
    return found


def encoded(sheet: Sheet, events: Mixed) -> Tensor:
    """Return the rows of a sheet by the columns of other rows, (N, d) float64 in their units.

    Raises:
        DataError: it has other columns, or a value that one of them cannot have; the message names it.
    """
    types = {part.name: _declared(part, events.form.times) for part in events.parts}
    reader = _Reader(sheet, {name: kind for name, kind in types.items() if kind})
    if sheet.form.is_text:
        reader.decimal()
    values = {part.name: reader.like(part) for part in events.parts}
    try:
        return events.encode(values)
    except ValueError as error:
        why, row, name = error.args
        value = values[name][row]
        absent = value is None or value != value or "missing" in why
        said = why if name in events.form.times else f"{quoted(value, 40)} {why}"
        said = "the value is missing, and none is in the real rows" if absent else f"{said} in the real rows"
        raise DataError(f"{sheet.source}, {sheet.where(row)}, column {quoted(name)}: {said}") from None


def _declared(column: Column, times: Mapping[str, str]) -> str:
    """Return as what a column is declared where rows are read by it."""
    if isinstance(column, Number):
        return "number" if column.epoch is None else times.get(column.name, "time")
    return "category"
