"""Text and JSON Lines that are none, and folders of text that lead elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.attacks import Attack, Content, Write, file

_HARM = "text takes memory or time without end, or its reader ends in a traceback"


def attacks() -> Iterator[Attack]:
    """Yield them."""
    for name, content in _lines().items():
        yield _read("JSON Lines", name, "x.jsonl", file("x.jsonl", content), heavy=callable(content))
    for name, content in _plain().items():
        yield _read("text", name, "x.txt", file("x.txt", content), heavy=callable(content))
    for name, write in _folders().items():
        yield _read("text", f"folder: {name}", "texts", write)
    for ending in (".json", ".docx", ".pdf", ".gz", ".xml", ".html", ".xlsx", ""):
        yield _read("text", f"called x{ending or ' without an ending'}", f"x{ending}", file(f"x{ending}", b"\xff\xfe{"))


def _read(kind: str, name: str, path: str, write: Write, heavy: bool = False) -> Attack:
    codes = (0, 2) if name in _SOUND else (2,)
    call = ("selfloop.analysis.sources:read_events", path)
    return Attack(kind, name, write, ("data", path), _HARM, codes, call, heavy=heavy)


_SOUND = {"bidi and a terminal", "one line of 20 MB", "numbers of a text", "keys twice", "folder: links to /etc"}


def _lines() -> dict[str, Content]:
    deep = b"[" * 10**5 + b"]" * 10**5
    return {
        "10⁵ deep": deep,
        "10⁵ deep, in a field": b'{"text": ' + deep + b"}",
        "objects 10⁵ deep": b'{"a":' * 10**5 + b"1" + b"}" * 10**5,
        "a number of 10⁵ digits": b"9" * 10**5,
        "a number of 10⁶ digits in a field": b'{"text": ' + b"9" * 10**6 + b"}",
        "NaN": b'{"text": NaN}\n',
        "infinity": b"Infinity\n",
        "keys twice": b'{"text": "a", "text": "b"}\n',
        "a lone surrogate": b'{"text": "\\ud800"}\n',
        "a NUL": b'{"text": "a\\u0000b"}\n',
        "NUL bytes": b'{"text": "a\0b"}\n',
        "not UTF-8": b'{"text": "\xff"}\n',
        "UTF-16": '{"text": "a"}\n'.encode("utf-16"),
        "a list": b'["a"]\n',
        "null": b"null\n",
        "no JSON": b"{'text': __import__('os').system('touch ../canary')}\n",
        "a comment": b"// x\n",
        "another field in the second line": b'{"text": "a"}\n{"other": "b"}\n',
        "a million keys": lambda: b"{" + b",".join(b'"k%d": 1' % i for i in range(10**6)) + b"}\n",
        "20 MB of lists": lambda: b"[" + b"[]," * (7 * 10**6) + b"[]]\n",
        "empty": b"",
        "blank lines": b"\n\n \n",
        "a pickle": b"\x80\x04cos\nsystem\n.",
        "bidi and a terminal": '{"text": "\u202e\\u001b[2J"}\n{"text": "x"}\n'.encode(),
    }


def _plain() -> dict[str, Content]:
    return {
        "NUL": b"a\0b\n",
        "UTF-16": "a line\n".encode("utf-16"),
        "UTF-32": "a line\n".encode("utf-32"),
        "Latin-1": "\u00e9t\u00e9\n".encode("latin-1"),
        "surrogates": b"\xed\xa0\x80\n",
        "empty": b"",
        "newlines alone": b"\n" * 1000,
        "binary": bytes(range(256)) * 100,
        "one line of 20 MB": lambda: b"a" * (2 * 10**7),
        "2 GB": lambda: b"a\n" * 10**9,
    }


def _folders() -> dict[str, Write]:
    def made(name: str, content: bytes = b"x") -> Write:
        return lambda folder: ((folder / "texts").mkdir(), Path(folder / "texts" / name).write_bytes(content))

    def linked(target: str) -> Write:
        return lambda folder: ((folder / "texts").mkdir(), (folder / "texts" / "a.txt").symlink_to(target))

    def pipe(folder: Path) -> None:
        (folder / "texts").mkdir()
        os.mkfifo(folder / "texts" / "a.txt")

    def one_pipe(folder: Path) -> None:
        os.mkfifo(folder / "texts")

    return {
        "links to zeros": linked("/dev/zero"),
        "links to nothing": linked("nothing"),
        "links to itself": linked("a.txt"),
        "a pipe": pipe,
        "is a pipe": one_pipe,
        "empty": lambda folder: (folder / "texts").mkdir(),
        "is not there": lambda folder: None,
        "another ending": made("a.md"),
        "an empty file": made("a.txt", b""),
        "a terminal's name": made("\x1b[2J.txt", b"\0"),
    }
