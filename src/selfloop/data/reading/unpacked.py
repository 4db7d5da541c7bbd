"""What a packed file may unpack to: those of people shrink to a part of their size, those of attackers to nothing."""

from __future__ import annotations

from selfloop.core.errors import DataError
from selfloop.core.memory import in_words

FREE = 2**28
"""Bytes that any file may unpack to (256 MiB)."""

TIMES = 200
"""How many times its own size a larger one may be."""


def refuse_bomb(size: int, packed: int, source: str) -> None:
    """Refuse a file of ``packed`` bytes that unpacks to ``size`` bytes in memory, before it does.

    Raises:
        DataError: that is more than :data:`FREE`, and more than :data:`TIMES` times as much.
    """
    if size > max(FREE, TIMES * packed):
        raise DataError(
            f"{source} has {in_words(packed)} and unpacks to {in_words(size)} or more, as files do that are made to "
            "fill memory; if it is sound, save it without packing"
        )
