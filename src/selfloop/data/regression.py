"""Toys of rows (x, y), x standard normal and y made of them by coefficients that are known, for loops that relabel."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.data.base import DATA
from selfloop.data.toy import NonNegative, Toy


class Predicted(Toy):
    """x ∼ N(0, I), and y, the last column, given x β + b.

    Attributes:
        coefficients: β; there are as many x as it has numbers.
        intercept: b.
    """

    offers: ClassVar[frozenset[Capability]] = frozenset(("fresh", "coefficients"))
    coefficients: list[float] = Field(default=[1.0, -1.0], min_length=1)
    intercept: float = 0.0

    @abstractmethod
    def respond(self, rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
        """Return y (n,) given x β + b (n,)."""

    @property
    def columns(self) -> int:
        """Those of x, and y."""
        return len(self.coefficients) + 1

    def names(self, d: int) -> tuple[str, ...]:
        """Return what the columns are called."""
        return (*(f"x{i}" for i in range(d - 1)), "y")

    def true_coefficients(self) -> Tensor:
        """Return β, float64."""
        return torch.tensor(self.coefficients, dtype=torch.float64)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, d) rows."""
        x = rng.standard_normal((n, len(self.coefficients)))
        y = self.respond(rng, x @ np.asarray(self.coefficients) + self.intercept)
        return np.column_stack([x, y])


@DATA.register
class LinearRegression(Predicted):
    """y = x β + b + ``noise`` z with normal x and z."""

    name: Literal["linear_regression"] = "linear_regression"
    noise: NonNegative = 1.0

    def respond(self, rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
        """Return η with noise."""
        return eta + self.noise * rng.standard_normal(len(eta))


@DATA.register
class LogisticRegression(Predicted):
    """y is 1 with the probability 1 / (1 + e^−(x β + b)) of normal x, else 0."""

    name: Literal["logistic_regression"] = "logistic_regression"

    def respond(self, rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
        """Return classes 0 and 1."""
        return (rng.random(len(eta)) < 0.5 * (1 + np.tanh(eta / 2))).astype(np.float64)
