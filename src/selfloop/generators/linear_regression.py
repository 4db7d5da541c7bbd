"""Linear regression whose labels the last model made: least squares, ridge, and least norm where rows are too few."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS, latents
from selfloop.generators.conditional import Conditional


class LeastSquares(Conditional):
    """y = η + σ z with normal z: the β and b that minimise Σ_i w_i (y_i − η_i)² / Σ_i w_i + α ‖β‖².

    Without a penalty that is least squares; of all its minima, where there are fewer rows than columns or columns
    depend on each other, it is the one of least norm. The intercept is not penalised. ``log_prob`` is ln p(y | x), as x
    have no density.

    State: that of :class:`Conditional`, and ``noise`` σ (R,).

    Attributes:
        noise: σ of the samples; None is that of maximum likelihood, the root of the mean square residual.
    """

    noise: Annotated[float, Field(ge=0)] | None = None

    def blank(self, k: int, r: int) -> State:
        """Return y = σ z."""
        noise = 1.0 if self.noise is None else self.noise
        return {
            "coefficients": torch.zeros(r, k, dtype=self.dtype),
            "intercept": torch.zeros(r, dtype=self.dtype),
            "noise": torch.full((r,), noise, dtype=self.dtype),
        }

    def fitted(self, x: Tensor, y: Tensor, weight: Tensor, before: State) -> State:
        """Return the minimum."""
        share = weight / weight.sum()
        mean_x, mean_y = share @ x, share @ y
        if not self.intercept:
            mean_x, mean_y = torch.zeros_like(mean_x), torch.zeros_like(mean_y)
        root = share.sqrt()
        rows, values = root.unsqueeze(1) * (x - mean_x), root * (y - mean_y)
        if self.penalty:  # as k more rows, which cost no accuracy as squaring the matrix would
            more = math.sqrt(self.penalty) * torch.eye(x.shape[1], dtype=self.dtype)
            rows, values = torch.cat([rows, more]), torch.cat([values, values.new_zeros(len(more))])
        # By singular values: the minimum of least norm.
        coefficients = torch.linalg.lstsq(rows, values.unsqueeze(1), driver="gelsd").solution.squeeze(1)
        intercept = mean_y - mean_x @ coefficients
        square = share @ (y - x @ coefficients - intercept).square()
        noise = square.sqrt() if self.noise is None else torch.full_like(square, self.noise)
        return {"coefficients": coefficients, "intercept": intercept, "noise": noise}

    def mean(self, state: State, eta: Tensor) -> Tensor:
        """Return η."""
        return eta

    def respond(self, state: State, eta: Tensor, streams: Streams, temperature: float) -> Tensor:
        """Draw η + √τ σ z; NaN where σ is negative."""
        z = latents(streams, eta.shape[1:], temperature, dtype=self.dtype)
        noise = state["noise"]
        return eta + torch.where(noise >= 0, noise, torch.full_like(noise, math.nan)).unsqueeze(1) * z

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return ln N(y; x β + b, σ²) of (R, N, d) rows."""
        others, y = self._apart(x.to(self.dtype))
        noise = state["noise"].unsqueeze(1)
        standard = (y - self.predicted(state, others)) / noise
        return -0.5 * standard.square() - noise.log() - 0.5 * math.log(2 * math.pi)


@GENERATORS.register
class LinearRegression(LeastSquares):
    """y = x β + b + σ z with normal z, by least squares: ordinary, ridge, or of least norm."""

    name: Literal["linear_regression"] = "linear_regression"
