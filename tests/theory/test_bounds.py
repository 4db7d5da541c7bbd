"""Theorem 2's envelope and the linear noise model against simulated loops; seeds are fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop.theory.bounds import (
    Deviations,
    amplification,
    envelope,
    excess_error,
    largest_ratio,
    settled,
    times,
    total_error,
)
from selfloop.theory.contraction import Contraction
from selfloop.theory.gaussian_loop import Fits, gaussian_loop
from studies import deviations


def test_constants_are_found_again() -> None:
    """Those of normal errors in one direction: a = √2 σ and b = 1, with σ = 3 and 12,000 errors of 0.6 %."""
    rng = np.random.default_rng(0)
    drawn = {n: (0.02 + 3 / math.sqrt(n) * np.abs(rng.standard_normal(4000))).tolist() for n in (100, 400, 1600)}
    found = Deviations.estimate(drawn)
    assert found.optimisation == pytest.approx(0.02, abs=0.01)
    assert found.sampling == pytest.approx(3 * math.sqrt(2), rel=0.04)
    assert 1 <= found.tail < 2


def test_tails_that_are_not_normal_need_a_larger_b() -> None:
    """The largest of 1,000 is at level 1/1,000 or, once in a hundred, at 1 − 0.99^(1/1000) = 1e-5."""
    rng = np.random.default_rng(1)
    drawn = {n: rng.exponential(size=1000) / math.sqrt(n) for n in (10, 90)}
    found = Deviations.estimate({n: values.tolist() for n, values in drawn.items()})
    assert found.tail > 10
    assert all(values.max() <= found.bound(n, 1e-5) for n, values in drawn.items())


@pytest.mark.parametrize("errors", [name for name in deviations.ERRORS if "not allowed" not in name])
@pytest.mark.parametrize("count", [100, 1000])
def test_new_deviations_are_within_the_bound_as_often_as_it_says(errors: str, count: int) -> None:
    """At δ/t for t = 1, 12 and 100 beyond the numbers of rows that were seen; 30 fits leave an error of a tenth."""
    *exceeded, loose, a, _, _ = deviations.row(deviations.ERRORS[errors], count, fits=30, true=100_000)
    assert max(exceeded) <= 1
    assert loose < 2.6
    assert errors != "one parameter" or a == pytest.approx(math.sqrt(2), rel=0.03)


def test_errors_that_rows_do_not_take_away_are_all_optimisation() -> None:
    found = Deviations.estimate({10: [0.3] * 10, 1000: [0.3] * 10})
    assert found.bound(10**9, 0.01) == pytest.approx(0.3)


@pytest.mark.parametrize("lam", [0.5, 2.0])
def test_the_envelope_holds_for_the_gaussian_loop(lam: float) -> None:
    """The mean's error in a loop from the truth, ρ = λ/(1 + λ), with constants from other seeds, at δ = 5 %."""
    rate, n, generations = lam / (1 + lam), 50, 12

    def paths(rows: int, seed: int) -> np.ndarray:
        fits = gaussian_loop(np.zeros(1), np.eye(1), n=rows, generations=generations, replicas=2000, lam=lam, seed=seed)
        return np.stack([f.mean[:, 0] for f in fits], 1)

    # θ* is the truth here, and the real rows are resampled in no retraining: their error is one of every retraining.
    deviations = {}
    for rows in (25, 100):
        seen = paths(rows, rows)
        deviations[rows] = np.abs(seen[:, 1:] - rate * seen[:, :-1]).ravel()
    found = Deviations.estimate(deviations)
    start = paths(n, 7)
    bounds = [envelope(found, rate, start=abs(x), rows=n, generations=generations) for x in start[:, 0]]
    outside = (np.abs(start) > np.array(bounds)).mean(0)
    assert outside.max() <= 0.05
    assert bounds[0][1] > abs(start[0, 0]) * rate
    assert bounds[0][-1] < found.bound(n, 0.05 / generations) / (1 - rate) + abs(start[0, 0])


def test_the_total_error_in_words() -> None:
    assert amplification(0.5) == pytest.approx(1.1547, abs=1e-4)
    assert amplification(1.0) == math.inf
    words = [times(total_error(lam)) for lam in (0.0, 0.5, 1.0, 9.0, math.inf)]
    assert words == ["1.00×", "1.12×", "1.15×", "1.21×", "∞"]


@given(st.floats(0, 1e300))
def test_the_total_error_is_bounded(ratio: float) -> None:
    assert 1 <= total_error(ratio) <= math.sqrt(1.5) * (1 + 1e-15)


@pytest.mark.parametrize("lam", [0.5, 2.0, 9.0])
def test_the_total_error_of_the_simulated_gaussian(lam: float) -> None:
    """Of all five parameters in the plane, 2n KL(truth ‖ model), against that of real rows alone in the same loops.

    |z| < 4, and 2 % for what is of higher order in 1/n.
    """
    n, replicas = 400, 4000
    first, *_, last = gaussian_loop(np.zeros(2), np.eye(2), n=n, generations=50, replicas=replicas, lam=lam)

    def lost(fits: Fits) -> np.ndarray:
        precision = np.linalg.inv(fits.covariance)
        squares = np.einsum("ri,rij,rj->r", fits.mean, precision, fits.mean)
        return n * (np.trace(precision, axis1=1, axis2=2) + squares - 2 + np.linalg.slogdet(fits.covariance)[1])

    alone, settled_at = lost(first), lost(last)
    assert alone.mean() == pytest.approx(5, rel=0.06)
    ratio = settled_at.mean() / alone.mean()
    error = (settled_at - ratio * alone).std() / alone.mean() / math.sqrt(replicas)
    assert abs(ratio - total_error(lam) ** 2) < 4 * error + 0.02


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(0.01, 100))
@settings(max_examples=50, deadline=None)
def test_what_synthetic_rows_add_is_at_most_half(seed: int, p: int, lam: float) -> None:
    """In the norm of the curvature, whether or not the model is well specified: tr(−A S) of S = J S Jᵀ + Q."""
    rng = np.random.default_rng(seed)
    root, scores = rng.standard_normal((p, p)), rng.standard_normal((p, p + 2))
    a, b = -root @ root.T - 0.1 * np.eye(p), -scores @ scores.T
    found = Contraction.of_hessians(a, b)
    inverse = np.linalg.inv(a + lam * b)
    settle = settled(found.jacobian(lam), -lam * inverse @ b @ inverse)
    assert found.added(lam) == pytest.approx(float(np.trace(-a @ settle)), rel=1e-6)
    assert found.added(lam) <= p / 2
    assert found.amplification(lam) == pytest.approx(amplification(found.rate(lam)), rel=1e-6)


def test_a_jacobian_that_is_symmetric_in_no_norm_has_no_bound() -> None:
    """Equal eigenvalues of 0.5, and errors that settle at a hundred times what a symmetric J would leave."""
    for c, least in ((0.0, 1.0), (10.0, 9.0), (1000.0, 900.0)):
        settle = settled(np.array([[0.5, c], [0.0, 0.5]]), np.eye(2))
        ratio = math.sqrt(np.trace(settle) / 2)
        assert ratio == pytest.approx(amplification(0.5)) if c == 0 else ratio > least * amplification(0.5)


def test_amplification_is_the_worst_in_the_norm_of_the_curvature() -> None:
    rng = np.random.default_rng(1)
    root = rng.standard_normal((4, 4))
    curvature = root @ root.T + np.eye(4)
    fisher = rng.standard_normal((4, 4))
    fisher = fisher @ fisher.T
    jacobian = np.linalg.solve(curvature + fisher, fisher)
    factor = np.linalg.cholesky(curvature)
    radius = np.abs(np.linalg.eigvals(jacobian)).max()
    values, vectors = np.linalg.eig(jacobian)
    slowest = vectors[:, [int(np.argmax(values.real))]].real
    noise = slowest @ slowest.T  # all of it along the slowest direction
    for q, sharp in ((noise, True), (np.linalg.inv(curvature), False)):
        settle = settled(jacobian, q)
        ratio = math.sqrt(np.trace(factor.T @ settle @ factor) / np.trace(factor.T @ q @ factor))
        assert ratio <= amplification(radius) * (1 + 1e-9)
        assert (abs(ratio - amplification(radius)) < 1e-9) == sharp


def test_refusals() -> None:
    with pytest.raises(ValueError, match="two numbers of rows"):
        Deviations.estimate({10: [0.1] * 20})
    with pytest.raises(ValueError, match="not negative"):
        Deviations.estimate({10: [0.1] * 10, 20: [-0.1] * 10})
    with pytest.raises(ValueError, match="Theorem 2 needs"):
        envelope(Deviations(0, 1, 1), 1.0, start=0.0, rows=10, generations=3)
    with pytest.raises(ValueError, match="not stable"):
        settled(np.eye(2), np.eye(2))


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 9.0])
def test_what_synthetic_rows_add_settles(ratio):
    assert total_error(ratio) ** 2 - 1 == pytest.approx(excess_error(ratio))
    assert excess_error(ratio, 0) == 0
    w, e = ratio / (1 + ratio), 0.0
    for t in range(1, 6):
        e = w**2 * e + ratio / (1 + ratio) ** 2
        assert excess_error(ratio, t) == pytest.approx(e)


def test_the_largest_ratio_for_an_excess():
    assert largest_ratio(0.25) == 0.5
    assert largest_ratio(0) == 0
    assert largest_ratio(0.5) == math.inf
    assert excess_error(largest_ratio(0.4)) == pytest.approx(0.4)
