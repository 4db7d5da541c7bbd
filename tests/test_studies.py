"""The studies at small sizes: what their full tables say must hold here within their errors."""

from __future__ import annotations

import itertools
import math

import pytest

from studies import stability


@pytest.mark.parametrize("rate", stability.RATES)
def test_intervals_of_rates_hold_them(rate: float) -> None:
    """Of 150 at 95 % (less a bias's 4 %) below 84 % by chance 1e-4."""
    for arms, retrainings in itertools.product((5, 30), (10, 50)):
        found = stability.of_panels((arms, retrainings, rate), 150)
        assert found.started > 0.84
        assert found.settled > 0.84
        assert found.width < 1.5


def test_intervals_of_the_gaussian_loop_hold_its_rate() -> None:
    assert all(stability.of_loops((arms, 9.0), 100).started > 0.82 for arms in (5, 30))


def test_claims_are_seldom_too_large() -> None:
    """Of 100 claims at 5 % more than 15 are by chance 1e-5; without bounds more than 20 are."""
    found = stability.of_lams(100, 100)
    assert {row.seeds for row in found} == set(stability.SEEDS)
    assert all(row.overstated <= 0.15 and row.margin <= 0.15 for row in found)
    assert max(row.point for row in found) > 0.2
    borne = [row for row in found if row.metric == "Variance ratio" and row.seeds == 20]
    assert borne[0].exact > 0.8


def test_the_page_has_both_tables() -> None:
    covered = [stability.Covered("AR(1)", 5, 10, 0.5, 0.95, math.nan, 0.4)]
    claimed = [stability.Claimed(30, "W₂", 5, 0.25, 0.03, 0.4, 0.05, 0.1)]
    page = stability.page(covered, claimed, 2000, 1000)
    assert "| AR(1) | 5 | 10 | 0.5 | 95.0% | – | 0.40 |" in page
    assert "| 30 | W₂ | 5 | 0.25 | 3.0% | 40.0% | 5.0% | 10.0% |" in page
