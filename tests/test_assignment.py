"""The assignment solver against scipy: exact on every kind of cost, and a function of each problem alone."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from exact import least_total
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from selfloop.learning.transport.assignment import assign_points, assignment

Doubles = NDArray[np.float64]
Family = Callable[[np.random.Generator, int], NDArray[Any]]


def squares(a: NDArray[Any], b: NDArray[Any]) -> Doubles:
    return np.asarray(cdist(a, b, "sqeuclidean"))


def cloud(rng: np.random.Generator, n: int, d: int = 2) -> Doubles:
    return rng.standard_normal((n, d))


def clusters(rng: np.random.Generator, n: int) -> Doubles:
    return 5 * cloud(rng, 8)[rng.integers(8, size=n)] + 0.1 * cloud(rng, n)


def banded(rng: np.random.Generator, n: int) -> Doubles:
    far = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) > 2
    return np.where(far, 1e5, rng.random((n, n)))


FAMILIES: dict[str, Family] = {
    "uniform": lambda rng, n: rng.random((n, n)),
    "heavy tails": lambda rng, n: np.exp(5 * cloud(rng, n, n)),
    "plane": lambda rng, n: squares(cloud(rng, n), cloud(rng, n)),
    "plane, distance": lambda rng, n: cdist(cloud(rng, n), cloud(rng, n)),
    "64 dimensions": lambda rng, n: squares(cloud(rng, n, 64), cloud(rng, n, 64)),
    "clusters": lambda rng, n: squares(cloud(rng, n), clusters(rng, n)),
    "line": lambda rng, n: cdist(rng.random((n, 1)), 0.7 + rng.random((n, 1))),
    "duplicated rows": lambda rng, n: squares(cloud(rng, n)[rng.integers(n, size=n)], cloud(rng, n)),
    "integer ties": lambda rng, n: rng.integers(4, size=(n, n)).astype(float),
    "grid": lambda rng, n: squares(rng.integers(4, size=(n, 2)) * 1.0, rng.integers(4, size=(n, 2)) * 1.0),
    "same set": lambda rng, n: (lambda x: squares(x, rng.permutation(x)))(cloud(rng, n)),
    "two atoms": lambda rng, n: squares(np.arange(n)[:, None] < n / 2, np.arange(n)[:, None] < n / 3),
    "constant": lambda rng, n: np.full((n, n), 0.1),
    "collapsed": lambda rng, n: squares(np.zeros((n, 2)), cloud(rng, n)),
    "nearly collapsed": lambda rng, n: squares(1e-9 * cloud(rng, n), cloud(rng, n)),
    "far apart": lambda rng, n: squares(cloud(rng, n), cloud(rng, n) + 1e3),
    "outlier": lambda rng, n: squares(np.concatenate([cloud(rng, n - 1), [[1e6, 1e6]]]), cloud(rng, n)),
    "blocks": lambda rng, n: np.kron(rng.random((3, 3)), np.ones((n, n)))[: 3 * n : 3, : 3 * n : 3],
    "row plus column": lambda rng, n: rng.random((n, 1)) + rng.random((1, n)),
    "product": lambda rng, n: np.outer(np.arange(1.0, n + 1), np.arange(n, 0.0, -1)),
    "banded": banded,
    "offset": lambda rng, n: 1e6 + squares(cloud(rng, n), cloud(rng, n)),
    "negative": lambda rng, n: -squares(cloud(rng, n), cloud(rng, n)),
    "huge": lambda rng, n: 1e12 * squares(cloud(rng, n), cloud(rng, n)),
    "tiny": lambda rng, n: 1e-12 * squares(cloud(rng, n), cloud(rng, n)),
    "near overflow": lambda rng, n: 1.7e308 * (2 * rng.random((n, n)) - 1),
    "subnormal": lambda rng, n: 5e-324 * rng.integers(1000, size=(n, n)),
}


def check(cost: NDArray[np.floating]) -> None:
    """Assert that the result is a permutation whose total is scipy's, in double precision of the given numbers."""
    n = len(cost)
    col = assignment(cost)
    assert sorted(col) == list(range(n))
    scale = np.abs(cost).max(initial=0) or 1
    scaled = cost.astype(float) / scale
    row, best = linear_sum_assignment(scaled)
    assert scaled[np.arange(n), col].sum() == pytest.approx(scaled[row, best].sum(), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [2, 3, 17, 64, 150])
def test_total_is_least(family: str, n: int) -> None:
    rng = np.random.default_rng([n, *family.encode()])
    for _ in range(1 if n > 100 else 3):
        cost = FAMILIES[family](rng, n)
        check(cost)
        if np.abs(cost).max() < 1e30:
            check(cost.astype(np.float32))


@pytest.mark.parametrize("family", FAMILIES)
def test_totals_of_many_small_problems_are_least(family: str) -> None:
    """396 problems of each family, 10,692 in all."""
    rng = np.random.default_rng(list(family.encode()))
    for n in (2, 3, 4, 7, 12, 20):
        costs = np.stack([FAMILIES[family](rng, n) for _ in range(66)]).astype(float)
        costs /= np.abs(costs).max() or 1
        columns = assignment(costs)
        np.testing.assert_array_equal(np.sort(columns, 1), np.tile(np.arange(n), (len(costs), 1)))
        totals = np.take_along_axis(costs, columns[..., None], 2).sum((1, 2))
        best = [cost[linear_sum_assignment(cost)].sum() for cost in costs]
        np.testing.assert_allclose(totals, best, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("d", [1, 3, 16, 17, 64, 300])
@pytest.mark.parametrize("centre", [0.0, 1e7])
def test_point_sets_give_what_their_costs_give(d: int, centre: float) -> None:
    rng = np.random.default_rng(0)
    a, b = centre + rng.standard_normal((2, 5, 40, d))
    b[2] = a[2][rng.permutation(40)]  # at distance 0, which a product of them hides
    np.testing.assert_array_equal(assign_points(a, b), assignment(((a[:, :, None] - b[:, None]) ** 2).sum(-1)))
    a[3, 7] = np.nan
    with pytest.raises(ValueError, match="point sets of batch 3"):
        assign_points(a, b)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 8), st.sampled_from([np.float32, np.float64]))
def test_total_is_least_whatever_the_numbers(data: st.DataObject, n: int, dtype: type[np.floating]) -> None:
    numbers = st.integers(-3, 3) | st.floats(-1e3, 1e3, width=32)
    check(data.draw(hnp.arrays(dtype, (n, n), elements=numbers)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 120), st.integers(0, 2**32 - 1), st.sampled_from(sorted(FAMILIES)))
def test_total_is_least_at_any_size(n: int, seed: int, family: str) -> None:
    check(FAMILIES[family](np.random.default_rng(seed), n))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([3.0, 10.0, 30.0]))
def test_total_is_least_beside_entries_that_are_far_greater(n: int, seed: int, decades: float) -> None:
    """To 1e-9 of the total itself, not of the greatest entry."""
    rng = np.random.default_rng(seed)
    at = 10 ** (decades * rng.random(n))
    cost = squares(at[:, None] * (1 + 1e-9 * cloud(rng, n, 1)), at[:, None] * (1 + 1e-9 * cloud(rng, n, 1)))
    cost = cost[rng.permutation(n)] * 10.0 ** rng.integers(-30, 30)
    columns = assignment(cost)
    whole = [[Fraction(x) for x in row] for row in cost.tolist()]
    total = sum(whole[i][j] for i, j in enumerate(columns))
    assert total <= least_total(whole) * (1 + Fraction(1, 10**9))


def test_result_does_not_depend_on_the_batch() -> None:
    rng = np.random.default_rng(0)
    cost = np.stack([family(rng, 40) for family in FAMILIES.values()])
    together = assignment(cost)
    assert together.shape == (len(FAMILIES), 40)
    np.testing.assert_array_equal(together, [assignment(problem) for problem in cost])
    np.testing.assert_array_equal(together[::-1], assignment(cost[::-1]))


def test_any_layout_gives_the_same_and_the_input_is_left_alone() -> None:
    cost = np.random.default_rng(0).random((3, 20, 20))
    kept = cost.copy()
    expected = assignment(cost)
    np.testing.assert_array_equal(cost, kept)
    frozen = cost.view()
    frozen.flags.writeable = False
    wide = np.repeat(cost, 2, axis=2)[:, :, ::2]
    for layout in (np.asfortranarray(cost), cost.transpose(0, 2, 1).copy().transpose(0, 2, 1), frozen, wide):
        np.testing.assert_array_equal(assignment(layout), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kinds_in_are_kinds_out(dtype: torch.dtype) -> None:
    cost = torch.rand(4, 9, 9, dtype=dtype, generator=torch.Generator().manual_seed(0))
    array = assignment(cost.numpy())
    tensor = assignment(cost.clone().requires_grad_())
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.int64
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.int64
    assert tensor.shape == (4, 9)
    np.testing.assert_array_equal(tensor.numpy(), array)
    np.testing.assert_array_equal(assignment(cost.mT).numpy(), assignment(cost.numpy().swapaxes(1, 2)))


def test_empty_and_single() -> None:
    assert assignment(np.empty((0, 0))).shape == (0,)
    assert assignment(np.empty((5, 0, 0))).shape == (5, 0)
    assert assignment(np.empty((0, 5, 5))).shape == (0, 5)
    assert assignment(torch.tensor([[-3.0]])).tolist() == [0]
    assert assignment(np.full((2, 1, 1), 7.0)).tolist() == [[0], [0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_entry_that_is_not_finite_is_named(bad: float, dtype: type[np.floating]) -> None:
    cost = np.zeros((4, 6, 6), dtype)
    cost[2, 3, 1] = cost[3, 0, 0] = bad
    with pytest.raises(ValueError, match=rf"^cost must be finite, but is {bad} at batch 2, row 3, column 1$"):
        assignment(torch.from_numpy(cost))
    with pytest.raises(ValueError, match=r"batch 0, row 3, column 1$"):
        assignment(cost[2])


@pytest.mark.parametrize(
    "cost", [np.zeros(3), np.zeros((2, 3)), np.zeros((1, 1, 2, 2)), np.zeros((2, 2), int), np.zeros((2, 2), np.float16)]
)
def test_other_shapes_and_dtypes_are_refused(cost: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"^cost must be float32 or float64 of shape \(n, n\) or \(batch, n, n\)"):
        assignment(cost)
