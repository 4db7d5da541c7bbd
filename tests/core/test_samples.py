"""Samples: joined, picked and stacked, the birth and the weight of every row go with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from selfloop.core.samples import Samples, stack


def numbered(n: int, born: int = 0, r: int = 1, start: int = 0) -> Samples:
    """Return R sets of n rows (2,) that all differ."""
    x = torch.arange(start, start + 2 * n * r, dtype=torch.float64).view(r, n, 2)
    return Samples.full(x, born)


def weights(samples: Samples) -> Tensor:
    assert samples.weight is not None
    assert samples.weight.dtype == torch.float64
    return samples.weight


def test_full_sets_are_all_in_use() -> None:
    full = Samples.full(torch.zeros(2, 3, 1, 8, 8, dtype=torch.uint8), 4)
    assert full.born.dtype == torch.int16
    assert full.born.tolist() == [[4, 4, 4]] * 2
    assert full.count.tolist() == [3, 3]
    assert full.weight is None
    assert full.arm(1).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"born": torch.zeros(2, 4, dtype=torch.int16)},
        {"count": torch.tensor([3])},
        {"weight": torch.ones(2, 2)},
        {"weight": torch.ones(3)},
    ],
)
def test_parts_that_disagree_are_refused(wrong: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="disagree"):
        replace(numbered(3, r=2), **wrong)


# One behind the other


def test_union_keeps_rows_and_births_in_order() -> None:
    real, old, new = numbered(3), numbered(2, 1, start=100), numbered(4, 5, start=200)
    union = Samples.union([real, old, new])
    assert torch.equal(union.x, torch.cat([real.x, old.x, new.x], 1))
    assert union.born.tolist() == [[0] * 3 + [1] * 2 + [5] * 4]
    assert union.count.tolist() == [9]
    assert union.weight is None


def test_union_of_several_arms_joins_each_with_its_own() -> None:
    union = Samples.union([numbered(2, r=3), numbered(1, 1, r=3, start=50)])
    assert union.count.tolist() == [3, 3, 3]
    assert union.arm(1).tolist() == [[4.0, 5.0], [6.0, 7.0], [52.0, 53.0]]


def test_union_weighs_every_row_of_a_part() -> None:
    union = Samples.union([numbered(2), numbered(3, 1)], [1.0, 0.25])
    assert weights(union).tolist() == [[1.0, 1.0, 0.25, 0.25, 0.25]]


def test_union_keeps_the_weights_that_parts_have_and_counts_others_once() -> None:
    own = numbered(2, 1).weighed(torch.tensor([[3.0, 0.5]]))
    assert weights(Samples.union([numbered(2), own])).tolist() == [[1.0, 1.0, 3.0, 0.5]]
    assert weights(Samples.union([own, numbered(2)])).tolist() == [[3.0, 0.5, 1.0, 1.0]]
    assert weights(Samples.union([own, numbered(1)], [2.0, 4.0])).tolist() == [[2.0, 2.0, 4.0]]


def test_union_wants_a_weight_for_every_part() -> None:
    with pytest.raises(ValueError, match=r"^1 weights for 2 sets: give one weight a set$"):
        Samples.union([numbered(2), numbered(2)], [1.0])


# Some of them


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_keep_returns_the_chosen_rows_in_their_order(use: list[bool]) -> None:
    n = len(use)
    given_rows = Samples.union([numbered(n - n // 2), numbered(n // 2, 2, start=90)])
    given_rows = given_rows.weighed(torch.arange(n).double()[None])
    kept = given_rows.keep(torch.tensor(use))
    chosen = [i for i, yes in enumerate(use) if yes]
    assert kept.count.tolist() == [len(chosen)]
    assert torch.equal(kept.x, given_rows.x[:, chosen])
    assert torch.equal(kept.born, given_rows.born[:, chosen])
    assert weights(kept).tolist() == [[float(i) for i in chosen]]


def test_keep_never_takes_padding() -> None:
    padded = stack([numbered(2), numbered(4)]).select([0])
    kept = padded.keep(torch.tensor([False, True, True, True]))
    assert kept.count.tolist() == [1]
    assert kept.arm(0).tolist() == [[2.0, 3.0]]
    assert kept.weight is None


def test_first_is_a_view() -> None:
    whole = numbered(4, 3, r=2).weighed(torch.rand(2, 4))
    some = whole.first(2)
    assert some.count.tolist() == [2, 2]
    assert torch.equal(some.x, whole.x[:, :2])
    assert some.x.data_ptr() == whole.x.data_ptr()
    assert some.born.tolist() == [[3, 3]] * 2
    assert torch.equal(weights(some), weights(whole)[:, :2])
    assert whole.first(0).count.tolist() == [0, 0]


def test_first_of_more_than_there_are_is_refused() -> None:
    uneven = stack([numbered(2), numbered(4)])
    assert uneven.first(2).count.tolist() == [2, 2]
    with pytest.raises(ValueError, match="3 rows are asked for, and there are 2"):
        uneven.first(3)


@pytest.mark.parametrize("rows", [[0], [1, 2], [2, 0], [0, 1, 2]])
def test_select_takes_arms_with_all_that_is_theirs(rows: list[int]) -> None:
    whole = stack([numbered(n, born=n, start=10 * n).weighed(torch.full((1, n), n / 2)) for n in (2, 4, 3)])
    some = whole.select(rows)
    for i, r in enumerate(rows):
        assert torch.equal(some.arm(i), whole.arm(r))
        assert torch.equal(some.born[i], whole.born[r])
        assert torch.equal(weights(some)[i], weights(whole)[r])


def test_select_of_arms_that_follow_each_other_copies_nothing() -> None:
    whole = numbered(3, r=3)
    assert whole.select([1, 2]).x.data_ptr() == whole.x[1].data_ptr()


def test_weighed_changes_nothing_but_the_weight() -> None:
    plain = numbered(3, 2)
    weighed = plain.weighed(torch.tensor([[1, 2, 3]]))
    assert weights(weighed).tolist() == [[1.0, 2.0, 3.0]]
    assert weighed.x is plain.x
    assert weighed.born is plain.born
    assert plain.weight is None


# Beside each other


def test_stack_pads_the_shorter_ones_with_zeros() -> None:
    stacked = stack([numbered(3, 1, start=5), numbered(5, 2, start=5)])
    assert stacked.count.tolist() == [3, 5]
    assert tuple(stacked.x.shape) == (2, 5, 2)
    assert not stacked.x[0, 3:].any()
    assert stacked.born.tolist() == [[1, 1, 1, 0, 0], [2] * 5]
    assert stacked.born.dtype == torch.int16
    assert stacked.weight is None


def test_stack_of_one_is_itself() -> None:
    alone = numbered(3)
    assert stack([alone]) is alone


def test_stack_with_some_weights_counts_the_others_once_and_padding_not_at_all() -> None:
    stacked = stack([numbered(2), numbered(3).weighed(torch.tensor([[0.5, 0.0, 2.0]])), numbered(1)])
    assert weights(stacked).tolist() == [[1.0, 1.0, 0.0], [0.5, 0.0, 2.0], [1.0, 0.0, 0.0]]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_stacked_arms_are_what_they_were(sizes: list[int]) -> None:
    parts = [numbered(n, born=i, start=20 * i).weighed(torch.full((1, n), i + 0.5)) for i, n in enumerate(sizes)]
    stacked = stack(parts)
    for r, part in enumerate(parts):
        n = int(part.count[0])
        again = stacked.select([r]).first(n)
        assert torch.equal(again.x, part.x)
        assert torch.equal(again.born, part.born)
        assert torch.equal(weights(again), weights(part))
