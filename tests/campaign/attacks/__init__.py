"""Hostile input, made by code: a table of attacks for every kind of reader, and what each would mean if it succeeded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Write = Callable[[Path], object]
Content = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class Attack:
    """One attempt to make selfloop do what it must not, from a folder of its own.

    Attributes:
        kind: what it attacks.
        name: of it among its kind.
        write: makes the files, in the folder in which the command is run.
        command: the words that a user would give to ``selfloop``.
        harm: what it would mean if it succeeded.
        codes: what the command may exit with: 2 is a refusal, 0 a success that is right.
        call: a function of the package, as ``module:name``, and what it is given; () for none.
        heavy: whether it takes seconds, or a gigabyte: the tests leave it to the campaign.
        check: looks at what the command has left in the folder, and says what is wrong with it; None looks at nothing.
    """

    kind: str
    name: str
    write: Write
    command: tuple[str, ...]
    harm: str
    codes: tuple[int, ...] = (2,)
    call: tuple[str, ...] = ()
    heavy: bool = False
    check: Callable[[Path], str] | None = None


def file(name: str, content: Content) -> Write:
    """Return what writes one file, whose content is made only then."""
    return files({name: content})


def files(contents: Mapping[str, Content]) -> Write:
    """Return what writes files, with the folders that they are in."""

    def write(folder: Path) -> None:
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else content())

    return write


@functools.cache
def every() -> list[Attack]:
    """Return all attacks."""
    from tests.campaign.attacks import archives, arrays, checkpoints, names, pictures, runs, settings, tables, texts

    parts = (checkpoints, arrays, tables, pictures, archives, texts, settings, names, runs)
    return [attack for part in parts for attack in part.attacks()]
