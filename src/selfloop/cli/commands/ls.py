"""List runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import say, show
from selfloop.core.errors import SelfloopError
from selfloop.core.paths import here, url_of

_FEW = 12  # settings whose verdicts are listed one by one


def command(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="a directory of runs, or one run", parser=here)],
) -> int:
    """List the runs in a directory: how far each is and what is said of each setting."""
    if found := _runs(path):
        headings = ("run", "experiment", "retrainings", "arms", "report", "verdicts")
        show(headings, [(str(p), *_row(p)) for p in found])
    else:
        say(f"no runs in {path}")
    return 0


def _runs(path: Path) -> list[Path]:
    """Return the runs right in a directory, and itself if it is one; what stands here for those of a URL.

    Raises:
        SelfloopError: it is no directory.
    """
    if url_of(path) is not None:
        from selfloop.store.remote import runs_below

        return runs_below(path)
    if not path.is_dir():
        raise SelfloopError(f"{str(path)!r} is not a directory")
    from selfloop.core.files import disk_errors  # not before: torch comes with it

    with disk_errors(path):
        return [p for p in [path, *sorted(path.iterdir())] if os.path.lexists(p / "experiment.yaml")]


def _row(folder: Path) -> tuple[str, str, str, str, str]:
    from selfloop.analysis import curves, verdict
    from selfloop.report.shown import shown
    from selfloop.store import Run

    try:
        opened = Run.open(folder)
        if wrong := opened.damage(contents=False):
            more = f" (and {len(wrong) - 1} more: selfloop verify {folder})" if len(wrong) > 1 else ""
            return "damaged", "", "", "", wrong[0] + more
        read = curves.read(opened)
        by = verdict.judged(read, opened.metrics)
        settings = read.settings if opened.last > 0 else ()
        words = {s.label: verdict.of_setting(s, read, by).text for s in settings}
        done = f"{max(opened.last, 0)}/{opened.experiment.generations}"
        return opened.experiment.name, done, str(len(opened.arms)), shown(opened) or "none", _said(words)
    except SelfloopError as error:
        return "damaged", "", "", "", str(error)


def _said(words: Mapping[str, str]) -> str:
    """Return the verdicts in a line: of every setting, or of many how often each word is said."""
    if len(words) <= _FEW:
        return "; ".join(f"{label}: {word}" for label, word in words.items())
    return ", ".join(f"{count} {word}" for word, count in Counter(words.values()).most_common())
