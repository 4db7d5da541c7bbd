"""Judge a run's loop."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import loading, say, say_plain, share, show
from selfloop.core.paths import here


def command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory, finished or not", parser=here)],
    metric: Annotated[str | None, typer.Option(help="to compare with λ = 0; default: what the verdict is of")] = None,
    tolerance: Annotated[
        float,
        typer.Option(metavar="SHARE", help="of λ = 0's, by which a metric may be worse: 10% or 0.1", parser=share),
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> int:
    """Say how stable a run's loop is, λ by λ, and how much synthetic data it bears."""
    with loading():
        from selfloop.analysis import stability
        from selfloop.store import Run

    found = stability.stability(Run.open(path), metric=metric, tolerance=tolerance)
    if as_json:
        say_plain(json.dumps(stability.plain(dataclasses.asdict(found)), indent=1, ensure_ascii=False))
        return 0
    show(stability.headings(found), stability.cells(found))
    for line in stability.sentences(found):
        say(line)
    return 0
