"""The user's text, as sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from selfloop.core.capabilities import Capability
from selfloop.core.config import DataPath
from selfloop.core.errors import DataError, quoted
from selfloop.core.events import Kind, Text
from selfloop.core.tokens import Bytes, Characters, Subwords, Tokenizer
from selfloop.core.urls import fetched
from selfloop.data.base import DATA, Split
from selfloop.data.finite import Finite, refuse_twice
from selfloop.data.reading.texts import Unit, encoded, plain_files, read_texts
from selfloop.data.reading.tokenizer_files import read_tokenizer_file
from selfloop.data.units import divide_units

_VOCABULARY = 1024
_LONGEST = 64  # tokens of a row where none says how many


@DATA.register
class Texts(Finite):
    """Documents or lines of text as rows of ``block`` tokens.

    ``path`` is a text file in UTF-8, a folder of .txt files, JSON Lines (.jsonl), or a table (.csv, .parquet, …), of
    which ``column`` holds the text. A ``unit`` is a document, or a line of one. One longer than ``block`` fills several
    rows, and rows never span units. ``block`` None has room for the longest unit and its end, and 64 tokens at most.

    ``tokenizer`` is "characters", of which the alphabet is that of the text, "bytes", or "bpe", byte-pair encoding
    trained on the text to at most ``vocabulary`` tokens, 1024 if left out. ``tokenizer_path`` takes the one of a
    ``tokenizer.json``, or of the folder of a model, instead.

    Units are drawn by the seed: no unit has rows both to train on and held out. ``n`` and ``held_out`` count rows; of
    the last unit that is drawn, rows beyond them are left out. ``held_out`` None holds out a tenth of the rows, and
    ``n`` None trains on all others, less those that may have to be left out. ``held_out_path`` holds out the units of
    another file instead, all their rows or as many as ``held_out``.
    """

    name: Literal["text"] = "text"
    holds: ClassVar[Kind] = "text"
    always: ClassVar[frozenset[Capability]] = frozenset(("text",))
    path: DataPath
    column: str | None = None
    unit: Unit = "document"
    block: int | None = Field(default=None, ge=2, le=2**16)
    tokenizer: Literal["characters", "bytes", "bpe"] = "characters"
    tokenizer_path: DataPath | None = None
    vocabulary: int | None = Field(default=None, ge=258, le=2**20)
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)
    held_out_path: DataPath | None = None

    @model_validator(mode="after")
    def _two_files(self) -> Texts:
        refuse_twice(self.path, self.held_out_path)
        if self.vocabulary is not None and (self.tokenizer != "bpe" or self.tokenizer_path is not None):
            raise ValueError("vocabulary is of tokenizer bpe: leave it out")
        return self

    def load(self, seeds: Sequence[int]) -> Split:
        """Read, encode and divide the text, events (block,) int32."""
        read = {"path", "column", "unit", "block", "tokenizer", "tokenizer_path", "vocabulary", "held_out_path"}
        paths = {name: getattr(self, name) for name in ("path", "held_out_path", "tokenizer_path")}
        here = {name: path if path is None else fetched(path) for name, path in paths.items()}
        corpus = _corpus(self.model_copy(update=here).model_dump_json(include=read), tuple(map(_stamp, here.values())))
        parts = divide_units(
            corpus.rows,
            corpus.counts,
            self.n,
            self.held_out,
            seeds,
            f"text {quoted(self.path, 300)}",
            unit=self.unit,
            fresh_rows=self.fresh_rows,
            apart=corpus.apart,
            advice=", or set data.unit to line" if self.unit == "document" and len(corpus.counts) < 10 else "",
        )
        return Split(train=parts.train, held_out=parts.held_out, events=corpus.events, aside=parts.aside)


class _Corpus(NamedTuple):
    """Rows (N, L) int32 of all units, how many each fills (units,), and those of the units to hold out, if apart."""

    events: Text
    rows: np.ndarray
    counts: np.ndarray
    apart: np.ndarray | None


def _stamp(path: str | None) -> tuple[tuple[str, int, int], ...]:
    """Return by what is seen that a file, or one below a folder, has changed."""
    if path is None:
        return ()
    files = sorted(plain_files(Path(path))) if Path(path).is_dir() else [Path(path)]
    found = ((str(each), each.stat()) for each in files if each.is_file())
    return tuple((name, about.st_mtime_ns, about.st_size) for name, about in found)


@lru_cache(maxsize=2)
def _corpus(settings: str, stamps: tuple[object, ...]) -> _Corpus:
    """Return what is encoded of the text, read once as long as files are as they were."""
    return _read(Texts.model_validate_json(settings))


def _read(data: Texts) -> _Corpus:
    units, form, column = read_texts(data.path, data.column, data.unit)
    others = [] if data.held_out_path is None else read_texts(data.held_out_path, data.column, data.unit).pieces
    tokenizer = _tokenizer(data, [each.text for each in units], [each.text for each in others])
    tokens = [encoded(each, tokenizer) for each in units]
    total, longest = sum(map(len, tokens)) + len(tokens), max(map(len, tokens)) + 1  # with their edges
    block = min(longest, _LONGEST) if data.block is None else data.block
    if block > total:
        source = f"text {quoted(data.path, 300)}"
        raise DataError(f"{source} has {total} tokens, and block is {block}: lower data.block to {longest} or less")
    events = Text(block, tokenizer, column, form)
    rows = [events.rows(each) for each in tokens]
    apart = np.concatenate([events.rows(encoded(each, tokenizer)) for each in others]) if others else None
    return _Corpus(events, np.concatenate(rows), np.array([len(each) for each in rows]), apart)


def _tokenizer(data: Texts, texts: list[str], others: list[str]) -> Tokenizer:
    if data.tokenizer_path is not None:
        return read_tokenizer_file(data.tokenizer_path)
    if data.tokenizer == "bytes":
        return Bytes()
    if data.tokenizer == "bpe":
        return Subwords.trained(texts, data.vocabulary or _VOCABULARY)
    return Characters.of([*texts, *others])
