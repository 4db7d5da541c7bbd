"""Write a run's samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import bar, say
from selfloop.core.errors import ConfigError, counted
from selfloop.core.paths import expanded, here


def command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory", parser=here)],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="a new file for the rows, in the form that its ending names", parser=expanded
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="a new or empty directory for pictures", parser=expanded),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="a new file for rows of numbers", parser=expanded)
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE.parquet", help="the same as Parquet", parser=expanded)
    ] = None,
    generation: Annotated[str, typer.Option(metavar="N|train|held_out", help="which; default: the last")] = "",
    arm: Annotated[int, typer.Option(min=0, help="of which arm")] = 0,
) -> int:
    """Write one arm's samples of a generation, or its real data: images as PNG files, rows as a table like your own."""
    from selfloop.analysis import exports, sources
    from selfloop.core.files import disk_errors
    from selfloop.store import Run

    if not (file or png or csv or parquet):
        raise ConfigError("export writes nothing: name a file such as rows.csv, or give --png, --csv or --parquet")
    events = sources.of_run(path, generation or str(max(Run.open(path).last, 0)), arm)
    n = len(events.x)
    for form, table in (("", file), ("csv", csv), ("parquet", parquet)):
        if table is not None:
            with disk_errors(table):
                outside = exports.write_table(events, table, form)
            within = f"; {outside} numbers beyond its columns' bounds are set to these" if outside else ""
            say(f"Wrote {counted(n, 'row')} to {table}{within}")
    if png is not None:
        with bar("pictures", n) as tick, disk_errors(png):
            exports.write_pictures(events.pictures, png, tick, events.labels)
        classes = "" if events.labels is None else ", and their classes to dataset.json there"
        say(f"Wrote {counted(n, 'picture')} to {png}{classes}")
    return 0
