"""A steady supply of new real rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from selfloop.core.errors import quoted
from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Composed, Part


def golden(k: float) -> float:
    """Return the share of fresh real rows that serves best where there are k synthetic ones to each, k > 0.

    The error of a mean settles at (a²/n + (1 − a)²/(kn)) / (1 − (1 − a)²) of the variance for a share a; that is least
    at a = (√(4k + 1) − 1) / (2k), where it is a/n (He, Xu & Cheng 2025). The synthetic rows have the rest,
    (2k + 1 − √(4k + 1)) / (2k). For k = 1 it is the golden ratio's inverse, 0.618.
    """
    return (math.sqrt(4 * k + 1) - 1) / (2 * k)


@MIXINGS.register
class Fresh(Composed):
    """n new real rows each generation and ⌊k·n⌋ of the last model's.

    Attributes:
        k: synthetic rows per fresh real one.
        weight: the share of the real rows in the whole; "golden" is the one that serves best; None: rows count as rows.
            Where there are no samples, as at k = 0, they have all of it: the golden share goes to 1 as k goes to 0.
    """

    name: Literal["fresh"] = "fresh"
    k: float = Field(default=1.0, ge=0)
    weight: float | Literal["golden"] | None = None

    @field_validator("weight", mode="before")
    @classmethod
    def _a_share(cls, weight: Any) -> Any:
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if weight in (None, "golden") or (number and 0 <= weight <= 1):
            return weight
        raise ValueError(f"the share of the real rows is from 0 to 1, or golden, or null, not {quoted(weight)}")

    @property
    def share(self) -> float | None:
        """Of the real rows in the whole, None where rows count as rows."""
        if self.weight is None or self.k == 0:
            return None
        return golden(self.k) if self.weight == "golden" else self.weight

    def made_of(self) -> Sequence[Part]:
        """Return fresh rows, and the last model's where there are some."""
        share = self.share
        real = Part(source="fresh", weight=share)
        if self.k == 0:
            return [real]
        return [real, Part(source="newest", rows=self.k, weight=None if share is None else 1 - share)]
