"""Compare runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import loading, say, say_plain, share, show
from selfloop.core.paths import expanded, here


def command(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN…", help="run directories", parser=here)],
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
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="a new directory for the page and its tables", parser=expanded)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> int:
    """Put runs side by side, where their numbers mean the same, and name what does not."""
    with loading():
        from selfloop.analysis import comparison
        from selfloop.core.settings import read_assignments
        from selfloop.report import page

    declared = None if control is None else dict(read_assignments(control))
    found = comparison.compare(paths, metric=metric, control=declared, tolerance=tolerance)
    index = None if out is None else page.write_comparison(found, out)
    if as_json:
        say_plain(json.dumps(found.plain(), indent=1, ensure_ascii=False))
        return 0
    if found.differences:
        headings, rows = found.differing
        show(headings, rows, pad_edge=False)
    for line in found.told:
        say(line)
    headings, rows = found.table
    show(headings, rows, pad_edge=False)
    headings, rows = found.against_first
    if rows:
        say(f"{found.against_words}:")
        show(headings, rows, pad_edge=False)
    if index is not None:
        say(f"Page: {index}")
    return 0
