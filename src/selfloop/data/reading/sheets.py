"""Tables of any columns, as their files or data frames hold them: CSV, Parquet, Feather, SQLite, pandas, polars.

Files come from outside and are never trusted: nothing in them is executed, sizes are checked before memory is taken,
and every refusal names the file, the row (counted from 1, header apart) and the column.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import sqlite3
import time
import urllib.parse
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from selfloop.core.columns import is_number
from selfloop.core.errors import DataError, listed, listed_near, quoted
from selfloop.core.forms import Form
from selfloop.data.reading.delimited import delimiter
from selfloop.data.reading.delimited import lines as bounded_lines
from selfloop.data.reading.exact import rounded
from selfloop.data.reading.feather import unpacked_size
from selfloop.data.reading.unpacked import refuse_bomb

LIMIT = 2**32
"""The largest table read, in bytes of float64 (4 GiB)."""

TEXTS, COLUMNS = (".csv", ".tsv"), (".parquet", ".feather", ".arrow", ".ipc")
DATABASES = (".db", ".sqlite", ".sqlite3")
ENDINGS = (*TEXTS, *COLUMNS, *DATABASES)
"""Of the names of files: text, columns by their types, and databases."""

_PARQUET_INDEX = re.compile(r"__index_level_[0-9]+__")
_COLUMNS = 2**16  # that are read
_CHUNK = 2**16  # rows that are text of Python's at once
_LARGE, _BLOCK = 2**24, 2**24  # bytes of a text beyond which Arrow reads it, and of it at once
_PATIENCE, _AT_A_TIME = 60.0, 5.0  # seconds that a database may take for a query, and for rows of a table of its own
_VALUE, _ROWS, _OBJECT = 2**23, 64, 64  # bytes of a value of a database; rows that are fetched at once; bytes of any
_DAMAGE = (ValueError, EOFError, RuntimeError, csv.Error)


@dataclass(frozen=True)
class Sheet:
    """A table as it stands.

    Attributes:
        source: names it in messages.
        columns: their names.
        values: of every column an Arrow array (N,): of text files what stands there, of others of their types.
        form: of the file.
        lines: of text files, the line on which each row ends.
        settings: whether whoever gave it may set which columns are taken, and as what.
    """

    source: str
    columns: list[str]
    values: list[Any]
    form: Form
    lines: Sequence[int] | None = None
    settings: bool = True

    def __len__(self) -> int:
        return len(self.values[0]) if self.values else 0

    def where(self, row: int) -> str:
        """Name a row, given from 0, as its reader counts it."""
        return f"row {row + 1}" + (f" (line {self.lines[row]})" if self.lines is not None else "")

    def digest(self) -> str:
        """Return the SHA-256 of what stands there."""
        import pyarrow as pa

        table = pa.table(dict(zip(self.columns, self.values, strict=True)))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table.combine_chunks())
        return hashlib.sha256(sink.getvalue()).hexdigest()

    def only(self, columns: Sequence[str]) -> Sheet:
        """Return some of the columns, in that order."""
        at = [self.columns.index(name) for name in columns]
        return replace(self, columns=list(columns), values=[self.values[i] for i in at])


def read_sheet(
    path: str,
    wanted: list[str] | None = None,
    table: str | None = None,
    query: str | None = None,
    settings: bool = True,
) -> Sheet:
    """Read a table by the ending of its name.

    Text has a header line and is UTF-8; its fields are separated by commas, semicolons, tabs, bars, spaces or another
    mark. Of a database it is one table, or what a query returns that only reads.

    Args:
        path: of the file.
        wanted: columns, in that order; None takes all but what pandas noted as an index.
        table, query: of a database; its only table where neither is given.
        settings: as of a sheet.

    Raises:
        DataError: it cannot be read.
    """
    source, ending = f"table {quoted(path)}", Path(path).suffix.lower()
    if (table or query) and ending not in DATABASES:
        raise DataError(f"{source}: table and query are of databases, whose names end in {', '.join(DATABASES)}")
    if ending not in ENDINGS:
        raise DataError(f"{source}: the ending must be one of {', '.join((*ENDINGS, '.npy', '.npz'))}")
    try:
        if not Path(path).is_file():
            raise DataError(f"{source} is not a file" if Path(path).exists() else f"{source} does not exist")
        if ending in DATABASES:
            sheet = _read_database(path, wanted, source, table, query, settings)
        else:
            with Path(path).open("rb") as file:
                sheet = (_read_text if ending in TEXTS else _read_columns)(file, wanted, source, ending)
        return replace(sheet, settings=settings)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text; save it as UTF-8") from error
    except _DAMAGE as error:
        raise damaged(source, quoted(error, 200)) from error


def damaged(source: str, why: str) -> DataError:
    """Return the refusal of a file that is not what its ending says."""
    return DataError(f"{source} is damaged or not what its ending says ({why}); save it again")


def pick(names: Sequence[str], wanted: list[str] | None, source: str) -> list[int]:
    """Return the positions of the wanted columns.

    Raises:
        DataError: names are repeated among them, or absent.
    """
    if wanted is not None:
        refuse_repeated(wanted, f"{source}: column {{}} is named twice in the setting columns; names must differ")
    if absent := [name for name in wanted or () if name not in names]:
        raise DataError(f"{source} has no column {quoted(absent[0])}; it has {listed_near(absent[0], names)}")
    used = [name for name in names if (name if wanted is None else name in wanted)]
    refuse_repeated(used, f"{source}: column {{}} is named twice in the file; rename one, or leave both out")
    return list(range(len(names))) if wanted is None else [names.index(name) for name in wanted]


def _few(picked: list[int], source: str) -> list[int]:
    """Return the positions of columns, which are not so many that to read them alone takes for ever.

    Raises:
        DataError: they are.
    """
    if len(picked) > _COLUMNS:
        raise DataError(f"{source} has {len(picked)} columns, and more than {_COLUMNS} are not read; choose some")
    return picked


def refuse_repeated(names: Iterable[str], message: str) -> None:
    """Refuse names that are repeated; the first goes into the message."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(message.format(quoted(twice[0])))


def refuse_large(count: int, source: str) -> None:
    """Refuse a table of more numbers than are read."""
    if count * 8 > LIMIT:
        raise DataError(f"{source} holds {count} numbers; the limit is {LIMIT // 8}, 4 GiB of float64")


def refuse_only_index(others: list[str], source: str) -> None:
    """Refuse a table without columns beside its index."""
    if not others:
        raise DataError(f"{source} has no columns but an index; give it some")


def _read_text(file: IO[bytes], wanted: list[str] | None, source: str, ending: str) -> Sheet:
    """Read separated UTF-8 text, with the csv module because it knows the line of an error."""
    import pyarrow as pa

    begin = file.read(1 << 16)
    file.seek(0)
    newline, mark = "\r\n" if b"\r\n" in begin else "\n", begin.startswith(b"\xef\xbb\xbf")
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        separator = delimiter(text, source)
        text.seek(0)
        held = bounded_lines(text, source)
        lines_of: Iterable[str] = held if separator != " " else (line.rstrip(" \r\n") + "\n" for line in held)
        dialect: dict[str, Any] = {"strict": True, "delimiter": separator}
        dialect["skipinitialspace"] = _blank_follows(separator, text)
        text.seek(0)
        reader = csv.reader(lines_of, **dialect)
        names = [name.strip() for name in next(filter(None, reader), [])]
        if not names:
            raise DataError(f"{source} is empty; a header line with the column names is needed")
        if all(is_number(name) for name in names):
            raise DataError(f"{source}: line {reader.line_num} is all numbers; put the column names above it")
        picked, lines = _few(pick(names, wanted, source), source), array("q")
        form = Form(ending=ending, separator=separator, newline=newline, mark=mark)
        if separator != " " and os.fstat(file.fileno()).st_size > _LARGE:
            found = _by_arrow(file, dialect, reader.line_num, len(names), picked)
            if found is not None:
                refuse_large(len(found[0]) * len(picked), source)
                return Sheet(source, [names[i] for i in picked], found, form)
            text.seek(0)
            held = bounded_lines(text, source)
            for _ in range(reader.line_num):
                next(held)
            reader = csv.reader(held, **dialect)
        chunks: list[list[Any]] = [[] for _ in picked]
        for rows in _batches(reader, len(names), separator, lines, source):
            refuse_large(len(lines) * len(picked), source)
            columns = list(zip(*rows, strict=True))
            for chunk, i in zip(chunks, picked, strict=True):
                chunk.append(pa.array(columns[i], pa.large_string()))
    values = [pa.chunked_array(chunk, pa.large_string()) for chunk in chunks]
    return Sheet(source, [names[i] for i in picked], values, form, lines)


def _blank_follows(separator: str, text: IO[str]) -> bool:
    """Whether blanks after separators belong to them: the separator is one, or all in the header have one behind."""
    header = text.readline().rstrip("\r\n")
    return separator == " " or 0 < header.count(separator) == header.count(f"{separator} ")


def _by_arrow(
    file: IO[bytes], dialect: Mapping[str, Any], skip: int, width: int, picked: Sequence[int]
) -> list[Any] | None:
    """Return columns of a large text as Arrow's reader finds them, in a tenth of the time; None where it may err.

    It knows no lines, and takes quotes less strictly: what has any left in its fields is read by the csv module.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    names = [str(i) for i in range(width)]
    file.seek(0)
    try:
        table = pa.csv.read_csv(
            file,
            read_options=pa.csv.ReadOptions(column_names=names, skip_rows=skip, block_size=_BLOCK),
            parse_options=pa.csv.ParseOptions(delimiter=dialect["delimiter"], newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()),
                include_columns=[names[i] for i in picked],
                null_values=[],
            ),
        )
    except pa.ArrowException:  # the csv module says what is wrong, and where
        return None
    quotes = any(pc.any(pc.match_substring(column, '"')).as_py() for column in table.columns)
    if quotes:
        return None
    return [pc.utf8_ltrim(each, " ") for each in table.columns] if dialect["skipinitialspace"] else list(table.columns)


def _batches(reader: Any, width: int, separator: str, lines: array[int], source: str) -> Iterator[list[list[str]]]:
    """Yield rows of fields, many at once, and note on which line each ends."""
    rows: list[list[str]] = []
    for fields in filter(None, reader):  # None: skip blank lines
        lines.append(reader.line_num)
        if len(fields) != width:
            hint = "; decimals need a point" if separator == "," and len(fields) > width else ""
            raise DataError(
                f"{source}, row {len(lines)} (line {reader.line_num}) has {len(fields)} fields under {width} column "
                f"names; correct the row{hint}"
            )
        rows.append(fields)
        if len(rows) == _CHUNK:
            yield rows
            rows = []
    if rows:
        yield rows


def _read_columns(file: IO[bytes], wanted: list[str] | None, source: str, ending: str) -> Sheet:
    """Read a Parquet or Feather file."""
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet as pq

    size = os.fstat(file.fileno()).st_size
    try:
        if ending == ".parquet":
            parquet = pq.ParquetFile(file)
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
            groups = (parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups))
            refuse_bomb(sum(group.total_byte_size for group in groups), size, source)
        else:
            content = file.read()
            refuse_bomb(unpacked_size(content), size, source)
            feather = pa.ipc.open_file(pa.BufferReader(content))
            schema = feather.schema
            rows = sum(feather.get_batch(i).num_rows for i in range(feather.num_record_batches))
        wanted = _without_noted_index(schema, wanted, source)
        names = [schema.names[i] for i in _few(pick(schema.names, wanted, source), source)]
        refuse_large(rows * max(len(names), 1), source)
        refuse_bomb(8 * rows * len(names), size, source)
        found = _of_parquet(file, schema, names, size, source) if ending == ".parquet" else feather.read_all()
        found = found.select(names)
        found.validate(full=True)  # offsets and UTF-8, which what follows takes for sound
        return of_arrow(found, source, ending)
    except (pa.ArrowException, ValueError) as error:
        raise damaged(source, quoted(error, 200)) from error


def _of_parquet(file: IO[bytes], schema: Any, names: Sequence[str], size: int, source: str) -> Any:
    """Return columns of a Parquet file, in which one long word may be there a million times and take a few bytes.

    Raises:
        DataError: their words would take more memory than a file of its size has use for.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    is_a = pa.types
    words = [
        field.name
        for field in schema
        if is_a.is_string(field.type) or is_a.is_large_string(field.type) or is_a.is_binary(field.type)
    ]
    file.seek(0)
    found = pq.ParquetFile(file, read_dictionary=words).read(columns=names)
    total = 0
    for i, name in enumerate(found.column_names):
        if name not in words or not is_a.is_dictionary(found.column(i).type):
            continue
        for chunk in found.column(i).chunks:
            lengths = pc.binary_length(chunk.dictionary)
            total += pc.sum(lengths.take(chunk.indices).cast("int64")).as_py() or 0
        refuse_bomb(total, size, source)
    for i, name in enumerate(found.column_names):
        if name in words and is_a.is_dictionary(found.column(i).type):
            found = found.set_column(i, schema.field(name), found.column(i).cast(schema.field(name).type))
    return found


def of_arrow(table: Any, source: str, ending: str) -> Sheet:
    """Return an Arrow table as a sheet."""
    table = _categories_of_pandas(table)
    kept = table.schema.with_metadata(_types_of_pandas(table.schema))
    schema = base64.b64encode(kept.serialize().to_pybytes()).decode()
    return Sheet(source, list(table.column_names), list(table.columns), Form(ending=ending, schema=schema))


def _categories_of_pandas(table: Any) -> Any:
    """Return a table with all categories that pandas has noted; Parquet holds what are no words as plain values."""
    import pyarrow as pa

    for each in _noted(table.schema).get("columns", ()):
        i = table.column_names.index(each["field_name"])
        column = table.column(i)
        if each.get("pandas_type") == "categorical" and not pa.types.is_dictionary(column.type):
            table = table.set_column(i, each["field_name"], column.dictionary_encode())
    return table


def _types_of_pandas(schema: Any) -> dict[bytes, bytes] | None:
    """Return what pandas has noted of the types of columns, such as whole numbers with gaps, without its index."""
    noted = _noted(schema)
    return {b"pandas": json.dumps(noted | {"index_columns": []}).encode()} if noted else None


def _noted(schema: Any) -> dict[str, Any]:
    """Return what pandas has noted of a table, of the columns that are there; nothing where it has not."""
    try:
        noted: dict[str, Any] = json.loads((schema.metadata or {})[b"pandas"])
        return noted | {"columns": [each for each in noted["columns"] if each["field_name"] in schema.names]}
    except (KeyError, ValueError, TypeError, RecursionError):  # others than pandas may write anything there
        return {}


def _without_noted_index(schema: Any, wanted: list[str] | None, source: str) -> list[str] | None:
    if wanted is None and (index := _index(schema)) & set(schema.names):
        wanted = [name for name in schema.names if name not in index]
        refuse_only_index(wanted, source)
    return wanted


def _index(schema: Any) -> set[str]:
    """Return the names of the columns of a Parquet file that pandas wrote as an index."""
    noted = _noted(schema).get("index_columns")
    named = {name for name in noted if isinstance(name, str)} if isinstance(noted, list) else set()
    return named | {name for name in schema.names if _PARQUET_INDEX.fullmatch(name)}


_READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)


def _read_database(
    path: str, wanted: list[str] | None, source: str, table: str | None, query: str | None, settings: bool
) -> Sheet:
    """Read one table of a SQLite database, or what a query returns, which may do nothing but read, for so long."""

    if table is not None and query is not None:
        raise DataError(f"{source}: give table or query, not both")
    address = f"file:{urllib.parse.quote(str(Path(path).absolute()))}?mode=ro"
    given, patience = query, _PATIENCE if query is not None else _AT_A_TIME
    end, size, total = time.monotonic() + patience, Path(path).stat().st_size, 0
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            if query is None:
                names = [name for (name,) in database.execute(_TABLES)]
                if table is None and len(names) != 1:
                    which = f"set table to one of {listed(names) or 'none'}" if settings else "give one that holds one"
                    raise DataError(f"{source} holds {len(names)} tables: {which}")
                table = names[0] if table is None else table
                if table not in names:
                    raise DataError(f"{source} has no table {quoted(table)}; it has {listed_near(table, names)}")
                query = f'SELECT * FROM "{table.replace(chr(34), chr(34) * 2)}"'
            elif not re.match(r"\s*(select|with)\b", query, re.IGNORECASE):
                raise DataError(f"{source}: query {quoted(query)} must be a SELECT, with or without WITH before it")
            database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY)
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE)
            database.set_progress_handler(lambda: time.monotonic() > end, 100_000)
            cursor = database.execute(query)
            header = [column[0] for column in cursor.description]
            picked, rows = pick(header, wanted, source), []
            while batch := cursor.fetchmany(_ROWS):
                rows += batch
                total += sum(_OBJECT + (len(x) if isinstance(x, str | bytes) else 0) for row in batch for x in row)
                refuse_large(len(rows) * len(picked), source)
                refuse_bomb(total, size, source)
                if given is None:
                    end = time.monotonic() + patience
    except sqlite3.OperationalError as error:
        late = f"took longer than {patience:.0f} seconds" if "interrupted" in str(error) else quoted(error, 200)
        raise DataError(f"{source} cannot be read: {late}") from error
    except (sqlite3.Warning, sqlite3.ProgrammingError) as error:
        why = "holds several statements" if "one statement" in str(error) else f"cannot be run ({quoted(error, 200)})"
        raise DataError(f"{source}: query {quoted(query)} {why}; give one SELECT") from error
    except sqlite3.DatabaseError as error:
        if "not authorized" in str(error) or "prohibited" in str(error):
            raise DataError(f"{source}: query {quoted(query)} does more than read; give a SELECT") from error
        raise damaged(source, quoted(error, 200)) from error
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    sheet = of_python({header[i]: columns[i] for i in picked}, source, Path(path).suffix.lower())
    return replace(sheet, form=replace(sheet.form, table=table or "selfloop"))


_TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name"


def of_python(columns: Mapping[str, Any], source: str, ending: str) -> Sheet:
    """Return columns of Python's values as a sheet.

    Raises:
        DataError: the values of a column are of several types.
    """
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            arrays[name] = _of_one_type(list(values), f"{source}{{}}, column {quoted(name)}", error)
    return of_arrow(pa.table(arrays), source, ending)


def _of_one_type(values: list[Any], where: str, error: Exception) -> Any:
    """Return values that Arrow does not take as they are: whole numbers among floats; refuse others.

    Raises:
        DataError: they are of several types, or whole numbers beyond what 64 bits hold.
    """
    import pyarrow as pa

    kinds: dict[type, int] = {}
    for row, value in enumerate(values):
        if value is not None and value == value:
            kinds.setdefault(type(value), row)
    if {*kinds} == {int}:
        raise rounded(where.format("")) from error
    if {*kinds} == {int, float}:
        return pa.array([None if value is None else float(value) for value in values])
    if len(kinds) < 2:
        raise DataError(f"{where.format('')} cannot be read ({quoted(error, 120)}); leave it out") from error
    (one, _), (other, row) = sorted(kinds.items(), key=lambda kind: kind[1])[:2]
    raise DataError(
        f"{where.format(f', row {row + 1}')}: {quoted(values[row], 40)} is {other.__name__}, and values above are "
        f"{one.__name__}; make them one type, or leave the column out"
    ) from error
