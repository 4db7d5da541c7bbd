"""W1 and W2 against closed forms, whole numbers, POT and SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import exact
import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from selfloop.core.streams import Streams
from selfloop.metrics import wasserstein

Points = NDArray[np.float64]


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


@pytest.mark.parametrize("p", [1, 2])
class TestWasserstein:
    def test_a_set_is_at_distance_zero_from_itself_in_any_order(self, p: int) -> None:
        x = cloud(50, 3)
        assert wasserstein(x, x.flip(0), p) == 0

    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_a_shift_is_its_own_length(self, p: int, offset: float) -> None:
        x = cloud(40, 2) + offset
        shift = torch.tensor([3.0, -4.0], dtype=torch.float64)
        assert wasserstein(x, x + shift, p) == pytest.approx(5, rel=1e-9)

    @pytest.mark.parametrize(("n", "m"), [(60, 60), (60, 35)])
    def test_equals_pot(self, p: int, n: int, m: int) -> None:
        a, b = cloud(n, 2), 1.5 * cloud(m, 2, seed=1) + 1
        cost = ot.dist(a.numpy(), b.numpy(), "sqeuclidean" if p == 2 else "euclidean")
        expected = ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), cost) ** (1 / p)
        assert wasserstein(a, b, p) == pytest.approx(expected, rel=1e-9)

    def test_symmetry(self, p: int) -> None:
        a, b = cloud(30, 4), cloud(20, 4, seed=1)
        assert wasserstein(a, b, p) == pytest.approx(wasserstein(b, a, p), rel=1e-12)

    def test_one_point_repeated(self, p: int) -> None:
        a, b = torch.zeros(20, 2), torch.zeros(20, 2) + torch.tensor([0.0, 2.0])
        assert wasserstein(a, b, p) == pytest.approx(2)

    def test_refuses_what_is_not_finite(self, p: int) -> None:
        bad = cloud(10, 2)
        bad[3, 1] = math.inf
        with pytest.raises(ValueError, match="finite"):
            wasserstein(bad, cloud(10, 2), p)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_w1_on_the_line_equals_scipy(n: int, m: int, seed: int) -> None:
    a, b = cloud(n, 1, seed), cloud(m, 1, seed + 1)
    expected = wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy())
    assert wasserstein(a, b, 1) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.integers(2, 30), st.floats(1e-6, 1e6), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_scales_with_the_data_and_w1_is_at_most_w2(n: int, scale: float, seed: int) -> None:
    a, b = cloud(n, 2, seed), cloud(n, 2, seed + 1)
    assert wasserstein(scale * a, scale * b) == pytest.approx(scale * wasserstein(a, b), rel=1e-9)
    assert wasserstein(a, b, 1) <= wasserstein(a, b, 2) * (1 + 1e-12)


def _far_clusters(a: Points, b: Points, far: float) -> None:
    a[: len(a) // 2] += far
    b[: len(b) // 2] += far


def _far_rows(a: Points, b: Points, far: float) -> None:
    a[0], a[-1], b[0], b[-1] = far, -far, -far, far


def _chain(a: Points, b: Points, far: float) -> None:
    for k in range(3):
        a[k] += far * k**3
        b[k] += far * k**3


def _a_far_row(a: Points, b: Points, far: float) -> None:
    a[0] = far


def _near_copies(a: Points, b: Points, far: float) -> None:
    k = min(len(a), len(b))
    a[:] = np.exp(math.log(far) / 2 * a)
    b[:k] = a[:k] * (1 + 1e-9 * b[:k])


def _powers(a: Points, b: Points, far: float) -> None:
    for x, noise in ((a, 0.0), (b, 1e-12)):
        x[:] = far ** (np.arange(len(x)) / 3)[:, None] * (1 + noise)


@pytest.mark.parametrize("p", [1, 2])
class TestAnyNumbers:
    """All to a relative 1e-9 of exact arithmetic."""

    @pytest.mark.parametrize("spoil", [_far_clusters, _far_rows, _chain, _a_far_row, _near_copies, _powers])
    @pytest.mark.parametrize("far", [1e3, 1e6, 1e9, 1e15])
    def test_rows_far_apart(self, p: int, far: float, spoil: Callable[[Points, Points, float], None]) -> None:
        for n, m, d in ((9, 9, 2), (8, 6, 3), (5, 7, 1), (9, 9, 17), (6, 4, 17)):
            rng = np.random.default_rng([n, m, d])
            a, b = rng.standard_normal((n, d)), rng.standard_normal((m, d))
            spoil(a, b, far)
            assert wasserstein(a, b, p) == pytest.approx(exact.wasserstein(a, b, p), rel=1e-9, abs=0)

    @pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-12, 1e12, 1e170, 1e300])
    def test_units(self, p: int, scale: float) -> None:
        for n, m, d in ((9, 9, 2), (8, 6, 2), (9, 9, 20), (8, 6, 20), (3, 5, 1)):
            a, b = cloud(n, d), cloud(m, d, seed=1)
            assert wasserstein(scale * a, scale * b, p) == pytest.approx(scale * wasserstein(a, b, p), rel=1e-9, abs=0)

    @given(
        st.data(), st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 2, 3]), st.sampled_from([1e-12, 1, 1e12])
    )
    @settings(max_examples=60, deadline=None)
    def test_ties_copies_and_shifts(self, p: int, data: st.DataObject, n: int, m: int, d: int, scale: float) -> None:
        numbers = st.integers(-2, 2) | st.sampled_from([1e9, 1e9 + 1, -1e9]) | st.floats(-1e3, 1e3, width=32)
        a, b = (data.draw(hnp.arrays(np.float64, (k, d), elements=numbers.map(float))) * scale for k in (n, m))
        assert wasserstein(a, b, p) == pytest.approx(exact.wasserstein(a, b, p), rel=1e-9, abs=0)
        assert wasserstein(b, a, p) == pytest.approx(wasserstein(a, b, p), rel=1e-9, abs=0)

    def test_one_point_against_many(self, p: int) -> None:
        a, b = cloud(1, 3), cloud(500, 3, seed=1)
        expected = (b - a).norm(dim=1).pow(p).mean() ** (1 / p)
        assert wasserstein(a, b, p) == pytest.approx(float(expected), rel=1e-12, abs=0)
        assert wasserstein(a, a, p) == 0

    def test_sets_of_very_different_sizes(self, p: int) -> None:
        a, b = cloud(4, 2).numpy(), cloud(600, 2, seed=1).numpy()
        cost = cdist(np.repeat(a, 150, 0), b) ** p
        expected = cost[linear_sum_assignment(cost)].mean() ** (1 / p)
        assert wasserstein(a, b, p) == pytest.approx(expected, rel=1e-9, abs=0)

    def test_almost_as_many_rows_where_some_mass_must_go_far(self, p: int) -> None:
        a, b = cloud(20, 2).numpy(), cloud(19, 2, seed=1).numpy()
        a[0] += 1e6
        b[0] += 1e6
        cost = cdist(np.repeat(a, 19, 0), np.repeat(b, 20, 0)) ** p
        expected = cost[linear_sum_assignment(cost)].mean() ** (1 / p)
        assert wasserstein(a, b, p) == pytest.approx(expected, rel=1e-9, abs=0)
