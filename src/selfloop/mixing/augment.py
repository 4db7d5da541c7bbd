"""The paper's regime: all real rows and ⌊λ·n⌋ of the last model's."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator

from selfloop.core.config import Real
from selfloop.core.samples import Samples
from selfloop.mixing.base import MIXINGS, Pool, Regime


def synthetic_rows(lam: float, n: int) -> int:
    """Return ⌊λ·n⌋ for a finite λ ≥ 0, taken as the decimal that it is written as: 0.29 · 100 is 29, not 28.999…"""
    return math.floor(Fraction(str(lam)) * n)


@MIXINGS.register
class Augment(Regime):
    """All real rows and ⌊λ·n⌋ from the last model (Algorithm 1); λ = inf: n synthetic rows and no real one.

    Attributes:
        lam: λ ≥ 0, or inf for the fully synthetic loop.
    """

    name: Literal["augment"] = "augment"
    lam: Real = Field(default=1.0)

    @field_validator("lam")
    @classmethod
    def _not_negative(cls, lam: float) -> float:
        if math.isnan(lam) or lam < 0:
            raise ValueError("λ must be 0 or more, or inf for the fully synthetic loop")
        return lam

    def synthetic(self, n: int) -> int:
        """Return ⌊λ·n⌋, or n where λ is inf."""
        return n if math.isinf(self.lam) else synthetic_rows(self.lam, n)

    def draws(self, t: int, n: int) -> int:
        """Return max(n, ⌊λ·n⌋)."""
        return max(n, self.synthetic(n))

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return real ∪ synthetic, real rows first and byte for byte; generation 0 is real data alone."""
        if t == 0 or self.lam == 0:
            return pool.real
        taken = pool.generated(t - 1, self.synthetic(pool.n))
        return taken if math.isinf(self.lam) else Samples.union([pool.real, taken])

    @property
    def ratio(self) -> float:
        """λ."""
        return self.lam

    @property
    def label(self) -> str:
        """λ in words."""
        return f"λ = {'∞' if math.isinf(self.lam) else f'{self.lam:g}'}"
