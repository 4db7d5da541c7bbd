"""Biased samplers: without bias nothing changes, and beyond the critical ratio nothing holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.theory import biased

LAMS = st.floats(0, 50)


@given(LAMS, st.floats(0, 3), st.integers(0, 30))
def test_the_closed_form_is_the_recursion(lam: float, tau: float, t: int) -> None:
    v, w = 1.0, lam / (1 + lam)
    for _ in range(t):
        v = (1 - w) + w * tau * v
    if abs(1 + lam * (1 - tau)) > 1e-3:
        assert biased.tempered_variance(lam, tau, t) == pytest.approx(v, rel=1e-6)


@given(LAMS)
def test_no_bias_changes_nothing(lam: float) -> None:
    assert biased.tempered_variance(lam, 1) == 1
    assert biased.tempered_rate(lam, 1) == pytest.approx(lam / (1 + lam))
    assert biased.critical_ratio(1) == math.inf


def test_the_critical_ratio() -> None:
    assert biased.critical_ratio(1.5) == 2
    assert biased.tempered_rate(2, 1.5) == 1
    assert biased.tempered_variance(2, 1.5) == math.inf
    assert biased.tempered_variance(2, 1.5, 9) == pytest.approx(1 + 9 / 3)  # grows by 1 − w a generation
    assert math.isfinite(biased.tempered_variance(1.99, 1.5))
    assert biased.tempered_rate(math.inf, 0.5) == 0.5


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda p: sum(p) > 0.1), st.floats(1, 8))
def test_sharpening_sums_to_one_and_keeps_the_order(p: list[float], beta: float) -> None:
    given_ = np.array(p) / sum(p)
    found = biased.sharpened(given_, beta)
    assert found.sum() == pytest.approx(1)
    assert found.max() >= given_.max() - 1e-12
    np.testing.assert_allclose(biased.sharpened(given_, 1), given_, atol=1e-12)
