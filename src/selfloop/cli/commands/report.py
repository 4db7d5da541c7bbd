"""Write a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfloop.cli.terminal import console, loading, say, say_report, share, show_results
from selfloop.core.errors import counted
from selfloop.core.paths import here

if TYPE_CHECKING:
    from selfloop.store import Run


def command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory", parser=here)],
    metric: Annotated[str | None, typer.Option(help="to judge by, in place of the first distance")] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="the setting to hold others against, in place of λ = 0"),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="by how much a setting may be worse than its control: 10% or 0.1", parser=share
        ),
    ] = 0.1,
) -> int:
    """Write the report of a run, finished or not, and print its result table."""
    with loading():
        from selfloop.core.settings import read_assignments
        from selfloop.report.shown import shown
        from selfloop.store import Run

    declared = None if control is None else dict(read_assignments(control))
    opened = Run.open(path)
    there = shown(opened)
    page = write(opened, metric=metric, control=declared, tolerance=tolerance)
    if there not in ("", "current"):
        say(f"The report that was there was {there}.")
    say_report(page)
    return 0


def write(opened: Run, **judging: Any) -> Path:
    """Write the report, print the table of results, and return the page's path; ``judging`` as of judged."""
    with loading():
        from selfloop.analysis import curves, verdict
        from selfloop.report import page

    read = curves.read(opened)
    by = verdict.judged(read, opened.metrics, **judging)
    index = page.write(opened, read, by, page.alarms_of(opened, read, judging.get("control")))
    rows = [
        [
            setting.label,
            *[curves.final(read, i, metric) for metric in read.metrics],
            verdict.of_setting(setting, read, by).text,
        ]
        for i, setting in enumerate(read.settings)
    ]
    seeds = len(read.settings[0].arms)
    over = "mean ± std over " if seeds > 1 else ""
    console.print(f"After {counted(opened.last, 'retraining')}, {over}{counted(seeds, 'seed')}:")
    show_results(("setting", *[opened.metric(metric).title for metric in read.metrics], "verdict"), rows)
    for line in opened.failures():
        say(f"{line}.")
    return index
