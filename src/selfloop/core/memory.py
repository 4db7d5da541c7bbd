"""How much memory there is, and the refusal of what would take more."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

from selfloop.core.amounts import size_in_words
from selfloop.core.errors import ConfigError

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


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
        raise ConfigError(
            f"{what} would take {size_in_words(size)} of memory, and this machine has {size_in_words(memory())}"
        )
