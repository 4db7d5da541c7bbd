"""Theorem 2's envelope and the linear noise model against simulated loops; seeds are fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selfloop.theory.bounds import Deviations, amplification, envelope, in_words, settled
from selfloop.theory.gaussian_loop import gaussian_loop


def test_constants_are_found_again() -> None:
    """Deviations whose squares are exponential meet Assumption 3 with b = 1."""
    rng = np.random.default_rng(0)
    drawn = {n: 0.02 + 3 / math.sqrt(n) * np.sqrt(rng.exponential(size=4000)) for n in (100, 400, 1600)}
    found = Deviations.estimate(drawn)
    # The mean of √Exp(1) is 0.886: its part is no intercept.
    assert found.optimisation == pytest.approx(0.02, abs=0.01)
    assert found.sampling == pytest.approx(3, rel=0.05)
    assert 1 <= found.tail < 3  # it covers the largest of 12,000
    for n, values in drawn.items():
        for delta in (0.5, 0.1, 0.01):
            assert (values > found.bound(n, delta)).mean() <= delta + 1e-3


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


def test_amplification_in_words() -> None:
    assert amplification(0.5) == pytest.approx(1.1547, abs=1e-4)
    assert amplification(1.0) == math.inf
    rates = {lam: lam / (1 + lam) for lam in (0.0, 1.0, 9.0)} | {math.inf: 1.0}
    assert in_words(rates) == "λ = 0: 1.00×, λ = 1: 1.15×, λ = 9: 2.3×, λ = ∞: ∞"


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
