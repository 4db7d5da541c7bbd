"""What the commands share: the console, tables, a passing bar, and what they exit with."""

from __future__ import annotations

import gc
import io
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from selfloop.core.errors import ConfigError, as_known, printable, quoted
from selfloop.core.paths import here

FAILED = 1
MISUSED = 2
BROKEN = 70
INTERRUPTED = 130

_WORD = re.compile(r"\s*\S+\s*")  # as rich breaks lines: with the blanks that a line begins with

console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
"""Standard output; wide where it is no terminal, so that tables in files and pipes are not cut."""


def lenient() -> None:
    """Let what the encoding of standard output or error lacks be escaped, as "λ" is in ASCII: "\\u03bb"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


SILENT = 1.5
"""Seconds after which a command that has said nothing says what it is at."""

_waiting: list[threading.Timer] = []  # for the first line of a command that :func:`at_work` is of


def heard() -> None:
    """Say that the command has printed something, or shows a bar: that it is at work need not be said."""
    while _waiting:
        _waiting.pop().cancel()


@contextmanager
def at_work(text: str) -> Iterator[None]:
    """Print a line on standard error if the command has said nothing for :data:`SILENT` seconds."""
    timer = threading.Timer(SILENT, lambda: print(printable(text), file=sys.stderr, flush=True))
    timer.daemon = True
    _waiting.append(timer)
    timer.start()
    try:
        yield
    finally:
        heard()


def say(text: str) -> None:
    """Print a line, and let the terminal break it: what is copied from it has no line ends of ours."""
    heard()
    console.print(_shown(text), soft_wrap=True)


def say_report(page: Path) -> None:
    """Print where a report is, by which a command ends."""
    from selfloop.store.remote import place_of

    heard()
    # A path of the cache directory is not shown as the URL that it stands for: it is the one to be opened.
    console.print(escape(printable(f"Report: {place_of(page)}")), soft_wrap=True)


def say_plain(text: str) -> None:
    """Print text that other programs read: JSON, Markdown, a line of a log."""
    heard()
    print(printable(as_known(text)), flush=True)


@contextmanager
def not_silent(text: str) -> Iterator[None]:
    """Print a plain line if nothing is said for as long, where there is no terminal on which something moves."""
    timer = threading.Timer(SILENT, say_plain, [text])
    timer.daemon = True
    if not console.is_terminal:
        _waiting.append(timer)
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def loading() -> Iterator[None]:
    """Import what takes long within: all of it stays, so that Python need not look for garbage there, now or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def directory(text: str) -> Path:
    """Return the directory that ``--out`` names, and say so where it is gone when the command ends."""
    if urlsplit(text).scheme.lower() == "memory":
        complain(f"--out {text}: memory:// is this process's own, and lost when it ends; name a folder or a store")
    return here(text)


def names(text: str) -> list[str]:
    """Return the names in a list with commas, as ``--leave-out`` takes it."""
    return [name.strip() for name in text.split(",") if name.strip()]


def share(text: str | float) -> float:
    """Return a share, written as 10% or 0.1.

    Raises:
        ConfigError: it is none.
    """
    number = str(text).strip()
    try:
        return float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"the tolerance is a share such as 10% or 0.1, not {quoted(text)}") from None


def complain(text: str) -> None:
    """Say on standard error, in one line, what is wrong or what to do."""
    heard()
    print(f"selfloop: {printable(' '.join(as_known(text).split()))}", file=sys.stderr)


def show_results(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of numbers: columns become rows where lines would be broken, and there are more of them."""
    table = [headings, *rows]
    widths = [max(cell_len(row[i]) for row in table) for i in range(len(headings))]
    if sum(widths) + 2 * len(widths) - 2 > console.width and len(headings) > len(table):
        headings, *rows = zip(*table, strict=True)
    show(headings, rows, pad_edge=False)


def show(headings: Sequence[str], rows: Iterable[Sequence[str]], **options: Any) -> None:
    """Print a table of plain texts, of which nothing is lost; ``options`` are rich's.

    Lines are broken between words. Where not even the longest words of all columns fit beside each other, the table is
    printed in parts, one below the other, each of which begins with the first column.
    """
    heard()
    heads = [_shown(heading) for heading in headings]
    cells = [[_shown(cell).replace("\n", "\\n") for cell in row] for row in rows]
    gap, edges = 2, 0 if options.get("pad_edge", True) else -2  # blanks that rich has beside a column
    spans = [_span([head, *(row[i] for row in cells)]) for i, head in enumerate(heads)]
    for k, part in enumerate(_parts([least + gap for least, _ in spans], console.width - edges)):
        room = console.width - edges - gap * len(part)
        table = Table(*(Column(heads[i], overflow="fold") for i in part), box=None, **options)
        if sum(spans[i][1] for i in part) > room >= sum(spans[i][0] for i in part):
            for column, width in zip(table.columns, _shared([spans[i] for i in part], room), strict=True):
                column.width = width
        for row in cells:
            table.add_row(*(row[i] for i in part))
        if k:
            console.print()
        console.print(table)


def _span(lines: Sequence[str]) -> tuple[int, int]:
    """Return how wide a column's longest word is, and its longest line."""
    words = [word.rstrip() for line in lines for word in _WORD.findall(line)]
    return max(map(cell_len, words), default=0), max(map(cell_len, lines))


def _parts(widths: Sequence[int], room: int) -> list[list[int]]:
    """Return which columns stand beside each other: the first in every part, and at least one more."""
    parts = [[0]]
    for i in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[j] for j in parts[-1]) + widths[i] > room:
            parts.append([0])
        parts[-1].append(i)
    return parts


def _shared(spans: Sequence[tuple[int, int]], room: int) -> list[int]:
    """Return widths from the least up to the greatest of each that fill the room, no column short for a wider one."""
    widths, left = [least for least, _ in spans], room - sum(least for least, _ in spans)
    order = sorted(range(len(spans)), key=lambda i: spans[i][1] - spans[i][0])
    for k, i in enumerate(order):
        more = min(spans[i][1] - spans[i][0], left // (len(order) - k))
        widths[i], left = widths[i] + more, left - more
    return widths


def _shown(text: str) -> str:
    """Return foreign text as rich and the terminal show it, character by character."""
    return escape(printable(as_known(text)))


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
    moves = shown and errors.is_terminal
    if moves:
        heard()
    with Progress(console=errors, transient=True, disable=not moves) as progress:
        task = progress.add_task(what, total=total)

        def tick(done: int, total: int | None = None, words: str | None = None) -> None:
            progress.update(task, completed=done, total=total, description=None if words is None else _shown(words))

        yield tick
