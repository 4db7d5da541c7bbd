"""The largest eigenvalue of the loop's Jacobian without its Hessians: time over the number of parameters.

The model is a Gaussian by mean and Cholesky factor of its precision, at its exact maximum, on uniform data. There
is no peer that computes the same; exact Hessians are timed beside it where they fit.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Load
from selfloop.engines.threads import as_in_a_worker
from selfloop.theory.contraction import contraction, equal
from selfloop.theory.matrix_free import leading

DIMENSIONS = (4, 13, 44, 140, 446)
_DENSE = 200  # parameters up to which Hessians are formed
_ROUNDS = 3  # of the small sizes; the large ones are timed once


@dataclass(frozen=True, kw_only=True)
class Row:
    """One size.

    Attributes:
        parameters: p.
        rows: of data, and as many of the model and as many of both held out.
        gradient_s: one gradient of the expected log-likelihood on the data, on one thread, a median.
        total_s: one call of ``leading``, a median.
        gradients: total_s / gradient_s.
        dense_s: the exact Hessians and all eigenvalues, a median; NaN where they were not formed.
        mu: largest μ.
        residual: how far an eigenvalue can be from it.
        held_out: the quotient on rows held out; 1 in the limit of many rows, the data's Hessian being the model's.
        error: its standard error.
        load: cores that other processes used meanwhile.
    """

    parameters: int
    rows: int
    gradient_s: float
    total_s: float
    gradients: float
    dense_s: float
    mu: float
    residual: float
    held_out: float
    error: float
    load: float


class Precision:
    """N(μ, (L Lᵀ)⁻¹) with θ = (μ, L's lower triangle)."""

    def __init__(self, d: int) -> None:
        self.d, self.rows = d, torch.tril_indices(d, d)

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        factor = x.new_zeros(self.d, self.d).index_put(tuple(self.rows), theta[self.d :])
        whitened = (x - theta[: self.d]) @ factor
        return factor.diagonal().abs().log().sum() - 0.5 * (whitened.square().sum(1) + self.d * math.log(2 * math.pi))

    def fit(self, x: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(torch.linalg.inv(torch.cov(x.T, correction=0)))
        return torch.cat([x.mean(0), factor[tuple(self.rows)]])

    def sample(self, theta: Tensor, z: Tensor) -> Tensor:
        factor = z.new_zeros(self.d, self.d).index_put(tuple(self.rows), theta[self.d :])
        return theta[: self.d] + torch.linalg.solve_triangular(factor.T, z.T, upper=True).T


def timed(call, rounds: int) -> tuple[float, object]:
    """Return the median seconds of a call, and what it returned."""
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = call()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent), found


def row(d: int) -> Row:
    """Time one size."""
    rng, family, n = np.random.default_rng(d), Precision(d), max(1000, 20 * d)
    x, other = (torch.from_numpy(rng.random((n, d)) - 0.5) for _ in range(2))
    theta = family.fit(x)
    y, y_other = (family.sample(theta, torch.from_numpy(rng.standard_normal((n, d)))) for _ in range(2))
    data, weights = equal(x)
    rounds = _ROUNDS if theta.numel() < 2000 else 1
    with as_in_a_worker(), Load() as load:
        gradient_s, _ = timed(lambda: torch.func.grad(lambda t: weights @ family.log_prob(t, data))(theta), _ROUNDS)
        total_s, found = timed(
            lambda: leading(
                family.log_prob, theta, equal(x), equal(y), held_out=(equal(other), equal(y_other)), tolerance=1e-2
            ),
            rounds,
        )
        dense_s = math.nan
        if theta.numel() <= _DENSE:
            dense_s, exact = timed(lambda: contraction(family.log_prob, theta, equal(x), equal(y)), rounds)
            assert abs(exact.mu[-1] - found.mu[0]) < 1e-2 * exact.mu[-1]
    return Row(
        parameters=theta.numel(),
        rows=n,
        gradient_s=gradient_s,
        total_s=total_s,
        gradients=total_s / gradient_s,
        dense_s=dense_s,
        mu=float(found.mu[0]),
        residual=float(found.residual[0]),
        held_out=float(found.quotient[0]),
        error=float(found.error[0]),
        load=load.others,
    )


def rows() -> Iterator[Row]:
    """Yield a row for every size."""
    for d in DIMENSIONS:
        yield row(d)
