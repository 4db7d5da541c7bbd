"""Run again what others published."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import say, show
from selfloop.core.errors import ConfigError

if TYPE_CHECKING:
    from selfloop.ledger.row import Entry, Row


def command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="an entry; default: list them")] = None,
    every: Annotated[bool, typer.Option("--all", help="run all entries, about five minutes")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown, as in the documentation")] = False,
) -> int:
    """Run published numbers again, and print theirs beside ours; without a name, list the entries."""
    from selfloop import ledger

    if name is None and not every:
        if markdown:
            raise ConfigError("--markdown is for what is run: name an entry, or give --all")
        entries = {each: ledger.entry(each) for each in ledger.names()}
        show(("name", "paper", "where"), [(each, e.title, e.source) for each, e in entries.items()])
        return 0
    if name is not None and every:
        raise ConfigError("--all runs every entry: leave the name out")
    chosen = ledger.names() if name is None else [name]
    found = {each: _run(each, ledger.entry(each)) for each in chosen}
    _shown(found, every=every, markdown=markdown)
    return 0


def _run(name: str, entry: Entry) -> tuple[Entry, list[Row]]:
    """Run an entry, and say in a line on standard error how it went."""
    from selfloop.engines.threads import as_in_a_worker
    from selfloop.ledger.page import counted

    begun = time.monotonic()
    with as_in_a_worker():
        rows = list(entry.rows())
    print(f"{name}: {counted(rows)} ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
    return entry, rows


def _shown(found: dict[str, tuple[Entry, list[Row]]], *, every: bool, markdown: bool) -> None:
    from selfloop.ledger.page import HEADINGS, cells, page, section

    if markdown:
        print(page(found) if every else "".join(section(name, *of) for name, of in found.items()), end="")
        return
    for name, (entry, rows) in found.items():
        say(f"{name.upper()}  {entry.title} ({entry.source})")
        show(HEADINGS, map(cells, rows))
        say(f"Run here: {entry.recipe}")
        say(f"Found: {entry.found}")
