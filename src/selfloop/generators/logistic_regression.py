"""Logistic regression whose labels the last model made, by scikit-learn's L-BFGS."""

from __future__ import annotations

import math
import warnings
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from threadpoolctl import threadpool_limits
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS
from selfloop.generators.conditional import Conditional
from selfloop.learning.training import BUFFERS

_CLASSES = f"{BUFFERS}classes"


@GENERATORS.register
class LogisticRegression(Conditional):
    """P(y = c₁ | x) = 1 / (1 + e^−(x β + b)) for a column of two values c₀ < c₁, whatever these are.

    β and b minimise Σ_i w_i ln(1 + e^∓η_i) / Σ_i w_i + α ‖β‖², as scikit-learn's LogisticRegression does with
    ``C`` = 1 / (2 α n), or without a penalty. The intercept is not penalised. Where classes can be separated the
    likelihood has no maximum, and the fit is where L-BFGS ends. Of a single class there is no fit: the model makes that
    class from then on, and has β = 0. ``log_prob`` is ln P(y | x).

    State: that of :class:`Conditional`, and ``buffers.classes`` (R, 2), c₀ and c₁.

    Attributes:
        tolerance: L-BFGS ends once no component of the gradient is greater.
        iterations: at most, whether or not the tolerance is reached.
    """

    name: Literal["logistic_regression"] = "logistic_regression"
    tolerance: PositiveFloat = 1e-4
    iterations: Count = 10_000
    has: ClassVar[frozenset[Capability]] = Conditional.has | {"classes"}

    def refuse(self, x: Tensor) -> None:
        """Refuse a column of other than two values."""
        if (count := len(torch.unique(self._apart(x)[1]))) != 2:
            raise ValueError(f"it tells two classes apart, and column {self.target} has {count} values")

    def blank(self, k: int, r: int) -> State:
        """Return fair coins of classes 0 and 1."""
        return {
            "coefficients": torch.zeros(r, k, dtype=self.dtype),
            "intercept": torch.zeros(r, dtype=self.dtype),
            _CLASSES: torch.tensor([0.0, 1.0], dtype=self.dtype).repeat(r, 1),
        }

    def fitted(self, x: Tensor, y: Tensor, weight: Tensor, before: State) -> State:
        """Return where L-BFGS ends; NaN where there are more than two classes."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Fitted

        classes = torch.unique(y)
        arm = {name: leaf[0] for name, leaf in self.blank(x.shape[1], 1).items()}
        if len(classes) > 2:
            return {name: torch.full_like(leaf, math.nan) for name, leaf in arm.items()}
        arm[_CLASSES] = classes[[0, -1]]
        if len(classes) == 1:
            return arm
        model = Fitted(
            C=1 / (2 * self.penalty * len(x)) if self.penalty else math.inf,
            tol=self.tolerance,
            max_iter=self.iterations,
            fit_intercept=self.intercept,
        )
        # How a sum is split over threads changes its last digits.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # ``iterations`` says that it may end before
            model.fit(x.numpy(), (y == classes[1]).numpy(), sample_weight=weight.numpy())
        arm["coefficients"] = torch.from_numpy(model.coef_[0]).to(self.dtype)
        arm["intercept"] = (
            torch.as_tensor(model.intercept_, dtype=self.dtype)[0] if self.intercept else arm["intercept"]
        )
        return arm

    def mean(self, state: State, eta: Tensor) -> Tensor:
        """Return c₀ + (c₁ − c₀) P(y = c₁ | x)."""
        low, high = _classes(state)
        return low + (high - low) * eta.sigmoid()

    def respond(self, state: State, eta: Tensor, streams: Streams, temperature: float) -> Tensor:
        """Draw c₁ with the probability of η / τ, else c₀."""
        drawn = torch.stack([torch.from_numpy(rng.random(eta.shape[1])) for rng in streams.numpy("labels")])
        low, high = _classes(state)
        return torch.where(torch.isnan(eta), math.nan, torch.where(drawn < (eta / temperature).sigmoid(), high, low))

    def correct(self, state: State, x: Tensor) -> Tensor:
        """Return whether y is c₁ where η > 0, and c₀ elsewhere, of (R, N, d) rows, (R, N) bool."""
        others, y = self._apart(x.to(self.dtype))
        low, high = _classes(state)
        return y == torch.where(self.predicted(state, others) > 0, high, low)

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return ln P(y | x) of (R, N, d) rows; −∞ where y is neither class."""
        others, y = self._apart(x.to(self.dtype))
        eta = self.predicted(state, others)
        low, high = _classes(state)
        of_high = torch.nn.functional.logsigmoid(eta)
        of_low = torch.nn.functional.logsigmoid(-eta)
        log_prob = torch.where(y == high, of_high, torch.where(y == low, of_low, -math.inf))
        return torch.where((low == high) & (y == low), 0.0, log_prob)


def _classes(state: State) -> tuple[Tensor, Tensor]:
    """Return c₀ and c₁, (R, 1) both."""
    low, high = state[_CLASSES].unsqueeze(2).unbind(1)
    return low, high
