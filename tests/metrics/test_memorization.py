"""Authenticity and the likelihood gap: brute force, closed forms for fresh data, and the extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import betainc
from scipy.stats import norm

from selfloop.core.streams import Streams
from selfloop.metrics import authenticity, likelihood_gap, memorization
from selfloop.metrics.memorization import nearest_record_ratio

pytestmark = pytest.mark.usefixtures("as_in_a_worker")  # threads only slow down sets this small


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


# authenticity


def direct(train: torch.Tensor, generated: torch.Tensor) -> float:
    among, across = cdist(train, train), cdist(generated, train)
    np.fill_diagonal(among, np.inf)
    return float(np.mean(across.min(1) > among.min(1)[across.argmin(1)]))


@pytest.mark.parametrize("block", [2048, 16])
@pytest.mark.parametrize(("n", "m", "d"), [(80, 80, 3), (90, 40, 1), (40, 90, 40), (2, 5, 2)])
def test_authenticity_equals_brute_force(monkeypatch: pytest.MonkeyPatch, n: int, m: int, d: int, block: int) -> None:
    monkeypatch.setattr(memorization, "_BLOCK", block)
    x, y = cloud(n, d), cloud(m, d, seed=1)
    assert authenticity(x, y) == direct(x, y)
    assert authenticity(x.float(), y.float()) == direct(x.float().double(), y.float().double())


@pytest.mark.parametrize("d", [1, 2, 64])
def test_copies_score_0_and_rows_far_away_1(d: int) -> None:
    x = (100 * cloud(60, d)).float()
    assert authenticity(x, x[torch.arange(59, -1, -1)]) == 0
    assert authenticity(x, x[:7].repeat(3, 1)) == 0
    assert authenticity(x, x + 1e4) == 1


def test_the_share_of_copies_is_what_is_missing_from_1() -> None:
    x = cloud(60, 3)
    assert authenticity(x, torch.cat([x[:15], x[:45] + 1e3])) == 0.75


def test_a_row_exactly_as_far_as_the_neighbour_is_a_copy() -> None:
    x = torch.tensor([[0.0], [1.0], [10.0]])
    assert authenticity(x, torch.tensor([[-1.0], [-1.0]])) == 0
    assert authenticity(x, torch.tensor([[-1.0], [-1.01]])) == 0.5


@pytest.mark.parametrize("d", [1, 2, 3])
def test_fresh_data_in_few_dimensions(d: int) -> None:
    """Fresh data score (1 − f) / (2 − f), f the share that two balls have in common whose centres are a radius apart.

    The row y is no copy of x* at distance r if a training row lies in the ball of radius r about x*, of which the share
    f is known to be empty because x* is nearest to y. So ⅓ on the line, and ½ in the limit of many dimensions. The
    bound is 4 standard errors, taken as 1.5 times those of independent rows as all share one training set.
    """
    overlap = betainc((d + 1) / 2, 1 / 2, 3 / 4)
    expected = (1 - overlap) / (2 - overlap)
    found = authenticity(cloud(4000, d), cloud(4000, d, seed=1))
    assert found == pytest.approx(expected, abs=6 * math.sqrt(expected * (1 - expected) / 4000))


# likelihood gap

FRESH = 100


@pytest.mark.parametrize("d", [2, 20])
def test_fresh_samples_have_little_gap_and_copies_an_abyss(d: int) -> None:
    """Over 6 repetitions; in few dimensions the widths fit the training rows at a cost, so that the gap is below 0."""
    fresh, copies = [], []
    for seed in range(6):
        train, test, other = cloud(3 * FRESH, d, seed).split(FRESH)
        fresh.append(likelihood_gap(train, test, other))
        copies.append(likelihood_gap(train, test, train))
    assert abs(np.mean(fresh)) < (5 if d == 20 else 60)
    assert np.std(fresh) < 10
    assert np.max(copies) < -1e6


def test_the_gap_of_given_widths_is_that_of_the_densities(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixture has a normal of variance σ_k² on every generated row, in units of the test set's deviations."""
    train, test, other = cloud(20, 3), 3 * cloud(30, 3, seed=1) + 1, 2 * cloud(25, 3, seed=2)
    log_width = cloud(1, 25, seed=3)[0]
    monkeypatch.setattr(memorization, "_widths", lambda *_: log_width)
    mean, std = test.mean(0), test.std(0)
    centres, deviations = ((other - mean) / std).numpy(), (log_width / 2).exp().numpy()
    seen, unseen = (
        -np.mean(
            [np.log(norm.pdf(row, centres, deviations[:, None]).prod(1).mean()) for row in ((x - mean) / std).numpy()]
        )
        for x in (train, test)
    )
    assert likelihood_gap(train, test, other) == pytest.approx(100 * (seen - unseen) / 3, rel=1e-9)


def test_copies_of_test_rows_have_a_gap_above_0() -> None:
    train, test, _ = cloud(3 * FRESH, 5).split(FRESH)
    assert likelihood_gap(train, test, test) > likelihood_gap(train, test, cloud(FRESH, 5, seed=9)) + 5


def test_the_gap_deepens_with_the_share_of_copies() -> None:
    train, test, other = cloud(3 * FRESH, 5).split(FRESH)
    gaps = [likelihood_gap(train, test, torch.cat([train[:n], other[n:]])) for n in (0, 30, 60, 100)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] - gaps[-1] > 50


def test_the_gap_does_not_depend_on_units_or_the_order_of_rows() -> None:
    train, test, other = cloud(300, 4).split(100)
    gap = likelihood_gap(train, test, other)
    units, shift = torch.tensor([1e-3, 1.0, 50.0, 1e4]).double(), 5
    moved = [units * side + shift for side in (train, test, other)]
    assert likelihood_gap(*moved) == pytest.approx(gap, abs=1e-5)
    assert likelihood_gap(train.flip(0), test.flip(0), other.flip(0)) == pytest.approx(gap, abs=1e-5)


def test_the_gap_is_finite_in_the_extremes() -> None:
    train, test, other = (side.clone() for side in cloud(300, 4).split(100))
    for side in (train, test, other):
        side[:, 2] = 3.0  # a feature that never changes has no scale
    assert math.isfinite(likelihood_gap(train, test, other))
    assert math.isfinite(likelihood_gap(train, test, train))
    assert math.isfinite(likelihood_gap(train, test, train[:1].repeat(100, 1)))
    assert math.isfinite(likelihood_gap(train, train, train))
    assert math.isfinite(likelihood_gap(train, test, other + 1e4))
    other[:, 2] = 4.0
    assert math.isfinite(likelihood_gap(train, test, other))


def test_the_gap_does_not_need_gradients_to_be_on() -> None:
    train, test, other = cloud(90, 3).split(30)
    with torch.no_grad():
        gap = likelihood_gap(train, test, other)
    assert gap == likelihood_gap(train, test, other)


def test_refusals() -> None:
    x, bad = cloud(9, 2), cloud(9, 2)
    bad[4, 1] = math.nan
    for sets, words in (
        ((x, bad), "generated has entries that are not finite"),
        ((bad, x), "train has entries that are not finite"),
        ((x, x[:1]), "N at least 2"),
        ((x, cloud(9, 3)), "train has 2 values an event.* and generated has 3"),
    ):
        with pytest.raises(ValueError, match=words):
            authenticity(*sets)
    for sets, words in (
        ((x, x, bad), "generated has entries that are not finite"),
        ((x, bad, x), "test has entries that are not finite"),
        ((x, x, x[:1]), "N at least 2"),
        ((x, cloud(9, 3), x), "train has 2 values an event.* and test has 3"),
        ((x, x, cloud(9, 3)), "generated has 3 values an event.* and test has 2"),
    ):
        with pytest.raises(ValueError, match=words):
            likelihood_gap(*sets)


# nearest record


def test_the_ratio_of_distances_is_that_of_brute_force() -> None:
    x, y, z = cloud(50, 3), cloud(40, 3, seed=1), 2 * cloud(60, 3, seed=2)
    expected = cdist(z, x).min(1).mean() / cdist(y, x).min(1).mean()
    assert nearest_record_ratio(x, y, z) == pytest.approx(expected, rel=1e-9)
    assert nearest_record_ratio(x, y, torch.cat([x[:30], z[:30]])) < 0.6 * expected


def test_the_ratio_of_copies_is_0_and_of_fresh_rows_1() -> None:
    x, y = cloud(500, 4), cloud(500, 4, seed=1)
    assert nearest_record_ratio(x, y, x[:100]) == 0
    assert nearest_record_ratio(x, y, y) == 1
    assert nearest_record_ratio(x, y, cloud(500, 4, seed=2)) == pytest.approx(1, abs=0.1)
    assert math.isnan(nearest_record_ratio(x, x, y))  # held-out rows that are copies say nothing


def test_the_first_rows_of_many_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorization, "_QUERIES", 20)
    x, y, z = cloud(50, 3), cloud(40, 3, seed=1), cloud(60, 3, seed=2)
    assert nearest_record_ratio(x, y, z) == nearest_record_ratio(x, y[:20], z[:20])
