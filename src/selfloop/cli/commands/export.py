"""Write a run's pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import bar, say


def command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")],
    png: Annotated[Path, typer.Option(metavar="DIR", help="a new or empty directory for the pictures")],
    generation: Annotated[str, typer.Option(metavar="N|train|held_out", help="which; default: the last")] = "",
    arm: Annotated[int, typer.Option(min=0, help="of which arm")] = 0,
) -> int:
    """Write one arm's images of a generation, or its real ones, as PNG files."""
    from selfloop.analysis import sources
    from selfloop.core.files import disk_errors
    from selfloop.store import Run

    images = sources.of_run(path, generation or str(max(Run.open(path).last, 0)), arm)
    with bar("pictures", len(images)) as tick, disk_errors(png):
        sources.write_pictures(images, png, tick)
    say(f"Wrote {len(images)} pictures to {png}")
    return 0
