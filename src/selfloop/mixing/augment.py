"""The paper's regime, all real rows and ⌊λ·n⌋ of the last model's, and what others do something more with these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from selfloop.core.config import Real
from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Composed, Part, multiple

synthetic_rows = multiple
"""⌊λ·n⌋ for a finite λ, what the theory calls m."""


class Augmented(Composed):
    """All real rows and what becomes of ⌊λ·n⌋ from the last model; λ = inf: of n synthetic rows, and no real one.

    Attributes:
        lam: λ ≥ 0, or inf for the fully synthetic loop.
    """

    lam: Real = Field(default=1.0)

    @field_validator("lam")
    @classmethod
    def _not_negative(cls, lam: float) -> float:
        if math.isnan(lam) or lam < 0:
            raise ValueError(f"λ must be 0 or more, or inf for the fully synthetic loop, not {lam}")
        return lam

    def synthetic(self, n: int) -> int:
        """Return ⌊λ·n⌋, or n where λ is inf."""
        return n if math.isinf(self.lam) else synthetic_rows(self.lam, n)

    def steps(self) -> dict[str, Any]:
        """Return the settings of :class:`Part` that say what is done with the samples."""
        return {}

    def made_of(self) -> Sequence[Part]:
        """Return the real rows where there are some, and the last model's where there are some."""
        real = [] if math.isinf(self.lam) else [Part(source="real")]
        rows = 1.0 if math.isinf(self.lam) else self.lam
        return [*real, *([Part(source="newest", rows=rows, **self.steps())] if rows else [])]

    @property
    def ratio(self) -> float | None:
        """Return 0 where there are only real rows; what the theory says of other λ is of samples that nobody chose."""
        return 0.0 if self.lam == 0 else None


@MIXINGS.register
class Augment(Augmented):
    """All real rows and ⌊λ·n⌋ from the last model (Algorithm 1); λ = inf: n synthetic rows and no real one."""

    name: Literal["augment"] = "augment"

    @property
    def ratio(self) -> float:
        """λ."""
        return self.lam

    @property
    def label(self) -> str:
        """λ in words."""
        return f"λ = {'∞' if math.isinf(self.lam) else f'{self.lam:g}'}"
