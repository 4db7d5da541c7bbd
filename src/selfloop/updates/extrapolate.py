"""Away from what samples taught: negative extrapolation."""

from __future__ import annotations

from typing import ClassVar, Literal

from selfloop.core.samples import State
from selfloop.updates.base import UPDATES, Update


@UPDATES.register
class Extrapolate(Update):
    """θ_r − w (θ_s − θ_r): θ_r of generation 0, on real rows, θ_s what was just fitted (Neon, Alemohammad et al. 2025).

    A warm fit goes on from generation 0, weights and optimiser, in every generation, as Neon fine-tunes its base model.
    SIMS (Alemohammad et al. 2024) extrapolates scores in the same way and not weights.

    Attributes:
        w: 0 stays at generation 0, −1 is the fit itself.
    """

    name: Literal["extrapolate"] = "extrapolate"
    w: float
    starts: ClassVar[Literal["last", "first"]] = "first"

    def __call__(self, t: int, fitted: State, last: State, first: State) -> State:
        """Return (1 + w) θ_r − w θ_s."""
        return {name: base - self.w * (fitted[name] - base) for name, base in first.items()}
