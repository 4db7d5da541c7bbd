"""Eigenvalues by Hessian-vector products against exact Hessians; statistical tests fix seeds at |z| < 4 (6e-5 each)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.theory.contraction import contraction, equal, maximise
from selfloop.theory.matrix_free import flatten, leading, rayleigh

X = torch.linspace(-14, 14, 3_001, dtype=torch.float64)


def mixture(theta: Tensor, x: Tensor) -> Tensor:
    """Two normals: one logit, two means, two log standard deviations."""
    weights = torch.log_softmax(torch.stack([theta[0], torch.zeros_like(theta[0])]), 0)
    logs = -0.5 * ((x[:, None] - theta[1:3]) / theta[3:].exp()).square() - theta[3:] - 0.5 * math.log(2 * math.pi)
    return (logs + weights).logsumexp(1)


def grid(density: Tensor) -> tuple[Tensor, Tensor]:
    return X, density / density.sum()


def three_normals() -> tuple[Tensor, Tensor]:
    parts = [(0.35, -2.0, 0.6), (0.25, 0.3, 0.5), (0.40, 2.5, 0.8)]
    return grid(torch.stack([w / s * torch.exp(-0.5 * ((X - m) / s) ** 2) for w, m, s in parts]).sum(0))


def independent(theta: Tensor, x: Tensor) -> Tensor:
    """Logistic densities of d coordinates, a location and a log scale each: misspecified for normal data."""
    location, log_scale = theta.chunk(2)
    z = (x - location) / log_scale.exp()
    return (-z - log_scale - 2 * torch.nn.functional.softplus(-z)).sum(1)


def logistic(n: int, theta: Tensor, seed: int) -> Tensor:
    location, log_scale = theta.chunk(2)
    u = torch.from_numpy(np.random.default_rng(seed).random((n, len(location))))
    return location + log_scale.exp() * torch.logit(u)


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


@pytest.mark.slow
def test_the_worked_case() -> None:
    data = three_normals()
    star = maximise(mixture, torch.tensor([-0.5, -2.0, 2.0, 0.0, 0.0], dtype=torch.float64), data)
    found = leading(mixture, star, data, grid(mixture(star, X).exp()), count=3, batch_size=500)
    np.testing.assert_allclose(found.mu, [1.017399, 1.009403, 1], atol=2e-6)
    assert (found.residual < 1e-4).all()
    np.testing.assert_allclose(found.quotient, found.mu, atol=1e-6)
    for lam, rate in ((0.5, 0.337177), (1, 0.504312), (10, 0.910506)):
        assert found.rate(lam) == pytest.approx(rate, abs=1e-6)
    assert found.rate(math.inf) == 1


@pytest.mark.slow
def test_equals_exact_hessians_in_many_dimensions() -> None:
    d = 8
    data = equal(normal(1000, d, 0) * torch.linspace(0.5, 2, d))
    star = maximise(independent, torch.zeros(2 * d, dtype=torch.float64), data)
    model = equal(logistic(1000, star, 1))
    exact = contraction(independent, star, data, model)
    found = leading(independent, star, data, model, count=2, batch_size=300)
    np.testing.assert_allclose(found.mu, exact.mu[::-1][:2], rtol=1e-6)
    for k in range(2):
        assert np.abs(exact.mu - found.mu[k]).min() <= found.residual[k] + 1e-9
    decayed = leading(independent, star, data, model, weight_decay=0.3)
    values = np.linalg.eigvals(np.linalg.solve(-exact.data_hessian + 0.3 * np.eye(2 * d), -exact.model_hessian))
    assert decayed.mu[0] == pytest.approx(values.real.max(), rel=1e-6)


@pytest.mark.slow
def test_held_out_quotients_have_the_error_they_claim() -> None:
    """Over 60 held-out sets the z scores of the quotient against its mean have unit variance: χ² at 1e-4."""
    d, repeats = 2, 60
    data = equal(normal(400, d, 0))
    star = maximise(independent, torch.zeros(2 * d, dtype=torch.float64), data)
    (v,) = leading(independent, star, data, equal(logistic(400, star, 1))).vectors.T
    judged = [
        rayleigh(independent, star, equal(normal(2000, d, 100 + i)), equal(logistic(2000, star, 1000 + i)), v)
        for i in range(repeats)
    ]
    quotients, errors = np.array(judged).T
    z = (quotients - quotients.mean()) / errors
    assert 30 < (z**2).sum() < 103  # χ²₅₉ at 5e-4 and 1 − 3e-4


def test_refuses_a_saddle_and_too_many_eigenvalues() -> None:
    data = three_normals()
    theta = torch.tensor([0.0, 0.5, 0.5, 1.0, 1.0], dtype=torch.float64)  # both components the same: a saddle
    with pytest.raises(ValueError, match="no strict optimum"):
        leading(mixture, theta, data, data)
    with pytest.raises(ValueError, match="5 parameters"):
        leading(mixture, theta, data, data, count=5)


def test_flatten_goes_back() -> None:
    params = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7.0)}
    theta, unflatten = flatten(params)
    assert theta.shape == (7,)
    back = unflatten(theta)
    assert all(torch.equal(back[k], v) for k, v in params.items())
