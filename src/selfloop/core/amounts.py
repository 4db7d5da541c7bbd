"""Bytes and seconds as a person reads them."""

from __future__ import annotations

_BYTES = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
_TIMES = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"), (1e-3, "ms"))


def size_in_words(size: float) -> str:
    """Return a number of bytes in three digits, and beyond all units as a power of ten: "1.6 MB"."""
    digits = len(str(int(size)))
    if size >= 1000 ** len(_BYTES):
        return f"10^{digits - 1} bytes"
    power = min((digits - 1) // 3, len(_BYTES) - 1)
    return f"{size / 1000**power:.3g} {_BYTES[power]}"


def time_in_words(seconds: float) -> str:
    """Return a time in three digits and the unit that is no more than half of it: "90 seconds", "2.5 hours"."""
    unit, name = next((each for each in _TIMES if seconds >= 2 * each[0]), _TIMES[-1])
    return f"{seconds / unit:.3g} {name}"
