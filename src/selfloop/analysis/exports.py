"""Where a set of events goes: pictures, a table."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from selfloop.analysis.sources import EventSet
from selfloop.core.columns import no_formula
from selfloop.core.errors import DataError
from selfloop.core.events import Mixed, Text, Vectors
from selfloop.core.files import write_bytes
from selfloop.core.forms import Form
from selfloop.data.reading.times import dated, times_in_words

_ROUNDING = 1e-9  # of a column's range: by how much restored numbers may be beyond its bounds and still count as within


def write_pictures(
    images: Tensor | None,
    folder: Path,
    progress: Callable[[int], None] = lambda done: None,
    labels: Tensor | None = None,
) -> None:
    """Write uint8 (N, 1 or 3, H, W) images as 000000.png, 000001.png, … into a folder, there whole at the end.

    Their classes (N,), where they have some, are in ``dataset.json`` as EDM's data sets have it, which ``image_files``
    reads with ``labels: true``.

    Raises:
        DataError: these are no images, or there is something in the folder.
    """
    if images is None:
        raise DataError(
            f"{str(folder)!r}: there are no pictures to write, this run's events are none; name a file such as rows.csv"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{str(folder)!r} is there already: give the name of a new directory")
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for i, image in enumerate(images.numpy()):
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(hidden / f"{i:06d}.png")
            progress(i + 1)
        if labels is not None:
            rows = [[f"{i:06d}.png", label] for i, label in enumerate(labels.tolist())]
            (hidden / "dataset.json").write_text(json.dumps({"labels": rows}), encoding="utf-8")
        hidden.chmod(0o755)
        hidden.rename(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def write_table(rows: EventSet, path: Path, form: str = "") -> int:
    """Write rows in the form of the user's own table: its units, types, bounds, marks and ways to write times.

    Text is a column of a table, a field of JSON Lines, or, in a text file, a line.

    Args:
        rows: them.
        path: of a file that is not there yet.
        form: "csv", "parquet", "feather" or "sqlite", which the ending of the path must be of; "" is whatever it names.

    Returns:
        How many numbers lay beyond the bounds and are written as the nearest within.

    Raises:
        DataError: these are no rows of a table, the file is there already, its ending does not name the form, or text
            that holds newlines is to be lines.
    """
    if not isinstance(rows.events, Vectors | Mixed | Text):
        raise DataError(
            f"{str(path)!r}: there are no rows of numbers to write, this run's events are images; use --png"
        )
    forms = _FORMS | _OF_TEXT if isinstance(rows.events, Text) else _FORMS
    endings = [ending for ending, named in forms.items() if form in ("", named)]
    if path.suffix.lower() not in endings:
        raise DataError(f"{str(path)!r}: the ending must be one of {', '.join(endings)}")
    form = forms[path.suffix.lower()]
    if path.exists() or path.is_symlink():
        raise DataError(f"{str(path)!r} is there already: give the name of a new file")
    own = rows.events.form
    columns = {name: dated(column, own.types().get(name)) for name, column in rows.events.table(rows.x).items()}
    writers = {"csv": _csv, "parquet": _parquet, "feather": _feather, "sqlite": _sqlite} | {
        "lines": _lines,
        "jsonl": _json_lines,
    }
    content = writers[form](columns, own)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return _beyond(rows.events, rows.x) if isinstance(rows.events, Vectors) else 0


_FORMS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".feather": "feather", ".arrow": "feather"} | {
    ".ipc": "feather",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
}


_OF_TEXT = {".txt": "lines", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def _lines(columns: dict[str, np.ndarray], form: Form) -> bytes:
    (texts,) = columns.values()
    if any("\n" in text for text in texts):
        raise DataError("some texts hold newlines, and a text file has one a line: write JSON Lines, as rows.jsonl")
    return "".join(f"{text}\n" for text in texts).encode()


def _json_lines(columns: dict[str, np.ndarray], form: Form) -> bytes:
    ((name, texts),) = columns.items()
    return "".join(f"{json.dumps({name: text}, ensure_ascii=False)}\n" for text in texts).encode()


def _beyond(events: Vectors, x: Tensor) -> int:
    if not events.numbers:
        return 0
    low = torch.tensor([own.low for own in events.numbers], dtype=torch.float64)
    high = torch.tensor([own.high for own in events.numbers], dtype=torch.float64)
    whole = torch.tensor([np.dtype(own.dtype).kind in "iu" for own in events.numbers])
    restored, slack = events.restore(x), torch.where(whole, 0.5, _ROUNDING * (high - low))
    return int(((restored < low - slack) | (restored > high + slack)).sum())


def _csv(columns: dict[str, np.ndarray], form: Form) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=form.newline, delimiter=form.separator)
    writer.writerow([no_formula(name) for name in columns])
    cells = (_cells(column, name, form) for name, column in columns.items())
    writer.writerows(zip(*cells, strict=True))
    return ("\ufeff" if form.mark else "").encode() + text.getvalue().encode()


def _cells(column: np.ndarray, name: str, form: Form) -> list[str]:
    """Return values as text: nothing where one is missing, numbers with the file's marks and decimals, its times."""
    if column.dtype.kind == "M":
        return times_in_words(column, name, form)
    places = form.places.get(name)
    if column.dtype.kind != "O" and places is None:
        texts: list[str] = column.astype(str).tolist()
        return [text.replace(".", form.decimal) for text in texts] if form.decimal != "." else texts
    return [_cell(value, form.decimal, places) for value in column.tolist()]


def _cell(value: Any, decimal: str, places: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        text = str(value) if places is None else f"{round(float(value), places) + 0.0:.{places}f}"  # −0.0 + 0.0 is 0.0
        return text.replace(".", decimal)
    return no_formula(value) if isinstance(value, str) else str(value)


def _arrow(columns: dict[str, np.ndarray], form: Form) -> Any:
    """Return columns as an Arrow table, of the types of the user's file where it has such."""
    import pyarrow as pa

    schema = None if form.is_text else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(form.schema)))
    table = pa.table({name: _typed(column, name, form) for name, column in columns.items()})
    return table.replace_schema_metadata(None if schema is None else schema.metadata)


_FINER = {"Y": "D", "M": "D", "W": "D", "h": "s", "m": "s"}
"""Units of NumPy's times that Arrow lacks, and those that take their place."""


def _typed(column: np.ndarray, name: str, form: Form) -> Any:
    import pyarrow as pa

    kind, is_a = form.types().get(name), pa.types
    if column.dtype.kind == "M" and kind is not None and (is_a.is_string(kind) or is_a.is_large_string(kind)):
        return pa.array([text or None for text in times_in_words(column, name, form)], kind)
    if column.dtype.kind == "M" and (coarse := np.datetime_data(column.dtype)[0]) in _FINER:
        column = column.astype(f"datetime64[{_FINER[coarse]}]")
    values = pa.array(column, from_pandas=True)
    if kind is None and form.is_clock(name) and is_a.is_timestamp(values.type):
        unit = values.type.unit
        kind = pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if kind is None or values.type == kind:
        return values
    if is_a.is_dictionary(kind):
        return values.cast(kind.value_type).dictionary_encode().cast(kind)
    if is_a.is_time(kind):
        since = values.cast(pa.timestamp(kind.unit)).cast("int64")
        return since.cast("int32" if kind.bit_width == 32 else "int64").cast(kind)
    if is_a.is_timestamp(kind) and kind.tz is not None and not is_a.is_timestamp(values.type):
        values = values.cast(pa.timestamp(kind.unit))
    return values.cast(kind)


def _parquet(columns: dict[str, np.ndarray], form: Form) -> bytes:
    import pyarrow.parquet as pq

    content = io.BytesIO()
    pq.write_table(_arrow(columns, form), content)
    return content.getvalue()


def _feather(columns: dict[str, np.ndarray], form: Form) -> bytes:
    import pyarrow.feather

    content = io.BytesIO()
    pyarrow.feather.write_feather(_arrow(columns, form), content)
    return content.getvalue()


def _sqlite(columns: dict[str, np.ndarray], form: Form) -> bytes:
    """Return a database of one table, of the name that the user's has."""
    named = ", ".join(f"{_quoted(name)} {_affinity(column)}" for name, column in columns.items())
    cells = [_cells_of_database(column, name, form) for name, column in columns.items()]
    with closing(sqlite3.connect(":memory:")) as database:
        table = _quoted(form.table or "samples")
        database.execute(f"CREATE TABLE {table} ({named})")
        places = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO {table} VALUES ({places})", zip(*cells, strict=True))
        database.commit()
        return database.serialize()


def _affinity(column: np.ndarray) -> str:
    """Return the type that SQLite keeps values of a column in."""
    kinds = {type(value) for value in column.tolist() if value is not None} if column.dtype.kind == "O" else set()
    if column.dtype.kind in "iu" or (kinds and kinds <= {int, bool}):
        return "INTEGER"
    return "REAL" if column.dtype.kind == "f" or kinds == {float} else "TEXT"


def _cells_of_database(column: np.ndarray, name: str, form: Form) -> list[Any]:
    if column.dtype.kind == "M":
        return [text or None for text in times_in_words(column, name, form)]
    values: list[Any] = column.tolist()
    return values


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
