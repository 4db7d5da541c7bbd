"""Which generation of a run, and which of its settings, the page in RUN/report shows."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re

from selfloop.analysis.verdict import Judged
from selfloop.core.files import at_once
from selfloop.store import Run

_MARK = re.compile(rb'<meta name="selfloop-shows" content="generation (-?[0-9]{1,20}, [0-9a-f]{64})">')
_JUDGED = re.compile(rb'<meta name="selfloop-judged" content="([0-9a-f]{64})">')
_HEAD = 4096  # bytes of a page among which the mark is


def mark(run: Run) -> str:
    """Return what a page says of what it shows."""
    return f"generation {run.last}, {run.view}"


def judged(by: Judged) -> str:
    """Return by what a page is judged, as a SHA-256."""
    controls = {label: control.label for label, control in by.controls.items()}
    return hashlib.sha256(json.dumps([by.distance, by.spread, by.tolerance, controls]).encode()).hexdigest()


def is_current(run: Run, by: Judged) -> bool:
    """Whether the page shows the run as it is, and is judged so."""
    found = _JUDGED.search(_head(run) or b"")
    return shown(run) == "current" and found is not None and found[1].decode() == judged(by)


def _head(run: Run) -> bytes | None:
    with contextlib.suppress(OSError), open(run.path / "report" / "index.html", "rb", opener=at_once) as page:
        return page.read(_HEAD)
    return None


def shown(run: Run) -> str:
    """Return "current" where the page shows the run as it is, else what it shows instead; "" where there is none."""
    head = _head(run)
    if head is None:
        return ""
    if (found := _MARK.search(head)) is None:
        return "of another version, or damaged"
    generation = found[1].decode().partition(",")[0]
    if f"generation {found[1].decode()}" == mark(run):
        return "current"
    return "of other settings" if int(generation) == run.last else f"of generation {generation}"
