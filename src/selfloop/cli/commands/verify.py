"""Check a run, or the theory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import FAILED, bar, say, say_plain, show
from selfloop.core.errors import RunError, counted
from selfloop.core.paths import here

if TYPE_CHECKING:
    from selfloop.theory.checks.check import Check


def command(
    path: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="a run directory; default: the theory", parser=here)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print a page, as in the documentation")] = False,
) -> int:
    """Check every file of a run; or, without one, every prediction of the theory, and exit with 1 where one fails."""
    if path is not None:
        return _run(path, as_json)
    from selfloop.theory.checks.check import HEADINGS, cells, page

    found = _checked()
    if as_json:
        rows = [dataclasses.asdict(check) | {"z": check.z, "holds": check.holds} for check in found]
        say_plain(json.dumps(rows, indent=1, ensure_ascii=False))
    elif markdown:
        print(page(found), end="")
    else:
        show(HEADINGS, map(cells, found))
    return 0 if all(check.holds for check in found) else FAILED


def _run(path: Path, as_json: bool) -> int:
    """Print what is damaged in a run, a line each.

    Raises:
        RunError: something is.
    """
    from selfloop.store import Run

    opened = Run.open(path)
    wrong = opened.damage()
    if as_json:
        say_plain(json.dumps(wrong, indent=1, ensure_ascii=False))
    for line in () if as_json else wrong:
        say(line)
    if wrong:
        raise RunError(f"{str(path)!r} is damaged: {len(wrong)} of its files")
    if not as_json:
        many = f"{counted(opened.present, 'generation')} of {counted(len(opened.arms), 'arm')}"
        say(f"{path}: {many}, every file as it was written.")
    return 0


def _checked() -> list[Check]:
    from selfloop.engines.threads import as_in_a_worker
    from selfloop.theory.checks.verify import checks

    found: list[Check] = []
    with bar("checks") as tick, as_in_a_worker():
        for check in checks():
            found.append(check)
            tick(len(found))
    return found
