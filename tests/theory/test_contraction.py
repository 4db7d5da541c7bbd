"""The local rate of the loop against the worked case, closed forms and the loop itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.theory.contraction import Contraction, contraction, maximise

LOG_ROOT = 0.5 * math.log(2 * math.pi)


def normals(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    return -0.5 * ((x[:, None] - mean) / log_std.exp()).square() - log_std - LOG_ROOT


def mixture(theta: Tensor, x: Tensor) -> Tensor:
    """Two normals: one logit, two means, two log standard deviations."""
    weights = torch.log_softmax(torch.stack([theta[0], torch.zeros_like(theta[0])]), 0)
    return (normals(x, theta[1:3], theta[3:]) + weights).logsumexp(1)


def normal(theta: Tensor, x: Tensor) -> Tensor:
    return normals(x, theta[:1], theta[1:])[:, 0]


def grid(log_density: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    weights = log_density.exp()
    return x, weights / weights.sum()


X = torch.linspace(-14, 14, 3_001, dtype=torch.float64)


def three_normals() -> tuple[Tensor, Tensor]:
    parts = [(0.35, -2.0, 0.6), (0.25, 0.3, 0.5), (0.40, 2.5, 0.8)]
    logs = [math.log(w) - 0.5 * ((X - m) / s) ** 2 - math.log(s) - LOG_ROOT for w, m, s in parts]
    return grid(torch.stack(logs).logsumexp(0), X)


@pytest.fixture(scope="module")
def misspecified() -> Contraction:
    data = three_normals()
    start = torch.tensor([-0.5, -2.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    theta = maximise(mixture, start, data)
    return contraction(mixture, theta, data, grid(mixture(theta, X), X))


def test_the_worked_case(misspecified: Contraction) -> None:
    np.testing.assert_allclose(misspecified.mu, [0.829134, 1, 1, 1.009403, 1.017399], atol=5e-7)
    for lam, rate in ((0.5, 0.337177), (1, 0.504312), (10, 0.910506)):
        assert misspecified.rate(lam) == pytest.approx(rate, abs=5e-7)


def test_the_spectrum_is_that_of_the_jacobian(misspecified: Contraction) -> None:
    for lam in (0.0, 0.3, 1.0, 50.0):
        values = np.sort(np.linalg.eigvals(misspecified.jacobian(lam)).real)
        np.testing.assert_allclose(values, misspecified.spectrum(lam), atol=1e-9)
        assert misspecified.rate(lam) < 1
        assert misspecified.operator_norm(lam) >= misspecified.rate(lam) - 1e-12
    assert misspecified.rate(math.inf) == 1
    assert misspecified.amplification(1.0) == pytest.approx(1 / math.sqrt(1 - 0.504312**2), rel=1e-5)


def test_theorem_1_holds_below_the_critical_lam(misspecified: Contraction) -> None:
    lam = 0.9 * misspecified.critical_lam
    assert misspecified.operator_norm(lam) <= misspecified.bound(lam) < 1
    assert misspecified.bound(10.0) == math.inf


def test_a_well_specified_model_contracts_by_its_share_of_synthetic_data() -> None:
    theta = torch.tensor([0.4, -0.2], dtype=torch.float64)
    measure = grid(normal(theta, X), X)
    found = contraction(normal, theta, measure, measure)
    np.testing.assert_allclose(found.mu, 1, rtol=1e-9)
    assert found.misfit == pytest.approx(0, abs=1e-12)
    assert found.critical_lam == pytest.approx(0.5)
    for lam in (0.1, 1.0, 9.0):
        assert found.rate(lam) == pytest.approx(lam / (1 + lam), rel=1e-9)
    assert found.amplification(9.0) == pytest.approx(2.294, abs=1e-3)


@pytest.mark.parametrize("lam", [0.5, 2.0])
def test_the_exact_loop_shrinks_errors_at_the_rate(misspecified: Contraction, lam: float) -> None:
    """Retrain on data ∪ λ model with infinitely many rows of both: errors fall by ρ a retraining."""
    data = three_normals()
    star = maximise(mixture, torch.tensor([-0.5, -2.0, 2.0, 0.0, 0.0], dtype=torch.float64), data)
    theta = star + 1e-3 * torch.tensor([1.0, -1.0, 0.5, 1.0, 0.3], dtype=torch.float64)
    errors = []
    for _ in range(8):
        points, weights = grid(mixture(theta, X), X)
        mixed = (points, (data[1] + lam * weights) / (1 + lam))
        theta = maximise(mixture, theta, mixed)
        errors.append(float((theta - star).norm()))
    assert errors[-1] / errors[-2] == pytest.approx(misspecified.rate(lam), rel=0.03)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="negative definite"):
        Contraction.of_hessians(np.eye(2), -np.eye(2))
    with pytest.raises(ValueError, match="symmetric"):
        Contraction.of_hessians(np.array([[-1.0, 0.5], [0.0, -1.0]]), -np.eye(2))
    with pytest.raises(ValueError, match="one size"):
        Contraction.of_hessians(-np.eye(2), -np.eye(3))
    measure = grid(normal(torch.zeros(2, dtype=torch.float64), X), X)
    with pytest.raises(ValueError, match="no maximum"):
        contraction(normal, torch.tensor([0.3, 0.0], dtype=torch.float64), measure, measure)
