"""One contract for every member of every family: a new one is covered by registering it.

Where a member cannot be made without settings, or is too large for a test without them, ``SETTINGS`` has some.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from helpers import one_hot_adult, suited
from PIL import Image
from torch import Tensor

from selfloop.arms import Arm, arms
from selfloop.core.config import BASE
from selfloop.core.errors import ConfigError, DataError
from selfloop.core.events import Mixed, Text, read_events
from selfloop.core.registry import FAMILIES, Family
from selfloop.core.samples import Samples, State, stack
from selfloop.core.sequences import ended
from selfloop.core.streams import Streams
from selfloop.core.tokens import Characters
from selfloop.data import kept
from selfloop.data.arrays import array, told
from selfloop.data.base import DATA, Dataset
from selfloop.data.functions import function
from selfloop.engines.base import ENGINES
from selfloop.engines.device import HERE
from selfloop.experiment import Experiment
from selfloop.features.base import FEATURES
from selfloop.generators import Density, Gaussian, Generator
from selfloop.generators.base import GENERATORS, Conditional
from selfloop.generators.ensemble import Ensemble
from selfloop.generators.estimator import Estimator
from selfloop.learning.training import ROWS, SHADOW, Budget, parameters
from selfloop.loop import Outcome, advance, load, mix
from selfloop.metrics import METRICS, Evidence, Metric
from selfloop.mixing import JUDGES, MIXINGS, Augment, Judge, Mixing, Pool
from selfloop.mixing.base import label, ratio, training_set
from selfloop.mixing.judges.base import moved, scores
from selfloop.trackers.base import TRACKERS
from selfloop.updates import UPDATES, Update
from selfloop.updates.base import updated

SEEDS = (3, 1, 4)
EVENT = (2,)
BUDGET = Budget(steps=7)
NET = {"channels": 32, "multipliers": [1], "blocks": 1, "attention": [8], "dropout": 0.1}
"""The smallest network that all three families of images can have."""

TABLE = np.random.default_rng(0).normal([3, -40, 1e6], [1, 20, 0.5], size=(50, 3))
PICTURES = np.random.default_rng(0).integers(256, size=(30, 6, 5, 3), dtype=np.uint8)


SCALED = {key: value for key, value in DATA.plain(array(TABLE)).items() if key != "name"} | {
    "shift": [3.0, -40.0, 1e6],
    "scale": [1.0, 20.0, 0.5],
}


LINES = [f"{'ab' * (i % 4)}{i}" for i in range(99)]
"""Text, no line of which is another."""


def tokens() -> dict[str, Any]:
    """Return rows of tokens in memory as settings."""
    events = Text(9, Characters.of(LINES))
    x = torch.from_numpy(np.concatenate([events.rows(events.tokenizer.encode(line)) for line in LINES]))
    return {"sha256": kept.hold(x), "shape": list(x.shape), "held_out": 20, "fresh_rows": 15} | told(events)


MIXED = pd.DataFrame(
    {
        "count": [None if i % 8 == 7 else i % 9 for i in range(80)],
        "word": ["ab"[i % 2] if i % 5 else None for i in range(80)],
        "same": ["one"] * 80,
        "real": np.random.default_rng(0).normal(3, 2, size=80),
    }
)


def drawn(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2))


def fixed(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(40, 3))


COUNTED = ("bernoulli", "poisson", "exponential", "categorical", "logistic_regression")
"""Generators that make rows of some kinds alone, and toys of the same names that hold such."""

REPEATING = ("bernoulli", "poisson", "categorical")
"""Data in which a new row may be equal to an old one."""

IMAGES = {"net": NET, "batch_size": 8, "sample_batch": 8}
UNET = {
    "down_block_types": ["AttnDownBlock2D"],
    "up_block_types": ["UpBlock2D"],
    "block_out_channels": [16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
}

EASY: dict[str, Any] = {"name": "mode", "within": 9.0}  # which most rows are
FEW: dict[str, Any] = {"name": "centre", "k": 2}

SETTINGS: dict[str, dict[str, list[dict[str, Any]]]] = {
    # What makes a generator small enough for a test, and its draws as many as they can be.
    "generator": {
        "edm": [
            IMAGES | {"augment": 0.5, "steps": 3},
            IMAGES | {"augment": 0.0, "steps": 3, "conditional": {"classes": 10, "dropout": 0.3}},
        ],
        "gpt": [
            {"layers": 2, "width": 16, "heads": 2, "dropout": 0.1, "batch_size": 16},
            {
                "layers": 1,
                "width": 16,
                "heads": 2,
                "batch_size": 16,
                "prompt": 2,
                "top_k": 5,
                "top_p": 0.9,
                "min_p": 0.05,
            },
        ],
        "ddpm": [{"timesteps": 20}],
        "ddpm_images": [IMAGES | {"steps": 3}],
        "otcfm_images": [IMAGES | {"tolerance": 0.1}],
        "diffusers": [
            {"unet": UNET, "batch_size": 8, "sample_batch": 8, "steps": 3},
            {"unet": UNET, "batch_size": 8, "sample_batch": 8, "steps": 3, "conditional": {"classes": 10}},
        ],
        "estimator": [{"estimator": "GaussianMixture", "arguments": {"n_components": 3, "max_iter": 300}}],
        "ensemble": [
            {"of": "gaussian", "models": 3, "shares": [0.5, 0.25, 0.25], "learn_from": "others"},
            {"of": "otcfm"},
            {"of": "flow", "learn_from": "others"},
        ],
        "transformers": [],  # needs a folder, and has tests of its own
        "outside": [],  # stands for models that were trained elsewhere: nothing of it can be run
    },
    "mixing": {
        "outside": [],
        "augment": [{"lam": lam} for lam in (0, 0.29, 1, 2.5, math.inf)],
        "replace": [{}, {"n": {"power": 1.5}}],
        "window": [{"generations": 2}, {"generations": 2, "real": False}],
        "fresh": [{}, {"k": 2.5, "weight": "golden"}, {"k": 0}],
        "contaminated": [{"rate": 0.5}, {"real": 0.25, "rate": 1.0, "detector": {"true_positive": 0.5}}],
        "verified": [{"verifier": EASY}, {"verifier": {"name": "oracle", "truth": EASY, "true_positive": 0.7}}],
        "curated": [{"reward": {"name": "distance", "to": [0.0, 0.0]}, "k": 3, "lam": 1.5}],
        "corrected": [{"target": {"name": "centre", "k": 2}}, {"target": {"name": "centre", "k": 1}, "lam": math.inf}],
        "biased": [{"temperature": 0.5}, {"temperature": 1.5, "lam": math.inf}],
        "compose": [
            {"parts": [{"from": "real", "rows": 0.5, "weight": 0.3}, {"from": "earlier", "rows": 2, "weight": 0.7}]},
            {"parts": [{"from": "fresh", "rows": 0.5}, {"from": "newest", "verified": {"verifier": EASY}}]},
            {"parts": [{"from": "all", "curated": {"reward": "classifier", "k": 2}}]},
            {"parts": [{"from": "newest", "rows": 2}], "temperature": 0.7},
        ],
        "then": [
            {"first": {"name": "augment", "lam": math.inf}, "until": 2, "then": {"name": "augment", "lam": 0.5}},
            {"first": "fresh", "until": 1, "then": {"name": "biased", "temperature": 0.7, "lam": 1.5}},
        ],
    },
    "update": {"extrapolate": [{"w": 0.5}, {"w": -0.5}]},
    "judge": {
        "centre": [FEW],
        "distance": [{}, {"to": [0.5, -1.0], "scale": 2.0}],
        "mode": [{"index": 1}, {"within": 3.0}],
        "oracle": [{"truth": EASY, "true_positive": 0.9, "false_positive": 0.2}],
    },
    # Paths of files that the fixture of a data set writes; without rows set aside, and with some.
    "data": {
        "table": [{"path": "rows.npy"}, {"path": "rows.npy", "fresh_rows": 15}],
        "image_files": [{"path": "images.npy"}, {"path": "images.npy", "fresh_rows": 15}],
        "cifar10": [{"path": "cifar"}],
        "scikit_learn": [{"table": "wine", "target": "cultivar", "fresh_rows": 15}, {"table": "diabetes"}],
        "adult": [{"path": "adult.csv.zip", "target": "salary", "held_out": 20}],
        "diamonds": [{"path": "diamonds.csv"}],
        "array": [DATA.plain(array(TABLE, fresh_rows=15))],
        "image_array": [DATA.plain(array(PICTURES, fresh_rows=15))],
        "scaled_array": [SCALED],
        "encoded_table": [DATA.plain(array(MIXED, fresh_rows=15, target="real"))],
        "text": [{"path": "lines.txt", "unit": "line"}, {"path": "lines.txt", "unit": "line", "fresh_rows": 15}],
        "token_array": [tokens()],
        "function": [DATA.plain(function(drawn, n=20)), DATA.plain(function(fixed))],
    },
    "tracker": {"lines": [{"path": "lines.jsonl"}]},
}


def built_in(family: Family[Any]) -> list[str]:
    return [name for name in family if family.origin(name).what == "built-in"]


def members(family: Family[Any]) -> list[Any]:
    """Return parameters of tests: every built-in member's settings, its name among them."""
    found = []
    for name in built_in(family):
        every = SETTINGS.get(family.word, {}).get(name, [{}])
        found += [
            pytest.param({"name": name} | more, id=f"{name}{i if len(every) > 1 else ''}")
            for i, more in enumerate(every)
        ]
    return found


@pytest.fixture
def generator(request: pytest.FixtureRequest) -> Generator:
    return GENERATORS.parse(request.param)  # type: ignore[no-any-return]


every_generator = pytest.mark.parametrize("generator", members(GENERATORS), indirect=True)


TEXT = (6, 9)
"""The length of rows of tokens, and how many tokens there are."""


def event(generator: Generator) -> tuple[int, ...]:
    """Return what ``init`` is told."""
    return EVENT if "vectors" in generator.makes else TEXT if "text" in generator.makes else (1, 8, 8)


def shape(generator: Generator) -> tuple[int, ...]:
    """Return the shape of a row."""
    return TEXT[:1] if "text" in generator.makes else event(generator)


pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def rows(state: State, r: int) -> State:
    """Return one arm's part of a state; rows that it keeps without the padding, which is as long as its neighbours'."""
    own = {k: v[r : r + 1] for k, v in state.items()}
    kept = [k for k, v in own.items() if k.startswith(ROWS) and v.ndim > 1]
    return own | {k: own[k][:, : int(own[f"{ROWS}count"])] for k in kept}


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def data(generator: Generator, seeds: tuple[int, ...] = SEEDS) -> Samples:
    """Training sets of different sizes: 40 rows, and 40 + 20 r of them in arm r of the full stack."""
    x = Streams(seeds).normal("test data", (80, *shape(generator)), dtype=torch.float64)
    if "text" in generator.makes:
        x = ended((4 + 2 * x).clamp(0, TEXT[1] - 1).to(torch.int32))
    elif "vectors" not in generator.makes:
        x = (127 + 60 * x).clamp(0, 255)
    x = suited(GENERATORS.name_of(generator), x)
    count = torch.tensor([40 + 20 * SEEDS.index(seed) for seed in seeds])
    used = torch.arange(80) < count.unsqueeze(1)
    x = x.to(generator.dtype) * used.view(*used.shape, *[1] * (x.ndim - 2))
    label = Streams(seeds).integers("test labels", 10, (80,)) if "labels" in generator.offers else None
    return Samples(x=x, born=torch.zeros(x.shape[:2], dtype=torch.int16), count=count, label=label)


@functools.cache
def _fitted(settings: str) -> tuple[State, State]:
    generator = GENERATORS.parse(json.loads(settings))
    start = generator.init(event(generator), Streams(SEEDS))
    return start, generator.fit(start, data(generator), BUDGET, Streams(SEEDS))


def fitted(generator: Generator) -> tuple[State, State]:
    """Return what a generator begins with and what its first fit makes of it: fitted once, and so left alone by all."""
    return _fitted(json.dumps(GENERATORS.plain(generator)))


@every_generator
class TestGenerators:
    @pytest.mark.slow
    def test_arms_do_not_see_their_neighbours(self, generator: Generator) -> None:
        """run(arms)[r] equals run([arms[r]]) to the bit, from initialisation over two fits to samples.

        Of three arms the first is asked, whose rows are padded to those of the others, and the last, whose are not.
        """
        streams, (start, once) = Streams(SEEDS), fitted(generator)
        twice = generator.fit(once, data(generator), BUDGET, streams.at(1))
        x = generator.sample(twice, 17, streams)
        for r in (0, 2):
            alone, own = Streams((SEEDS[r],)), data(generator, (SEEDS[r],))
            state = generator.init(event(generator), alone)
            assert equal(state, rows(start, r))
            state = generator.fit(state, own, BUDGET, alone)
            assert equal(state, rows(once, r))
            state = generator.fit(state, own, BUDGET, alone.at(1))
            assert equal(state, rows(twice, r))
            assert torch.equal(generator.sample(state, 17, alone), x[r : r + 1])
            if "labels" in generator.offers:
                assert isinstance(generator, Conditional)
                labels = generator.labels(twice, 33, streams)
                assert set(labels.flatten().tolist()) == set(range(generator.classes or 0))
                assert torch.equal(generator.labels(state, 33, alone), labels[r : r + 1])
                assert torch.equal(generator.labels(state, 20, alone), labels[r : r + 1, :20])

    @pytest.mark.slow
    def test_a_nan_stays_in_its_own_arm(self, generator: Generator) -> None:
        streams, (state, well) = Streams(SEEDS), fitted(generator)
        if "text" in generator.makes and "parameters" not in generator.offers:
            return  # counts of tokens are always finite
        sick, ill = data(generator), {k: v.clone() for k, v in state.items()}
        if "vectors" not in generator.makes:  # which cannot be NaN, but weights can
            for name, leaf in ill.items():
                if name in parameters(ill) or name.startswith(SHADOW):
                    leaf[1] = math.nan
        else:
            sick.x[1, 0] = math.nan
        try:
            spoilt = generator.fit(ill, sick, BUDGET, streams)
        except ValueError as error:  # exact couplings refuse what is not finite; the loop never hands it over
            if "finite" not in str(error):
                raise
            spoilt = {k: v.clone() for k, v in well.items()}
            for leaf in filter(torch.is_floating_point, spoilt.values()):
                leaf[1] = math.nan
        x, healthy = generator.sample(spoilt, 9, streams), generator.sample(well, 9, streams)
        assert torch.isnan(x[1]).any()
        for r in (0, 2):
            assert equal(rows(spoilt, r), rows(well, r))
            assert torch.equal(x[r].to(healthy.dtype), healthy[r])

    @pytest.mark.slow
    def test_same_streams_give_the_same_bits_and_all_else_is_left_alone(self, generator: Generator) -> None:
        """States and rows that it is given, and torch's own random numbers; other streams give other samples."""
        streams, given, (first, expected) = Streams(SEEDS), data(generator), fitted(generator)
        state = generator.init(event(generator), streams)
        before, x, randomness = {k: v.clone() for k, v in state.items()}, given.x.clone(), torch.get_rng_state()
        found = generator.fit(state, given, BUDGET, streams)
        one, same, other = (generator.sample(found, 9, s) for s in (streams, streams, streams.at(1)))
        assert equal(before, first)
        assert equal(found, expected)
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert equal(state, before)
        assert torch.equal(given.x, x)
        assert torch.equal(torch.get_rng_state(), randomness)

    def test_shapes_and_types(self, generator: Generator) -> None:
        streams, (_, state) = Streams(SEEDS), fitted(generator)
        assert all(v.shape[0] == len(SEEDS) for v in state.values())
        x = generator.sample(state, 11, streams)
        assert x.shape == (3, 11, *shape(generator))
        assert x.dtype == generator.dtype
        assert not x.requires_grad
        if "density" in generator.offers:
            assert isinstance(generator, Density)
            assert generator.log_prob(state, x).shape == (3, 11)

    @pytest.mark.slow
    def test_a_temperature_is_each_arms_own_and_none_at_1(self, generator: Generator) -> None:
        if "temperature" not in generator.offers:
            return
        streams, (_, state) = Streams(SEEDS), fitted(generator)
        before = {k: v.clone() for k, v in state.items()}
        usual, one, cold = (
            generator.sample(state, 17, streams, *more)
            for more in ((), (HERE, 1.0), (HERE, 0.3))  # type: ignore[misc]
        )
        assert torch.equal(usual, one)
        assert cold.shape == usual.shape
        assert cold.dtype == usual.dtype
        assert not torch.equal(usual, cold)
        assert equal(state, before)
        for r, seed in enumerate(SEEDS):
            alone = generator.sample(rows(state, r), 17, Streams((seed,)), HERE, 0.3)  # type: ignore[call-arg]
            assert torch.equal(alone, cold[r : r + 1])

    def test_offers_what_it_has(self, generator: Generator) -> None:
        state = generator.init(event(generator), Streams(SEEDS))
        # What is made of a user's models, or of others, has the method whether these have it or not.
        has = isinstance(generator, Density)
        assert ("density" in generator.offers) == has or (has and isinstance(generator, Estimator | Ensemble))
        assert ("parameters" in generator.offers) == bool(parameters(state))
        assert generator.stack >= 1


@pytest.fixture
def mixing(request: pytest.FixtureRequest) -> Mixing:
    return MIXINGS.parse(request.param)  # type: ignore[no-any-return]


every_mixing = pytest.mark.parametrize("mixing", members(MIXINGS), indirect=True)


def pool(mixing: Mixing, t: int, n: int = 100, seed: int = SEEDS[0]) -> Pool:
    """Return a pool whose earlier generations have as many samples as the mixing wanted of each, and no more."""
    streams = Streams((seed,))

    @functools.cache
    def history(g: int) -> Samples:
        return Samples.full(streams.normal("past", (mixing.draws(g, n), *EVENT), g), born=g + 1)

    def fresh(k: int) -> Tensor:
        return streams.at(t).normal("fresh", (k, *EVENT))[0]

    real = Samples.full(streams.normal("real", (n, *EVENT)), born=0)
    modes = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64), 0.5
    return Pool(t, real, streams.at(t), history, fresh, lambda x: -x.double().square().sum(1), modes)


def class_of(x: Tensor) -> Tensor:
    """Return a label (…) of every row (…, 2) that only its own bits know."""
    return (x[..., 0].double() * 1e6).long().abs() % 7


def labelled(given: Pool) -> Pool:
    """Return the same pool with labels."""

    def label(rows: Samples) -> Samples:
        return dataclasses.replace(rows, label=class_of(rows.x))

    def fresh_label(k: int) -> Tensor:
        assert given.source is not None
        return class_of(given.source(k))

    history = functools.cache(lambda g: label(given.history(g)))
    return dataclasses.replace(given, real=label(given.real), history=history, fresh_label=fresh_label)


def tuples(x: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row.tolist()) for row in x}


def same(a: Samples, b: Samples) -> bool:
    """Whether both have the same rows in use of the same births and weights, for R = 1."""
    k = int(a.count[0])
    weighed = [s.weight[:, :k] if s.weight is not None else torch.ones(1, k) for s in (a, b)]
    return (
        torch.equal(a.count, b.count)
        and torch.equal(a.arm(0), b.arm(0))
        and torch.equal(a.born[:, :k], b.born[:, :k])
        and torch.equal(*weighed)
    )


@every_mixing
class TestMixings:
    @pytest.mark.parametrize("n", [2, 3, 100])
    def test_what_it_draws_is_enough_for_what_it_trains_on(self, mixing: Mixing, n: int) -> None:
        for t in range(5):
            wanted = mixing.draws(t, n)
            assert isinstance(wanted, int)
            assert wanted >= 1
            assert int(training_set(mixing, pool(mixing, t, n)).count[0]) >= 1

    @pytest.mark.parametrize("t", [0, 1, 3])
    def test_rows_are_what_they_say_byte_for_byte(self, mixing: Mixing, t: int) -> None:
        given = pool(mixing, t)
        found = training_set(mixing, given)
        rows, born = found.arm(0), found.born[0, : int(found.count[0])]
        assert int(born.min()) >= 0
        assert int(born.max()) <= t
        real = tuples(given.real.x[0]) | tuples(given.fresh(1000).x[0])
        assert tuples(rows[born == 0]) <= real
        for g in () if "corrected" in str(MIXINGS.plain(mixing)) else range(t):
            assert tuples(rows[born == g + 1]) <= tuples(given.generated(g).x[0])

    @pytest.mark.parametrize("t", [1, 3])
    def test_labels_stay_with_their_rows(self, mixing: Mixing, t: int) -> None:
        given = pool(mixing, t)
        found, bare = training_set(mixing, labelled(given)), training_set(mixing, given)
        assert bare.label is None
        assert same(found, bare)  # labels change nothing else
        labels = found.classes(0)
        assert labels is not None
        unmoved = found.born[0, : len(labels)] == 0 if "corrected" in str(MIXINGS.plain(mixing)) else slice(None)
        assert torch.equal(labels[unmoved], class_of(found.arm(0))[unmoved])

    def test_asked_again_it_gives_the_same_and_leaves_the_pool_alone(self, mixing: Mixing) -> None:
        given = pool(mixing, 3)
        before = [given.real.x.clone(), *(given.generated(g).x.clone() for g in range(3))]
        assert same(training_set(mixing, given), training_set(mixing, given))
        assert same(training_set(mixing, given), training_set(mixing, pool(mixing, 3)))
        after = [given.real.x, *(given.generated(g).x for g in range(3))]
        assert all(map(torch.equal, before, after))

    def test_padding_of_longer_neighbours_does_not_matter(self, mixing: Mixing) -> None:
        given = pool(mixing, 3)

        def padded(g: int) -> Samples:
            longer = Samples.full(torch.full((1, 400, *EVENT), math.inf), born=-1)
            return stack([given.history(g), longer]).select([0])

        assert same(training_set(mixing, dataclasses.replace(given, history=padded)), training_set(mixing, given))

    def test_arms_do_not_see_their_neighbours(self, mixing: Mixing) -> None:
        plain = {
            "name": "contract",
            "data": {"name": "eight_gaussians", "n": 50, "held_out": 50},
            "generator": {"name": "gaussian"},
            "mixing": MIXINGS.plain(mixing),
            "generations": 2,
            "seeds": list(SEEDS),
        }
        chosen = arms(Experiment.build(plain))
        past = [Samples.full(Streams(SEEDS).normal("past", (400, *EVENT), g, torch.float64), g + 1) for g in range(2)]
        together = mix(chosen, load(chosen), 2, past.__getitem__)
        for r, arm in enumerate(chosen):
            alone = mix([arm], load([arm]), 2, lambda g, r=r: past[g].select([r]))  # type: ignore[misc]
            assert same(alone, together.select([r]))

    def test_says_what_it_is(self, mixing: Mixing) -> None:
        assert label(mixing).strip()
        assert label(mixing).isprintable()
        assert ratio(mixing) is None or ratio(mixing) >= 0  # type: ignore[operator]


@pytest.mark.parametrize("judge", [pytest.param(JUDGES.parse(p.values[0]), id=p.id) for p in members(JUDGES)])
class TestJudges:
    def test_it_says_one_thing_of_each_row_and_leaves_all_alone(self, judge: Judge) -> None:
        given, opinion = pool(Augment(), 2), moved if judge.says == "rows" else scores
        x = given.generated(1).arm(0)
        before = x.clone(), given.real.x.clone()
        found = opinion(judge, x, given)
        assert found.shape == (x.shape if judge.says == "rows" else (len(x),))
        assert torch.equal(found, opinion(judge, x, given))
        assert torch.equal(x, before[0])
        assert torch.equal(given.real.x, before[1])

    def test_of_no_rows_it_says_nothing(self, judge: Judge) -> None:
        given, opinion = pool(Augment(), 2), moved if judge.says == "rows" else scores
        assert len(opinion(judge, given.real.x[0, :0], given)) == 0


@pytest.mark.parametrize("update", [pytest.param(UPDATES.parse(p.values[0]), id=p.id) for p in members(UPDATES)])
class TestUpdates:
    @pytest.mark.parametrize("name", ["gaussian", "otcfm"])
    def test_arms_do_not_see_their_neighbours_and_nothing_given_is_changed(self, update: Update, name: str) -> None:
        settings: dict[str, Any] = {"name": name} | ({"ema": {"decay": 0.9}} if name == "otcfm" else {})
        generator, streams = GENERATORS.parse(settings), Streams(SEEDS)
        states = [generator.fit(generator.init(EVENT, streams), data(generator), BUDGET, streams.at(t)) for t in (2, 1)]
        fitted, last = ({k: v + i if v.ndim > 1 else v for k, v in s.items()} for i, s in enumerate(states))
        first = generator.init(EVENT, streams)
        before = [{k: v.clone() for k, v in state.items()} for state in (fitted, last, first)]
        found = updated(update, 2, fitted, last, first)
        assert all(map(equal, before, (fitted, last, first)))
        assert {k: (v.shape, v.dtype) for k, v in found.items()} == {k: (v.shape, v.dtype) for k, v in fitted.items()}
        for r in range(len(SEEDS)):
            assert equal(updated(update, 2, *(rows(state, r) for state in (fitted, last, first))), rows(found, r))
        sick = {k: v.clone() for k, v in fitted.items()}
        for leaf in parameters(sick).values():
            leaf[1] = math.nan
        beside = updated(update, 2, sick, last, first)
        assert all(torch.isnan(leaf[1]).all() for leaf in parameters(beside).values())
        assert all(equal(rows(beside, r), rows(found, r)) for r in (0, 2))

    def test_what_does_not_move_stays(self, update: Update) -> None:
        state = Gaussian().init(EVENT, Streams(SEEDS))
        assert equal(updated(update, 3, state, state, state), state)


@pytest.mark.parametrize("lam", [0, 0.29, 1, 2.5, math.inf])
def test_the_papers_mixing_counts_as_it_says(lam: float) -> None:
    mixing, n = Augment(lam=lam), 100
    first, third = (training_set(mixing, pool(mixing, t)) for t in (0, 3))
    real = pool(mixing, 0).real
    assert torch.equal(first.x, real.x)
    assert (first.born == 0).all()
    born = third.born[0, : int(third.count[0])]
    kept = third.arm(0)[born == 0]
    assert len(kept) == (0 if math.isinf(lam) else n)
    assert math.isinf(lam) or torch.equal(kept, real.x[0])
    assert int((born > 0).sum()) == mixing.synthetic(n)
    assert set(born.tolist()) <= {0, 3}
    assert ratio(mixing) == lam


@pytest.fixture
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    """Return a data set, its file beside it where it needs one."""
    np.save(tmp_path / "rows.npy", TABLE)
    np.save(tmp_path / "images.npy", PICTURES)
    one_hot_adult(tmp_path / "adult.csv.zip", n=60)
    (tmp_path / "diamonds.csv").write_text("carat,cut\n" + "\n".join(f"{k * k}.5,{'ab'[k % 2]}" for k in range(40)))
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    rng = np.random.default_rng(1)
    (tmp_path / "cifar").mkdir()
    for which in ("train", "test"):
        pictures = []
        for levels in rng.integers(256, size=(20, 32, 32, 3), dtype=np.uint8):
            buffer = io.BytesIO()
            Image.fromarray(levels).save(buffer, "PNG")
            pictures.append({"bytes": buffer.getvalue(), "path": None})
        table = pa.table({"img": pictures, "label": [0] * len(pictures)})
        pq.write_table(table, tmp_path / "cifar" / f"{which}-00000-of-00001.parquet")
    return DATA.parse(request.param, {BASE: tmp_path})  # type: ignore[no-any-return]


@pytest.mark.parametrize("dataset", members(DATA), indirect=True)
class TestData:
    def test_equal_seeds_give_equal_bits_and_arms_do_not_see_their_neighbours(self, dataset: Dataset) -> None:
        together, alone = dataset.load((3, 4, 3)), dataset.load((4,))
        for ours, own in ((together.train, alone.train), (together.held_out, alone.held_out)):
            assert torch.equal(ours[0], ours[2])
            assert torch.equal(ours[1], own[0])
            assert ours.dtype == own.dtype

    def test_events_say_what_rows_are(self, dataset: Dataset) -> None:
        split = dataset.load((3, 4))
        events = split.events
        assert events.kind == dataset.holds
        assert split.train.shape[0] == split.held_out.shape[0] == 2
        assert tuple(split.train.shape[2:]) == tuple(split.held_out.shape[2:]) == events.shape
        assert split.train.dtype == split.held_out.dtype
        assert len(events.columns) in (0, *events.shape)
        restored = split.restore(split.train)
        assert restored.shape == split.train.shape
        assert restored.dtype == torch.float64
        assert torch.isfinite(restored).all()
        for dtype in (torch.float32, torch.float64):
            typed = events.typed(split.train, dtype)
            assert typed.shape == split.train.shape
            assert torch.equal(events.typed(typed, dtype), typed)

    def test_events_are_alike_to_themselves_and_survive_being_written(self, dataset: Dataset) -> None:
        split = dataset.load((3,))
        again = read_events(json.loads(json.dumps(split.events.plain(), allow_nan=False)))
        assert split.events.alike(split.events)
        assert split.events.alike(again)
        assert again.alike(split.events)
        assert again.plain() == split.events.plain()
        assert torch.equal(again.restore(split.train), split.restore(split.train))

    def test_offers_what_it_has(self, dataset: Dataset) -> None:
        split = dataset.load((3,))
        pixels = split.events.pixels(split.train[0])
        assert ("pixels" in dataset.offers) == (pixels is not None)
        if pixels is not None:
            n, channels, _, _ = pixels.shape
            assert (n, pixels.dtype) == (split.train.shape[1], torch.uint8)
            assert channels in (1, 3)
        coefficients = dataset.true_coefficients()
        assert ("coefficients" in dataset.offers) == (coefficients is not None)
        if coefficients is not None:
            assert (len(coefficients) + 1,) == split.events.shape
        modes = dataset.modes()
        assert ("modes" in dataset.offers) == (modes is not None)
        if modes is not None:
            centres, deviation = modes
            assert tuple(centres.shape[1:]) == split.events.shape
            assert deviation >= 0

    def test_fresh_rows_are_new_in_every_generation(self, dataset: Dataset) -> None:
        if "fresh" not in dataset.offers:
            with pytest.raises(DataError, match="fresh") as error:
                dataset.fresh(3, 1, 2)
            assert "\n" not in str(error.value)
            return
        split = dataset.load((3,))
        found = {(seed, t): dataset.fresh(seed, t, 5) for seed in (3, 4) for t in (1, 2, 3)}
        for (seed, t), rows in found.items():
            assert tuple(rows.shape) == (5, *split.events.shape)
            assert rows.dtype == split.train.dtype
            assert torch.equal(dataset.fresh(seed, t, 5), rows)
        own = [tuples(found[3, t].flatten(1)) for t in (1, 2, 3)]
        if DATA.name_of(dataset) in REPEATING:
            return
        sets = [*own, tuples(split.train[0].flatten(1)), tuples(split.held_out[0].flatten(1))]
        assert all(not a & b for a, b in itertools.combinations(sets, 2))
        assert not any(torch.equal(found[3, t], found[4, t]) for t in (1, 2, 3))


def evidence(generated: Tensor, seeds: tuple[int, ...] = SEEDS, metric: Metric | None = None) -> Evidence:
    """Return what a metric looks at; normal rows, or such as the generator makes that it is about."""
    streams, generator, name = Streams(seeds), Gaussian(), None
    needs = frozenset() if metric is None else metric.needs
    if metric is not None and metric.name in ("heterozygosity_ratio", "categories_kept"):
        name = "categorical"
    if "prediction" in needs or "linear" in needs or "classes" in needs:
        name = "logistic_regression" if "classes" in needs else "linear_regression"
        generator = GENERATORS.parse({"name": name})
    real, generated, held_out = (
        suited(name, x)
        for x in (
            streams.normal("real", (60, 2), dtype=torch.float64),
            generated,
            streams.normal("held out", (40, 2), dtype=torch.float64),
        )
    )
    blank = generator.init(EVENT, streams)
    states = [generator.fit(blank, Samples.full(x, 0), BUDGET, streams) for x in (generated, real)]
    return Evidence(
        generator=generator,
        state=states[0],
        first=states[1],
        untrained=blank,
        train=real,
        held_out=held_out,
        generated=generated,
        coefficients=torch.zeros(1, dtype=torch.float64),
        modes=(torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64), 0.5),
        **labels(real, held_out, generated),
    )


def labels(real: Tensor, held_out: Tensor, generated: Tensor) -> dict[str, Any]:
    """Return labels of rows (R, n, *event), by the size of their first number, as evidence has them."""
    of = {"train": real, "held_out": held_out, "generated": generated}
    found = {f"{name}_label": (x.flatten(2)[..., 0] > 128 * (x.ndim > 3)).long() for name, x in of.items()}
    # What is far from all real rows looks like nothing that it was made as.
    return found | {"classes": 2, "named": lambda x: ((x[:, 0] > 0) & (x[:, 0] < 5)).long()}


def metrics(*without: str) -> Any:
    """Parametrize by every built-in metric but those that need something."""
    chosen = [METRICS[name] for name in built_in(METRICS) if not METRICS[name].needs & set(without)]
    return pytest.mark.parametrize("metric", [pytest.param(m, id=m.name) for m in chosen])


@metrics()
class TestMetrics:
    def test_says_what_it_is(self, metric: Metric) -> None:
        assert metric.definition.endswith(".")
        assert metric.direction
        assert metric.title
        assert metric.unit
        assert metric.version >= 1

    def test_badness_is_lower_for_a_better_value(self, metric: Metric) -> None:
        assert math.isnan(metric.badness(math.nan))
        if metric.goal is None:
            assert math.isnan(metric.badness(1.0))
        elif isinstance(metric.goal, str):
            assert metric.goal in ("lower", "higher")
            better, worse = (1.0, 2.0) if metric.goal == "lower" else (2.0, 1.0)
            assert metric.badness(better) < metric.badness(worse)
        else:
            assert metric.badness(metric.goal) == 0
            for side in (-1, 1):
                near, far = (metric.badness(metric.goal + side * step) for step in (0.25, 0.5))
                assert 0 < near < far

    def test_a_reader_without_it_can_show_it(self, metric: Metric) -> None:
        shown = Metric.recorded(metric.name, json.loads(json.dumps(metric.plain(), allow_nan=False)))
        assert (shown.direction, shown.plain()) == (metric.direction, metric.plain())
        with pytest.raises(ConfigError, match=f"metric '{metric.name}' is not known here"):
            shown.compute(evidence(torch.zeros(3, 5, 2)))


@metrics("columns", "text")  # held to the same in tests/metrics/test_columns_of_runs.py and test_text_metrics.py
class TestValuesOfMetrics:
    def test_arms_do_not_see_their_neighbours(self, metric: Metric) -> None:
        x = 2 * Streams(SEEDS).normal("generated", (60, 2), dtype=torch.float64) + 1
        values = metric.compute(evidence(x, metric=metric))
        assert values.shape == (3,)
        assert values.dtype == torch.float64
        for r, seed in enumerate(SEEDS):
            assert torch.equal(metric.compute(evidence(x[r : r + 1], (seed,), metric)), values[r : r + 1])

    def test_order_of_rows_does_not_matter(self, metric: Metric) -> None:
        if metric.name.startswith("frechet_infinity"):
            pytest.skip("it draws subsets of the rows by their numbers")
        x = Streams(SEEDS).normal("generated", (60, 2), dtype=torch.float64)
        values = metric.compute(evidence(x, metric=metric))
        assert torch.allclose(metric.compute(evidence(x.flip(1), metric=metric)), values, rtol=1e-9, atol=1e-12)

    def test_best_value_at_the_real_rows(self, metric: Metric) -> None:
        real = Streams(SEEDS).normal("real", (60, 2), dtype=torch.float64)
        value = metric.compute(evidence(real, metric=metric))
        held_out = metric.name.endswith("_held_out")  # to which the training rows are near, and no more
        if (metric.direction == "1 is best" and not held_out) or (
            metric.name.endswith("_train") and "higher" in metric.direction
        ):
            assert torch.allclose(value, torch.ones(3, dtype=torch.float64), rtol=1e-12)
        elif metric.name.startswith(("kid", "mmd")) and metric.name.endswith("_train"):
            assert (value < 0).all()  # unbiased: below 0 as often as above for fresh rows, and below for the same ones
        elif metric.name == "frechet_infinity_train":
            assert (
                value < metric.compute(evidence(real + 0.5, metric=metric))
            ).all()  # subsets differ from their whole
        elif metric.name == "frechet_train":
            assert torch.allclose(value, torch.zeros(3, dtype=torch.float64), atol=1e-12)
        elif metric.name.endswith("_train") or metric.name in (
            "mean_error",
            "covariance_error",
            "parameter_distance",
            "neighbour_entropy",
            "authenticity",
        ):
            assert torch.equal(value, torch.zeros(3, dtype=torch.float64))

    def test_a_collapsed_model_is_worse_than_a_good_one(self, metric: Metric) -> None:
        """New rows of the real density beside ones that have shrunk and moved far away, or are the training rows."""
        new, copied = (Streams(SEEDS).normal(name, (60, 2), dtype=torch.float64) for name in ("new", "real"))
        of_copies = metric.name in ("authenticity", "likelihood_gap")
        collapsed = copied if of_copies else 0.1 * new + 10
        if "coefficients" in metric.needs:  # which scale and origin of all columns do not change
            collapsed[..., 1] = collapsed[..., 0]
        good, bad = (metric.compute(evidence(x, metric=metric)).tolist() for x in (new, collapsed))
        for better, worse in zip(good, bad, strict=True):
            assert metric.goal is None or metric.badness(better) < metric.badness(worse)


def of_images(dtype: torch.dtype) -> Evidence:
    """Two arms of small colour images at levels that sums, differences and squares in uint8 would carry past 255."""
    streams = Streams(SEEDS[:2])

    def images(what: str, n: int) -> Tensor:
        levels = 160 + 60 * streams.normal(what, (n, 3, 4, 4), dtype=torch.float64)
        return levels.clamp(0, 255).round().to(torch.uint8).to(dtype)

    centres = streams.uniform("centres", (2, 3, 4, 4))[0].double() * 255
    state = {"weight": torch.ones(2, 3)}
    sets = images("real", 30), images("held out", 20), images("generated", 30)
    return Evidence(
        generator=Gaussian(),
        state=state,
        first=state,
        untrained=state,
        train=sets[0],
        held_out=sets[1],
        generated=sets[2],
        modes=(centres, 400.0),
        **labels(*sets),
    )


@pytest.mark.slow
@metrics("density", "prediction", "linear", "classes", "columns", "text")
def test_metrics_of_images_are_those_of_the_same_numbers(metric: Metric) -> None:
    values = metric.compute(of_images(torch.uint8))
    assert torch.isfinite(values).all()
    assert torch.equal(values, metric.compute(of_images(torch.float32)))
    assert torch.allclose(values, metric.compute(of_images(torch.float64)), rtol=1e-5, atol=1e-5)


def chain(members: list[Arm], generations: int) -> list[Outcome]:
    """Return a stack's first generations."""
    split, state, first = load(members), None, None
    past: list[Samples] = []
    outcomes = []
    for t in range(generations):
        outcome = advance(members, split, t, state, past.__getitem__, first)
        state, first = outcome.state, first or outcome.state
        past.append(outcome.samples)
        outcomes.append(outcome)
    return outcomes


def apart(chosen: list[Arm], generations: int = 2) -> None:
    """Compare what a stack gives arms with what each gets alone: of two seeds in turn, every value of the grid once."""
    together = chain(chosen, generations)
    for r, arm in enumerate(chosen):
        if r % 2 != r // 2 % 2:
            continue
        for stacked, alone in zip(together, chain([arm], generations), strict=True):
            assert equal(rows(stacked.state, r), alone.state)
            assert torch.equal(stacked.samples.arm(r), alone.samples.arm(0))
            assert stacked.records[r] == alone.records[0]


@pytest.mark.slow
@every_generator
def test_the_loop_keeps_arms_apart(generator: Generator, tmp_path: Path) -> None:
    """A stack of arms of different λ and seed gives each arm what it gets alone, in a first fit and a retraining."""
    name = GENERATORS.name_of(generator)
    usual = "two_moons" if "vectors" in generator.makes else "digit_images"
    data: dict[str, Any] = {"name": name if name in COUNTED else usual}
    if generator.makes == {"text"}:
        lines = tmp_path / "lines.txt"
        lines.write_text("\n".join(LINES))
        data = {"name": "text", "path": str(lines), "unit": "line"}
    labels = {"labels": True} if "labels" in generator.offers else {}
    metrics = {"metrics": ["nll"]} if generator.makes == {"text"} else {}
    plain = metrics | {
        "name": "contract",
        "data": data | {"n": 16, "held_out": 20} | labels,
        "generator": generator,
        "generations": 2,
        "budget": {"steps": 5},
        "seeds": [5, 6],
        "grid": {"mixing.lam": [0.5, "inf"]},
    }
    apart(arms(Experiment.build(plain)))


@every_generator
def test_vectors_may_be_rows_of_a_table_of_any_columns(generator: Generator) -> None:
    """Generators of rows of any numbers sample rows that the table could have; the others refuse it, or diverge."""
    plain = {
        "name": "contract",
        "data": array(MIXED, n=60),
        "generator": generator,
        "generations": 1,
        "budget": {"steps": 5},
        "metrics": ["mean_error"],
    }
    if "vectors" not in generator.makes:
        with pytest.raises(ConfigError, match=r"holds vectors"):
            Experiment.build(plain)
        return
    try:
        members = arms(Experiment.build(plain))
        split = load(members)
        outcome = advance(members, split, 0, None, lambda g: pytest.fail("there are none"), None)
    except (ConfigError, DataError):
        assert GENERATORS.name_of(generator) in COUNTED
        return
    x = outcome.samples.arm(0)
    if GENERATORS.name_of(generator) in COUNTED and outcome.records[0]["status"] == "diverged":
        return  # these rows are none that it makes
    assert outcome.records[0]["status"] == "ok"
    assert torch.equal(split.events.snap(x), x)
    assert isinstance(split.events, Mixed)
    found = split.events.table(x)
    assert set(found["word"].tolist()) <= {"a", "b", None}
    assert all(value is None or 0 <= value < 9 for value in found["count"].tolist())


@pytest.mark.slow
@pytest.mark.parametrize(
    "generator",
    [each for each in members(GENERATORS) if each.values[0]["name"] not in COUNTED],
    indirect=True,
)
def test_the_loop_keeps_arms_of_tables_apart(generator: Generator) -> None:
    """As on rows of numbers, where columns are of any kind."""
    if "vectors" not in generator.makes:
        return
    plain = {
        "name": "contract",
        "data": array(MIXED, n=60),
        "generator": generator,
        "generations": 2,
        "budget": {"steps": 5},
        "metrics": ["mean_error"],
        "seeds": [5, 6],
        "grid": {"mixing.lam": [0, 0.5, "inf"]},
    }
    apart(arms(Experiment.build(plain)))


@pytest.mark.slow
def test_the_loop_keeps_arms_of_every_mixing_apart() -> None:
    """As above for all mixings in one stack, also where they draw different numbers of samples."""
    plain = {
        "name": "contract",
        "data": {"name": "eight_gaussians", "n": 40, "held_out": 50},
        "generator": {"name": "gaussian"},
        "generations": 2,
        "seeds": [5, 6],
        "grid": {"mixing": [parameter.values[0] for parameter in members(MIXINGS)]},
    }
    apart(arms(Experiment.build(plain)), generations=3)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        pytest.param(family, parameter.values[0], id=f"{family.word}-{parameter.id}")
        for family in (DATA, ENGINES, FEATURES, GENERATORS, JUDGES, MIXINGS, TRACKERS, UPDATES)
        for parameter in members(family)
    ],
)
def test_settings_survive_being_written(family: Family[Any], settings: dict[str, Any]) -> None:
    member = family.parse(settings)
    plain = family.plain(member)
    assert next(iter(plain)) == "name"
    assert plain["name"] == family.name_of(member) == settings["name"]
    assert family.parse(yaml.safe_load(yaml.safe_dump(plain))) == member
    assert family.plain(family.parse(plain)) == plain
    assert family.parse(member) is member


def test_every_family_is_under_this_contract() -> None:
    known = {"data", "engine", "features", "generator", "judge", "metric", "mixing", "tracker", "update"}
    assert set(FAMILIES) == known
