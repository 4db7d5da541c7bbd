"""The simulated Gaussian loop against closed forms and against drawing every row; all seeds are fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import polygamma, psi
from scipy.stats import ks_2samp, kstest, norm

from selfloop.mixing.augment import synthetic_rows
from selfloop.theory import Fits, gaussian_loop
from selfloop.theory.gaussian_loop import _factor, _pooled


def last(d: int, **settings) -> Fits:
    *_, fits = gaussian_loop(np.zeros(d), np.eye(d), **settings)
    return fits


def sample_and_fit(d: int, n: int, generations: int, replicas: int, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Run the loop by drawing every row: means (R, d) and covariances (R, d, d) of the last generation."""
    rng, means, covariances = np.random.default_rng(1), [], []
    m = n if math.isinf(lam) else synthetic_rows(lam, n)
    for _ in range(replicas):
        x = real = rng.standard_normal((n, d))
        for t in range(generations + 1):
            mean, covariance = x.mean(0), np.atleast_2d(np.cov(x.T))
            if t < generations:
                values, vectors = np.linalg.eigh(covariance)
                rows = mean + rng.standard_normal((m, d)) @ (vectors * np.sqrt(values.clip(0))).T
                x = rows if math.isinf(lam) else np.concatenate([real, rows])
        means.append(mean)
        covariances.append(covariance)
    return np.array(means), np.array(covariances)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 5, 50])
def test_log_variance_is_the_exact_random_walk(n):
    """ln σ²_t − ln σ² is a sum of t + 1 terms ln χ²_{n−1}/(n − 1): two-sided z tests at |z| < 4, 6e-5 each."""
    replicas, steps = 20_000, 12
    nu = n - 1
    logs = np.log(last(1, n=n, generations=steps - 1, replicas=replicas).covariance[:, 0, 0])
    mean, variance = steps * (psi(nu / 2) + math.log(2 / nu)), steps * float(polygamma(1, nu / 2))
    assert abs(logs.mean() - mean) < 4 * math.sqrt(variance / replicas)
    fourth = float(polygamma(3, nu / 2)) * steps + 3 * variance**2
    assert abs(logs.var() - variance) < 4 * math.sqrt((fourth - variance**2) / replicas)
    # The fit to real rows is one more mean of n, each later one adds the variance of the model before over n.
    first = next(iter(gaussian_loop(np.zeros(1), np.eye(1), n=n, generations=0, replicas=replicas)))
    assert kstest(first.mean[:, 0] * math.sqrt(n), norm.cdf).pvalue > 1e-4


CASES = [
    (1, 10, 5, math.inf),
    (3, 8, 4, math.inf),
    (6, 4, 3, math.inf),  # fewer rows than dimensions: singular from the start
    (4, 5, 3, math.inf),  # n = d + 1, the last that is regular
    (2, 10, 3, 0.1),  # a single synthetic row
    (3, 10, 5, 1.0),
    (6, 4, 3, 0.5),
    (6, 5, 3, 2.5),
]


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n", "generations", "lam"), CASES)
def test_has_the_distribution_of_drawing_every_row(d, n, generations, lam):
    """Two-sample Kolmogorov-Smirnov tests of seven statistics at 1e-4 each: 0.6 % false alarms over all cases."""
    ours = last(d, n=n, generations=generations, replicas=3000, lam=lam)
    mean, covariance = sample_and_fit(d, n, generations, 1000, lam)
    for statistic in (
        lambda m, c: m[:, 0],
        lambda m, c: m[:, -1],
        lambda m, c: c[:, 0, 0],
        lambda m, c: c[:, -1, -1],
        lambda m, c: c[:, 0, -1],
        lambda m, c: np.linalg.eigvalsh(c)[:, -1],
        lambda m, c: (c[:, 0] * m).sum(1),  # mean and covariance are independent given the past only
    ):
        assert ks_2samp(statistic(ours.mean, ours.covariance), statistic(mean, covariance)).pvalue > 1e-4
    assert np.linalg.matrix_rank(ours.covariance[0]) == np.linalg.matrix_rank(covariance[0])


def test_starts_from_the_given_mean_and_covariance():
    mean, root = np.array([3.0, -1.0, 2.0]), np.array([[2.0, 0, 0], [1, 1, 0], [0, -1, 0]])  # of rank 2
    fits = next(iter(gaussian_loop(mean, root @ root.T, n=400, generations=0, replicas=5000)))
    error = fits.mean - mean
    assert np.abs(error.mean(0)).max() < 4 * 2.3 / math.sqrt(400 * 5000)
    np.testing.assert_allclose(error.T @ error / 5000 * 400, root @ root.T, atol=0.5)
    np.testing.assert_allclose(fits.covariance.mean(0), root @ root.T, atol=0.05)
    assert (np.linalg.eigvalsh(fits.covariance)[:, 0] < 1e-12).all()


def test_a_replica_depends_neither_on_how_many_there_are_nor_on_threads():
    before = torch.get_num_threads()
    for d, n, lam in ((3, 9, math.inf), (3, 9, 1.0), (5, 4, math.inf), (5, 4, 1.0)):
        try:
            torch.set_num_threads(2)
            few, many = (last(d, n=n, generations=300, replicas=r, lam=lam) for r in (3, 150))
            torch.set_num_threads(1)
            alone = last(d, n=n, generations=300, replicas=150, lam=lam)
        finally:
            torch.set_num_threads(before)
        assert np.array_equal(few.mean, many.mean[:3])
        assert np.array_equal(few.factor, many.factor[:3])
        assert np.array_equal(many.factor, alone.factor)
    assert not np.array_equal(last(3, n=9, generations=2, replicas=3, seed=1).mean, few.mean)


def test_real_data_alone_changes_nothing():
    first, *_, final = gaussian_loop(np.zeros(2), np.eye(2), n=20, generations=5, replicas=4, lam=0)
    assert np.array_equal(first.mean, final.mean)
    assert np.array_equal(first.covariance, final.covariance)


def test_pooled_fits_are_the_fit_to_the_union():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 3)), 2 + rng.standard_normal((4, 3))
    parts = [Fits(x.mean(0)[None], np.linalg.cholesky(np.cov(x.T))[None]) for x in (a, b)]
    pooled, union = _pooled(parts[0], 7, parts[1], 4), np.concatenate([a, b])
    np.testing.assert_allclose(pooled.mean[0], union.mean(0), rtol=1e-12)
    np.testing.assert_allclose(pooled.covariance[0], np.cov(union.T), rtol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 3, 5])
def test_factors_of_singular_matrices(rank):
    x = np.random.default_rng(rank).standard_normal((40, 5, rank)) * 1e-8
    covariance, factor = x @ x.transpose(0, 2, 1), np.empty((40, 5, 5))
    _factor(covariance.copy(), factor)
    assert np.array_equal(factor, np.tril(factor))
    # Without pivoting, the error grows with the inverse of the smallest pivot that counts.
    np.testing.assert_allclose(factor @ factor.transpose(0, 2, 1), covariance, rtol=0, atol=1e-11 * 1e-16 * 5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mean": np.zeros(3)}, r"\(d,\) and \(d, d\)"),
        ({"covariance": np.eye(3)}, r"\(d,\) and \(d, d\)"),
        ({"n": 1}, "at least 2"),
        ({"lam": -1.0}, "at least 0"),
        ({"lam": math.nan}, "at least 0"),
    ],
)
def test_refuses_what_it_cannot_simulate(wrong, message):
    settings = {"mean": np.zeros(2), "covariance": np.eye(2), "n": 5, "generations": 1, "replicas": 2} | wrong
    with pytest.raises(ValueError, match=message):
        next(iter(gaussian_loop(**settings)))
