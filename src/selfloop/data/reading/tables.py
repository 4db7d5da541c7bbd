"""The user's tables (CSV, NPY, NPZ, Parquet) as rows of numbers.

Files come from outside and are never trusted: nothing in them is executed, sizes are checked before memory is
taken, and every refusal names the file, the row (counted from 1, header apart) and the column.
"""

from __future__ import annotations

import csv
import io
import math
import tokenize
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from selfloop.core.errors import DataError, quoted
from selfloop.data.reading.npy import UnknownVersion, read_header

LIMIT = 2**32
"""The largest table read, in bytes of float64 (4 GiB)."""

_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})

_DAMAGE = (ValueError, EOFError, RuntimeError, csv.Error, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
"""What the parsers raise on bytes that are not in their format; the third-last is NumPy's on some headers."""


@dataclass(frozen=True)
class Rows:
    """A table as it stands.

    Attributes:
        columns: their names.
        values: (N, d) float64.
        lines: of text files, the line on which each row ends.
    """

    columns: list[str]
    values: np.ndarray
    lines: Sequence[int] | None = None

    def where(self, row: int) -> str:
        """Name a row, given from 0, as its reader counts it."""
        return f"row {row + 1}" + (f" (line {self.lines[row]})" if self.lines is not None else "")


def read_rows(path: str, columns: list[str] | None = None, least: int = 3) -> Rows:
    """Read a table: .csv (UTF-8, commas, header line), .npy, .npz (exactly one array) or .parquet, by its ending.

    Args:
        path: of the file.
        columns: which, in that order; None takes all. Those of NumPy's 2-D arrays are called x0, x1, ….
        least: how many rows there must be; of 3, two train and one is held out.

    Raises:
        DataError: it cannot be read, is too short to split, or has a value that is missing or infinite.
    """
    source = f"table {quoted(path)}"
    rows = _read(path, columns, source)
    refuse_bad_values(rows, source, least)
    return rows


def read_table(path: str) -> np.ndarray:
    """Return all columns of a table as they stand, (N, d) float64; for what is read see :func:`read_rows`.

    Raises:
        DataError: it cannot be read, is too short, or has a value that is missing or infinite.
    """
    return read_rows(path).values


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
    """Return the positions of the wanted columns; refuse names that are repeated, empty or absent."""
    for place, given in (("in the file", names), ("in the setting columns", wanted or ())):
        if twice := [name for name, count in Counter(given).items() if count > 1]:
            raise DataError(f"{source}: column {quoted(twice[0])} is named twice {place}; names must differ")
    if wanted is None:
        if "" in names:
            raise DataError(f"{source}: column {names.index('') + 1} has no name; name it, or set columns")
        return list(range(len(names)))
    if absent := [name for name in wanted if name not in names]:
        raise DataError(f"{source} has no column {quoted(absent[0])}; it has {listed(names)}")
    return [names.index(name) for name in wanted]


def listed(names: Iterable[str]) -> str:
    """Return the first few names, quoted."""
    shown = [quoted(name, 40) for name in names]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def _refuse_large(count: int, source: str) -> None:
    if count * 8 > LIMIT:
        raise DataError(f"{source} holds {count} numbers; the limit is {LIMIT // 8}, 4 GiB of float64")


def _read_csv(file: IO[bytes], wanted: list[str] | None, source: str) -> Rows:
    """Read comma-separated UTF-8 text, with the csv module because it knows the line of an error."""
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        return _parse_csv(csv.reader(text, strict=True), wanted, source)


def _parse_csv(reader: Any, wanted: list[str] | None, source: str) -> Rows:
    names = [name.strip() for name in next(filter(None, reader), [])]
    if not names:
        raise DataError(f"{source} is empty; a header line with the column names is needed")
    if all(_is_number(name) for name in names):
        raise DataError(f"{source}: line {reader.line_num} is all numbers; put the column names above it")
    picked = _pick(names, wanted, source)
    values, lines = array("d"), array("q")
    for fields in filter(None, reader):  # None: skip blank lines
        lines.append(reader.line_num)
        try:
            if len(fields) != len(names) or "_" in "".join(fields):  # float() would read 1_000
                raise ValueError
            values.extend([float(fields[i]) for i in picked])
        except ValueError:
            where = f"{source}, row {len(lines)} (line {reader.line_num})"
            if len(fields) != len(names):
                raise DataError(
                    f"{where} has {len(fields)} fields under {len(names)} column names; correct the row"
                ) from None
            values.extend([_number(fields[i], f"{where}, column {quoted(names[i])}") for i in picked])
        _refuse_large(len(values), source)
    return Rows([names[i] for i in picked], np.array(values).reshape(-1, len(picked)), lines)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _number(text: str, where: str) -> float:
    """Return the number a field holds, or say what is wrong with it."""
    if _is_number(text):
        return float(text)
    if text.strip().lower() in _MISSING:
        raise DataError(f"{where}: the value is missing; remove the row or fill it in")
    raise DataError(f"{where}: {quoted(text, 40)} is not a number; correct it or leave the column out")


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
    return Rows([names[i] for i in picked], np.ascontiguousarray(values, dtype=np.float64))


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
        names = [schema.names[i] for i in _pick(schema.names, wanted, source)]
        for name in names:
            kind, is_a = schema.field(name).type, pa.types
            if not (is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind)):
                what = f"column {quoted(name)} is not numeric but {quoted(kind)}"
                raise DataError(f"{source}: {what}; leave it out")
        _refuse_large(parquet.metadata.num_rows * max(len(names), 1), source)
        table = parquet.read(columns=names).select(names)
        values = np.empty((table.num_rows, len(names)))
        for i, name in enumerate(names):
            values[:, i] = _floats(table.column(name))
    except pa.ArrowException as error:
        raise _damaged(source, quoted(error, 200)) from error
    return Rows(names, values)


def _floats(column: Any) -> np.ndarray:
    """Return an Arrow column as float64, (N,); integers beyond 2⁵³ are rounded as everywhere in NumPy."""
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
