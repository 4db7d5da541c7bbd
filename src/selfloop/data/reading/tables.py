"""The user's tables (CSV, NPY, NPZ, Parquet) as rows of numbers.

Files come from outside and are never trusted: nothing in them is executed, sizes are checked before memory is
taken, and every refusal names the file, the row (counted from 1, header apart) and the column.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import tokenize
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from selfloop.core.errors import DataError, listed, quoted
from selfloop.data.reading.delimited import WHOLE, Marks, delimiter, is_beyond, is_number
from selfloop.data.reading.exact import EXACT, refuse_rounded, rounded
from selfloop.data.reading.npy import UnknownVersion, read_header

LIMIT = 2**32
"""The largest table read, in bytes of float64 (4 GiB)."""

_INDEX = re.compile(r"(Unnamed: 0(\.[0-9]+)*)?")  # what pandas calls one without a name, in a file and once read back
_PARQUET_INDEX = re.compile(r"__index_level_[0-9]+__")

_DAMAGE = (ValueError, EOFError, RuntimeError, csv.Error, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
"""What the parsers raise on bytes that are not in their format; the third-last is NumPy's on some headers."""


@dataclass(frozen=True)
class Rows:
    """A table as it stands.

    Attributes:
        columns: their names.
        values: (N, d) float64.
        lines: of text files, the line on which each row ends.
        dtypes: the names of the columns' own number types, as NumPy has them; () where they have none of their own.
    """

    columns: list[str]
    values: np.ndarray
    lines: Sequence[int] | None = None
    dtypes: Sequence[str] = field(default=())

    def where(self, row: int) -> str:
        """Name a row, given from 0, as its reader counts it."""
        return f"row {row + 1}" + (f" (line {self.lines[row]})" if self.lines is not None else "")


def read_rows(path: str, columns: list[str] | None = None, least: int = 3) -> Rows:
    """Read a table: .csv (UTF-8, header line), .npy, .npz (exactly one array) or .parquet, by its ending.

    Fields of a CSV file are separated by commas, semicolons or tabs; beside the latter two a comma may mark decimals.

    Args:
        path: of the file.
        columns: which, in that order; None takes all but an index that pandas wrote. Those of NumPy's 2-D arrays are
            called x0, x1, ….
        least: how many rows there must be; of 3, two train and one is held out.

    Raises:
        DataError: it cannot be read, is too short to split, or has a value that is missing, infinite, or a whole number
            that float64 rounds.
    """
    source = f"table {quoted(path)}"
    rows = _read(path, columns, source)
    rows = without_index(rows, source) if columns is None else rows
    refuse_bad_values(rows, source, least)
    return rows


def without_index(rows: Rows, source: str) -> Rows:
    """Return a table without leading columns that are an index pandas wrote: without a name, and numbering the rows.

    Raises:
        DataError: a column has no name, or the one pandas gives to an index, and is none, or there is no other column.
    """
    first = 0
    while first < len(rows.columns) and _INDEX.fullmatch(rows.columns[first]) and _numbers_rows(rows, first):
        first += 1
    refuse_only_index(rows.columns[first:], source)
    if first < len(rows.columns) and _INDEX.fullmatch(rows.columns[first]) and rows.columns[first]:
        raise DataError(
            f"{source}: column {quoted(rows.columns[first])} is called as an index that pandas wrote, and does not "
            "number the rows; leave it out, or rename it"
        )
    if "" in rows.columns[first:]:
        raise DataError(f"{source}: column {rows.columns.index('', first) + 1} has no name; name it, or set columns")
    return Rows(rows.columns[first:], rows.values[:, first:], rows.lines, rows.dtypes[first:])


def refuse_only_index(others: list[str], source: str) -> None:
    """Refuse a table without columns beside its index."""
    if not others:
        raise DataError(f"{source} has no columns but an index; give it some")


def _numbers_rows(rows: Rows, i: int) -> bool:
    """Whether column i has a whole number for every row, and no two rows the same."""
    values = rows.values[:, i]
    return bool((values == np.floor(values)).all()) and len(np.unique(values)) == len(values)


def _read(path: str, wanted: list[str] | None, source: str) -> Rows:
    """Read a table by the ending of its name, turning every failure into one line."""
    readers = {".csv": _read_csv, ".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        raise DataError(f"{source}: the ending must be one of {', '.join(readers)}")
    try:
        if not Path(path).is_file():
            raise DataError(f"{source} is not a file" if Path(path).exists() else f"{source} does not exist")
        with Path(path).open("rb") as file:
            return reader(file, wanted, source)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text; save it as UTF-8") from error
    except _DAMAGE as error:
        raise _damaged(source, quoted(error, 200)) from error


def _damaged(source: str, why: str) -> DataError:
    return DataError(f"{source} is damaged or not what its ending says ({why}); save it again")


def _pick(names: Sequence[str], wanted: list[str] | None, source: str) -> list[int]:
    """Return the positions of the wanted columns; refuse names that are repeated among them, or absent."""
    if wanted is not None:
        refuse_repeated(wanted, f"{source}: column {{}} is named twice in the setting columns; names must differ")
    if absent := [name for name in wanted or () if name not in names]:
        raise DataError(f"{source} has no column {quoted(absent[0])}; it has {listed(names)}")
    used = [name for name in names if (name if wanted is None else name in wanted)]
    refuse_repeated(used, f"{source}: column {{}} is named twice in the file; rename one, or leave both out")
    return list(range(len(names))) if wanted is None else [names.index(name) for name in wanted]


def refuse_repeated(names: Iterable[str], message: str) -> None:
    """Refuse names that are repeated; the first goes into the message."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(message.format(quoted(twice[0])))


def _refuse_large(count: int, source: str) -> None:
    if count * 8 > LIMIT:
        raise DataError(f"{source} holds {count} numbers; the limit is {LIMIT // 8}, 4 GiB of float64")


def _read_csv(file: IO[bytes], wanted: list[str] | None, source: str) -> Rows:
    """Read separated UTF-8 text, with the csv module because it knows the line of an error."""
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        separator = delimiter(text, source)
        text.seek(0)
        return _parse_csv(csv.reader(text, strict=True, delimiter=separator), wanted, source, Marks(separator))


def _parse_csv(reader: Any, wanted: list[str] | None, source: str, marks: Marks) -> Rows:
    names = [name.strip() for name in next(filter(None, reader), [])]
    if not names:
        raise DataError(f"{source} is empty; a header line with the column names is needed")
    if all(is_number(name) for name in names):
        raise DataError(f"{source}: line {reader.line_num} is all numbers; put the column names above it")
    picked = _pick(names, wanted, source)
    values, lines, whole = array("d"), array("q"), picked
    for fields in filter(None, reader):  # None: skip blank lines
        lines.append(reader.line_num)
        try:
            if len(fields) != len(names) or "_" in (text := "".join([fields[i] for i in picked])):
                raise ValueError  # float() would read 1_000
            row = [float(fields[i]) for i in picked]
            marks.point = marks.point or "." in text
        except ValueError:
            where = f"{source}, row {len(lines)} (line {reader.line_num})"
            if len(fields) != len(names):
                hint = "; decimals need a point" if marks.separator == "," and len(fields) > len(names) else ""
                raise DataError(
                    f"{where} has {len(fields)} fields under {len(names)} column names; correct the row{hint}"
                ) from None
            row = [marks.number(fields[i], f"{where}, column {quoted(names[i])}") for i in picked]
        if max(row) >= EXACT or min(row) <= -EXACT:
            for i in picked:
                if is_beyond(fields[i]):
                    raise rounded(f"{source}, row {len(lines)} (line {reader.line_num}), column {quoted(names[i])}")
        whole = [i for i in whole if WHOLE.fullmatch(fields[i])]
        values.extend(row)
        _refuse_large(len(values), source)
    marks.settle()
    dtypes = ["int64" if i in whole else "float64" for i in picked]
    return Rows([names[i] for i in picked], np.array(values).reshape(-1, len(picked)), lines, dtypes)


def _read_npy(file: IO[bytes], wanted: list[str] | None, source: str, size: int | None = None) -> Rows:
    """Read one NumPy array; its header is held against its ``size`` in bytes before anything is allocated."""
    size = file.seek(0, io.SEEK_END) if size is None else size
    file.seek(0)
    try:
        shape, _, dtype = read_header(file)
    except UnknownVersion as error:
        raise DataError(f"{source} has NumPy format {error.args[0]}; save a plain 2-D array") from error
    if dtype.kind not in "iuf":
        raise DataError(f"{source} holds {quoted(dtype)}, not numbers; save an integer or float array")
    if len(shape) != 2 or shape[1] < 1:
        raise DataError(f"{source} has shape {shape}; a 2-D array (rows, columns) is needed")
    _refuse_large(math.prod(shape), source)
    held, promised = size - file.tell(), math.prod(shape) * dtype.itemsize
    if held != promised:
        raise _damaged(source, f"its header promises {promised} bytes, it holds {held}")
    names = [f"x{i}" for i in range(shape[1])]
    picked = _pick(names, wanted, source)
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
        _refuse_large(members[0].file_size // 8, source)
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{source} is packed in a way NumPy never uses; save it with numpy.savez")
        with archive.open(members[0]) as member:
            return _read_npy(member, wanted, source, members[0].file_size)


def _read_parquet(file: IO[bytes], wanted: list[str] | None, source: str) -> Rows:
    """Read the numeric columns of a Parquet file; nulls come back as NaN."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        if wanted is None and (index := _index(schema)) & set(schema.names):
            wanted = [name for name in schema.names if name not in index]
            refuse_only_index(wanted, source)
        names = [schema.names[i] for i in _pick(schema.names, wanted, source)]
        for name in names:
            kind, is_a = schema.field(name).type, pa.types
            if not (is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind)):
                what = f"column {quoted(name)} is not numeric but {quoted(kind)}"
                raise DataError(f"{source}: {what}; leave it out")
        _refuse_large(parquet.metadata.num_rows * max(len(names), 1), source)
        table = parquet.read(columns=names).select(names)
        values, dtypes = np.empty((table.num_rows, len(names))), []
        for i, name in enumerate(names):
            values[:, i] = _floats(table.column(name), f"{source}, column {quoted(name)}")
            kind = schema.field(name).type
            dtypes.append("float64" if pa.types.is_decimal(kind) else np.dtype(kind.to_pandas_dtype()).name)
    except pa.ArrowException as error:
        raise _damaged(source, quoted(error, 200)) from error
    return Rows(names, values, dtypes=dtypes)


def _index(schema: Any) -> set[str]:
    """Return the names of the columns of a Parquet file that pandas wrote as an index."""
    try:
        noted = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, ValueError, TypeError, RecursionError):  # others than pandas may write anything there
        noted = []
    named = {name for name in noted if isinstance(name, str)} if isinstance(noted, list) else set()
    return named | {name for name in schema.names if _PARQUET_INDEX.fullmatch(name)}


def _floats(column: Any, where: str) -> np.ndarray:
    """Return an Arrow column as float64, (N,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if len(column) and (pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale <= 0)):
        ends = pc.min_max(column).as_py()
        if any(end is not None and abs(end) > EXACT for end in ends.values()):
            raise rounded(where)
    return np.asarray(column.cast("float64", safe=False).to_numpy())


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
