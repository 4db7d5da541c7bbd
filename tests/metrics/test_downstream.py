"""Scores of classifiers and regressors: between tables, of what is lost, and in a loop's evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from selfloop.metrics.boosting import expectations, probabilities
from selfloop.metrics.downstream import classification, regression
from selfloop.metrics.tables import Table
from selfloop.metrics.two_sample import two_sample_auc
from tests.metrics.tables import table

pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def blobs(n: int, seed: int, classes: int = 3) -> Table:
    """Return rows whose word follows from a number but for noise, and whose value y from both."""
    rng = np.random.default_rng(seed)
    word = rng.integers(classes, size=n)
    x = word + 0.3 * rng.standard_normal(n)
    y = 3 * word + x**2 + 0.1 * rng.standard_normal(n)
    return Table(("x", "y", "w"), {"x": x, "y": y}, {"w": word})


def without(x: Table, name: str = "y") -> Table:
    return x.only([other for other in x.names if other != name])


def test_scores_are_scikit_learns() -> None:
    train, test = without(blobs(300, 0)), without(blobs(200, 1))
    known, share = probabilities(train.only(["x"]), train.codes["w"], test.only(["x"]))
    found = classification(train, test, "w")
    assert found.accuracy == (known[share.argmax(1)] == test.codes["w"]).mean() > 0.85
    assert found.auc == pytest.approx(roc_auc_score(test.codes["w"], share, multi_class="ovr"))
    train, test = blobs(300, 0), blobs(200, 1)
    value = expectations(train, train.numbers["y"], test, "y")
    assert regression(train, test, "y") == pytest.approx(r2_score(test.numbers["y"], value))
    assert regression(train, test, "y") > 0.9


def test_two_classes_have_the_usual_area() -> None:
    train, test = without(blobs(200, 0, 2)), without(blobs(100, 1, 2))
    share = probabilities(train.only(["x"]), train.codes["w"], test.only(["x"]))[1]
    assert classification(train, test, "w").auc == pytest.approx(roc_auc_score(test.codes["w"], share[:, 1]))


def test_a_class_that_is_lost_is_never_told_and_has_area_one_half() -> None:
    train, test = without(blobs(400, 0)), without(blobs(300, 1))
    lost = train.take(train.codes["w"] != 2)
    found, whole = classification(lost, test, "w"), classification(train, test, "w")
    share = (test.codes["w"] == 2).mean()
    assert found.accuracy <= 1 - share
    two = classification(lost, test.take(test.codes["w"] != 2), "w")
    assert found.accuracy == pytest.approx((1 - share) * two.accuracy)
    assert found.auc < whole.auc
    one = classification(train.take(train.codes["w"] == 1), test, "w")
    assert (one.accuracy, one.auc) == ((test.codes["w"] == 1).mean(), 0.5)


def test_a_class_that_real_rows_do_not_have_is_never_right() -> None:
    train, test = without(blobs(400, 0)), without(blobs(300, 1, 2))
    assert 0.9 < classification(train, test, "w").accuracy < 1
    odd = replace(train, codes={"w": train.codes["w"] + 7})
    assert classification(odd, test, "w").accuracy == 0
    assert classification(odd, test, "w").auc == 0.5


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows_or_none_with_a_target_have_a_value_or_none(n: int) -> None:
    train, test = blobs(n, 0), blobs(50, 1)
    assert 0 <= classification(train, test, "w").accuracy <= 1
    assert regression(train, test, "y") <= 1
    gone = replace(train, codes={"w": np.full(n, -1)}, numbers=train.numbers | {"y": np.full(n, np.nan)})
    for pair in ((gone, test), (test, gone)):
        assert np.isnan(
            [classification(*pair, "w").accuracy, classification(*pair, "w").auc, regression(*pair, "y")]
        ).all()
    same = test.take(test.codes["w"] == 1)
    assert np.isnan(classification(test, same, "w").auc)
    assert np.isnan(regression(test, replace(test, numbers=test.numbers | {"y": np.full(50, 0.1)}), "y"))


def test_columns_that_say_nothing_are_no_obstacle() -> None:
    train, test = blobs(80, 0), blobs(60, 1)
    for value in (np.nan, 0.5):
        a, b = (replace(x, numbers=x.numbers | {"x": np.full(len(x), value)}) for x in (train, test))
        assert regression(a, b, "y") > 0.5
    a, b = (replace(x, codes={"w": np.full(len(x), -1)}) for x in (train, test))
    assert regression(a, b, "y") > 0.5
    alone = [x.only(["y"]) for x in (train, test)]
    assert regression(*alone, "y") == pytest.approx(0, abs=0.2)  # the mean is all that there is to say
    assert regression(replace(train, numbers=train.numbers | {"y": np.full(80, 3.0)}), test, "y") <= 0


@pytest.mark.parametrize("scale", [1e-12, 1e12, 1e100])
def test_r2_does_not_depend_on_units(scale: float) -> None:
    train, test = blobs(100, 0), blobs(80, 1)
    a, b = (replace(x, numbers=x.numbers | {"y": scale * x.numbers["y"]}) for x in (train, test))
    assert regression(a, b, "y") == pytest.approx(regression(train, test, "y"), rel=1e-6)


def test_categories_of_more_levels_than_a_byte_has() -> None:
    """The commonest are told apart: here the even ones, whose number is what y is."""
    rng = np.random.default_rng(0)
    code = np.where(rng.random(4000) < 0.9, rng.integers(3, size=4000), rng.integers(3, 1000, size=4000))
    x = Table(("w", "y"), {"y": np.where(code < 3, code, 1.0) + 0.01 * rng.standard_normal(4000)}, {"w": code})
    assert regression(x.take(slice(3000)), x.take(slice(3000, None)), "y") > 0.95


def test_scores_are_the_same_twice_and_whatever_levels_are_called() -> None:
    train, test = table(300, 0), table(200, 1)
    found = classification(train, test, "owner")
    assert classification(train, test, "owner") == found
    name = np.array([2, 0, 3, 1, -1])
    a, b = (replace(x, codes=x.codes | {"city": name[x.codes["city"]]}) for x in (train, test))
    assert classification(a, b, "owner").auc == pytest.approx(found.auc, abs=0.02)


# two samples


@pytest.mark.slow
def test_one_half_for_the_same_and_for_alike_sets_and_1_for_others() -> None:
    x = table(300, 0)
    assert two_sample_auc(x, x) == 0.5
    assert two_sample_auc(x, table(300, 1)) == pytest.approx(0.5, abs=0.1)
    assert two_sample_auc(x, table(300, 1, 0.9)) > 0.6
    far = replace(x, numbers=x.numbers | {"income": x.numbers["income"] + 1e6})
    assert two_sample_auc(x, far) > 0.99


def test_a_category_alone_gives_a_set_away() -> None:
    x = table(300, 0)
    lost = replace(x, codes=x.codes | {"city": np.where(x.codes["city"] > 0, 0, x.codes["city"])})
    assert two_sample_auc(x, lost.take(slice(None, None, -1))) > 0.55


def test_two_samples_are_of_equal_size_and_not_too_few() -> None:
    x, y = table(300, 0), table(100, 1)
    assert two_sample_auc(x, y) == two_sample_auc(x.take(slice(100)), y)
    assert 0 <= two_sample_auc(x.take(slice(5)), y) <= 1
    with pytest.raises(ValueError, match="at least 5 rows of each, not 4"):
        two_sample_auc(x, y.take(slice(4)))


def test_models_of_many_classes_have_as_many_trees_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    iterations: list[int] = []

    class Seen(HistGradientBoostingClassifier):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            iterations.append(settings["max_iter"])
            super().__init__(**settings | {"max_iter": 1})

    monkeypatch.setattr("sklearn.ensemble.HistGradientBoostingClassifier", Seen)
    for classes in (2, 3, 10, 11, 41, 1500):
        x = np.arange(3000.0)
        rows = Table(("x",), {"x": x}, {})
        probabilities(rows, (x % classes).astype(np.int64), rows.take(slice(0, 5)))
    assert iterations == [100, 100, 100, 90, 24, 1]
