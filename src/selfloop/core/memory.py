"""How much memory there is, and the refusal of what would take more."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

from selfloop.core.errors import ConfigError

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


@functools.cache
def memory() -> int:
    """Return the bytes of memory that this machine, or its container, has; 2⁴⁶ where that is not known."""
    found = [2**46]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
            found.append(int(Path(limit).read_text()))
    return min(size for size in found if size > 0)


def refuse_beyond_memory(size: int, what: str) -> None:
    """Refuse what would take more bytes than there are.

    Raises:
        ConfigError: with what it is, what it would take, and what there is.
    """
    if size > memory():
        raise ConfigError(f"{what} would take {in_words(size)} of memory, and this machine has {in_words(memory())}")


def in_words(size: int) -> str:
    """Return a number of bytes in three digits, and beyond all units as a power of ten."""
    power = min(max(len(str(size)) - 1, 0) // 3, len(_UNITS) - 1)
    if size >= 1000 ** len(_UNITS):
        return f"10^{len(str(size)) - 1} bytes"
    return f"{size / 1000**power:.3g} {_UNITS[power]}"
