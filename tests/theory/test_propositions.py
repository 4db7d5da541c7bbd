"""Propositions 2, 3 and 4 where they hold, and the checks where they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.distributions import MultivariateNormal

from selfloop.theory.checks.propositions import (
    PrecisionGaussian,
    hessians,
    lemma_misfit,
    lipschitz,
    proposition_2,
    proposition_3,
    proposition_4,
)
from selfloop.theory.contraction import contraction, maximise

X = torch.linspace(-16, 16, 1201, dtype=torch.float64)


def logistic(theta: Tensor, x: Tensor) -> Tensor:
    z = (x - theta[0]) / theta[1].exp()
    return -z - theta[1] - 2 * torch.nn.functional.softplus(-z)


def model(theta: Tensor) -> tuple[Tensor, Tensor]:
    weights = logistic(theta, X).exp()
    return X, weights / weights.sum()


def skewed() -> tuple[Tensor, Tensor]:
    density = torch.exp(-0.5 * X**2) + 0.8 * torch.exp(-2 * (X - 3) ** 2)
    return X, density / density.sum()


def covariance(d: int) -> np.ndarray:
    root = np.random.default_rng(d).standard_normal((d, d))
    return root @ root.T + 0.3 * np.eye(d)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_gaussian_in_mean_and_precision(d: int) -> None:
    family, sigma, mean = PrecisionGaussian(d), torch.from_numpy(covariance(d)), torch.arange(d).double()
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((7, d)))
    theta = family.pack(mean, sigma)
    assert theta.shape == (d + d * (d + 1) // 2,)
    torch.testing.assert_close(family.log_prob(theta, x), MultivariateNormal(mean, sigma).log_prob(x))
    checks = list(proposition_2(mean.numpy(), sigma.numpy()))
    assert [check.statement for check in checks if not check.holds] == []


def hermite(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return a quadrature of N(mean, covariance) that is exact for polynomials of degree 5."""
    node = torch.tensor([-(3**0.5), 0.0, 3**0.5], dtype=torch.float64)
    z = torch.cartesian_prod(*[node] * len(mean)).view(-1, len(mean))
    return mean + z @ torch.linalg.cholesky(covariance).mT, (1 / 6 + (z == 0).double() / 2).prod(1)


@pytest.mark.parametrize("d", [1, 3])
def test_a_gaussian_contracts_by_its_share_whatever_the_data(d: int) -> None:
    """Its Hessian is affine in x, and the best model has the data's mean: A = B, and ρ = λ/(1 + λ)."""
    x = torch.from_numpy(np.random.default_rng(0).exponential(size=(400, d)) ** 2)
    family = PrecisionGaussian(d)
    star = family.pack(x.mean(0), torch.from_numpy(np.atleast_2d(np.cov(x.numpy().T, bias=True))))
    data = (x, torch.full((400,), 1 / 400, dtype=torch.float64))
    found = contraction(family.log_prob, star, data, hermite(x.mean(0), torch.atleast_2d(x.T.cov(correction=0))))
    np.testing.assert_allclose(found.mu, 1, atol=1e-8)
    assert found.misfit < 1e-8 * found.alpha + 1e-10


@pytest.mark.parametrize("lam", [0.3, 5.0])
def test_propositions_3_and_4_for_a_misspecified_model(lam: float) -> None:
    star = maximise(logistic, torch.tensor([1.0, 0.0], dtype=torch.float64), skewed())
    for proposition in (proposition_3, proposition_4):
        checks = list(proposition(logistic, star, skewed(), model, lam))
        assert [check.statement for check in checks if not check.holds] == []


def test_proposition_4_fails_away_from_the_best_model() -> None:
    wrong = torch.tensor([0.5, 0.3], dtype=torch.float64)
    (check,) = proposition_4(logistic, wrong, skewed(), model, 1.0)
    assert not check.holds


def test_the_misfit_of_the_hessians_is_at_most_l_epsilon() -> None:
    data = skewed()
    star = maximise(logistic, torch.tensor([1.0, 0.0], dtype=torch.float64), data)
    epsilon = wasserstein_distance(X, X, data[1], model(star)[1])
    (check,) = lemma_misfit(logistic, star, data, model(star), epsilon)
    assert check.holds
    assert 0 < check.measured < check.predicted
    (broken,) = lemma_misfit(logistic, star, data, model(star), epsilon / 1000)
    assert not broken.holds


def test_hessians_are_those_of_single_points() -> None:
    theta = torch.tensor([0.2, -0.1], dtype=torch.float64)
    found = hessians(logistic, theta, X[::300])
    for point, hessian in zip(X[::300], found, strict=True):
        exact = torch.autograd.functional.hessian(lambda t, p=point: logistic(t, p[None])[0], theta)
        np.testing.assert_allclose(hessian, exact, atol=1e-12)
    assert lipschitz(logistic, theta, X) < lipschitz(logistic, theta - 0.5, X)  # a narrower density bends faster
