"""Columns of a table as people have them, and how each becomes numbers that a model sees, and its own values again.

A column is encoded into coordinates and decoded from any numbers there: to values that it may have, of its own type,
rounding and bounds. What :meth:`Column.encode` gives :meth:`Column.decode` takes back. Values are NumPy arrays
(N,): floats with NaN where one is missing, or objects with None.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.special import ndtr, ndtri

Values = NDArray[Any]
Floats = NDArray[np.float64]


class Column(Protocol):
    """One column of a table.

    Attributes:
        name: as the user has it.
        missing: whether values may be missing; that is a state of its own.
    """

    @property
    def name(self) -> str: ...

    @property
    def missing(self) -> bool: ...

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The names of its coordinates."""

    def encode(self, values: Values) -> Floats:
        """Return values (N,) in model units, (N, width).

        Raises:
            ValueError: a value is none of the column's; its position is the second argument.
        """

    def decode(self, x: Floats) -> Values:
        """Return what the column's value is nearest to numbers (N, width), (N,)."""

    def restore(self, x: Floats) -> Floats:
        """Return (N, width) numbers in the user's units as they are: neither rounded nor kept within bounds."""


FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""With what words begin that a spreadsheet would compute."""


def no_formula(text: str) -> str:
    """Return a word such that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(FORMULAS) and not is_number(text) and len(text) > 1 else text


def is_number(text: str) -> bool:
    """Whether text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


@dataclass(frozen=True)
class Number:
    """Numbers: standardised, or mapped to normal scores; and 1 beside them where one is missing.

    Attributes:
        dtype: NumPy's name of their type, a whole or a floating one.
        low, high: the least and the greatest of them.
        decimals: to which they are rounded, None where they are not.
        shift, scale: of standard units.
        values, scores: rising, the latter strictly, the value of each normal score between which the map is linear; ()
            for none. A value of many rows has an interval of scores, and is encoded as that of their mean rank.
        epoch: of times, what 0 is, and of what unit 1, in words that NumPy reads: ("1970-01-01", "D").
    """

    name: str
    dtype: str
    low: float
    high: float
    missing: bool = False
    decimals: int | None = None
    shift: float = 0.0
    scale: float = 1.0
    values: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    epoch: tuple[str, str] | None = None
    kind: ClassVar[str] = "number"

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The number's, and that of a missing one."""
        return (self.name, f"{self.name} missing") if self.missing else (self.name,)

    def encode(self, values: Values) -> Floats:
        """Return units, the mean in place of a missing number."""
        numbers = self.numbers(values)
        absent = np.isnan(numbers)
        if absent.any() and not self.missing:
            raise ValueError("is missing", int(np.argmax(absent)))
        units = np.where(absent, 0.0, self._units(np.where(absent, self.low, numbers)))
        return np.column_stack([units, absent]) if self.missing else units[:, None]

    def decode(self, x: Floats) -> Values:
        """Return numbers rounded as the column's are and kept within its bounds."""
        numbers = self._users(x[:, 0])
        if self.decimals is not None:
            numbers = numbers.round(self.decimals)
        numbers = numbers.clip(self.low, self.high)
        absent = x[:, 1] > 0.5 if self.missing else np.zeros(len(x), bool)
        return self._typed(numbers, absent)

    def restore(self, x: Floats) -> Floats:
        """Return the number, and how missing it is."""
        return np.column_stack([self._users(x[:, 0]), x[:, 1:]])

    def numbers(self, values: Values) -> Floats:
        """Return values (N,) as numbers, NaN where one is missing; times as what has passed since the epoch."""
        if self.epoch is None:
            return np.asarray(values, dtype=np.float64)
        start, unit = self.epoch
        times = np.asarray(values, dtype=f"datetime64[{unit}]")
        since = (times - _time(start, unit)).astype(np.float64)
        numbers: Floats = np.where(np.isnat(times), np.nan, since)
        return numbers

    def _typed(self, numbers: Floats, absent: NDArray[np.bool_]) -> Values:
        if self.epoch is not None:
            start, unit = self.epoch
            times = _time(start, unit) + np.rint(numbers).astype(np.int64).astype(f"timedelta64[{unit}]")
            times[absent] = _time("NaT", unit)
            return np.asarray(times)
        whole = np.dtype(self.dtype).kind in "iu"
        if absent.any():
            own = (np.rint(numbers).astype(self.dtype) if whole else numbers.astype(self.dtype)).astype(object)
            own[absent] = None
            return own
        return (np.rint(numbers) if whole else numbers).astype(self.dtype)

    def _units(self, numbers: Floats) -> Floats:
        if self.values:
            values, scores = np.array(self.values), np.array(self.scores)
            last, first = np.interp(numbers, values, scores), -np.interp(-numbers, -values[::-1], -scores[::-1])
            middle: Floats = np.where(last > first, ndtri((ndtr(first) + ndtr(last)) / 2), last)
            return middle
        return (numbers - self.shift) / self.scale

    def _users(self, units: Floats) -> Floats:
        if self.values:
            return np.interp(units, self.scores, self.values)
        with np.errstate(over="ignore"):  # of units near the end of float64, in a damaged run
            return units * self.scale + self.shift


@dataclass(frozen=True)
class Category:
    """Words, truth values, or whole numbers that are names: one coordinate a level, 1 where it is the row's.

    Attributes:
        levels: all values there are, as JSON takes them, in the order of the coordinates.
    """

    name: str
    levels: tuple[Any, ...]
    missing: bool = False
    kind: ClassVar[str] = "category"

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The levels', and that of a missing one."""
        named = tuple(f"{self.name}={level}" for level in self.levels)
        return (*named, f"{self.name} missing") if self.missing else named

    def encode(self, values: Values) -> Floats:
        """Return 1 for the row's level and 0 for the others."""
        at = {level: i for i, level in enumerate(self.levels)} | ({None: len(self.levels)} if self.missing else {})
        # Exports have an apostrophe before a word that a spreadsheet would compute.
        at = {f"'{level}": i for level, i in at.items() if str(level).startswith(FORMULAS)} | at
        try:
            which = np.fromiter((at[value] for value in values.tolist()), np.int64, len(values))
        except KeyError:
            odd = next(i for i, value in enumerate(values.tolist()) if value not in at)
            raise ValueError("is missing" if values[odd] is None else "is no level of it", odd) from None
        x = np.zeros((len(values), len(self.coordinates)))
        x[np.arange(len(values)), which] = 1.0
        return x

    def decode(self, x: Floats) -> Values:
        """Return the level of the greatest coordinate, of equal ones the first."""
        every = np.empty(len(self.coordinates), dtype=object)
        every[: len(self.levels)] = self.levels
        found: Values = every[x.argmax(1)]
        return found

    def restore(self, x: Floats) -> Floats:
        """Return the coordinates as they are."""
        return x


@dataclass(frozen=True)
class Constant:
    """One value in every row: it has no coordinate and is carried through.

    Attributes:
        value: as JSON takes it.
    """

    name: str
    value: Any
    missing: bool = False
    kind: ClassVar[str] = "constant"
    coordinates: ClassVar[tuple[str, ...]] = ()

    def encode(self, values: Values) -> Floats:
        """Return no coordinates."""
        if odd := [i for i, value in enumerate(values.tolist()) if value != self.value]:
            raise ValueError("is not the one value that the column has", odd[0])
        return np.empty((len(values), 0))

    def decode(self, x: Floats) -> Values:
        """Return the value in every row."""
        found = np.empty(len(x), dtype=object)
        found[:] = self.value
        return found

    def restore(self, x: Floats) -> Floats:
        """Return no coordinates."""
        return x


_DECIMALS = 300  # that a number of float64 can have


def _time(text: str, unit: str) -> Any:
    return np.array(text, dtype=f"datetime64[{unit}]")[()]


def scores(values: Floats, most: int = 500) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return values and their normal scores Φ⁻¹((rank − ½) / n), for :class:`Number`.

    Equal values have an interval of scores, from that of their first rank to that of their last, so that samples are
    decoded to them as often as there are such rows.

    Args:
        values: (n,) numbers, at least two of them different.
        most: of more distinct values those at so many equidistant ranks are taken, and both ends.
    """
    rising, n = np.sort(values), len(values)
    distinct, first = np.unique(rising, return_index=True)
    if len(distinct) > most:
        at = np.unique(np.linspace(0, n - 1, most).round().astype(np.int64))
        distinct = np.unique(rising[at])
        first = np.searchsorted(rising, distinct, "left")
    last = np.searchsorted(rising, distinct, "right") - 1
    ranks = np.unique(np.concatenate([first, last]))
    return tuple(rising[ranks].tolist()), tuple(ndtri((ranks + 0.5) / n).tolist())


KINDS: dict[str, type[Number] | type[Category] | type[Constant]] = {k.kind: k for k in (Number, Category, Constant)}


def plain(column: Any) -> dict[str, Any]:
    """Return a column as JSON takes it; floats keep all their digits."""
    return {"kind": column.kind} | {field.name: getattr(column, field.name) for field in fields(column)}


def read_column(plain: dict[str, Any]) -> Column:
    """Return what :func:`plain` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is something else, or no column can be so.
    """
    given: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in plain.items()}
    column = KINDS[given.pop("kind")](**given)
    TypeAdapter(type(column)).validate_python(vars(column))
    if isinstance(column, Number):
        _refuse_odd(column)
    elif isinstance(column, Category) and len({*column.levels}) < len(column.levels):
        raise ValueError("a level is there twice")
    return column


def _refuse_odd(column: Number) -> None:
    """Refuse numbers of no type, without order, or of a scale that nothing is restored by.

    Raises:
        TypeError, ValueError: they are such.
    """
    numbers = (column.low, column.high, column.shift, column.scale, *column.values, *column.scores)
    if np.dtype(column.dtype).kind not in ("M" if column.epoch else "iuf") or not np.isfinite(numbers).all():
        raise ValueError("numbers of no such type")
    if not (column.low <= column.high and column.scale > 0 and abs(column.decimals or 0) <= _DECIMALS):
        raise ValueError("numbers without order, scale or decimals")
    rising = (np.diff(column.values) >= 0).all() and (np.diff(column.scores) > 0).all()
    if len(column.values) != len(column.scores) or not rising:
        raise ValueError("a map that does not rise")
    if column.epoch:
        _time(*column.epoch)
