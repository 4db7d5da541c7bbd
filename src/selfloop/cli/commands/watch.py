"""Judge a loop that is run elsewhere whenever a generation arrives."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli import judging
from selfloop.cli.terminal import INTERRUPTED, names, say, say_plain, say_report

if TYPE_CHECKING:
    from selfloop.analysis.judgement import Judgement
    from selfloop.outside import Loop

_DAY = 86_400.0  # seconds; a wait for ever would never look


def command(
    generations: Annotated[
        str, typer.Argument(metavar="DIR|PATTERN", help="where they arrive: a folder, a glob, a pattern 'gen_{t}.csv'")
    ],
    real: Annotated[str, typer.Option(metavar="REAL", help="real data: pictures, an array, a table, or RUN@train")],
    held_out: judging.HeldOut = None,
    control: judging.Control = None,
    every: judging.Every = 1,
    leave_out: judging.LeaveOut = "",
    features: judging.FeaturesOption = None,
    metrics: judging.Metrics = None,
    metric: judging.MetricOption = None,
    tolerance: judging.Tolerance = 0.1,
    rows: judging.RowsOption = 10_000,
    raw: judging.Raw = False,
    target: judging.Target = None,
    out: judging.Out = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON, a line for every generation that arrives")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0, max=_DAY, metavar="SECONDS", help="how long to wait between two looks")
    ] = 10,
    settle: Annotated[
        float,
        typer.Option(min=0, max=_DAY, metavar="SECONDS", help="how long files must have kept size and time to be read"),
    ] = 2,
    once: Annotated[bool, typer.Option("--once", help="judge what is there and exit, as from cron")] = False,
) -> int:
    """Judge a loop whenever a generation arrives; exit, at Ctrl-C or after --once, as judge with the last verdict."""
    from selfloop.analysis.sequences import Arrivals
    from selfloop.outside import loop_of

    settings = judging.Settings(
        features=features,
        metrics=metrics,
        metric=metric,
        tolerance=tolerance,
        rows=rows,
        raw=raw,
        target=target,
        out=out,
    )
    arrivals = Arrivals(settle)
    code: int | None = None
    try:
        while True:
            loop = loop_of(
                real,
                generations,
                held_out=held_out,
                control=control,
                every=every,
                leave_out=names(leave_out),
                growing=True,
            )
            found = _judged(settings, loop.whole(arrivals), again=code is None)
            if found is not None:
                code = found.code
                _tell(found, as_json)
            if once:
                return _nothing(generations) if code is None else code
            time.sleep(interval)
    except KeyboardInterrupt:
        return INTERRUPTED if code is None else code


def _judged(settings: judging.Settings, loop: Loop, again: bool) -> Judgement | None:
    """Judge what has arrived, where that is more than the run has, or where it is asked for again; None if nothing."""
    from selfloop.store import Run
    from selfloop.store.remote import refresh

    folder = settings.folder(loop)
    refresh(folder)
    there = Run.open(folder).present if (folder / "experiment.yaml").is_file() else 0
    if loop.length > there or (again and loop.length == there > 0):
        return settings.judged(loop)
    return settings.of_run(folder) if again and there else None


def _tell(found: Judgement, as_json: bool) -> None:
    index = judging.report(found)
    if as_json:
        say_plain(json.dumps(found.plain() | {"report": str(index)}, ensure_ascii=False))
        return
    last = found.curves.generations - 1
    source = found.run.source(last, found.loop.arms[0]) or {}
    say(f"Generation {last} ({source.get('name')}): {found.sentence}")
    say_report(index)


def _nothing(generations: str) -> int:
    from selfloop.analysis.judgement import CODES
    from selfloop.analysis.sequences import missing_folder

    folder = missing_folder(generations)
    where = f": there is no folder {folder!r}" if folder else ""
    say(f"No generation of {generations!r} has arrived yet{where}.")
    return CODES["cannot tell yet"]
