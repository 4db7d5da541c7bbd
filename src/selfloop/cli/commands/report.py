"""Write a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import console, folded, say, show

if TYPE_CHECKING:
    from selfloop.store import Run


def command(path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")]) -> int:
    """Write the report of a run, finished or not, and print its result table."""
    from selfloop.report.shown import shown
    from selfloop.store import Run

    opened = Run.open(path)
    there = shown(opened)
    page = write(opened)
    if there not in ("", "current"):
        say(f"The report that was there was {there}.")
    say(f"Report: {page}")
    return 0


def write(opened: Run) -> Path:
    """Write the report, print the table of results, and return the page's path."""
    from selfloop.analysis import curves, verdict
    from selfloop.report import tables, write_report

    page = write_report(opened)
    read = curves.read(opened)
    by = verdict.judged(read, opened.metrics)
    rows = [
        [
            setting.label,
            *[tables.final(read, i, metric) for metric in read.metrics],
            verdict.of_setting(setting, read, by).word,
        ]
        for i, setting in enumerate(read.settings)
    ]
    seeds = len(read.settings[0].arms)
    console.print(
        f"After {opened.last} retrainings, {'mean ± std over ' if seeds > 1 else ''}{seeds} seed{'s'[: seeds - 1]}:"
    )
    show(folded("setting", *[opened.metric(metric).title for metric in read.metrics], "verdict"), rows, pad_edge=False)
    return page
