"""Samples that somebody has looked at."""

from __future__ import annotations

from typing import Any, Literal

from selfloop.mixing.augment import Augmented
from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Verify


@MIXINGS.register
class Verified(Augmented, Verify):
    """All real rows and those of ⌊λ·n⌋ samples of the last model that a verifier keeps; λ = inf: no real ones."""

    name: Literal["verified"] = "verified"

    def steps(self) -> dict[str, Any]:
        """Return that rows are verified, by its own settings."""
        return {"verified": self}
