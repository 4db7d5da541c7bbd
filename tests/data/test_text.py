"""Data ``text``: what is read, how it is divided, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.core.errors import DataError
from selfloop.core.events import Text
from selfloop.data.base import DATA, Split


def load(path: Path, **settings: Any) -> Split:
    return DATA.parse({"name": "text", "path": str(path)} | settings).load([0, 1])


def texts(split: Split, which: str = "train", r: int = 0) -> list[str]:
    assert isinstance(split.events, Text)
    return split.events.texts(getattr(split, which)[r])


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"line {i}\n\n" for i in range(40)), encoding="utf-8")
    return path


def test_lines_are_rows(lines: Path) -> None:
    split = load(lines, unit="line", fresh_rows=6)
    assert split.events.space == (8, 16)
    assert split.aside is not None
    for r in (0, 1):
        every = texts(split, "train", r) + texts(split, "held_out", r) + texts(split, "aside", r)
        assert sorted(every) == sorted(f"line {i}" for i in range(40))
    assert texts(split, "train", 0) != texts(split, "train", 1)
    again = DATA.parse({"name": "text", "path": str(lines), "unit": "line", "fresh_rows": 6}).load([1])
    assert again.train[0].equal(split.train[1])


@given(st.lists(st.integers(1, 30), min_size=8, max_size=15), st.integers(2, 6), st.integers(1, 4))
def test_no_document_is_both_trained_on_and_held_out(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], block: int, held_out: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "d.jsonl"
    path.write_text("\n".join(json.dumps(chr(0x4E00 + i) * size) for i, size in enumerate(sizes)), encoding="utf-8")
    spare = max(-(-size // block) for size in sizes) - 1
    hypothesis.assume(sum(-(-size // block) for size in sizes) >= 2 + held_out + spare)
    split = load(path, block=block, held_out=held_out)
    for r in (0, 1):
        kept, held = ({text[0] for text in texts(split, which, r)} for which in ("train", "held_out"))
        assert not kept & held
    assert split.held_out.shape[1] == held_out


def test_folders_json_lines_and_tables(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    for i in range(12):
        (folder / ("inner" if i % 2 else ".") / f"{i:02d}.txt").write_text(f"document {i}", encoding="utf-8")
    (folder / "00.txt").rename(folder / "00.TXT")
    objects = tmp_path / "o.jsonl"
    objects.write_text("".join(json.dumps({"n": i, "text": f"document {i}"}) + "\n" for i in range(12)))
    table = tmp_path / "t.csv"
    table.write_text("n,words\n" + "".join(f'{i},"document {i}"\n' for i in range(12)))
    coded = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": pa.array([f"document {i}" for i in range(12)]).dictionary_encode()}), coded)
    found = [load(folder), load(objects), load(table, column="words"), load(coded)]
    assert all(sorted(texts(x) + texts(x, "held_out")) == sorted(f"document {i}" for i in range(12)) for x in found)
    events = [x.events for x in found]
    assert [(e.form.ending, e.column) for e in events if isinstance(e, Text)] == [
        (".jsonl", "text"),
        (".jsonl", "text"),
        (".csv", "words"),
        (".parquet", "text"),
    ]


def test_a_byte_order_mark_and_carriage_returns_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "w.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"ä{i}\r\n" for i in range(9)).encode())
    split = load(path, unit="line")
    assert sorted(texts(split) + texts(split, "held_out")) == [f"ä{i}" for i in range(9)]


REFUSED: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("a.txt", b"abc\nd\xe9f", {}, "is not UTF-8: the byte at offset 5 is 0xe9"),
    ("a.txt", b"\xef\xbb\xbfab\xff", {}, "is not UTF-8: the byte at offset 5 is 0xff"),
    ("a.txt", "abc".encode("utf-16"), {}, "mark it as UTF-16"),
    ("a.txt", "abc".encode("utf-32"), {}, "mark it as UTF-32"),
    ("a.txt", b"one line", {"unit": "line"}, "1 rows of 1 lines, fewer than n . held_out = 2 . 1: give more lines$"),
    ("a.json", b'["a", "b", "c"]', {}, "is one JSON value: write a string or an object a line"),
    ("a.jsonl", b'"a"\n"b\\u0000"', {}, r"line 2 is no text: its character 2 is U\+0000"),
    ("a.txt", b"PK\x03\x04ab\0c", {}, "is no text: the byte at offset 6 is 0x00"),
    ("a.txt", b"", {}, "is empty"),
    ("a.txt", b"\n\r\n", {"unit": "line"}, "has no line that is not empty"),
    ("a.txt", b"one document", {}, "1 rows of 1 documents, .* = 2 . 1: give more documents, or set data.unit to line"),
    ("a.txt", b"a\nb\nc", {"unit": "line", "block": 50}, "has 6 tokens, and block is 50: lower data.block to 2"),
    ("a.txt", b"a\nb\nc", {"unit": "line", "column": "x"}, "has no columns"),
    ("a.npy", b"", {}, ".npy holds no text"),
    ("a.jsonl", b'"a"\n""\n', {}, "line 2 is empty"),
    ("a.jsonl", b'"a"\n{"a"\n', {}, "line 2 is no JSON at column"),
    ("a.jsonl", b'{"text": "a"}\n{"tex": "b"}', {}, "line 2 has no 'text'; it has 'tex'"),
    ("a.jsonl", b'{"a": "a", "b": "b"}', {}, "let column name the one with the text"),
    ("a.jsonl", b'{"text": 3}', {}, "line 1: 'text' is no text, but '3'"),
    ("a.jsonl", b'"\\ud800"', {}, "half of a surrogate pair"),
    ("a.csv", b"a,b\nx,y\nx,y\n", {}, "let column name the one with the text"),
    ("a.csv", b"a,b\nx,y\n,y\n", {"column": "a"}, "is empty|has no 'a'"),
]


@pytest.mark.parametrize(("name", "content", "settings", "message"), REFUSED)
def test_what_is_no_text_is_refused_with_where(
    tmp_path: Path, name: str, content: bytes, settings: dict[str, Any], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        load(path, **settings)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_held_out_documents_of_another_file(lines: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("zebra\nyak\n")
    split = load(lines, unit="line", held_out_path=str(other))
    assert texts(split, "held_out") == ["zebra", "yak"]
    assert split.train.shape[1] == 40


def test_a_tokenizer_of_a_file(lines: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    from selfloop.core.tokens import Subwords

    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        load(lines, unit="line", tokenizer_path=str(folder))
    for content in ("{}", '{"a": 1}', '{"model": {"type": "BPE"}}'):
        (folder / "tokenizer.json").write_text(content)
        with pytest.raises(DataError, match=r"^tokenizer '.*model': it is no tokenizer that the library reads"):
            load(lines, unit="line", tokenizer_path=str(folder))
    (folder / "tokenizer.json").write_text(Subwords.trained(["line 1 2 3"], 300).json, encoding="utf-8")
    assert all(text.startswith("line ") for text in texts(load(lines, unit="line", tokenizer_path=str(folder))))
    (folder / "tokenizer_config.json").write_text('{"eos_token": {"content": "Z"}}')
    split = load(lines, unit="line", tokenizer_path=str(folder))
    assert all(text.startswith("line ") for text in texts(split))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "nowhere"}')
    with pytest.raises(DataError, match="has no token 'nowhere'"):
        load(lines, unit="line", tokenizer_path=str(folder))
