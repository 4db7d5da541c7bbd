"""The table of predictions: long enough, and every row within its limit."""

from __future__ import annotations

import pytest

from selfloop.theory.verify import LIMIT, Check, checks


@pytest.mark.usefixtures("as_in_a_worker")
def test_every_prediction_holds() -> None:
    """Seeds are fixed; with others each row would fail once in 16,000 times."""
    found = list(checks())
    assert len(found) >= 25
    assert [check.statement for check in found if not check.holds] == []
    assert len({check.statement for check in found}) == len(found)


def test_a_wrong_prediction_fails_and_a_bound_only_from_above() -> None:
    row = {"statement": "x", "source": "y", "measured": 1.0, "error": 0.1}
    assert not Check(predicted=0.5, **row).holds
    assert not Check(predicted=1.5, **row).holds
    assert Check(predicted=1.5, bound=True, **row).holds
    assert not Check(predicted=0.5, bound=True, **row).holds
    assert Check(predicted=1.0 + 0.1 * (LIMIT - 0.01), **row).holds
