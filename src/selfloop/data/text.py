"""The user's text, as sequences of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator

from selfloop.core.capabilities import Capability
from selfloop.core.config import FilePath
from selfloop.core.errors import DataError, quoted
from selfloop.core.events import Kind, Text
from selfloop.core.streams import Streams
from selfloop.core.tokens import Bytes, Characters, Subwords, Tokenizer
from selfloop.data.base import DATA, Split, held_apart
from selfloop.data.finite import Finite, refuse_twice
from selfloop.data.reading.texts import Unit, encoded, read_texts
from selfloop.data.reading.tokenizer_files import read_tokenizer_file

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
    path: FilePath
    column: str | None = None
    unit: Unit = "document"
    block: int | None = Field(default=None, ge=2, le=2**16)
    tokenizer: Literal["characters", "bytes", "bpe"] = "characters"
    tokenizer_path: FilePath | None = None
    vocabulary: int | None = Field(default=None, ge=258, le=2**20)
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)
    held_out_path: FilePath | None = None

    @model_validator(mode="after")
    def _two_files(self) -> Texts:
        refuse_twice(self.path, self.held_out_path)
        if self.vocabulary is not None and (self.tokenizer != "bpe" or self.tokenizer_path is not None):
            raise ValueError("vocabulary is of tokenizer bpe: leave it out")
        return self

    def load(self, seeds: Sequence[int]) -> Split:
        """Read, encode and divide the text, events (block,) int32."""
        read = {"path", "column", "unit", "block", "tokenizer", "tokenizer_path", "vocabulary", "held_out_path"}
        stamps = tuple(map(_stamp, (self.path, self.held_out_path, self.tokenizer_path)))
        corpus = _corpus(self.model_dump_json(include=read), stamps)
        return _divided(corpus, self, seeds, f"text {quoted(self.path, 300)}")


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
    found = ((str(each), each.stat()) for each in (Path(path), *sorted(Path(path).rglob("*"))) if each.is_file())
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


def _divided(corpus: _Corpus, data: Texts, seeds: Sequence[int], source: str) -> Split:
    """Divide rows by whole units, in an order drawn by each seed; within the parts their order is drawn, too."""
    rows, counts = corpus.rows, corpus.counts
    held = data.held_out or max(1, round(0.1 * len(rows)))
    wanted = {"held_out": held} if corpus.apart is None else {}
    wanted |= {"fresh_rows": data.fresh_rows} if data.fresh_rows else {}
    # A part ends within a unit, whose other rows no part may have, at worst at each end.
    spare = len(wanted) * (int(counts.max()) - 1)
    most = len(rows) - sum(wanted.values()) - spare
    n = most if data.n is None else data.n
    if n < 2 or n > most:
        asked = f"n + {' + '.join(wanted)}" if wanted else "n"
        numbers = " + ".join(map(str, (max(n, 2), *wanted.values())))
        lost = f", and up to {spare} are left out so that no {data.unit} is in two parts" if spare else ""
        advice = ", or set data.unit to line" if data.unit == "document" and len(counts) < 10 else ""
        what = f"{len(rows)} rows of {len(counts)} {data.unit}s"
        lower = any(each is not None and each > 1 for each in (data.held_out, data.n and data.n - 1, data.fresh_rows))
        do = "lower them" if lower or spare else f"give more {data.unit}s"
        raise DataError(f"{source} has {what}, fewer than {asked} = {numbers}{lost}: {do}{advice}")
    parts: dict[str, list[np.ndarray]] = {"n": [], **{name: [] for name in wanted}}
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for order, rng in zip(
        Streams(tuple(seeds)).permutations("data", [len(counts)] * len(seeds)),
        Streams(tuple(seeds)).numpy("data/rows"),
        strict=True,
    ):
        at = 0
        filled = np.cumsum(counts[order])
        for name, count in ({"n": n} | wanted).items():
            begun = filled[at - 1] if at else 0
            until = int(np.searchsorted(filled, begun + count)) + 1
            taken = np.concatenate([np.arange(first[u], first[u] + counts[u]) for u in order[at:until]])[:count]
            parts[name].append(rows[rng.permutation(taken)])
            at = until
    stacked = {name: torch.from_numpy(np.stack(each)) for name, each in parts.items()}
    apart = stacked["held_out"] if corpus.apart is None else held_apart(corpus.apart, data.held_out, seeds)
    return Split(train=stacked["n"], held_out=apart, events=corpus.events, aside=stacked.get("fresh_rows"))
