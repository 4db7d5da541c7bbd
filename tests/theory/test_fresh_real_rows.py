"""New real rows each generation: optimum, limits, and the recursion's settled value."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from selfloop.theory import fresh

RATIOS = st.floats(0.01, 100)


@given(RATIOS)
def test_the_golden_weight_is_where_the_error_is_least_and_is_that_error(k: float) -> None:
    best = fresh.golden_weight(k)
    found = minimize_scalar(
        lambda a: fresh.fresh_limit(k, weight=a), bounds=(1e-6, 1), options={"xatol": 1e-10}, method="bounded"
    )
    assert found.x == pytest.approx(best, abs=1e-4)
    assert found.fun == pytest.approx(best, rel=1e-8)
    assert k * best**2 + best == pytest.approx(1)
    assert best <= fresh.fresh_limit(k) < 1


def test_published_optimal_weights() -> None:
    """He, Xu & Cheng 2025: by real rows per synthetic one."""
    for real_per_synthetic, weight in ((0.5, 0.5), (1, 0.618034), (2, 0.732051), (4, 0.828427)):
        assert fresh.golden_weight(1 / real_per_synthetic) == pytest.approx(weight, abs=1e-6)


@given(RATIOS)
def test_as_the_rows_count(k: float) -> None:
    assert fresh.fresh_limit(k) == pytest.approx((1 + k) / (1 + 2 * k))
    assert fresh.fresh_limit(k, weight=1) == pytest.approx(1)
    assert fresh.fresh_limit(k, weight=0) == math.inf


@given(st.integers(1, 4), st.floats(0.05, 1))
def test_many_rows_settle_at_the_first_order_limit(k: int, weight: float) -> None:
    n = 10**7
    path = fresh.fresh(n, k, 300, weight=weight)
    assert path.mean_square[0] == 1 / n
    assert n * path.mean_square[-1] == pytest.approx(fresh.fresh_limit(k, weight=weight), rel=1e-5)
    assert path.mean_square + path.variance == pytest.approx(1)
