"""Closed forms of the Gaussian's loop against the simulated one: fixed seeds, z tests at |z| < 4 (6e-5 each)."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi

from selfloop.mixing.augment import Augment, synthetic_rows
from selfloop.theory import gaussian_loop
from selfloop.theory.gaussian import alpha, log_variance_walk, mean_drift, mixed_errors


@pytest.mark.parametrize("n", [2, 3, 10, 1000])
def test_alpha_in_one_dimension_is_the_mean_of_a_chi_variable(n: int) -> None:
    found = alpha(n)
    assert found.value == pytest.approx(chi(n - 1).mean() / math.sqrt(n - 1), rel=1e-12)
    assert found.error == 0
    assert found.value < 1
    assert alpha(10**7).value == pytest.approx(1, abs=1e-6)


def test_alpha_grows_with_rows_and_shrinks_with_dimensions() -> None:
    assert alpha(10).value < alpha(30).value < 1
    assert alpha(20).value > alpha(20, 2).value > alpha(20, 6).value
    large = alpha(400, 2)
    assert large.value == pytest.approx(1 - (2 + 1) / (8 * 400), abs=4 * large.error + 1e-5)  # first order in 1/n


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(8, 2), (5, 7)])
def test_alpha_is_what_a_retraining_does_to_the_root(n: int, d: int) -> None:
    fits = list(gaussian_loop(np.zeros(d), np.eye(d), n=n, generations=0, replicas=20_000, seed=3))
    roots = np.sqrt(np.linalg.eigvalsh(fits[0].covariance).clip(0)).mean(1)
    found = alpha(n, d)
    assert abs(roots.mean() - found.value) < 4 * math.hypot(roots.std() / math.sqrt(len(roots)), found.error)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 20])
def test_the_mean_drifts_by_t_over_n(n: int) -> None:
    replicas, steps = 40_000, 6
    fits = list(gaussian_loop(np.zeros(1), np.eye(1), n=n, generations=steps, replicas=replicas))
    # Generation 0 is one more fit to n rows of unit variance: its drift from 0 is that of t = 1.
    square = fits[-1].mean[:, 0] ** 2
    error = square.std() / math.sqrt(replicas)
    assert abs(square.mean() - mean_drift(n, steps + 1)) < 4 * error


def test_maximum_likelihood_walks_down_faster_and_drifts_less() -> None:
    unbiased, likelihood = (log_variance_walk(9, 5, unbiased=kind) for kind in (True, False))
    assert likelihood.mean == pytest.approx(unbiased.mean + 5 * math.log(8 / 9), rel=1e-12)
    assert likelihood.variance == unbiased.variance
    assert mean_drift(9, 3, unbiased=False) == pytest.approx((1 + 8 / 9 + 64 / 81) / 9, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "lam"), [(10, 0.5), (10, 1.0), (5, 3.0), (40, 0.1)])
def test_mixed_errors_are_those_of_the_simulation(n: int, lam: float) -> None:
    replicas, steps = 60_000, 8
    fits = list(gaussian_loop(np.zeros(1), np.eye(1), n=n, generations=steps, replicas=replicas, lam=lam, seed=5))
    found = mixed_errors(n, lam, steps)
    real = fits[0].covariance[:, 0, 0]
    for t in (1, 2, steps):
        square = (fits[t].mean[:, 0] - fits[0].mean[:, 0]) ** 2 - found.mean_square[t] * real
        spread = fits[t].covariance[:, 0, 0] - found.variance[t] * real
        for gap in (square, spread):
            assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(replicas)


@given(st.decimals("0.01", 20, places=3), st.integers(100, 10_000))
def test_the_theory_has_as_many_synthetic_rows_as_the_loop(lam: Decimal, n: int) -> None:
    for written in (float(lam), np.float64(lam)):
        m = Augment(lam=float(lam)).synthetic(n)
        assert m == int(lam * n)
        assert synthetic_rows(written, n) == m
        assert mixed_errors(n, written, 0).contraction == m / (n + m)


def test_twenty_nine_percent_of_a_hundred_are_twenty_nine() -> None:
    """Which 0.29 · 100 in binary is not; the simulated loop has as many as with any other λ that makes 29."""
    assert mixed_errors(100, 0.29, 0).contraction == 29 / 129
    runs = [
        list(gaussian_loop(np.zeros(1), np.eye(1), n=100, generations=1, replicas=2, lam=lam))[-1].mean
        for lam in (0.29, 0.2951, 0.2899)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_mixed_errors_settle_and_the_mean_contracts() -> None:
    found = mixed_errors(50, 2.0, 400)
    assert found.contraction == pytest.approx(2 / 3)
    assert found.mean_square[-1] == pytest.approx(found.stationary_mean_square, rel=1e-12)
    assert found.variance[-1] == pytest.approx(found.stationary_variance, rel=1e-12)
    w, m = 2 / 3, 100
    assert found.stationary_mean_square == pytest.approx(w**2 / (1 - w**2) * found.stationary_variance / m, rel=1e-12)


@pytest.mark.parametrize("call", [lambda: alpha(1), lambda: log_variance_walk(1, 1), lambda: mixed_errors(5, 0.1, 3)])
def test_refusals(call) -> None:
    with pytest.raises(ValueError, match="at least"):
        call()
