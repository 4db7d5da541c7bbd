"""Vendi score, neighbour entropy and modes against cases with a known answer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform
from scipy.special import digamma, gamma

from selfloop.core.streams import Streams
from selfloop.metrics import diversity, modes, neighbour_entropy, vendi
from selfloop.metrics.arrays import ArrayLike

pytestmark = pytest.mark.usefixtures("as_in_a_worker")  # threads only slow down sets this small


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


DIMENSIONS = pytest.mark.parametrize("d", [2, 64])  # by differences, and by a matrix product


# Vendi score


@DIMENSIONS
class TestVendi:
    def test_equals_the_entropy_of_the_kernel_matrix(self, d: int) -> None:
        x = cloud(42, d)  # 861 pairs, of which one is the median
        distance = pdist(x.numpy())
        for bandwidth, sigma in ((0.7, 0.7), (3.0, 3.0), (None, float(np.median(distance)))):
            weights = np.linalg.eigvalsh(np.exp(-(squareform(distance) ** 2) / (2 * sigma**2)) / 42)
            weights = weights[weights > 1e-15]
            assert vendi(x, bandwidth) == pytest.approx(math.exp(-(weights * np.log(weights)).sum()), rel=1e-9)

    def test_points_far_apart_count_in_full(self, d: int) -> None:
        x = torch.zeros(30, d, dtype=torch.float64)
        x[:, 0] = 100 * torch.arange(30)
        assert vendi(x, 1.0) == pytest.approx(30, rel=1e-9)

    @pytest.mark.parametrize("bandwidth", [None, 1.0])
    def test_one_point_counts_once_however_often_it_occurs(self, d: int, bandwidth: float | None) -> None:
        assert vendi(cloud(1, d).expand(40, d), bandwidth) == pytest.approx(1, abs=1e-9)

    def test_copies_of_k_points_count_as_k(self, d: int) -> None:
        x = 100 * cloud(5, d).repeat(8, 1)
        assert vendi(x, 1.0) == pytest.approx(5, rel=1e-9)

    def test_more_than_half_of_all_pairs_equal_leaves_the_shares(self, d: int) -> None:
        """The median distance is 0, and the kernel tells only equal from different."""
        shares = np.array([0.75, 0.25])
        expected = math.exp(-(shares * np.log(shares)).sum())
        for seed in range(30):
            x = cloud(2, d, seed).repeat_interleave(torch.tensor([30, 10]), 0)
            assert vendi(x) == pytest.approx(expected, rel=1e-6)

    def test_the_order_does_not_matter(self, d: int) -> None:
        x = cloud(60, d)
        mixed = torch.from_numpy(np.random.default_rng(0).permutation(60))
        assert vendi(x[mixed]) == pytest.approx(vendi(x), rel=1e-9)
        assert vendi(x[mixed], 2.0) == pytest.approx(vendi(x, 2.0), rel=1e-9)

    def test_a_wider_kernel_sees_less_variety(self, d: int) -> None:
        x = cloud(60, d)
        values = [vendi(x, bandwidth) for bandwidth in (0.01, 1.0, 3.0, 10.0, 1e4)]
        assert all(wider < narrower + 1e-6 for narrower, wider in itertools.pairwise(values))
        assert values[0] > 59
        assert 1 <= values[-1] < 1.01

    def test_only_the_first_rows_count(self, monkeypatch: pytest.MonkeyPatch, d: int) -> None:
        x = cloud(60, d)
        expected = vendi(x[:25], 1.5)
        assert expected != pytest.approx(vendi(x, 1.5))
        monkeypatch.setattr(diversity, "_MOST", 25)
        assert vendi(x, 1.5) == expected


def test_vendi_refusals() -> None:
    bad = cloud(9, 2)
    bad[4, 1] = math.nan
    for x, bandwidth, words in (
        (cloud(1, 2), None, "N at least 2"),
        (bad, None, "x has entries that are not finite"),
        (cloud(9, 2), 0.0, "bandwidth must be above 0"),
        (cloud(9, 2), -1.0, "bandwidth must be above 0"),
        (cloud(9, 2), math.nan, "bandwidth must be above 0"),
    ):
        with pytest.raises(ValueError, match=words):
            vendi(x, bandwidth)


# entropy


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.07), (2, 0.08), (5, 0.15)])
def test_normals_have_their_entropy(d: int, tolerance: float) -> None:
    """½ log (2πe)^d, within 4 standard errors √((d/2 + ψ'(3)) / N), and 0.05 for the bias in 5 dimensions."""
    assert neighbour_entropy(cloud(4000, d)) == pytest.approx(d / 2 * math.log(2 * math.pi * math.e), abs=tolerance)


@pytest.mark.parametrize(("n", "d", "k"), [(50, 3, 1), (50, 3, 4), (200, 1, 3), (30, 40, 3), (4, 2, 3)])
def test_equals_the_formula_on_a_tree_of_neighbours(n: int, d: int, k: int) -> None:
    x = cloud(n, d)
    reach = cKDTree(x.numpy()).query(x.numpy(), k + 1)[0][:, k]
    volume = math.pi ** (d / 2) / gamma(d / 2 + 1)
    expected = digamma(n) - digamma(k) + np.log(volume * reach**d).mean()
    assert neighbour_entropy(x, k) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 5, 64])
def test_entropy_under_shift_and_scale(d: int) -> None:
    x = cloud(300, d)
    value = neighbour_entropy(x)
    assert neighbour_entropy(x + 3) == pytest.approx(value, abs=1e-9)
    for scale in (1e-3, 7.0):
        assert neighbour_entropy(scale * x) - value == pytest.approx(d * math.log(scale), abs=1e-9)


@DIMENSIONS
def test_entropy_is_minus_infinity_where_a_row_has_k_copies(d: int) -> None:
    x = cloud(20, d)
    x[1:3] = x[0]
    assert math.isfinite(neighbour_entropy(x, 3))
    assert neighbour_entropy(x, 2) == -math.inf
    x[3] = x[0]
    assert neighbour_entropy(x, 3) == -math.inf


def test_entropy_refusals() -> None:
    bad = cloud(9, 2)
    bad[4, 1] = math.nan
    with pytest.raises(ValueError, match="3 rows, so none has a neighbour number 3"):
        neighbour_entropy(cloud(3, 2))
    with pytest.raises(ValueError, match="not finite"):
        neighbour_entropy(bad)


# modes

SQUARE = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def test_modes_of_rows_placed_by_hand() -> None:
    """Two rows in the first mode, one just within the second, one just outside the third, none near the fourth."""
    x = torch.tensor([[0.0, 0.0], [0.5, 0.5], [10.0, 1.0], [0.0, 8.99]])
    found = modes(x, SQUARE, 1.0)
    assert found.coverage == 2 / 4
    assert found.quality == 3 / 4
    assert found.reverse_kl == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(1))
    assert modes(x, SQUARE, 1.02).coverage == 3 / 4


def test_all_modes_alike_is_perfect_and_one_of_k_is_log_k_away() -> None:
    assert modes(SQUARE.repeat(7, 1), SQUARE, 0.1) == diversity.Modes(1, 1, 0)
    one = modes(SQUARE[:1].repeat(7, 1), SQUARE, 0.1)
    assert (one.coverage, one.quality) == (0.25, 1)
    assert one.reverse_kl == pytest.approx(math.log(4))


def test_rows_far_from_all_modes_still_count_for_the_nearest() -> None:
    far = modes(SQUARE * 100 - 400, SQUARE, 1.0)
    assert (far.coverage, far.quality, far.reverse_kl) == (0, 0, 0)


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_weights_are_what_shares_are_measured_against(kind: Callable[[list[float]], ArrayLike]) -> None:
    x, weights = torch.cat([SQUARE[:1].repeat(6, 1), SQUARE[1:3]]), kind([0.5, 0.25, 0.125, 0.125])
    expected = 6 / 8 * math.log(6 / 4) + 1 / 8 * math.log(1 / 2) + 1 / 8 * math.log(1)
    assert modes(x, SQUARE, 1.0, weights).reverse_kl == pytest.approx(expected)
    alike = torch.cat([SQUARE[:1].repeat(4, 1), SQUARE[1:2].repeat(2, 1), SQUARE[2:]])
    assert modes(alike, SQUARE, 1.0, weights).reverse_kl == 0


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan])
def test_modes_refuse_a_width_that_is_none(width: float) -> None:
    with pytest.raises(ValueError, match="width must be above 0"):
        modes(SQUARE, SQUARE, width)


def test_modes_refusals() -> None:
    with pytest.raises(ValueError, match="x has entries that are not finite"):
        modes(SQUARE * math.nan, SQUARE, 1.0)
    with pytest.raises(ValueError, match=r"x has 3 values an event.* and centres has 2"):
        modes(torch.zeros(4, 3), SQUARE, 1.0)
