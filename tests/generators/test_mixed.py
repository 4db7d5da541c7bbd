"""Every generator of vectors on rows of a table with columns of several kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.arms import arms
from selfloop.core.columns import Category, Constant, Number
from selfloop.core.events import Mixed
from selfloop.data.base import Split
from selfloop.experiment import Experiment
from selfloop.generators.base import GENERATORS
from selfloop.loop import advance

EVENTS = Mixed(
    (
        Number("weight", "float64", 0.5, 9.5, shift=5.0, scale=2.0),
        Number("rooms", "int64", 1, 6, missing=True, decimals=0, shift=3.0, scale=1.5),
        Category("town", ("north", "south", "west")),
        Constant("country", "here"),
        Category("owned", (False, True), missing=True),
    )
)
OTHERS = ("bernoulli", "poisson", "exponential", "logistic_regression")
"""Families of rows that no such table has."""

NEED_MORE = {
    "estimator": {"estimator": "GaussianMixture", "arguments": {"n_components": 2}},
    "ensemble": {"of": "gaussian"},
}


def rows(seed: int, n: int) -> Tensor:
    """Return real rows (n, d)."""
    rng = np.random.default_rng(seed)
    rooms = rng.integers(1, 7, n).astype(float)
    rooms[rng.random(n) < 0.2] = np.nan
    owned = np.empty(n, dtype=object)
    owned[:] = rng.choice(np.array([False, True, None], dtype=object), n)
    return EVENTS.encode(
        {
            "weight": rng.uniform(0.5, 9.5, n),
            "rooms": rooms,
            "town": rng.choice(["north", "south", "west"], n).astype(object),
            "country": np.full(n, "here", dtype=object),
            "owned": owned,
        }
    )


def named() -> list[str]:
    return [
        name
        for name in GENERATORS
        if GENERATORS.origin(name).what == "built-in"
        and name not in (*OTHERS, "outside", "diffusers", "transformers")
        and "vectors" in GENERATORS.parse({"name": name} | NEED_MORE.get(name, {})).makes
    ]


@pytest.mark.parametrize("name", named())
def test_runs_a_loop_whose_samples_are_rows_of_the_table(name: str) -> None:
    generator = {"name": name} | NEED_MORE.get(name, {})
    experiment = Experiment(
        name="mixed",
        data={"name": "gaussian", "n": 60},
        generator=generator,
        mixing={"name": "augment", "lam": 1},
        metrics=["sliced_w2_train"],
        budget={"steps": 5},
        generations=2,
        seeds=[1, 2],
    )
    each = arms(experiment)
    split = Split(
        train=torch.stack([rows(s, 60) for s in (1, 2)]).to(experiment.generator.dtype),
        held_out=torch.stack([rows(s, 40) for s in (3, 4)]).to(experiment.generator.dtype),
        events=EVENTS,
    )
    first = advance(each, split, 0, None, lambda g: pytest.fail("there is no past"), None)
    second = advance(each, split, 1, first.state, lambda g: first.samples, first.state)
    for outcome in (first, second):
        assert [record["status"] for record in outcome.records] == ["ok", "ok"]
        for x in outcome.samples.x:
            values = EVENTS.table(x)
            assert torch.allclose(EVENTS.encode(values).to(x), x)
            assert set(values["town"]) <= {"north", "south", "west"}


def test_events_know_their_categories() -> None:
    assert EVENTS.columns[2] == "rooms missing"
    assert EVENTS.categories == (range(2, 3), range(3, 6), range(6, 9))
    assert Mixed((Category("one", ("only",)), Number("x", "float64", 0.0, 1.0))).categories == ()
