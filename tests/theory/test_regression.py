"""Relabelling loops: the first fit, published numbers, and bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.theory import regression


@given(st.integers(1, 20), st.integers(2, 100), st.integers(1, 30), st.floats(0.1, 3))
def test_accumulating_is_bounded_and_replacing_is_not(d: int, more: int, fits: int, noise: float) -> None:
    rows = d + 1 + more
    first = regression.replaced_error(rows, d, 1, noise=noise)
    new, kept = (regression.accumulated_error(rows, d, fits, noise=noise, kept=k) for k in (False, True))
    assert regression.replaced_error(rows, d, fits, noise=noise) == pytest.approx(fits * first)
    assert first <= new * (1 + 1e-12)
    assert new <= kept * (1 + 1e-12)  # new x tell more of β than the same again
    assert kept < first * math.pi**2 / 6
    assert kept == pytest.approx(first / regression.accumulated_efficiency(fits))


def test_gerstgrasser_et_al() -> None:
    """d = 10, T = 111, 10 fits: 1.0 replaced; accumulated 0.151, below π²/6 of the first fit's 0.1."""
    assert regression.replaced_error(111, 10, 10) == pytest.approx(1.0)
    assert regression.accumulated_error(111, 10, 10) == pytest.approx(0.15137, abs=1e-5)
    assert regression.accumulated_error(111, 10, 10, kept=True) == pytest.approx(0.154977, abs=1e-6)


def test_the_efficiency_goes_to_6_over_pi_squared() -> None:
    assert regression.accumulated_efficiency(1) == 1
    assert regression.accumulated_efficiency(10**6) == pytest.approx(6 / math.pi**2, abs=1e-6)
    assert regression.accumulated_efficiency(10**4) > 6 / math.pi**2


def test_too_few_rows_have_no_expectation() -> None:
    for call in (regression.replaced_error, regression.accumulated_error):
        with pytest.raises(ValueError, match="infinite"):
            call(11, 10, 1)
