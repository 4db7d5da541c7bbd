"""Samples that somebody has mended."""

from __future__ import annotations

from typing import Any, Literal

from selfloop.mixing.augment import Augmented
from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Correct


@MIXINGS.register
class Corrected(Augmented, Correct):
    """All real rows and ⌊λ·n⌋ of the last model, moved towards the real ones by a strength γ; λ = inf: no real ones."""

    name: Literal["corrected"] = "corrected"

    def steps(self) -> dict[str, Any]:
        """Return that rows are corrected, by its own settings."""
        return {"corrected": self}
