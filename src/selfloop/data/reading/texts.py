"""Units of text, documents or lines, as their files hold them: text, folders of it, JSON Lines, columns of tables.

Files come from outside and are never trusted: nothing in them is executed, and every refusal names the file and where
in it: the offset of a byte, the line, or the row.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from selfloop.core.errors import DataError, is_text, listed, listed_near, quoted
from selfloop.core.forms import LINES, Form
from selfloop.core.memory import in_words, memory
from selfloop.core.tokens import Tokenizer
from selfloop.data.reading.corpora import made_by
from selfloop.data.reading.sheets import ENDINGS, read_sheet

Unit = Literal["document", "line"]

PLAIN, JSON_LINES = ".txt", (".jsonl", ".ndjson")
_OTHERS = (".npy", ".npz", ".zip", ".gz", ".docx", ".pdf")
TEXT = "text"
"""The column that is taken where none is named."""
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_NONE = "\x00"
_BYTES = 20  # of Python's objects, for every byte of a file, about


class Piece(NamedTuple):
    """A unit of text, and where it stands for messages."""

    text: str
    where: str


class Corpus(NamedTuple):
    """Units of text, the form of the file that holds them, and what the column with them is called there."""

    pieces: list[Piece]
    form: Form
    column: str


def is_corpus(path: Path) -> bool:
    """Whether a file or folder is plainly of text: .txt, JSON Lines, or a folder with .txt files."""
    if path.is_dir():
        return any(plain_files(path))
    return path.suffix.lower() in (PLAIN, *JSON_LINES)


def read_texts(path: str, column: str | None, unit: Unit, empty: bool = False) -> Corpus:
    """Read the units of a file or folder, by the ending of its name.

    A folder has a document in every file below it whose name ends in .txt, in the order of their paths; JSON Lines have
    one in every line, in the field ``column`` of an object or as a string; tables have one in every row, in ``column``;
    any other file is one. As lines, every document is cut at its newlines, and empty ones are left out.

    Args:
        path: of the file or folder.
        column: of a table or of objects; None is "text", or the only one.
        unit: what is wanted.
        empty: whether units may be empty, as samples may, lines among them.

    Raises:
        DataError: it cannot be read, a document is empty, or there is nothing in it.
    """
    source = f"text {quoted(path, 300)}"
    try:
        form, name, documents = _documents(Path(path), column, source)
        documents = list(documents)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error
    blank = [] if empty else [each.where for each in documents if not each.text]
    if blank:
        more = f", as are {len(blank) - 1} more" if len(blank) > 1 else ""
        raise DataError(f"{blank[0]} is empty{more}: an empty document holds nothing to learn from, leave it out")
    if unit == "line":
        documents = [each for document in documents for each in _lines(document, empty)]
    if not documents:
        raise DataError(f"{source} has no {unit} that is not empty")
    return Corpus(documents, form, name)


def encoded(piece: Piece, tokenizer: Tokenizer) -> np.ndarray:
    """Return the tokens (k,) int32 of a unit of text.

    Raises:
        DataError: a part of it cannot be encoded, with where that stands.
    """
    try:
        return tokenizer.encode(piece.text)
    except ValueError as error:
        raise DataError(f"{piece.where} holds {error}") from error


def _documents(path: Path, column: str | None, source: str) -> tuple[Form, str, Iterable[Piece]]:
    if not path.exists():
        how = made_by(str(path))
        raise DataError(f"{source} does not exist" + (f": make it by {how}" if how else ""))
    ending = path.suffix.lower()
    tabular = not path.is_dir() and ending in (*JSON_LINES, *ENDINGS)
    if column is not None and not tabular:
        raise DataError(f"{source} has no columns, and column is {quoted(column)}: leave it out")
    if path.is_dir():
        files = sorted(plain_files(path))
        if not files:
            raise DataError(f"{source} is a folder without files whose names end in .txt")
        _refuse_large(sum(each.stat().st_size for each in files), source)
        named = ((each, f"text {quoted(each, 300)}") for each in files)
        return Form(JSON_LINES[0]), TEXT, (Piece(_text(each, name), name) for each, name in named)
    if ending in _OTHERS:
        raise DataError(f"{source}: {ending} holds no text; give text, a folder of .txt, JSON Lines, or a table")
    if ending == ".json":
        raise DataError(f"{source} is one JSON value: write a string or an object a line, and call it .jsonl")
    if ending in JSON_LINES:
        return Form(ending), column or TEXT, _of_json_lines(_text(path, source), column, source)
    if ending in ENDINGS:
        return _of_table(str(path), column, source)
    return LINES, TEXT, [Piece(_text(path, source), source)]


def plain_files(folder: Path) -> Iterator[Path]:
    """Yield the files of text below a folder, in any order."""
    for place, _, names in os.walk(folder):  # Path.rglob ends in an error where folders lie too deep for a path
        texts = (Path(place, name) for name in names if name.lower().endswith(PLAIN))
        yield from filter(Path.is_file, texts)


def _refuse_large(size: int, source: str) -> None:
    if (need := size * _BYTES) > memory():
        raise DataError(
            f"{source} has {in_words(size)}, which would take {in_words(need)} of memory: take a part of it"
        )


def _text(path: Path, source: str) -> str:
    """Return the text of a file in UTF-8, its newlines as they are and a byte order mark left out.

    Raises:
        DataError: it is something else, with the offset of the first byte that says so.
    """
    _refuse_large(path.stat().st_size, source)
    held = path.read_bytes()
    if (marked := next((name for mark, name in _MARKS if held.startswith(mark)), None)) is not None:
        raise DataError(f"{source} is not UTF-8: the bytes at offset 0 mark it as {marked}; save it as UTF-8")
    if (at := held.find(0)) >= 0:
        raise DataError(f"{source} is no text: the byte at offset {at} is 0x00")
    try:
        return held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + (3 if held.startswith(codecs.BOM_UTF8) else 0)  # it counts from behind the mark
        raise DataError(
            f"{source} is not UTF-8: the byte at offset {at} is 0x{held[at]:02x}; save it as UTF-8"
        ) from error


def _lines(document: Piece, empty: bool) -> Iterator[Piece]:
    for number, line in enumerate(document.text.removesuffix("\n").split("\n"), 1):
        held = line.removesuffix("\r")
        if held or empty:
            yield Piece(held, f"{document.where}: line {number}")


def _of_json_lines(text: str, column: str | None, source: str) -> Iterator[Piece]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{source}: line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise DataError(f"{where} is no JSON{at}: every line is an object or a string of its own") from error
        if isinstance(value, dict):
            column = _picked(list(value), column, where)  # of the first is that of all
            value, where = value[column], f"{where}: {quoted(column)}"
        elif column is not None:
            raise DataError(f"{where} is no object with the field {quoted(column)}")
        if not isinstance(value, str):
            raise DataError(f"{where} is no text, but {quoted(json.dumps(value))}")
        if not is_text(value):
            raise DataError(f"{where} holds half of a surrogate pair, which is no character")
        _refuse_nothing(value, where)
        yield Piece(value, where)


def _of_table(path: str, column: str | None, source: str) -> tuple[Form, str, Iterable[Piece]]:
    import pyarrow as pa

    sheet = read_sheet(path)
    name = _picked(sheet.columns, column, source)
    values = sheet.values[sheet.columns.index(name)]
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    strings = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if not strings:
        raise DataError(f"{source}: column {quoted(name)} holds {values.type}, and no text")
    if values.null_count:
        row = values.is_null().to_pylist().index(True)
        raise DataError(f"{source}: {sheet.where(row)} has no {quoted(name)}: leave the row out")
    return sheet.only([name]).form, name, _of_rows(values.to_pylist(), lambda row: f"{source}: {sheet.where(row)}")


def _of_rows(values: Iterable[str], where: Callable[[int], str]) -> Iterator[Piece]:
    for row, value in enumerate(values):
        _refuse_nothing(value, where(row))
        yield Piece(value, where(row))


def _refuse_nothing(value: str, where: str) -> None:
    """Refuse the character that ends strings in other programs, as a file of text is refused for its byte."""
    if (at := value.find(_NONE)) >= 0:
        raise DataError(f"{where} is no text: its character {at + 1} is U+0000")


def _picked(names: list[str], column: str | None, where: str) -> str:
    """Return the column that was asked for, or that is plainly meant."""
    wanted = TEXT if column is None else column
    if wanted in names:
        return wanted
    if column is None and len(names) == 1:
        return names[0]
    if column is None:
        raise DataError(f"{where} has {listed(names)}: let column name the one with the text")
    raise DataError(f"{where} has no {quoted(column)}; it has {listed_near(column, names)}")
