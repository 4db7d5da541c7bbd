"""Two settings compared seed by seed, and what is claimed of λ from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selfloop.analysis.bearable import Open, bearable, sentences, unknown
from selfloop.analysis.curves import Curves, Setting
from selfloop.analysis.paired import ends, excess, paired, ratio, upper
from selfloop.metrics import METRICS
from selfloop.theory.measured import Interval

LOWER, HIGHER, RATIO, NONE = (
    METRICS[name] for name in ("w2_held_out", "precision_train", "variance_ratio", "parameter_distance_random")
)


def curves(values: np.ndarray, seeds: tuple[int, ...]) -> Curves:
    none = np.full(len(values), -1)
    return Curves(
        settings=(), seeds=seeds, values={"m": values}, floors={}, ended=none, endings=tuple("" for _ in none)
    )


def setting(*arms: int) -> Setting:
    return Setting(label="", arms=arms, ratio=0.0, settings={})


def test_pairs_are_of_common_seeds_in_their_order() -> None:
    values = np.arange(10.0).reshape(5, 2)
    pairs = paired(curves(values, (3, 1, 2, 1, 3)), setting(0, 1, 2), setting(3, 4), "m")
    assert pairs.seeds == (1, 3)
    assert pairs.here.tolist() == [[2, 3], [0, 1]]
    assert pairs.there.tolist() == [[6, 7], [8, 9]]
    none = paired(curves(values, (1, 2, 3, 4, 5)), setting(0), setting(1), "m")
    assert none.seeds == ()
    assert excess(ends(none.here), ends(none.there), LOWER) is None


def test_ends_are_means_of_the_last_three_retrainings() -> None:
    values = np.array([[9.0, 1, 2, 3, 4], [9, 1, 2, 3, np.nan]])
    np.testing.assert_equal(ends(values), [3, np.nan])
    np.testing.assert_equal(ends(values[:, :2]), [1, 1])
    np.testing.assert_equal(ends(values[:, :1]), [np.nan, np.nan])


@given(st.integers(0, 10**6), st.integers(2, 12), st.floats(-0.5, 2.0))
@settings(max_examples=50, deadline=None)
def test_a_bound_is_where_students_test_turns(seed: int, count: int, share: float) -> None:
    """At r = upper bound, Student's one-sided test of b − c − r c has p = 0.05: by SciPy, whose test is another's."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(1.0, 1.4, count)
    b = (1 + share) * c + 0.1 * rng.standard_normal(count)
    found = excess(b, c, LOWER)
    assert found is not None
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(b.mean() / c.mean() - 1)
    if math.isfinite(found.high):
        for r, side in ((found.high, "less"), (found.low, "greater")):
            assert stats.ttest_1samp(b - c - r * c, 0, alternative=side).pvalue == pytest.approx(0.05, rel=1e-4)


@given(st.integers(0, 10**6), st.floats(-250, 250))
@settings(max_examples=30, deadline=None)
def test_a_share_has_no_units(seed: int, power: float) -> None:
    rng = np.random.default_rng(seed)
    b, c = rng.uniform(1, 2, (2, 6))
    one, other = excess(b, c, LOWER), excess(b * 10**power, c * 10**power, LOWER)
    assert one is not None
    assert other is not None
    assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high), rel=1e-9)


def test_what_is_worse_depends_on_the_metric() -> None:
    c = np.full(6, 0.8) + 1e-6 * np.arange(6)
    for metric, b, share in ((LOWER, 0.88, 0.1), (HIGHER, 0.72, 0.1), (RATIO, 0.72, 1 / 9), (RATIO, 1 / 0.72, 1 / 9)):
        found = excess(np.full(6, b), c, metric)
        assert found is not None
        assert found.value == pytest.approx(share, abs=1e-4)
        assert 0 < found.low <= found.value <= found.high
    assert excess(c, c, NONE) is None
    # A better one, of a metric below 0: −3 nats are lower than −2.
    better = excess(np.full(6, -3.0), np.full(6, -2.0) + 1e-6 * np.arange(6), METRICS["nll"])
    assert better is not None
    assert better.high == pytest.approx(-0.5, abs=1e-4)


def test_what_does_not_tell_has_no_bound() -> None:
    one = excess(np.array([1.0]), np.array([1.0]), LOWER)
    assert one == Interval(0.0, -math.inf, math.inf)
    same, many = (excess(np.ones(count), np.ones(count), HIGHER) for count in (4, 5))
    assert same == Interval(0.0, -math.inf, math.inf)
    assert many == Interval(0.0, 0.0, 0.0)
    # Next to a mean that may be 0 nothing is a share.
    around = excess(np.ones(4), np.array([1.0, -1, 1, -0.5]), LOWER)
    assert around is not None
    assert around.high == math.inf
    assert excess(np.array([1.0, np.nan]), np.ones(2), LOWER) == Interval(math.inf, math.inf, math.inf)
    assert excess(np.ones(2), np.array([1.0, np.nan]), LOWER) is None
    assert ratio(np.zeros(2), np.zeros(2)).high == math.inf
    assert excess(np.full(6, 1e-300) * np.arange(1, 7), np.ones(6), RATIO) is not None


def test_one_sided_bounds_of_a_mean() -> None:
    x = np.random.default_rng(0).standard_normal(7)
    both = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    assert (-upper(-x), upper(x)) == pytest.approx((both.low, both.high))
    assert upper(x[:1]) == math.inf


def over(low: float, high: float) -> list[Interval]:
    return [Interval((low + high) / 2, low, high)]


def test_the_first_lam_that_is_not_certified_ends_it() -> None:
    shares = {0.5: over(0, 0.05), 1.0: over(0, 0.3), 2.0: over(0, 0.09), 4.0: over(0.2, 1.0), math.inf: over(0.3, 9)}
    found = bearable("", shares, 0.1)
    assert (found.ratio, found.top, found.worse) == (0.5, False, 4.0)
    assert found.between == (Open(ratio=1.0, at_most=0.3), Open(ratio=2.0, at_most=0.09))
    assert sentences(found, 0.1, 5) == [
        "No worse than 10 % after 5 retrainings, with 95 % confidence, up to λ = 0.5. Tried beyond it, and shown "
        "neither way: λ = 1 (at most 30 % worse), λ = 2 (at most 9 % worse); more seeds would tell. Worse by more than "
        "10 % with 95 % confidence from λ = 4 on."
    ]


def test_of_two_settings_with_one_lam_both_must_hold() -> None:
    shares = {1.0: over(0, 0.05) + over(0, math.inf)}
    found = bearable("data.n = 3", shares, 0.1)
    assert found.ratio == 0
    assert sentences(found, 0.1, 5) == [
        "data.n = 3: No λ that was tried is shown with 95 % confidence to be no worse than 10 %. Tried, and shown "
        "neither way: λ = 1 (no bound); more seeds would tell."
    ]


def test_all_may_be_borne_or_nothing_be_said() -> None:
    assert sentences(bearable("", {1.0: over(-1, 0)}, 0.1), 0.1, 1) == [
        "No worse than 10 % after 1 retraining, with 95 % confidence, up to λ = 1, the largest that was tried."
    ]
    assert sentences(unknown("", ["there is one λ only"]), 0.1, 5) == ["There is one λ only."]
