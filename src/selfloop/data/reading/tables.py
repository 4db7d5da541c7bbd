"""The user's tables: rows of numbers, or rows of columns of several kinds, encoded.

Files come from outside and are never trusted: nothing in them is executed, sizes are checked before memory is
taken, and every refusal names the file, the row (counted from 1, header apart) and the column.
"""

from __future__ import annotations

import io
import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from selfloop.core.columns import Column
from selfloop.core.errors import DataError, kind_in_words, listed, listed_near, quoted
from selfloop.core.events import Mixed, Vectors
from selfloop.core.forms import COMMAS, Form
from selfloop.core.memory import refuse_beyond_memory
from selfloop.data.reading.exact import refuse_rounded
from selfloop.data.reading.kinds import encoded, kinds, numbers_of, strictly_numbers
from selfloop.data.reading.npy import UnknownVersion, read_header
from selfloop.data.reading.sheets import Sheet, damaged, pick, read_sheet, refuse_large, refuse_only_index
from selfloop.data.reading.unpacked import refuse_bomb

_INDEX = re.compile(r"(Unnamed: 0(\.[0-9]+)*)?")  # what pandas calls one without a name, in a file and once read back

WIDEST = 2000
"""Numbers a row of a table with names, encoded: fits and distances take time by their cube, of these seconds."""

_COLUMNS = 2**20
"""Numbers a row of an array without names, such as the levels of a flattened picture."""

ARRAYS = (".npy", ".npz")
"""Endings of files of arrays, which hold numbers alone."""

_DAMAGE = (ValueError, EOFError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
"""What the parsers raise on bytes that are not in their format; the third-last is NumPy's on some headers."""


@dataclass(frozen=True)
class Rows:
    """A table of numbers as it stands.

    Attributes:
        columns: their names.
        values: (N, d) float64.
        lines: of text files, the line on which each row ends.
        dtypes: the names of the columns' own number types, as NumPy has them; () where they have none of their own.
        form: how the file writes them.
        numbering: columns that number the rows, as an id does.
    """

    columns: list[str]
    values: np.ndarray
    lines: Sequence[int] | None = None
    dtypes: Sequence[str] = field(default=())
    form: Form = COMMAS
    numbering: Sequence[str] = ()

    def where(self, row: int) -> str:
        """Name a row, given from 0, as its reader counts it."""
        return f"row {row + 1}" + (f" (line {self.lines[row]})" if self.lines is not None else "")


@dataclass(frozen=True)
class Coded:
    """A table with columns of several kinds.

    Attributes:
        events: what its rows are.
        values: (N, d) float64, encoded.
    """

    events: Mixed
    values: np.ndarray

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [part.name for part in self.events.parts]


@dataclass(frozen=True)
class Choice:
    """What is read of a table, and as what.

    Attributes:
        columns: which columns, in that order; None takes all but an index that pandas wrote.
        leave_out: columns that are not taken.
        types: what columns are declared as, see :data:`selfloop.data.reading.kinds.TYPES`.
        table, query: of a database.
        settings: whether all this can be set; else what is refused is to be put right in the file.
    """

    columns: list[str] | None = None
    leave_out: Sequence[str] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None
    query: str | None = None
    settings: bool = True


EVERYTHING = Choice()
"""All columns but an index."""


def read_rows(
    path: str, columns: list[str] | None = None, least: int = 3, choice: Choice | None = None
) -> Rows | Coded:
    """Read a table by the ending of its name: .npy, .npz (exactly one array), or what ``read_sheet`` reads.

    Args:
        path: of the file.
        columns: which, in that order; None takes all but an index that pandas wrote. Those of NumPy's 2-D arrays are
            called x0, x1, ….
        least: how many rows there must be; of 3, two train and one is held out.
        choice: all that can be said, in place of ``columns``.

    Returns:
        Rows of numbers where all columns are numbers, all of which are there and vary.

    Raises:
        DataError: it cannot be read, is too short to split, has a value that is infinite or a whole number that float64
            rounds, or a column that must be declared or left out.
    """
    source, choice = f"table {quoted(path)}", choice or Choice(columns)
    if Path(path).suffix.lower() in ARRAYS:
        if choice.types or choice.leave_out:
            raise DataError(f"{source}: an array has numbers alone; leave types and leave_out out")
        rows = _read(path, choice.columns, source)
        if choice.columns is None:
            rows = without_index(rows, source)
        refuse_bad_values(rows, source, least)
        return rows
    return of_sheet(chosen(path, choice), choice.types, least)


def chosen(path: str, choice: Choice) -> Sheet:
    """Return the chosen columns of a file as they stand.

    Raises:
        DataError: it cannot be read, or lacks one of them.
    """
    sheet = read_sheet(path, choice.columns, choice.table, choice.query, choice.settings)
    return sheet if choice.columns is not None else without(sheet, choice.leave_out)


def without(sheet: Sheet, leave_out: Sequence[str]) -> Sheet:
    """Return a sheet without an index and the columns that are left out.

    Raises:
        DataError: it lacks one of these.
    """
    if lost := [name for name in leave_out if name not in sheet.columns]:
        there = listed_near(lost[0], sheet.columns)
        raise DataError(f"{sheet.source}: leave_out names a column {quoted(lost[0])}; it has {there}")
    sheet = sheet.only([name for name in sheet.columns if name not in leave_out])
    first = index(sheet.columns, lambda i: numbers_of(sheet, i), sheet.source)
    return sheet.only(sheet.columns[first:])


def of_sheet(sheet: Sheet, types: Mapping[str, str], least: int = 3) -> Rows | Coded:
    """Return what a sheet holds.

    Raises:
        DataError: as :func:`read_rows`.
    """
    if len(sheet) < least:
        needs = "3, 2 to train on and 1 to hold out" if least == 3 else str(least)
        raise DataError(f"{sheet.source} has {len(sheet)} rows; it needs {needs}")
    refuse_wide(sheet, len(sheet.columns))
    found = kinds(sheet, types)
    if found.plain:
        values = np.column_stack([numbers.values for numbers in found.plain])
        dtypes = [x.dtype for x in found.plain]
        return Rows(sheet.columns, values, sheet.lines, dtypes, found.sheet.form, found.numbering)
    events = Mixed(tuple(known.column for known in found.known), found.sheet.form)
    if not events.columns:
        raise DataError(f"{sheet.source}: no column ever changes, and there is nothing to model")
    refuse_wide(sheet, len(events.columns), events)
    what = f"{sheet.source}: {len(sheet)} rows of {len(events.columns)} numbers"
    refuse_beyond_memory(8 * len(sheet) * len(events.columns), what)
    return Coded(events, events.encode({known.column.name: known.values for known in found.known}).numpy())


def parts_of(rows: Rows | Coded) -> Sequence[Column]:
    """Return the columns of a table of several kinds, () of one of numbers alone."""
    return rows.events.parts if isinstance(rows, Coded) else ()


def refuse_target(names: Sequence[str], parts: Sequence[Column], target: str | None, source: str) -> None:
    """Refuse a column to predict that is not there, lacks values or never changes.

    Args:
        names: of the columns.
        parts: what is known of them, as far as they are not just numbers.
        target: the column, None for none.
        source: names the table in messages.

    Raises:
        DataError: why.
    """
    if target is None:
        return
    if target not in names:
        raise DataError(f"{source} has no column {quoted(target)}, the target; it has {listed_near(target, names)}")
    for column in parts:
        if column.name == target and not column.coordinates:
            raise DataError(f"{source}: the target {quoted(target)} never changes; name another column")
        if column.name == target and column.missing:
            raise DataError(
                f"{source}: the target {quoted(target)} is missing in some rows; remove them, or fill them in"
            )


def refuse_wide(sheet: Sheet, width: int, events: Mixed | None = None) -> None:
    """Refuse a sheet of which a row is so many numbers that nothing would end.

    Raises:
        DataError: with the widest column, where it is known what the columns are.
    """
    if width <= WIDEST:
        return
    why = ""
    if events is not None:
        most = max(events.parts, key=lambda part: len(part.coordinates))
        why = f", {len(most.coordinates)} of them of {quoted(most.name)}"
    raise DataError(
        f"{sheet.source}: a row of its {len(sheet.columns)} columns is {width} numbers{why}, and more than {WIDEST} "
        f"take minutes a fit; {'choose some by columns, or ' if sheet.settings else ''}leave some out"
    )


def read_like(path: str, like: Mixed | Vectors, choice: Choice = EVERYTHING) -> np.ndarray:
    """Read a table by the columns of other rows, (N, d) float64: in their units where they are mixed, else the user's.

    Raises:
        DataError: it cannot be read, or has a value that a column cannot have.
    """
    if Path(path).suffix.lower() in ARRAYS and isinstance(like, Vectors):
        rows = read_rows(path, least=1, choice=choice)
        assert isinstance(rows, Rows)
        at = [rows.columns.index(name) for name in matched(rows.columns, like.columns, f"table {quoted(path)}")]
        return rows.values[:, at]
    return like_sheet(chosen(path, choice), like)


def like_sheet(sheet: Sheet, like: Mixed | Vectors) -> np.ndarray:
    """Return the rows of a sheet as :func:`read_like` does.

    Raises:
        DataError: as there.
    """
    if not len(sheet):
        raise DataError(f"{sheet.source} has 0 rows; it needs 1")
    if isinstance(like, Mixed):
        matched(sheet.columns, [part.name for part in like.parts], sheet.source)
        return encoded(sheet, like).numpy()
    sheet = sheet.only(matched(sheet.columns, like.columns, sheet.source))
    return np.column_stack([numbers.values for numbers in strictly_numbers(sheet)])


def matched(columns: Sequence[str], wanted: Sequence[str], source: str) -> Sequence[str]:
    """Return the wanted columns if others are just these.

    Raises:
        DataError: one is missing, or there are more.
    """
    if missing := [name for name in wanted if name not in columns]:
        raise DataError(f"{source} has no column {quoted(missing[0])}; it has {listed_near(missing[0], columns)}")
    if more := [name for name in columns if name not in wanted]:
        raise DataError(
            f"{source} has a column {quoted(more[0])}, which the rows to train on do not have; leave it out"
        )
    return wanted


def index(columns: Sequence[str], values: Callable[[int], np.ndarray], source: str) -> int:
    """Return how many leading columns are an index that pandas wrote: without a name, and numbering the rows.

    Args:
        columns: their names.
        values: maps the position of a column to its numbers (N,), NaN where there is none.
        source: names the table in messages.

    Raises:
        DataError: a column has no name, or the one pandas gives to an index, and is none, or there is no other column.
    """
    first = 0
    while first < len(columns) and _INDEX.fullmatch(columns[first]) and _numbers_rows(values(first)):
        first += 1
    refuse_only_index(list(columns[first:]), source)
    if first < len(columns) and _INDEX.fullmatch(columns[first]) and columns[first]:
        raise DataError(
            f"{source}: column {quoted(columns[first])} is called as an index that pandas wrote, and does not "
            "number the rows; leave it out, or rename it"
        )
    if "" in columns[first:]:
        raise DataError(f"{source}: column {list(columns).index('', first) + 1} has no name; name it")
    return first


def without_index(rows: Rows, source: str) -> Rows:
    """Return rows without leading columns that are an index.

    Raises:
        DataError: as :func:`index`.
    """
    first = index(rows.columns, lambda i: rows.values[:, i], source)
    return replace(rows, columns=rows.columns[first:], values=rows.values[:, first:], dtypes=rows.dtypes[first:])


def _numbers_rows(values: np.ndarray) -> bool:
    """Whether a column has a whole number for every row, and no two rows the same."""
    return bool((values == np.floor(values)).all()) and len(np.unique(values)) == len(values)


def _read(path: str, wanted: list[str] | None, source: str) -> Rows:
    """Read an array, turning every failure into one line."""
    reader = {".npy": _read_npy, ".npz": _read_npz}[Path(path).suffix.lower()]
    try:
        if not Path(path).is_file():
            raise DataError(f"{source} is not a file" if Path(path).exists() else f"{source} does not exist")
        with Path(path).open("rb") as file:
            return reader(file, wanted, source)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error
    except _DAMAGE as error:
        raise damaged(source, quoted(error, 200)) from error


def _read_npy(
    file: IO[bytes], wanted: list[str] | None, source: str, size: int | None = None, packed: int | None = None
) -> Rows:
    """Read one NumPy array; its header is held against its ``size``, also ``packed``, before anything is allocated."""
    size = file.seek(0, io.SEEK_END) if size is None else size
    file.seek(0)
    try:
        shape, _, dtype = read_header(file)
    except UnknownVersion as error:
        raise DataError(f"{source} has NumPy format {error.args[0]}; save a plain 2-D array") from error
    if dtype.kind not in "iuf":
        raise DataError(f"{source} holds {kind_in_words(dtype)}; save an integer or float array")
    if len(shape) != 2 or shape[1] < 1:
        raise DataError(f"{source} has shape {shape}; a 2-D array (rows, columns) is needed")
    refuse_large(math.prod(shape), source)
    if shape[1] > _COLUMNS:
        raise DataError(f"{source} has rows of {shape[1]} numbers; the limit is {_COLUMNS}")
    if packed is not None:
        refuse_bomb(8 * math.prod(shape), packed, source)
    held, promised = size - file.tell(), math.prod(shape) * dtype.itemsize
    if held != promised:
        raise damaged(source, f"its header promises {promised} bytes, it holds {held}")
    names = [f"x{i}" for i in range(shape[1])]
    picked = pick(names, wanted, source)
    file.seek(0)
    values = np.load(file, allow_pickle=False)[:, picked]
    for i, column in zip(picked, values.T, strict=True):
        refuse_rounded(column, f"{source}, column {quoted(names[i])}")
    dtypes = [own_type(dtype)] * len(picked)
    return Rows([names[i] for i in picked], np.ascontiguousarray(values, dtype=np.float64), dtypes=dtypes)


def own_type(dtype: np.dtype[Any]) -> str:
    """Return the name of a number type, of those beyond float64 that of the latter."""
    return dtype.name if dtype.itemsize <= 8 else "float64"


def _read_npz(file: IO[bytes], wanted: list[str] | None, source: str) -> Rows:
    """Read the only array of a NumPy archive; the sizes in its directory bound what is unpacked."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        names = [member.filename.removesuffix(".npy") for member in members]
        if len(members) != 1:
            raise DataError(f"{source} holds {len(members)} arrays, exactly one is needed: {listed(names)}")
        refuse_large(members[0].file_size // 8, source)
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{source} is packed in a way NumPy never uses; save it with numpy.savez")
        with archive.open(members[0]) as member:
            return _read_npy(member, wanted, source, members[0].file_size, members[0].compress_size)


def refuse_bad_values(rows: Rows, source: str, least: int = 3) -> None:
    """Refuse tables too short to split, and NaN and infinity, naming the first.

    Raises:
        DataError: with what is wrong and where.
    """
    if len(rows.values) < least:
        needs = "3, 2 to train on and 1 to hold out" if least == 3 else str(least)
        raise DataError(f"{source} has {len(rows.values)} rows; it needs {needs}")
    bad = ~np.isfinite(rows.values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        value = rows.values[row, column]
        where = f"{source}, {rows.where(row)}, column {quoted(rows.columns[column])}"
        what = "missing (NaN)" if np.isnan(value) else "infinite"
        raise DataError(f"{where}: the value is {what}; remove the row or fill it in")
