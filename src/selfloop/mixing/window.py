"""What is older than some generations is forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Composed, Part


@MIXINGS.register
class Window(Composed):
    """The samples of the last models, and the real rows or not.

    Attributes:
        generations: W, of how many models; of all there are before so many have been.
        real: whether all real rows belong to it, too.
    """

    name: Literal["window"] = "window"
    generations: int = Field(default=3, ge=1)
    real: bool = True

    def made_of(self) -> Sequence[Part]:
        """Return the real rows, if they belong to it, and the last models' samples."""
        last = Part(source="earlier", generations=self.generations)
        return [Part(source="real"), last] if self.real else [last]

    @property
    def ratio(self) -> float | None:
        """Return inf without real rows; with them it grows at first, which is no one number."""
        return None if self.real else math.inf
