"""The local rate of the loop against the worked case, closed forms and the loop itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators import GaussianMixture
from selfloop.learning.training import Budget
from selfloop.theory.contraction import Contraction, contraction, equal, information, maximise
from selfloop.theory.plug_in import plug_in

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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_an_overfitted_mixture_has_a_possible_rate(seed: int) -> None:
    """Four normals fitted to a thousand rows of two: means of sampled Hessians gave ρ(1) up to 4.8, of nearly flat
    directions. Scores give it within 0.04 of a quadrature's, for all of these seeds."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((1000, 1)) + 1.5 * (rng.random((1000, 1)) < 0.5))
    generator, streams = GaussianMixture(components=4), Streams((seed,))
    state = generator.fit(generator.init((1,), streams), Samples.full(x[None], 0), Budget(epochs=1), streams)
    family = generator.parametric(state)
    found = plug_in(generator, family, state, x, streams)
    theta = maximise(family.log_prob, family.theta(state), equal(x))
    points = torch.linspace(-12, 14, 8001, dtype=torch.float64).unsqueeze(1)
    exact = contraction(family.log_prob, theta, equal(x), (points, family.log_prob(theta, points).softmax(0)))
    assert found.rate(1.0) == pytest.approx(exact.rate(1.0), abs=0.04)
    for lam in (1e-3, 1.0, 1e3, 1e20, 1e308):
        assert all(0 <= c.rate(lam) < 1 for c in (found, exact))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 6), st.floats(0, 1e308), st.floats(-12, 12))
@settings(max_examples=100, deadline=None)
def test_a_rate_is_below_one_in_all_units(seed: int, p: int, rank: int, lam: float, decades: float) -> None:
    """Of any curvature and any information, of any rank, whatever the units of the parameters."""
    rng = np.random.default_rng(seed)
    root, scores = rng.standard_normal((p, p)), rng.standard_normal((p, rank))
    unit = 10.0 ** (decades * rng.random(p))
    a, b = (-(x @ x.T) * np.outer(unit, unit) for x in (root, scores))
    if np.linalg.cond(root) > 1e4:  # curvature that is nearly none
        return
    found = Contraction.of_hessians(a, b)
    plain = Contraction.of_hessians(-(root @ root.T), -(scores @ scores.T))
    assert 0 <= found.rate(lam) < 1
    assert (np.diff(found.spectrum(lam)) >= 0).all()
    np.testing.assert_allclose(found.mu, plain.mu, rtol=1e-5, atol=1e-7 * max(plain.mu[-1], 1e-300))


@pytest.mark.parametrize("edge", [1.0, 2.0, 3.0, 4.0])
def test_a_model_without_its_tails_is_refused(edge: float) -> None:
    """A normal cut off at its mean or up to four standard deviations from it, as a quadrature and as a sample."""
    theta = torch.zeros(2, dtype=torch.float64)
    data = grid(normal(theta, X), X)
    with pytest.raises(ValueError, match="do not average to zero"):
        contraction(normal, theta, data, grid(normal(theta, X[X.abs() < edge]), X[X.abs() < edge]))
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal(20_000))
    assert contraction(normal, theta, data, equal(drawn)).mu == pytest.approx([1, 1], abs=0.06)
    if edge < 3:
        with pytest.raises(ValueError, match="do not average to zero"):
            contraction(normal, theta, data, equal(drawn[drawn.abs() < edge]))


def test_samples_of_the_model_are_refused_by_chance_alone() -> None:
    """None of 500 samples of 400 rows, of whose scores one is skew."""
    theta, rng = torch.zeros(2, dtype=torch.float64), np.random.default_rng(0)
    for _ in range(500):
        information(normal, theta, equal(torch.from_numpy(rng.standard_normal(400))))


def test_every_exponential_family_has_equal_hessians() -> None:
    """Gamma densities in (log shape, log rate), on data that are none: A = B, and ρ = λ/(1 + λ)."""

    def gamma(theta: Tensor, x: Tensor) -> Tensor:
        shape, rate = theta.exp()
        return shape * theta[1] - torch.lgamma(shape) + (shape - 1) * x.log() - rate * x

    points = torch.linspace(-12, 6, 4001, dtype=torch.float64).exp()
    data = equal(0.3 + torch.from_numpy(np.random.default_rng(0).random(500)) ** 3)
    star = maximise(gamma, torch.zeros(2, dtype=torch.float64), data)
    model = grid(gamma(star, points) + points.log(), points)
    found = contraction(gamma, star, data, model)
    np.testing.assert_allclose(found.mu, 1, rtol=1e-6)
    assert found.rate(3.0) == pytest.approx(0.75, rel=1e-6)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no information"):
        Contraction.of_hessians(-np.eye(2), np.diag([-1.0, 0.5]))
    with pytest.raises(ValueError, match="negative definite"):
        Contraction.of_hessians(np.eye(2), -np.eye(2))
    with pytest.raises(ValueError, match="negative definite"):
        Contraction.of_hessians(-np.ones((2, 2)) - 1e-15 * np.eye(2), -np.eye(2))
    with pytest.raises(ValueError, match="symmetric"):
        Contraction.of_hessians(1e-9 * np.array([[-1.0, 0.5], [0.0, -1.0]]), -np.eye(2))
    with pytest.raises(ValueError, match="symmetric"):
        Contraction.of_hessians(np.array([[-1.0, 0.5], [0.0, -1.0]]), -np.eye(2))
    with pytest.raises(ValueError, match="one size"):
        Contraction.of_hessians(-np.eye(2), -np.eye(3))
    measure = grid(normal(torch.zeros(2, dtype=torch.float64), X), X)
    with pytest.raises(ValueError, match="no maximum"):
        contraction(normal, torch.tensor([0.3, 0.0], dtype=torch.float64), measure, measure)


@pytest.mark.parametrize("lam", [0.0, 0.5, 8.0])
def test_the_covariance_that_synthetic_rows_add_solves_lyapunovs_equation(lam):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 3, 3)) * np.array([1.0, 10.0, 1e-3])[:, None]
    found = Contraction.of_hessians(-a @ a.T, -b @ b.T)
    kept = np.linalg.inv(found.data_hessian + lam * found.model_hessian)
    noise, jacobian = lam * kept @ -found.model_hessian @ kept, found.jacobian(lam)
    covariance = found.added_covariance(lam)
    np.testing.assert_allclose(jacobian @ covariance @ jacobian.T + noise, covariance, rtol=1e-7, atol=1e-9)
    assert np.trace(-found.data_hessian @ covariance) == pytest.approx(found.added(lam))
