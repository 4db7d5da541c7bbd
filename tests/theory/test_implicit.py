"""Jacobians by implicit differentiation against closed forms, likelihoods, and differences of the map itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.learning.samplers import ancestral, euler
from selfloop.learning.schedule import Schedule
from selfloop.theory.contraction import contraction, maximise
from selfloop.theory.implicit import Retraining

ROWS, STEPS, SCALE = 400, 7, 0.6


def draws(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def uniforms(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def velocity(theta: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The field that carries N(0, 1) to N(m, s²) along independent straight lines, θ = (m, ln s) or (m,)."""
    variance = (2 * theta[1]).exp() if len(theta) > 1 else torch.tensor(SCALE**2, dtype=x.dtype)
    c = (t * variance - (1 - t)) / ((1 - t) ** 2 + t**2 * variance)
    return theta[0] + c * (x - t * theta[0])


def flow(real: Tensor) -> Retraining:
    """Flow matching of a normal, sampled by Euler's method, with every random number fixed."""
    noise, times, latents = draws(1, ROWS), uniforms(2, ROWS), draws(3, ROWS)

    def loss(theta: Tensor, x: Tensor) -> Tensor:
        bridge = (1 - times) * noise + times * x
        return (velocity(theta, bridge, times) - (x - noise)).square().mean()

    return Retraining(
        real=lambda theta: loss(theta, real),
        synthetic=loss,
        sample=lambda theta: euler(lambda x, t: velocity(theta, x, t), latents[None], STEPS)[0],
    )


def denoiser(real: Tensor, schedule: Schedule) -> Retraining:
    """DDPM's loss for the mean of a normal of known variance, sampled by the ancestral chain."""
    steps = len(schedule.betas)
    noise, latents = draws(1, ROWS), draws(3, steps + 1, ROWS)
    times = torch.from_numpy(np.random.default_rng(4).integers(steps, size=ROWS))
    alphas = torch.from_numpy(schedule.alphas_bar)

    def predicted(theta: Tensor, x: Tensor, alpha: Tensor) -> Tensor:
        return (1 - alpha).sqrt() * (x - alpha.sqrt() * theta[0]) / (alpha * SCALE**2 + 1 - alpha)

    def loss(theta: Tensor, x: Tensor) -> Tensor:
        alpha = alphas[times]
        return (predicted(theta, alpha.sqrt() * x + (1 - alpha).sqrt() * noise, alpha) - noise).square().mean()

    def sample(theta: Tensor) -> Tensor:
        return ancestral(
            lambda x, t: predicted(theta, x, alphas[t]), latents[None, 0], schedule, lambda i: latents[None, i + 1]
        )[0]

    return Retraining(real=lambda theta: loss(theta, real), synthetic=loss, sample=sample)


def shrinks(retraining: Retraining) -> float:
    """Return κ, the derivative of the samples' mean in the model's mean: what the solver makes of it."""
    zero, one = (retraining.sample(torch.tensor([m], dtype=torch.float64)) for m in (0.0, 1.0))
    return float((one - zero).mean())


@pytest.mark.parametrize(
    ("kind", "lam"),
    [(kind, lam) for kind in ("flow", "denoiser") for lam in (0.5, 1.0, 9.0)] + [("denoiser", math.inf)],
)
def test_a_gaussian_mean_model_contracts_by_its_share_of_synthetic_data(kind: str, lam: float) -> None:
    """The loss is least at the mean of its rows, so J = λκ/(1 + λ); Euler's method keeps the mean, κ = 1."""
    real = 2 + SCALE * draws(0, ROWS)
    schedule = Schedule.linear(1e-3, 0.2, 40)
    retraining = flow(real) if kind == "flow" else denoiser(real, schedule)
    kappa = shrinks(retraining)
    if kind == "flow":
        assert kappa == pytest.approx(1, rel=1e-12)
    else:
        assert 1e-4 < 1 - kappa < 0.1
    star = retraining.fixed_point(torch.tensor([1.0], dtype=torch.float64), lam)
    share = 1.0 if math.isinf(lam) else lam / (1 + lam)
    assert retraining.jacobian(star, lam)[0, 0] == pytest.approx(share * kappa, rel=1e-9)
    np.testing.assert_allclose(retraining(star, lam), star, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("lam", [0.5, 3.0])
def test_is_the_derivative_of_the_map_and_the_fixed_point_moves(lam: float) -> None:
    retraining = flow(1 + draws(0, ROWS).pow(3) / 3)  # not normal: the model is misspecified
    start = torch.tensor([0.5, 0.0], dtype=torch.float64)
    star = retraining.fixed_point(start, lam)
    jacobian, h = retraining.jacobian(star, lam), 1e-5
    for i in range(2):
        shift = h * torch.eye(2, dtype=torch.float64)[i]
        slope = (retraining(star + shift, lam) - retraining(star - shift, lam)) / (2 * h)
        np.testing.assert_allclose(jacobian[:, i], slope, atol=1e-6)
    away = star + 0.2
    away_jacobian = retraining.jacobian(away, lam, after=retraining(away, lam))
    slope = (retraining(away + shift, lam) - retraining(away - shift, lam)) / (2 * h)
    np.testing.assert_allclose(away_jacobian[:, 1], slope, atol=1e-6)
    assert float((star - retraining.fixed_point(start, 0.0)).norm()) > 1e-3


def test_equals_the_exact_rate_for_a_likelihood() -> None:
    """A logistic density fitted to a skewed mixture: C is the information, and the fixed point that of the data."""

    def log_prob(theta: Tensor, x: Tensor) -> Tensor:
        z = (x - theta[0]) / theta[1].exp()
        return -z - theta[1] - 2 * torch.nn.functional.softplus(-z)

    grid = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    density = torch.exp(-0.5 * grid**2) + 0.8 * torch.exp(-2 * (grid - 3) ** 2)
    data = (grid, density / density.sum())
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    retraining = Retraining(
        real=lambda theta: -(data[1] @ log_prob(theta, grid)),
        synthetic=lambda theta, x: -log_prob(theta, x).mean(),
        sample=lambda theta: theta[0] + theta[1].exp() * torch.logit(u),
    )
    star = maximise(log_prob, torch.tensor([1.0, 0.0], dtype=torch.float64), data)
    x = retraining.sample(star)
    exact = contraction(log_prob, star, data, (x, torch.full_like(x, 1 / len(x))))
    assert abs(exact.mu[1] - 1) > 0.01
    for lam in (0.5, 2.0):
        np.testing.assert_allclose(retraining.fixed_point(star + 0.1, lam), star, atol=1e-3)
        values = np.sort(np.linalg.eigvals(retraining.jacobian(star, lam)).real)
        np.testing.assert_allclose(values, exact.spectrum(lam), atol=1e-3)


def test_without_the_matrix() -> None:
    d, n = 5, 300
    real, latents = draws(0, n, d) * torch.linspace(0.5, 2, d), draws(1, n, d)
    twist = 0.3 * draws(2, d, d)

    def loss(theta: Tensor, x: Tensor) -> Tensor:
        return ((x - theta[:d]).square().sum(1) * (-theta[d]).exp() + d * theta[d]).mean()

    retraining = Retraining(
        real=lambda theta: loss(theta, real) + 0.1 * theta.square().sum(),
        synthetic=loss,
        sample=lambda theta: theta[:d] + (theta[:d] @ (twist - twist.T)) + (0.5 * theta[d]).exp() * latents,
    )
    star = retraining.fixed_point(torch.zeros(d + 1, dtype=torch.float64), 1.5)
    values = np.linalg.eigvals(retraining.jacobian(star, 1.5))
    found = retraining.leading(star, 1.5, count=2, tolerance=1e-9)
    assert abs(found.values[0].imag) > 0.1  # a rotation: what no likelihood has
    np.testing.assert_allclose(np.abs(found.values), np.sort(np.abs(values))[::-1][:2], rtol=1e-6)
    assert found.rate == pytest.approx(np.abs(values).max(), rel=1e-6)
    assert (found.residual < 1e-6).all()


def test_refusals() -> None:
    bad = Retraining(real=lambda theta: -theta.square().sum(), synthetic=lambda t, x: x.sum(), sample=lambda t: t)
    with pytest.raises(ValueError, match="no strict minimum"):
        bad.jacobian(torch.zeros(2, dtype=torch.float64), 1.0)
    with pytest.raises(ValueError, match="2 parameters"):
        bad.leading(torch.zeros(2, dtype=torch.float64), 1.0)
