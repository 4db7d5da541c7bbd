"""Sliced Wasserstein distances against SciPy, quantile functions, closed forms and the exact distance."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from selfloop.core.streams import Streams
from selfloop.metrics import max_sliced_wasserstein, sliced, sliced_wasserstein, wasserstein
from selfloop.metrics.sliced import line_costs

pytestmark = pytest.mark.usefixtures("as_in_a_worker")  # threads only slow down sets this small

Distance = Callable[..., object]
both = pytest.mark.parametrize("distance", [sliced_wasserstein, max_sliced_wasserstein])


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


def axis(d: int) -> torch.Tensor:
    return torch.eye(d, dtype=torch.float64)[0]


# on the line


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_order_one_equals_scipy(n: int, m: int, seed: int) -> None:
    u, v = cloud(n, 3, seed), 2 * cloud(m, 3, seed + 1) + 1
    expected = [wasserstein_distance(u[:, i].numpy(), v[:, i].numpy()) for i in range(3)]
    np.testing.assert_allclose(line_costs(u, v, 1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 18), (7, 5), (1, 6), (30, 6)])
def test_any_order_equals_the_sorted_matching_of_repeated_rows(n: int, m: int, p: int) -> None:
    """Repeating every row changes no distribution: with the least common multiple both sets are of one size."""
    u, v, size = cloud(n, 4), 2 * cloud(m, 4, seed=1) + 1, math.lcm(n, m)
    a, b = (np.sort(np.repeat(side.numpy(), size // len(side), axis=0), axis=0) for side in (u, v))
    np.testing.assert_allclose(line_costs(u, v, p), (np.abs(a - b) ** p).mean(0), rtol=1e-12)
    torch.testing.assert_close(line_costs(v, u, p), line_costs(u, v, p), rtol=1e-12, atol=0)


# the mean over directions


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 20)])
def test_in_one_dimension_both_are_the_exact_distance(p: int, n: int, m: int) -> None:
    x, y = cloud(n, 1), 2 * cloud(m, 1, seed=1) + 1
    exact = wasserstein(x, y, p)
    found = sliced_wasserstein(x, y, p)
    assert found.value == pytest.approx(exact, rel=1e-9)
    assert found.error < 1e-9
    assert max_sliced_wasserstein(x, y, p) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    ("p", "d", "share"), [(2, 2, math.sqrt(1 / 2)), (2, 10, math.sqrt(1 / 10)), (1, 2, 2 / math.pi)]
)
def test_a_shift_δ_within_the_stated_error(p: int, d: int, share: float) -> None:
    """E (θ·δ)² = ‖δ‖²/d, and in the plane E |θ·δ| = 2‖δ‖/π.

    Over 200 seeds the estimates scatter about the closed form as their stated errors say; the bounds are 4 standard
    errors, that of a standard deviation over 200 being 5 % (the errors themselves scatter by a few percent).
    """
    x = cloud(3, d)
    shift = cloud(1, d, seed=7)
    expected = float(shift.norm()) * share
    found = [sliced_wasserstein(x, x + shift, p, seed=seed) for seed in range(200)]
    assert all(0 < f.error < 0.1 * expected for f in found)
    scores = np.array([(f.value - expected) / f.error for f in found])
    assert abs(scores.mean()) < 4 / math.sqrt(200)
    assert 0.8 < scores.std() < 1.2


def test_more_directions_leave_less_error() -> None:
    x, y = cloud(40, 5), cloud(50, 5, seed=1) + 1
    few, many = (sliced_wasserstein(x, y, directions=directions) for directions in (100, 10_000))
    assert many.error == pytest.approx(few.error / 10, rel=0.3)
    assert abs(few.value - many.value) < 4 * few.error


def test_directions_are_projected_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = cloud(20, 3), cloud(30, 3, seed=1)
    whole = sliced_wasserstein(x, y)
    monkeypatch.setattr(sliced, "_CHUNK", 500)
    assert sliced_wasserstein(x, y).value == pytest.approx(whole.value, rel=1e-12)


def test_a_set_is_at_distance_zero_from_itself() -> None:
    x = cloud(30, 4)
    assert sliced_wasserstein(x, x) == sliced.Sliced(0, 0)
    assert max_sliced_wasserstein(x, x) == 0
    assert max_sliced_wasserstein(x, x.flip(0)) < 1e-12


# the worst direction


def test_the_worst_direction_of_a_shift_is_the_shift() -> None:
    x = cloud(40, 10)
    found = max_sliced_wasserstein(x, x + 3 * axis(10))
    assert found == pytest.approx(3, rel=0.01)
    assert found <= 3 * (1 + 1e-12)
    assert sliced_wasserstein(x, x + 3 * axis(10)).value < 2


@pytest.mark.parametrize("p", [1, 2])
def test_the_worst_direction_of_sets_that_differ_along_one_axis(p: int) -> None:
    """The variance along one of ten axes is 25 times as large; chance lets another direction be slightly worse."""
    x, y = cloud(500, 10), cloud(400, 10, seed=1) * (1 + 4 * axis(10))
    along = float(line_costs(x[:, :1], y[:, :1], p)) ** (1 / p)
    found = max_sliced_wasserstein(x, y, p)
    assert 0.99 * along < found < 1.05 * along


def test_the_search_never_falls_behind_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its one step leads far from the axis along which the sets differ, into a corner."""
    x = cloud(40, 6)
    y = x + 3 * axis(6)
    theta = sliced._directions(64, 6, 0)
    start = float(line_costs(x @ theta.T, y @ theta.T, 2).max().sqrt())
    monkeypatch.setattr(sliced, "_STEPS", 2)
    monkeypatch.setattr(sliced, "_RATE", 1e6)
    assert max_sliced_wasserstein(x, y, directions=64) == pytest.approx(start, rel=1e-12)


@given(st.integers(1, 25), st.integers(1, 25), st.integers(1, 6), st.sampled_from([1, 2]), st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_mean_and_maximum_are_in_order_and_below_the_exact_distance(n: int, m: int, d: int, p: int, seed: int) -> None:
    x, y = cloud(n, d, seed), 2 * cloud(m, d, seed + 1)
    mean = sliced_wasserstein(x, y, p, directions=16).value
    maximum = max_sliced_wasserstein(x, y, p, directions=16)
    assert 0 < mean <= maximum * (1 + 1e-9)
    assert maximum <= wasserstein(x, y, p) * (1 + 1e-9)


# both


def test_the_seed_alone_decides() -> None:
    x, y = cloud(20, 3), cloud(30, 3, seed=1)
    before = torch.get_rng_state()
    for distance in (sliced_wasserstein, max_sliced_wasserstein):
        assert distance(x, y, seed=5) == distance(x, y, seed=5)
    assert sliced_wasserstein(x, y, seed=5) != sliced_wasserstein(x, y, seed=6)
    assert torch.equal(torch.get_rng_state(), before)


@both
def test_gradients_may_be_off(distance: Distance) -> None:
    x, y = cloud(20, 3), cloud(30, 3, seed=1)
    expected = distance(x, y)
    with torch.no_grad():
        assert distance(x, y) == expected


def test_images_are_rows_and_inputs_are_left_alone() -> None:
    x, y = cloud(20, 12).float(), cloud(30, 12, seed=1).float()
    kept = x.clone()
    for distance in (sliced_wasserstein, max_sliced_wasserstein):
        assert distance(x.view(20, 3, 2, 2), y.view(30, 3, 2, 2).numpy()) == distance(x, y)
    assert torch.equal(x, kept)
    assert not x.requires_grad


@both
def test_refusals(distance: Distance) -> None:
    x, bad = cloud(9, 2), cloud(9, 2)
    bad[4, 1] = math.inf
    for a, b, more, words in (
        (bad, x, {}, "a has entries that are not finite"),
        (x, bad, {}, "b has entries that are not finite"),
        (x, cloud(9, 3), {}, "a has 2 values an event.* and b has 3"),
        (x[:0], x, {}, r"a has shape \(0, 2\)"),
        (x, x[:, 0], {}, r"b has shape \(9,\)"),
        (x, x, {"p": 0}, "p must be 1 or more"),
        (x, x, {"p": 0.5}, "p must be 1 or more"),
        (x, x, {"directions": 1}, "directions 2 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            distance(a, b, **more)
