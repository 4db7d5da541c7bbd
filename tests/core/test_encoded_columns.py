"""Columns become numbers and their own values again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from selfloop.core.columns import Category, Constant, Number, plain, read_column, scores
from selfloop.core.events import Mixed, Vectors, read_events

AGE = Number("age", "int64", 17, 90, missing=True, shift=40.0, scale=10.0)
PRICE = Number("price", "float64", 0.5, 99.99, decimals=2, shift=20.0, scale=30.0)
DAY = Number("day", "datetime64", 0, 10_000, shift=5000.0, scale=900.0, epoch=("2000-01-01", "D"), missing=True)
WORK = Category("work", ("private", "state", "none"), missing=True)
SMOKES = Category("smokes", (False, True))
PLANET = Constant("planet", "Earth")
TABLE = Mixed((AGE, PRICE, DAY, WORK, SMOKES, PLANET))


def table(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    age, day = rng.integers(17, 91, n).astype(float), rng.integers(0, 10_000, n)
    age[::7] = np.nan
    days = np.datetime64("2000-01-01", "D") + day.astype("timedelta64[D]")
    days[1::5] = np.datetime64("NaT")
    return {
        "age": age,
        "price": rng.uniform(0.5, 99.99, n).round(2),
        "day": days,
        "work": np.array([None, "private", "state", "none"], dtype=object)[rng.integers(0, 4, n)],
        "smokes": np.array([False, True], dtype=object)[rng.integers(0, 2, n)],
        "planet": np.array(["Earth"] * n, dtype=object),
    }


def test_a_table_is_encoded_and_decoded_to_itself() -> None:
    values = table(200)
    x = TABLE.encode(values)
    assert x.shape == (200, len(TABLE.columns)) == (200, 2 + 1 + 2 + 4 + 2)
    found = TABLE.table(x)
    assert [None if np.isnan(v) else int(v) for v in values["age"]] == found["age"].tolist()
    np.testing.assert_array_equal(found["price"], values["price"])
    np.testing.assert_array_equal(found["day"], values["day"])
    for name in ("work", "smokes", "planet"):
        assert found[name].tolist() == values[name].tolist()


@given(arrays(np.float32, (5, len(TABLE.columns)), elements=st.floats(-50, 50, width=32)))
def test_samples_snap_to_rows_that_there_can_be(numbers: np.ndarray) -> None:
    x = torch.from_numpy(numbers)
    snapped = TABLE.snap(x)
    assert snapped.dtype == x.dtype
    assert torch.equal(TABLE.snap(snapped), snapped)
    found = TABLE.table(snapped)
    assert all(age is None or 17 <= age <= 90 for age in found["age"].tolist())
    assert np.array_equal(found["price"].round(2), found["price"])
    assert set(found["work"].tolist()) <= {None, *WORK.levels}
    hot = snapped[:, 5:9]
    assert ((hot == 0) | (hot == 1)).all()
    assert (hot.sum(1) == 1).all()


def test_events_are_read_back_from_json() -> None:
    again = read_events(json.loads(json.dumps(TABLE.plain())), TABLE.description())
    assert isinstance(again, Mixed)
    assert again.parts == TABLE.parts
    assert again.alike(TABLE)
    assert not again.alike(Vectors.unscaled(("age",)))
    assert read_column(plain(AGE)) == AGE


@pytest.mark.parametrize("most", [5000, 40])
def test_normal_scores_are_those_of_mid_ranks_and_go_back(most: int) -> None:
    values = np.random.default_rng(0).exponential(size=3000).round(3)
    knots, units = scores(values, most)
    assert len(knots) <= 2 * most
    assert (np.diff(knots) >= 0).all()
    assert (np.diff(units) > 0).all()
    column = Number("x", "float64", values.min(), values.max(), decimals=3, values=knots, scores=units)
    encoded = column.encode(values)
    np.testing.assert_array_equal(column.decode(encoded), values)
    assert abs(encoded.mean()) < 0.01
    assert abs(encoded.std() - 1) < (0.01 if most == 5000 else 0.05)
    ranks = (np.searchsorted(np.sort(values), values, "left") + np.searchsorted(np.sort(values), values, "right")) / 2
    if most == 5000:
        np.testing.assert_allclose(encoded[:, 0], norm.ppf(ranks / len(values)), atol=1e-12)


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        (PRICE, np.array([1.0, np.nan]), ("is missing", 1)),
        (SMOKES, np.array([True, None], dtype=object), ("is missing", 1)),
        (WORK, np.array(["private", None, "pirate"], dtype=object), ("is no level of it", 2)),
        (PLANET, np.array(["Earth", "Mars"], dtype=object), ("is not the one value that the column has", 1)),
    ],
)
def test_values_that_a_column_does_not_have_are_refused(column, values, why) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError) as caught:
        column.encode(values)
    assert caught.value.args == why
