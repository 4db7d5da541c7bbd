"""Samples that are less varied than the model, or more."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat

from selfloop.core.capabilities import Capability
from selfloop.mixing.augment import Augmented
from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import tempering


@MIXINGS.register
class Biased(Augmented):
    """All real rows and ⌊λ·n⌋ of the last model, which is sampled at a temperature; λ = inf: no real ones.

    Attributes:
        temperature: τ of all samples, of generation 0's too; 1 is the model itself, and less is safer and less varied.
    """

    name: Literal["biased"] = "biased"
    temperature: PositiveFloat

    @property
    def needs(self) -> frozenset[Capability]:  # type: ignore[override]
        """Samples at a temperature, where it is not 1."""
        return super().needs | tempering(self.temperature)

    def sampling_temperature(self, t: int) -> float:
        """Return τ."""
        return self.temperature
