"""What the commands share: the console, tables, a passing bar, and what they exit with."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

FAILED = 1
MISUSED = 2
BROKEN = 70
INTERRUPTED = 130

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
"""Standard output; wide where it is no terminal, so that tables in files and pipes are not cut."""


def say(text: str) -> None:
    """Print a line as it is, and let the terminal break it: what is copied from it has no line ends of ours."""
    console.print(escape(text), soft_wrap=True)


def show(headings: Sequence[str | Column], rows: Iterable[Sequence[str]], **options: Any) -> None:
    """Print a table of plain texts; ``options`` are rich's."""
    table = Table(*headings, box=None, **options)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def folded(*headings: str) -> list[Column]:
    """Return headings of columns that go on in the next line where they are too wide, and lose nothing."""
    return [Column(heading, overflow="fold") for heading in headings]


class Tick(Protocol):
    """Moves a bar to ``done``, of ``total``; None: of as many as before."""

    def __call__(self, done: int, total: int | None = None) -> None: ...


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

        def tick(done: int, total: int | None = None) -> None:
            progress.update(task, completed=done, total=total)

        yield tick
