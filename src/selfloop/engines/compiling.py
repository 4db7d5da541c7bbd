"""How long numba has compiled in this process: it does so once, and later generations take that much less."""

from __future__ import annotations

import threading
import time
from typing import Any

from numba.core.event import Listener, register


class _Compiling(Listener):  # type: ignore[misc]
    """A listener of numba's, which says when it begins to compile something and when it has done so.

    One compilation begins others; they count once, in whichever thread they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nothing_ran = True  # in this process: what comes first imports, and reads what was compiled before
        self._seconds, self._depth, self._since, self._lock = 0.0, 0, 0.0, threading.Lock()

    def seconds(self) -> float:
        """Return how long it was by now."""
        with self._lock:
            return self._seconds + (time.monotonic() - self._since if self._depth else 0.0)

    def on_start(self, event: Any) -> None:
        """Take note of a begin."""
        with self._lock:
            self._since = time.monotonic() if self._depth == 0 else self._since
            self._depth += 1

    def on_end(self, event: Any) -> None:
        """Take note of an end."""
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._seconds += time.monotonic() - self._since


compiling = _Compiling()
register("numba:compile", compiling)
