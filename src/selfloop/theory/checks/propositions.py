"""Propositions 2, 3 and 4 of Bertrand et al. 2024, and the constants of their assumptions, on a model at hand.

Legend: θ parameters, p of them; θ* the best model; λ synthetic rows per real row; A, B Hessians of the expected
log-likelihood at θ* on data and on the model; α least curvature of −A; L Lipschitz constant of x ↦ ∇² log p(x);
ε Wasserstein distance from p_θ* to the data; P = Σ⁻¹ precision of a Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from selfloop.core.streams import generator
from selfloop.theory.checks.check import Check
from selfloop.theory.contraction import Doubles, LogProb, Measure, contraction, maximise

ModelMeasure = Callable[[Tensor], Measure]  # θ (p,) → points and weights of p_θ

_EXACT = 1e-8  # tolerance of a calculation in float64


class PrecisionGaussian:
    """N(μ, Σ) in Proposition 2's parameters θ = (μ, Σ⁻¹), with d(d + 1)/2 coordinates for the symmetric Σ⁻¹.

    The coordinates are those of an orthonormal basis of the symmetric matrices, so that lengths are Frobenius'. All d²
    entries of a matrix as parameters would not do: along antisymmetric matrices log det P curves upwards, and Eq. 60's
    ½ (Σ ⊗ Σ) is the Hessian on symmetric ones alone.
    """

    def __init__(self, d: int) -> None:
        rows, columns = torch.tril_indices(d, d)
        basis = torch.zeros(len(rows), d, d, dtype=torch.float64)
        k = torch.arange(len(rows))
        basis[k, rows, columns] = basis[k, columns, rows] = ((1 + (rows == columns).double()) / 2).sqrt()
        self._d, self._basis = d, basis

    def pack(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """Return θ (p,) of a mean (d,) and a covariance (d, d)."""
        precision = torch.linalg.inv(covariance)
        return torch.cat([mean, (self._basis * precision).sum((1, 2))])

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log N(x; μ, P⁻¹) of x (N, d), (N,) nats; NaN where det P is negative."""
        mean, precision = theta[: self._d], torch.tensordot(theta[self._d :], self._basis, 1)
        centred = x - mean
        square = ((centred @ precision) * centred).sum(1)
        value: Tensor = 0.5 * (torch.logdet(precision) - square - self._d * math.log(2 * math.pi))
        return value


def hessians(log_prob: LogProb, theta: Tensor, x: Tensor) -> Doubles:
    """Return ∇²_θ log p_θ(x) of every x (N, *event), (N, p, p)."""

    def each(point: Tensor) -> Tensor:
        def one(parameters: Tensor) -> Tensor:
            return log_prob(parameters, point.unsqueeze(0))[0]

        found: Tensor = torch.func.jacrev(torch.func.grad(one))(theta)
        return found

    return np.asarray(torch.func.vmap(each)(x).detach().numpy(), np.float64)


def lipschitz(log_prob: LogProb, theta: Tensor, x: Tensor) -> float:
    """Return the largest ‖∇² log p(x) − ∇² log p(y)‖₂ / ‖x − y‖ over neighbours in a list of points (N, *event).

    It is a lower bound of Assumption 1's L, exact where the Hessian is affine in x and the points differ in every
    direction, and close where the points are.
    """
    change = np.diff(hessians(log_prob, theta, x), axis=0)
    apart = np.linalg.norm(np.diff(x.flatten(1).numpy() if x.ndim > 1 else x.numpy()[:, None], axis=0), axis=1)
    return float((np.linalg.norm(change, 2, axis=(1, 2)) / apart).max())


def retrain(log_prob: LogProb, theta: Tensor, data: Measure, model: ModelMeasure, lam: float, start: Tensor) -> Tensor:
    """Return the local maximiser (p,) of E_data log p_θ′ + λ E_{p_θ} log p_θ′ that Newton's method reaches.

    It is G_λ(θ) (Eq. 9) where the start is θ.

    Raises:
        ValueError: it reaches none.
    """
    (x, weights), (y, others) = data, model(theta)
    mixed = torch.cat([x, y]), torch.cat([weights, lam * others]) / (1 + lam)
    return maximise(log_prob, start, mixed)


def proposition_2(mean: Doubles, covariance: Doubles, *, points: int = 200, seed: int = 0) -> Iterator[Check]:
    """Check the Gaussian's Hessian in (μ, Σ⁻¹): negative definite on average, with L = 1 (Proposition 2, Eq. 60).

    Its expectation under the model is block diagonal, −Σ⁻¹ and −½ Σ ⊗ Σ, so that the least curvature is
    min(1/σ₁, σ_d²/2) for the eigenvalues σ₁ ≥ … ≥ σ_d of Σ. The block between them is linear in x with norm ‖x − μ‖:
    L is 1 whatever Σ is.
    """
    d = len(mean)
    family, sigma = PrecisionGaussian(d), np.linalg.eigvalsh(covariance)
    theta = family.pack(torch.from_numpy(mean), torch.from_numpy(covariance))
    z = generator(seed, "proposition 2").standard_normal((points, d)) @ np.linalg.cholesky(covariance).T
    # With −z beside z the block between μ and Σ⁻¹, which has mean zero, vanishes in the sample too.
    x = torch.from_numpy(mean + np.concatenate([z, -z]))
    curvature = float(np.linalg.eigvalsh(-hessians(family.log_prob, theta, x).mean(0))[0])
    yield Check(
        statement=f"least curvature min(1/σ₁, σ_d²/2) of N(μ, Σ), d = {d}",
        source="Prop. 2",
        predicted=float(min(1 / sigma[-1], sigma[0] ** 2 / 2)),
        measured=curvature,
        error=_EXACT,
    )
    yield Check(
        statement=f"L = 1 of x ↦ ∇² log N(x; μ, Σ), d = {d}",
        source="Prop. 2",
        predicted=1.0,
        measured=lipschitz(family.log_prob, theta, x),
        error=_EXACT,
    )


def proposition_3(
    log_prob: LogProb,
    star: Tensor,
    data: Measure,
    model: ModelMeasure,
    lam: float,
    *,
    radius: float = 0.05,
    starts: int = 4,
    seed: int = 0,
    name: str = "the model",
) -> Iterator[Check]:
    """Check that retraining near θ* has one local maximiser, and the curvature that proves it (Proposition 3).

    Of its proof, −∇²H ⪰ ((1 + λ)α − λ‖A − B‖) I. More holds without its condition εL < α: −B is an information and so
    positive semi-definite, and −∇²H = −A − λB ⪰ α I for every λ.

    Args:
        log_prob: twice differentiable in θ.
        star: (p,) float64 θ*.
        data: points and weights.
        model: the same of p_θ, by θ.
        lam: λ.
        radius: of the ball in which θ and Newton's starts are drawn, per parameter.
        starts: how many of both.
        seed: of the draws.
        name: of the model, for the statement.
    """
    found = contraction(log_prob, star, data, model(star))
    curvature = float(np.linalg.eigvalsh(-found.data_hessian - lam * found.model_hessian)[0])
    for bound, words in (
        ((1 + lam) * found.alpha - lam * found.misfit, "(1+λ)α − λ‖A−B‖"),
        (found.alpha, "α"),
    ):
        yield Check(
            statement=f"{words} ≤ curvature of H, {name}, λ = {lam:g}",
            source="Prop. 3",
            predicted=curvature,
            measured=bound,
            error=_EXACT,
            bound=True,
        )
    rng, apart = generator(seed, "proposition 3"), 0.0
    for _ in range(starts):
        theta = star + radius * torch.from_numpy(rng.uniform(-1, 1, len(star)))
        reached = [
            retrain(log_prob, theta, data, model, lam, star + radius * torch.from_numpy(rng.uniform(-1, 1, len(star))))
            for _ in range(starts)
        ]
        apart = max(apart, *(float((other - reached[0]).norm()) for other in reached))
    yield Check(
        statement=f"distance between maximisers near θ*, {name}, λ = {lam:g}",
        source="Prop. 3",
        predicted=0.0,
        measured=apart,
        error=_EXACT,
    )


def proposition_4(
    log_prob: LogProb, star: Tensor, data: Measure, model: ModelMeasure, lam: float, *, name: str = "the model"
) -> Iterator[Check]:
    """Check that θ* is a fixed point of retraining (Proposition 4, Eq. 10); the arguments are Proposition 3's."""
    yield Check(
        statement=f"‖G(θ*) − θ*‖, {name}, λ = {lam:g}",
        source="Prop. 4",
        predicted=0.0,
        measured=float((retrain(log_prob, star, data, model, lam, star) - star).norm()),
        error=1e-6,
    )


def lemma_misfit(
    log_prob: LogProb, star: Tensor, data: Measure, model: Measure, epsilon: float, *, name: str = "the model"
) -> Iterator[Check]:
    """Check ‖A − B‖ ≤ L ε (Lemma E.1 iii) with L from the data's points, which should be dense and in order.

    Args:
        log_prob: twice differentiable in θ.
        star: (p,) float64 θ*.
        data: points and weights.
        model: the same of p_θ*.
        epsilon: ε, the Wasserstein-1 distance between the two.
        name: of the model, for the statement.
    """
    yield Check(
        statement=f"‖A − B‖ ≤ L ε, {name}",
        source="Lemma E.1 iii",
        predicted=lipschitz(log_prob, star, data[0]) * epsilon,
        measured=contraction(log_prob, star, data, model).misfit,
        error=_EXACT,
        bound=True,
    )
