"""Pools of row sets: the general recursion against every closed form, and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop.theory import pooled
from selfloop.theory.gaussian import mean_drift, mixed_errors

ROWS = st.integers(2, 200)
GENERATIONS = st.integers(0, 15)


def newest(generations: int) -> np.ndarray:
    return np.eye(generations + 1)


def everything(generations: int) -> np.ndarray:
    shares = np.tril(np.ones((generations + 1, generations + 1)))
    return shares / shares.sum(1, keepdims=True)


@given(ROWS, GENERATIONS)
def test_replacing_is_the_pool_of_the_newest_set(n: int, t: int) -> None:
    found = pooled.pooled(newest(t), n)
    np.testing.assert_allclose(found.variance, (1 - 1 / n) ** np.arange(1, t + 2), rtol=1e-9)
    # From the truth on the fit to real rows is the first step of the drift.
    assert found.mean_square[t] == pytest.approx(mean_drift(n, t + 1, unbiased=False))


@given(ROWS, GENERATIONS)
def test_accumulating_is_the_pool_of_all_sets(n: int, t: int) -> None:
    known, found = pooled.accumulate(n, t), pooled.pooled(everything(t), n)
    np.testing.assert_allclose(found.variance, known.variance, rtol=1e-9)
    np.testing.assert_allclose(found.mean_square, known.mean_square, rtol=1e-9, atol=1e-15)


@given(ROWS, st.integers(0, 40))
def test_accumulating_stays_above_its_limit_and_replacing_below_accumulating(n: int, t: int) -> None:
    kept = pooled.accumulate(n, t).variance
    assert (np.diff(kept) < 0).all()
    assert kept[-1] > pooled.accumulate_limit(n) > 0
    assert (kept >= pooled.pooled(newest(t), n).variance - 1e-12).all()
    assert (pooled.accumulate(n, t, unbiased=True).variance >= kept).all()


def test_limits_of_many_rows_and_of_one() -> None:
    assert pooled.accumulate_limit(10**8) == pytest.approx(1 - math.pi**2 / 6e8)
    assert pooled.accumulate_limit(1) == pytest.approx(0, abs=1e-15)  # one row has no variance
    assert pooled.accumulate(7, 0).mean_square[0] == pytest.approx(1 / 7)
    assert pooled.accumulate(7, 0, unbiased=True).variance[0] == 1
    assert pooled.accumulate(50, 10**5).variance[-1] == pytest.approx(pooled.accumulate_limit(50), abs=1e-6)


def test_unbiased_accumulation_of_two_sets_by_hand() -> None:
    """n = 2: after two fits 1 − 1/(2·3), and E μ² = 1/2 + 1/8."""
    found = pooled.accumulate(2, 1, unbiased=True)
    assert found.variance[1] == pytest.approx(5 / 6)
    assert found.mean_square[1] == pytest.approx(1 / 2 + 1 / 8)


@given(st.integers(2, 100), st.integers(0, 12))
def test_subsampling_lies_between_accumulating_and_replacing(n: int, t: int) -> None:
    whole, newest_only = pooled.accumulate(n, t).variance, pooled.pooled(newest(t), n).variance
    without, with_replacement = (pooled.accumulate_subsample(n, t, replacement=r).variance for r in (False, True))
    assert without[0] == pytest.approx(whole[0])  # all n of n rows
    assert (without <= whole + 1e-12).all()
    assert (without >= newest_only - 1e-12).all()
    assert (with_replacement < without).all()


def test_subsampling_two_sets_of_two_rows_by_hand() -> None:
    """The union's a is 1/2 and then (3/2 + 1/2 + 1/4)/4 = 9/16; two of its four rows: e = a + (1 − a)/3."""
    assert pooled.accumulate_subsample(2, 1).mean_square[1] == pytest.approx(9 / 16 + 7 / 48)


@given(st.integers(1, 12), st.integers(2, 50), st.integers(0, 15), st.booleans())
@settings(max_examples=50)
def test_a_window_that_holds_all_sets_is_accumulation_and_of_one_is_replacement(
    w: int, n: int, t: int, real: bool
) -> None:
    wide = pooled.pooled(pooled.window_shares(t, t + 1, real=real), n)
    np.testing.assert_allclose(wide.variance, pooled.accumulate(n, t).variance, rtol=1e-9)
    narrow = pooled.pooled(pooled.window_shares(t, 1, real=False), n)
    np.testing.assert_allclose(narrow.variance, (1 - 1 / n) ** np.arange(1, t + 2), rtol=1e-9)
    kept = pooled.pooled(pooled.window_shares(t, w, real=True), n).variance
    assert (kept >= pooled.pooled(pooled.window_shares(t, w, real=False), n).variance - 1e-12).all()


@pytest.mark.parametrize("window", [1, 2, 4, 9])
def test_the_drift_of_a_window_is_that_of_its_pool(window: int) -> None:
    """With n so large that σ² stays 1, the recursion's growth a generation is the drift."""
    n, t = 10**7, 60
    error = pooled.pooled(pooled.window_shares(t, window, real=False), n).mean_square
    assert error[-1] - error[-2] == pytest.approx(pooled.window_drift(n, window), rel=1e-4)
    assert pooled.window_drift(n, window) <= 1 / (n * window)


@given(st.integers(2, 60), st.integers(1, 4))
def test_augmenting_settles_where_the_mixed_recursion_of_many_rows_does(n: int, lam: int) -> None:
    """MLE and unbiased differ by O(1/n²); real rows of their own mean are E = 1/n away from the truth."""
    t, rows = 60, 1000 * n
    shares = np.zeros((t + 1, t + 1))
    shares[0, 0] = 1
    shares[np.arange(1, t + 1), 0] = 1 / (1 + lam)
    shares[np.arange(1, t + 1), np.arange(1, t + 1)] = lam / (1 + lam)
    sizes = np.append(rows, np.full(t, lam * rows))
    found = rows * pooled.pooled(shares, sizes).mean_square[-1]
    known = 1 + rows * mixed_errors(rows, lam, 0).stationary_mean_square
    assert found == pytest.approx(known, rel=2 / rows)


def test_a_biased_first_model_is_forgotten_like_a_power() -> None:
    assert pooled.accumulated_bias(0.0, 30) == 1
    assert pooled.accumulated_bias(1.0, 30) == 0
    assert pooled.accumulated_bias(0.3, 0) == 1
    half = pooled.accumulated_bias(0.5, 10**5)
    assert half * math.sqrt(math.pi * 10**5) == pytest.approx(1, rel=1e-5)  # 1/Γ(1 − π) t^−π


@pytest.mark.parametrize("shares", [[[1, 0], [0.5, 0.6]], [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0]]])
def test_shares_that_do_not_fit_are_refused(shares: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="lower triangular"):
        pooled.pooled(np.array(shares), 5)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a row"):
        pooled.pooled(np.eye(2), np.array([3.0, 0.0]))
