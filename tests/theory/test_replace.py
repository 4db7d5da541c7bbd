"""Random walks of fully synthetic loops: one dimension, one step, and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.theory import replace
from selfloop.theory.gaussian import log_variance_walk, mean_drift


@given(st.integers(2, 300), st.integers(0, 50), st.booleans())
def test_the_determinant_in_one_dimension_is_the_variance(n: int, t: int, unbiased: bool) -> None:
    found, known = replace.log_det_walk(n, 1, t, unbiased=unbiased), log_variance_walk(n, t, unbiased=unbiased)
    assert (found.mean, found.variance) == pytest.approx((known.mean, known.variance))


@given(st.integers(1, 8), st.integers(10, 200))
def test_determinants_shrink_faster_in_more_dimensions_and_less_with_more_rows(d: int, n: int) -> None:
    walk, wider = replace.log_det_walk(n, d, 1), replace.log_det_walk(n, d + 1, 1)
    assert wider.mean < walk.mean < 0
    assert replace.log_det_walk(n + 1, d, 1).mean > walk.mean
    # To first order −d(d + 1)/(2n).
    assert replace.log_det_walk(10**6, d, 1).mean == pytest.approx(-d * (d + 1) / 2e6, rel=1e-3)


def test_no_determinant_of_fewer_rows_than_dimensions() -> None:
    with pytest.raises(ValueError, match="above d"):
        replace.log_det_walk(3, 3, 1)


def test_half_lives_for_many_rows() -> None:
    assert replace.half_life(1000) == pytest.approx((1000 - 4 / 3) * math.log(2), rel=1e-6)
    assert replace.half_life(1000, unbiased=False) == pytest.approx(500 * math.log(2), rel=1e-3)
    assert replace.half_life(2) < replace.half_life(3)


@given(st.integers(2, 100), st.integers(0, 30), st.booleans())
def test_rows_that_do_not_grow_are_the_constant_case(n: int, t: int, unbiased: bool) -> None:
    rows = [n] * t
    assert replace.growing_drift(rows, unbiased=unbiased) == pytest.approx(mean_drift(n, t, unbiased=unbiased))
    walk, known = replace.growing_walk(rows, unbiased=unbiased), log_variance_walk(n, t, unbiased=unbiased)
    assert (walk.mean, walk.variance) == pytest.approx((known.mean, known.variance))


def test_quadratic_growth_never_collapses_and_linear_growth_does() -> None:
    drifts = {
        power: [replace.growing_drift([5 * k**power for k in range(1, t)]) for t in (100, 1000)] for power in (1, 2)
    }
    assert drifts[2][1] < math.pi**2 / 30
    assert drifts[2][1] - drifts[2][0] < 0.01 * drifts[2][1]
    assert drifts[1][1] - drifts[1][0] == pytest.approx(math.log(10) / 5, rel=1e-2)
    assert replace.growing_walk([5 * k**2 for k in range(1, 1000)]).mean > -0.5


def test_an_exponential_of_one_row_is_gumbel() -> None:
    walk = replace.exponential_walk(1, 3)
    assert walk.mean == pytest.approx(-3 * np.euler_gamma)
    assert walk.variance == pytest.approx(3 * math.pi**2 / 6)
    assert replace.exponential_walk(10**6, 1).mean == pytest.approx(-0.5e-6, rel=1e-3)
