"""Data: points on an ellipse, without end."""

import math
from typing import Literal

import numpy as np

from selfloop.data.toy import Toy


class Ellipse(Toy):
    """Points on an ellipse of half axes ``width`` and 1, uniform in the angle."""

    name: Literal["ellipse"] = "ellipse"
    width: float = 2.0

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        angle = 2 * math.pi * rng.random(n)
        return np.stack([self.width * np.cos(angle), np.sin(angle)], axis=1)
