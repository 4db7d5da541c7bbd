"""Samples that somebody has chosen among others."""

from __future__ import annotations

from typing import Any, Literal

from selfloop.mixing.augment import Augmented
from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Curate


@MIXINGS.register
class Curated(Augmented, Curate):
    """All real rows and ⌊λ·n⌋ of the last model, each the one of K that is chosen ∝ e^reward; λ = inf: no real ones."""

    name: Literal["curated"] = "curated"

    def steps(self) -> dict[str, Any]:
        """Return that rows are curated, by its own settings."""
        return {"curated": self}
