"""The multivariate Gaussian of Section 2.2: fitted in closed form, collapsing in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler, latents
from selfloop.learning.training import Budget

_ROUNDING = 1e-8  # of the greatest eigenvalue, by which the least may lie below 0


@GENERATORS.register
class Gaussian(Sampler):
    """N(μ, Σ) with the sample mean and covariance (Eqs. 4–5 of Bertrand et al. 2024).

    Of rows that count w_i they are μ = Σ_i w_i x_i / V₁ and Σ = Σ_i w_i (x_i − μ)(x_i − μ)ᵀ / (V₁ − V₂ / V₁), where
    V₁ = Σ_i w_i and V₂ = Σ_i w_i²: unbiased for independent rows of one distribution, whatever they count. For n rows
    that count alike the divisor is n − 1, whatever that is: the scale of weights means nothing. The covariance of
    maximum likelihood has the divisor V₁, n for rows that count alike.

    State: ``mean`` (R, d) and ``covariance`` (R, d, d), float64. With fewer than d + 1 rows Σ is singular, which
    sampling bears.

    Attributes:
        covariance: "unbiased", as in the paper, or of maximum likelihood ("mle").
    """

    name: Literal["gaussian"] = "gaussian"
    covariance: Literal["unbiased", "mle"] = "unbiased"
    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "parameters", "exponential", "temperature"))
    dtype: ClassVar[torch.dtype] = torch.float64
    stack: ClassVar[int] = 256

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the mean and the covariance."""
        (d,) = event
        return self.dtype.itemsize * (d + d**2)

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return the bytes of the covariance, its root, and what the root is made from."""
        return 3 * self.state_size(event)

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return N(0, I)."""
        (d,) = event
        r = len(streams.seeds)
        return {
            "mean": torch.zeros(r, d, dtype=self.dtype),
            "covariance": torch.eye(d, dtype=self.dtype).repeat(r, 1, 1),
        }

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the closed-form fit (Eq. 5); neither ``state`` nor ``budget`` plays a part."""
        # One arm at a time: the order of a sum depends on the padding, and on how many matrices are multiplied.
        unbiased = self.covariance == "unbiased"
        fitted = [_moments(*data.rows(r, self.dtype), unbiased) for r in range(len(data.count))]
        return {name: torch.stack([arm[name] for arm in fitted]) for name in fitted[0]}

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw x = μ + √(τΣ) z with the symmetric root (Eq. 4), τ being the temperature."""
        d = state["mean"].shape[1]
        z = latents(streams, (n, d), temperature, dtype=self.dtype)
        return state["mean"].unsqueeze(1) + z @ symmetric_root(state["covariance"])

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return log N(x; μ, Σ); −∞ or NaN where Σ is singular to working precision."""
        centred = x.to(self.dtype) - state["mean"].unsqueeze(1)
        factor, info = torch.linalg.cholesky_ex(state["covariance"])
        factor = torch.where((info == 0).view(-1, 1, 1), factor, torch.full_like(factor, torch.nan))
        whitened = torch.linalg.solve_triangular(factor, centred.transpose(1, 2), upper=False)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)
        log_prob: Tensor = -0.5 * (whitened.square().sum(1) + log_det + x.shape[-1] * math.log(2 * math.pi))
        return log_prob


def _moments(x: Tensor, weight: Tensor, unbiased: bool) -> State:
    """Return the mean (d,) and covariance (d, d) of rows (n, d) that count ``weight`` (n,); ``x`` is written over."""
    total, weighed = weight.sum(), bool((weight != 1).any())
    mean = (weight.unsqueeze(1) * x if weighed else x).sum(0) / total
    # In place: of the million rows of a long loop every further copy takes as long as all the sums.
    x -= mean
    if weighed:
        x *= weight.sqrt().unsqueeze(1)
    covariance = x.T @ x / (total - weight.square().sum() / total if unbiased else total)
    return {"mean": mean, "covariance": covariance}


def symmetric_root(covariance: Tensor) -> Tensor:
    """Return √Σ of (R, d, d) positive semi-definite matrices; rounding's negative eigenvalues count as zero.

    Of a matrix with others, which is no covariance, NaN.
    """
    # One matrix at a time: LAPACK's result for one must not depend on how many there are, nor on a NaN beside it.
    return torch.stack([_root(matrix) for matrix in covariance])


def _root(matrix: Tensor) -> Tensor:
    if not torch.isfinite(matrix).all():
        return torch.full_like(matrix, torch.nan)
    values, vectors = torch.linalg.eigh(matrix)
    if values.min() < -_ROUNDING * values.abs().max():
        return torch.full_like(matrix, torch.nan)
    root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root
