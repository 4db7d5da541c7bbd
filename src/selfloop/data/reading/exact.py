"""Whole numbers that float64 would round are refused for what they are."""

from __future__ import annotations

import numpy as np

from selfloop.core.errors import DataError

EXACT = 2**53
"""The greatest whole number up to which float64 tells all of them apart."""


def rounded(where: str) -> DataError:
    """Return the refusal of whole numbers that float64 does not tell apart."""
    return DataError(
        f"{where} holds whole numbers beyond 2^53, which float64 rounds; subtract a constant, or leave the column out"
    )


def refuse_rounded(x: np.ndarray, where: str) -> None:
    """Refuse whole numbers (N,) that float64 rounds.

    Raises:
        DataError: there are some; ``where`` names the column.
    """
    if x.dtype.kind in "iu" and len(x) and (int(x.max()) > EXACT or int(x.min()) < -EXACT):
        raise rounded(where)
