"""Scikit-learn's labelled tables: in their own units, split as train_test_split does where that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import train_test_split

from selfloop.core.errors import DataError
from selfloop.data import DATA, BreastCancer, Diabetes


@pytest.mark.parametrize(
    ("data", "x", "y"),
    [
        (BreastCancer(random_state=123456), *load_breast_cancer(return_X_y=True)),
        (Diabetes(random_state=123456), *load_diabetes(return_X_y=True)),
        (Diabetes(random_state=5, threshold=100.0), load_diabetes().data, load_diabetes().target > 100),
    ],
    ids=["breast_cancer", "diabetes", "threshold"],
)
def test_a_random_state_is_scikit_learns_split_in_its_order(data, x, y):
    train, test, labels, held_out = train_test_split(x, y, test_size=0.3, random_state=data.random_state)
    split = data.load((0, 7))
    assert split.events.columns[-1] in ("benign", "progression")
    for r in range(2):
        np.testing.assert_array_equal(split.train[r], np.column_stack([train, labels]))
        np.testing.assert_array_equal(split.held_out[r], np.column_stack([test, held_out]))
    assert torch.equal(split.restore(split.train), split.train)


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_without_one_every_seed_has_its_own_split_of_all_rows(name):
    split = DATA.parse({"name": name}).load((0, 1))
    assert not torch.equal(split.train[0], split.train[1])
    rows = [torch.cat([split.train[r], split.held_out[r]]).unique(dim=0) for r in range(2)]
    assert torch.equal(*rows)
    assert len(rows[0]) == {"breast_cancer": 569, "diabetes": 442}[name]


def test_more_rows_than_there_are_are_refused_in_one_line():
    for settings in ({"n": 400}, {"held_out": 441}, {"held_out": 443}):
        with pytest.raises(DataError, match="diabetes has 442 rows") as error:
            Diabetes(random_state=1, **settings).load((0,))
        assert "\n" not in str(error.value)


def test_the_first_rows_of_a_split_train():
    whole, part = (Diabetes(random_state=1, n=n).load((0,)) for n in (None, 50))
    assert torch.equal(part.train, whole.train[:, :50])
    assert torch.equal(part.held_out, whole.held_out)
