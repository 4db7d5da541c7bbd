"""What the commands share: the console, tables, a passing bar, and what they exit with."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from selfloop.core.errors import printable

FAILED = 1
MISUSED = 2
BROKEN = 70
INTERRUPTED = 130

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
"""Standard output; wide where it is no terminal, so that tables in files and pipes are not cut."""


def lenient() -> None:
    """Let what the encoding of standard output or error lacks be escaped, as "λ" is in ASCII: "\\u03bb"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line, and let the terminal break it: what is copied from it has no line ends of ours."""
    console.print(_shown(text), soft_wrap=True)


def say_plain(text: str) -> None:
    """Print text that other programs read: JSON, Markdown, a line of a log."""
    print(printable(text), flush=True)


@contextmanager
def not_silent(text: str, seconds: float = 1.5) -> Iterator[None]:
    """Print a plain line after so long, where there is no terminal on which something moves."""
    timer = threading.Timer(seconds, say_plain, [text])
    timer.daemon = True
    if not console.is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def complain(text: str) -> None:
    """Say on standard error, in one line, what is wrong or what to do."""
    print(f"selfloop: {printable(' '.join(text.split()))}", file=sys.stderr)


def show(headings: Sequence[str | Column], rows: Iterable[Sequence[str]], **options: Any) -> None:
    """Print a table of plain texts; ``options`` are rich's."""
    table = Table(*(_shown(h) if isinstance(h, str) else h for h in headings), box=None, **options)
    for row in rows:
        table.add_row(*(_shown(cell).replace("\n", "\\n") for cell in row))
    console.print(table)


def folded(*headings: str) -> list[Column]:
    """Return headings of columns that go on in the next line where they are too wide, and lose nothing."""
    return [Column(_shown(heading), overflow="fold") for heading in headings]


def _shown(text: str) -> str:
    """Return foreign text as rich and the terminal show it, character by character."""
    return escape(printable(text))


class Tick(Protocol):
    """Moves a bar to ``done``, of ``total``; None: of as many as before, and with the same words."""

    def __call__(self, done: int, total: int | None = None, words: str | None = None) -> None: ...


@contextmanager
def bar(what: str, total: int | None = None, shown: bool = True) -> Iterator[Tick]:
    """Show a bar on the terminal behind standard error, gone when the work is done.

    Args:
        what: is counted.
        total: of them, if it is known already.
        shown: False to show nothing even on a terminal.
    """
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not (shown and errors.is_terminal)) as progress:
        task = progress.add_task(what, total=total)

        def tick(done: int, total: int | None = None, words: str | None = None) -> None:
            progress.update(task, completed=done, total=total, description=None if words is None else _shown(words))

        yield tick
