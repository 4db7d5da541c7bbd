"""Join shards of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import directory, say, say_report
from selfloop.core.paths import here


def command(
    shards: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories", parser=here)],
    out: Annotated[Path, typer.Option(help="a new run directory", parser=directory)],
) -> int:
    """Join what run --shard made to the run that one machine would have made, and write its report."""
    from selfloop.cli.commands.report import write
    from selfloop.shards import merge

    merged = merge(shards, out)
    say(f"Merged {len(shards)} shards to {merged}")
    say_report(write(merged))
    return 0
