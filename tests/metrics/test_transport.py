"""W1 and W2 against closed forms, POT and SciPy."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from selfloop.core.streams import Streams
from selfloop.metrics import wasserstein


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
