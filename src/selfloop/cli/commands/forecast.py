"""Say where a run's loop goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import loading, say, say_plain, show
from selfloop.core.paths import here


def command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory, finished or not", parser=here)],
    to: Annotated[int, typer.Option(help="the generation that is asked for")],
    metric: Annotated[str | None, typer.Option(help="to forecast; default: what the verdict looks at")] = None,
    seen: Annotated[
        int | None, typer.Option("--from", metavar="K", help="look at generations 0 to K alone; default: at all")
    ] = None,
    arms: Annotated[bool, typer.Option("--arms", help="every arm, too")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> int:
    """Forecast a run's metrics at a later generation, with 50 and 90 % intervals."""
    with loading():
        from selfloop.analysis import forecast

    found = forecast.forecast(path, to, metric=metric, seen=seen, arms=arms)
    if as_json:
        say_plain(json.dumps(found.plain(), indent=1, ensure_ascii=False))
        return 0
    show(forecast.headings(found), forecast.cells(found))
    for line in forecast.notes(found):
        say(line)
    return 0
