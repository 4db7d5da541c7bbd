"""The table of predictions: long enough, and every row within its limit."""

from __future__ import annotations

import pytest

from selfloop.theory.checks.check import cells, page
from selfloop.theory.checks.verify import LIMIT, Check, checks


@pytest.mark.slow
@pytest.mark.usefixtures("as_in_a_worker")
def test_every_prediction_holds() -> None:
    """Seeds are fixed; with others each row would fail once in 16,000 times."""
    found = list(checks())
    assert len(found) >= 110
    assert [check.statement for check in found if not check.holds] == []
    assert len({check.statement for check in found}) == len(found)


def test_a_wrong_prediction_fails_and_a_bound_only_from_above() -> None:
    row = {"statement": "x", "source": "y", "measured": 1.0, "error": 0.1}
    assert not Check(predicted=0.5, **row).holds
    assert not Check(predicted=1.5, **row).holds
    assert Check(predicted=1.5, bound=True, **row).holds
    assert not Check(predicted=0.5, bound=True, **row).holds
    assert Check(predicted=1.0 + 0.1 * (LIMIT - 0.01), **row).holds


def test_the_page_has_a_row_for_every_check_and_marks_failures() -> None:
    good = Check(statement="E |x|", source="Eq. 1", predicted=1.0, measured=1.1, error=0.1)
    bad = Check(statement="y", source="Eq. 2", predicted=1.0, measured=2.0, error=0.1, bound=True)
    assert cells(bad) == ("y", "Eq. 2", "≤ 1", "2 ± 0.1", "+10.00", "FAILED")
    text = page([good, bad])
    assert "checks 2 predictions of the theory, 1 of them bounds" in text
    assert "1 hold; the largest |z| is 10.00" in text
    assert "| E \\|x\\| | Eq. 1 | 1 | 1.1 ± 0.1 | +1.00 |\n| y | Eq. 2 | ≤ 1 | 2 ± 0.1 | +10.00 **FAILED** |\n" in text


def test_the_page_shows_stars_as_they_are() -> None:
    row = {"predicted": 0.0, "measured": 0.0, "error": 1.0}
    assert "‖G(θ\\*) − θ\\*‖" in page([Check(statement="‖G(θ*) − θ*‖", source="Prop. 4", **row)])
