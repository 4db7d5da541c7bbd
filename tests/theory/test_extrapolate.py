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
