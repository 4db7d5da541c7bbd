"""Curated samples: tilting, finite K, fixed points and the condensate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import zeta

from selfloop.theory import curated

SHARES = st.lists(st.floats(0.01, 1), min_size=2, max_size=6)


@given(SHARES, st.integers(0, 9), st.integers(0, 9))
def test_tilting_twice_is_tilting_once(shares: list[float], s: int, t: int) -> None:
    p, reward = np.array(shares) / sum(shares), np.arange(len(shares)) / 2
    np.testing.assert_allclose(
        curated.tilted(curated.tilted(p, reward, s), reward, t), curated.tilted(p, reward, s + t)
    )
    np.testing.assert_allclose(curated.tilted(p, reward, 0), p)


@given(st.floats(0.01, 0.99), st.floats(0, 5), st.integers(1, 30))
def test_choice_of_more_favours_the_better(p: float, advantage: float, of: int) -> None:
    share = curated.chosen_share(p, advantage, of)
    assert curated.chosen_share(p, advantage, 1) == pytest.approx(p)
    assert curated.chosen_share(p, 0, of) == pytest.approx(p)
    assert share <= curated.chosen_share(p, advantage, of + 1) + 1e-12
    tilt = p * math.exp(advantage) / (p * math.exp(advantage) + 1 - p)
    assert share <= tilt + 1e-12
    assert curated.chosen_share(p, 1000.0, of) == pytest.approx(1 - (1 - p) ** of)


def test_choice_of_very_many_tilts() -> None:
    assert curated.chosen_share(0.3, 1.0, 100_000) == pytest.approx(0.3 * math.e / (0.3 * math.e + 0.7), abs=1e-5)


@given(SHARES, st.floats(0, 200), st.floats(0, 3))
def test_the_fixed_point_is_one(shares: list[float], lam: float, scale: float) -> None:
    p0, reward = np.array(shares) / sum(shares), scale * np.arange(len(shares))
    p, w = curated.anchored(p0, reward, lam), lam / (1 + lam)
    assert p.sum() == pytest.approx(1)
    np.testing.assert_allclose((1 - w) * p0 + w * curated.tilted(p, reward, 1), p, atol=1e-9)
    assert (p >= (1 - w) * p0 - 1e-12).all()


def test_real_data_alone_or_a_constant_reward_change_nothing() -> None:
    p0 = np.array([0.5, 0.0, 0.5])
    np.testing.assert_allclose(curated.anchored(p0, np.array([0.0, 5.0, 1.0]), 0), p0)
    np.testing.assert_allclose(curated.anchored(p0, np.full(3, 7.0), 10), p0, atol=1e-12)


def test_condensation() -> None:
    assert curated.critical_ratio(3) == pytest.approx(1.612375, abs=1e-6)
    assert curated.critical_ratio(2) == math.inf
    assert curated.critical_ratio(20) == pytest.approx(zeta(10) - 1)
    assert curated.condensed_share(1.6, 3) == 0
    assert curated.condensed_share(1.7, 3) > 0
    assert curated.condensed_share(1e9, 3) == pytest.approx(1)
    assert curated.condensed_share(1e9, 2) == 0


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_the_normaliser_solves_its_equation(d: int) -> None:
    """By the series Σ z^k (1 + k)^(−d/2) itself, and without synthetic rows 2^(−d/2)."""
    assert curated.normaliser(0, d) == pytest.approx(2 ** (-d / 2))
    assert curated.normaliser(1e-6, d) == pytest.approx(2 ** (-d / 2), rel=1e-5)
    lam = min(0.5, 0.8 * curated.critical_ratio(d))
    w = lam / (1 + lam)
    z = w / curated.normaliser(lam, d)
    k = np.arange(100_000)
    assert (1 - w) * (z**k * (1.0 + k) ** (-d / 2)).sum() == pytest.approx(1, abs=1e-6)


def test_the_normaliser_is_continuous_where_the_condensate_begins() -> None:
    critical = curated.critical_ratio(3)
    assert curated.normaliser(critical - 1e-4, 3) == pytest.approx(critical / (1 + critical), abs=1e-4)
    assert curated.normaliser(5, 3) == pytest.approx(5 / 6)
