"""Extrapolation and warm starts: each way to write a variance, and the ends of a memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.theory import extrapolate

TAUS = st.floats(0.2, 3)


@given(TAUS, st.floats(0.1, 5))
def test_the_best_weight_restores_the_variance(tau: float, variance: float) -> None:
    ways = {
        "variance": (lambda v: v, lambda theta: theta),
        "log_variance": (math.log, math.exp),
        "precision": (lambda v: 1 / v, lambda theta: 1 / theta),
    }
    for parameter, (there, back) in ways.items():
        w = extrapolate.best_weight(tau, parameter)
        theta = there(variance) - w * (there(tau * variance) - there(variance))
        assert tau * back(theta) == pytest.approx(variance)


@pytest.mark.slow
@given(TAUS)
def test_reached_variance(tau: float) -> None:
    assert extrapolate.reached_variance(tau, 0) == tau
    assert extrapolate.reached_variance(tau, extrapolate.best_weight(tau, "variance")) == pytest.approx(1)
    assert extrapolate.reached_variance(1, tau) == pytest.approx(1)


@given(st.floats(0, 0.99), st.floats(0, 1))
def test_memory_slows_and_never_unsettles(rate: float, memory: float) -> None:
    warm = extrapolate.warm_start_rate(rate, memory)
    assert rate <= warm + 1e-12
    assert warm <= 1
    assert extrapolate.warm_start_rate(rate, 0) == rate
    assert extrapolate.warm_start_rate(rate, 1) == 1


@given(TAUS, st.floats(0, 3), st.sampled_from([0.5, 2.0, math.inf]), st.integers(0, 12))
def test_generation_after_generation(tau: float, weight: float, lam: float, t: int) -> None:
    v, share = 1.0, 1.0 if math.isinf(lam) else lam / (1 + lam)
    for _ in range(t):
        fitted = (1 - share) + share * tau * v
        v = 1 - weight * (fitted - 1)
    assert extrapolate.looped_variance(tau, weight, lam, t) == pytest.approx(v, rel=1e-6, abs=1e-6)


@given(TAUS, st.floats(0, 3))
def test_the_first_step_is_the_one_that_is_published_and_no_weight_mends_the_loop(tau: float, weight: float) -> None:
    assert tau * extrapolate.looped_variance(tau, weight, generations=1) == pytest.approx(
        extrapolate.reached_variance(tau, weight)
    )
    limit = tau * extrapolate.looped_variance(tau, weight)
    assert math.isinf(limit) == (weight * tau >= 1 and tau != 1)
    assert math.isinf(limit) or (limit - 1) * (tau - 1) >= -1e-12
