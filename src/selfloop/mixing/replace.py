"""Nothing but the last model's samples, as much of model collapse is studied with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Composed, Part, Power


@MIXINGS.register
class Replace(Composed):
    """The samples of the last model alone: n of them, or ⌊n·t^power⌋ at generation t (Shumailov et al. 2024).

    Attributes:
        n: how their number grows; None is as many as there are real rows, always.
    """

    name: Literal["replace"] = "replace"
    n: Power | None = None

    def made_of(self) -> Sequence[Part]:
        """Return the last model's samples."""
        return [Part(source="newest", rows=self.n)]

    @property
    def ratio(self) -> float | None:
        """Return inf, as there are no real rows; None where so many are drawn that the loop need not collapse for it.

        The error of the mean adds up to Σ 1/n_t, which is finite for a power above 1.
        """
        return math.inf if self.n is None or self.n.power <= 1 else None
