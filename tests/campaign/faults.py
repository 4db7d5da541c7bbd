"""Disks and clocks that fail, played in a process: an error at the n-th change in a folder, waits, steps back in time.

Only the standard library is imported: the process is forked from the nursery of ``tests/helpers.py``.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import Any

from campaign.changes import changed


def play(root: str, at: int | None = None, error: int = 0, slow: float = 0.0, back: float = 0.0) -> None:
    """Let things fail in this process from now on.

    Args:
        root: changes below this folder count.
        at: the number of the first change that fails, from 0, and with it every later one that needs space.
        error: the ``errno`` that it fails with.
        slow: seconds that every change takes longer.
        back: seconds that the clock is set back at every change.
    """
    numbers = itertools.count()
    clock = time.time
    behind = 0.0

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal behind
        path = changed(event, arguments, root)
        if path is None:
            return
        n = next(numbers)
        time.sleep(slow)
        behind += back
        if at is not None and n >= at and event not in ("os.remove", "os.rmdir") and not path.endswith("log.txt"):
            raise OSError(error, os.strerror(error), path)

    sys.addaudithook(heard)
    if back:
        time.time = lambda: clock() - behind
        time.time_ns = lambda: int(time.time() * 1e9)
