"""Check the theory."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import FAILED, bar, say_plain, show

if TYPE_CHECKING:
    from selfloop.theory.checks.check import Check


def command(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print a page, as in the documentation")] = False,
) -> int:
    """Check every prediction of the theory against a simulation; exit with 1 where one fails."""
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


def _checked() -> list[Check]:
    from selfloop.engines.threads import as_in_a_worker
    from selfloop.theory.checks.verify import checks

    found: list[Check] = []
    with bar("checks") as tick, as_in_a_worker():
        for check in checks():
            found.append(check)
            tick(len(found))
    return found
