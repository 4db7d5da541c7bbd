"""List runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import say, show
from selfloop.core.errors import SelfloopError
from selfloop.core.paths import expanded


def command(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="a directory of runs, or one run", parser=expanded)],
) -> int:
    """List the runs in a directory: how far each is and what is said of each setting."""
    if not path.is_dir():
        raise SelfloopError(f"{str(path)!r} is not a directory")
    found = [p for p in [path, *sorted(path.iterdir())] if (p / "experiment.yaml").is_file()]
    if found:
        show(("run", "experiment", "retrainings", "arms", "verdicts"), [(str(p), *_row(p)) for p in found])
    else:
        say(f"no runs in {path}")
    return 0


def _row(folder: Path) -> tuple[str, str, str, str]:
    from selfloop.analysis import curves, verdict
    from selfloop.store import Run

    try:
        opened = Run.open(folder)
        read = curves.read(opened)
        by = verdict.judged(read, opened.metrics)
        words = [f"{s.label}: {verdict.of_setting(s, read, by).text}" for s in read.settings] if opened.last > 0 else []
        done = f"{max(opened.last, 0)}/{opened.experiment.generations}"
        return opened.experiment.name, done, str(len(opened.arms)), "; ".join(words)
    except SelfloopError as error:
        return "damaged", "", "", str(error)
