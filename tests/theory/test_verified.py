"""Verified samples: fixed points, a perfect verifier, and none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.theory import verified

RATES = st.floats(0.01, 1)


@given(st.floats(0.001, 0.9), st.floats(0, 1), st.floats(0, 1), RATES)
def test_the_limit_is_where_the_iteration_goes(spoiled: float, share: float, bad: float, good: float) -> None:
    rates = {"spoiled": spoiled, "share": share, "keeps_bad": bad, "keeps_good": good}
    limit = verified.verified_limit(**rates)
    assert spoiled - 1e-9 <= limit <= 1 + 1e-9
    e = spoiled
    for _ in range(400):
        e = verified.verified_step(min(e, 1 - 1e-12), **rates)
        assert e <= limit + 1e-6
    # Near a double root the iteration takes longer than this.
    slope = (verified.verified_step(min(limit, 0.999), **rates) - verified.verified_step(limit - 1e-4, **rates)) / 1e-4
    if slope < 0.9 and limit < 0.99:
        assert e == pytest.approx(limit, abs=1e-4)


@given(st.floats(0.001, 0.9), st.floats(0, 0.99), RATES)
def test_without_a_verifier(spoiled: float, share: float, kept: float) -> None:
    rates = {"spoiled": spoiled, "share": share, "keeps_bad": kept, "keeps_good": kept}
    assert verified.verified_limit(**rates) == pytest.approx(spoiled / (1 - (1 - spoiled) * share), rel=1e-6)


def test_a_perfect_verifier_leaves_what_the_model_spoils() -> None:
    rates = {"share": 1.0, "keeps_bad": 0.0, "keeps_good": 0.7}
    assert verified.verified_limit(spoiled=0.1, **rates) == pytest.approx(0.1)
    assert verified.verified_limit(spoiled=0.0, share=1.0, keeps_bad=1.0, keeps_good=0.1) == 0


def test_a_verifier_that_prefers_bad_rows_ruins_the_loop() -> None:
    assert verified.verified_limit(spoiled=0.1, share=1.0, keeps_bad=1.0, keeps_good=0.2) == pytest.approx(1)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps nothing"):
        verified.verified_step(0.5, spoiled=0.1, share=1, keeps_bad=0, keeps_good=0)
    with pytest.raises(ValueError, match="probabilities"):
        verified.verified_limit(spoiled=1.1, share=1, keeps_bad=0, keeps_good=1)


@pytest.mark.slow
def test_published_breakdowns() -> None:
    assert verified.breakdown(1, 1) == 0.5
    assert verified.breakdown(0.9, 0.3) == pytest.approx(0.75)
    assert verified.breakdown(1, 0) == 1
