"""Corrected samples: no correction is the loop as it was, and full correction ends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.theory.corrected import corrected_rate

LAMS, MUS, STRENGTHS = st.floats(0, 100), st.floats(0.01, 10), st.floats(0, 50)


@given(LAMS, MUS, STRENGTHS, st.booleans())
def test_correction_only_helps(lam: float, mu: float, strength: float, towards_model: bool) -> None:
    plain = lam * mu / (1 + lam * mu)
    assert corrected_rate(lam, 0, mu, towards_model=towards_model) == pytest.approx(plain)
    rate = corrected_rate(lam, strength, mu, towards_model=towards_model)
    assert 0 <= rate <= plain < 1
    assert corrected_rate(lam, strength + 1, mu, towards_model=towards_model) <= rate


@given(LAMS, STRENGTHS)
def test_a_well_specified_model_is_its_own_data(lam: float, strength: float) -> None:
    rate = corrected_rate(lam, strength)
    assert rate == pytest.approx(corrected_rate(lam, strength, towards_model=True))
    assert rate == pytest.approx(lam / ((1 + lam) * (1 + strength)))


def test_the_data_take_more_of_a_steep_direction_than_the_model_does_of_a_flat_one() -> None:
    assert corrected_rate(1, 1, 2) > corrected_rate(1, 1, 2, towards_model=True)
    assert corrected_rate(1, 1, 0.5) < corrected_rate(1, 1, 0.5, towards_model=True)
