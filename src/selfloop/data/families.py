"""Toys of one parameter a column: counts, bits, waiting times and categories, for generators of the same families."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from selfloop.data.base import DATA
from selfloop.data.toy import Positive, Toy

Share = Annotated[float, Field(ge=0, le=1)]


class Columns(Toy):
    """``dim`` independent columns of one distribution."""

    dim: int = Field(default=1, ge=1, le=10**9)

    @property
    def columns(self) -> int:
        """How many there are."""
        return self.dim


@DATA.register
class Bernoulli(Columns):
    """Columns of 0 and 1, each 1 with the same ``probability``."""

    name: Literal["bernoulli"] = "bernoulli"
    probability: Share = 0.5

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, dim) zeros and ones."""
        return (rng.random((n, self.dim)) < self.probability).astype(np.float64)


@DATA.register
class Poisson(Columns):
    """Columns of counts, each Poisson with the same ``rate``."""

    name: Literal["poisson"] = "poisson"
    rate: Annotated[float, Field(gt=0, le=1e15)] = 1.0

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, dim) counts."""
        return rng.poisson(self.rate, (n, self.dim)).astype(np.float64)


@DATA.register
class Exponential(Columns):
    """Columns of positive numbers, each exponential with the same ``scale``, its mean."""

    name: Literal["exponential"] = "exponential"
    scale: Positive = 1.0

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, dim) numbers."""
        return rng.exponential(self.scale, (n, self.dim))


@DATA.register
class Categorical(Toy):
    """One column of categories 0, 1, …, each drawn with its own of the ``probabilities``, ten equal ones by default."""

    name: Literal["categorical"] = "categorical"
    probabilities: list[Share] = Field(default=[0.1] * 10, min_length=1)

    @field_validator("probabilities")
    @classmethod
    def _add_up(cls, probabilities: list[float]) -> list[float]:
        if abs((total := math.fsum(probabilities)) - 1) > 1e-9:
            raise ValueError(f"they add up to {total:.9g}, and must to 1")
        return probabilities

    @property
    def columns(self) -> int:
        """One."""
        return 1

    def names(self, d: int) -> tuple[str, ...]:
        """Return what the column is called."""
        return ("category",)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 1) whole numbers."""
        share = np.asarray(self.probabilities)
        return rng.choice(len(share), size=(n, 1), p=share / share.sum()).astype(np.float64)
