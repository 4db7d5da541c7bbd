"""What a run would take: numbers beyond reason are refused with the settings, and nothing is made before."""

from __future__ import annotations

import math
import shutil
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from selfloop.arms import arms
from selfloop.core import memory
from selfloop.core.errors import ConfigError
from selfloop.core.memory import in_words
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.cost import refuse_excess
from selfloop.environment import prepared
from selfloop.experiment import Experiment
from selfloop.generators.base import GENERATORS
from selfloop.learning.training import Budget
from selfloop.runner import run

PLAIN: dict[str, Any] = {
    "name": "x",
    "data": {"name": "gaussian", "n": 100},
    "generator": {"name": "gaussian"},
    "generations": 2,
    "budget": {"steps": 5},
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data": {"name": "gaussian", "n": 10**12}}, "2e[+]12 rows of 2 numbers would take 32 TB of memory"),
        ({"data": {"name": "gaussian", "n": 100, "dim": 10**9}}, "200 rows of 1e[+]09 numbers would take 1.6 TB"),
        ({"data": {"name": "gaussian", "n": 100, "held_out": 10**12}}, "would take 16 TB"),
        ({"data": {"name": "gaussian", "n": 2, "dim": 10**5}}, "what it has learned, of an arm, would take 80 GB"),
        ({"data": {"name": "eight_gaussians", "scale": 1e300}}, "data.scale: a number beyond"),
        ({"generations": 10**400}, "generations: a number beyond"),
        ({"generations": 10**9}, "generations: .* less than or equal to 999999"),
        ({"seeds": 10**9}, "more than 10000 arms"),
        ({"grid": {f"data.{i}": [1, 2] for i in range(20_000)}}, "more than 10000 arms"),
        ({"seeds": [10**400]}, "seeds: a number beyond"),
        ({"mixing": {"name": "augment", "lam": 1e308}}, "mixing.lam: a number beyond"),
        ({"mixing": {"name": "augment", "lam": 1e9}}, "1e[+]11 samples .* would take 1.6 TB"),
        ({"generator": {"name": "otcfm", "width": 10**9}}, "generator.width"),
        ({"generator": {"name": "otcfm", "width": 10**6}}, "otcfm: what it has learned, of an arm, would take 24 TB"),
        ({"generator": {"name": "otcfm", "batch_size": 10**12}}, "a step of its fit of an arm would take 10.25 bytes"),
        # Costs in float64, and quantised to int32.
        ({"generator": {"name": "otcfm", "batch_size": 30_000}}, "a step of its fit of an arm would take 10.8 GB"),
        ({"generator": {"name": "otcfm", "solver": "euler", "solver_steps": 10**30}}, "generator.solver_steps"),
        ({"generator": {"name": "ddpm", "batch_size": 10**12}}, "a step of its fit of an arm would take 8 TB"),
        ({"generator": {"name": "mixture", "components": 10**9}}, "generator.components"),
        ({"generator": {"name": "mixture", "components": 101}}, "101 components need as many rows at least"),
        ({"generator": {"name": "ddpm", "beta_start": 2}}, "beta_start 2 is above beta_end 0.2"),
        ({"generator": {"name": "ddpm_images", "beta_start": 0.5}}, "beta_start 0.5 is above beta_end 0.02"),
        ({"generator": {"name": "mixture", "components": 10**5}, "data": {"name": "gaussian", "n": 10**5}}, "160 GB"),
        (
            {"generator": {"name": "vae"}, "budget": {"steps": 10**15}},
            "a fit would take 1e[+]15 gradient steps",
        ),
        ({"generator": {"name": "vae"}, "budget": {"epochs": 1e15}}, "gradient steps"),
        ({"generator": {"name": "flow", "transforms": 10**9}}, "generator.transforms"),
    ],
)
def test_numbers_beyond_reason_are_refused_and_cost_nothing(
    settings: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "memory", lambda: 10**10)
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(ConfigError, match=words) as error:
        list(run(Experiment.build(PLAIN | settings), tmp_path / "out"))
    assert time.process_time() - begun < 3
    assert tracemalloc.get_traced_memory()[1] < 2**28
    tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250
    assert list(tmp_path.iterdir()) == []


def test_samples_beyond_the_disk_are_refused_before_the_first_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000, total=10**9))
    of = PLAIN | {"generations": 9, "seeds": 6}  # 6 · 10 · 100 rows of two float64
    list(run(Experiment.build(of), tmp_path / "fits"))
    with pytest.raises(ConfigError, match=r"the samples would take 112 kB on disk, and '.*' has 100 kB"):
        list(run(Experiment.build(of | {"seeds": 7}), tmp_path / "new" / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["fits"]
    list(run(Experiment.build(of | {"seeds": 7}), tmp_path / "fits"))  # of which most is there


def test_a_gaussian_is_refused_for_all_the_matrices_of_its_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory", lambda: 10**10)
    with pytest.raises(ConfigError, match=r"a step of its fit of an arm would take 10.6 GB"):
        refuse_excess(Experiment.build(PLAIN), lambda arm: ((21_000,), 2))


def test_what_arms_take_in_turn_is_not_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory", lambda: 10**10)
    many = {"generator": {"name": "otcfm", "batch_size": 20_000}, "seeds": 16}
    refuse_excess(Experiment.build(PLAIN | many), lambda arm: ((2,), 100))


@pytest.mark.parametrize(
    "value", [True, "5", 5.5, -5, math.nan, math.inf, None, [5], pytest.param(10**5000, id="huge")]
)
@pytest.mark.parametrize("key", ["generations", "seeds", "data", "budget"])
def test_what_is_no_whole_number_is_refused_in_one_line(key: str, value: Any) -> None:
    if key == "seeds" and value == [5]:
        return
    given = {"data": {"name": "gaussian", "n": value}, "budget": {"steps": value}}.get(key, value)
    with pytest.raises(ConfigError) as error:
        Experiment.build(PLAIN | {key: given})
    assert str(error.value).startswith(key)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_numbers_of_numpy_are_numbers() -> None:
    given = {
        "data": {"name": "gaussian", "n": np.int64(100)},
        "generations": np.int32(2),
        "seeds": [np.int64(0), 1],
        "grid": {"mixing.lam": list(np.array([0.0, 0.5]))},
        "budget": {"steps": np.uint8(5)},
    }
    plain = {"seeds": [0, 1], "grid": {"mixing.lam": [0.0, 0.5]}}
    assert Experiment(**(PLAIN | given)) == Experiment(**(PLAIN | plain))
    assert Experiment.parse(Experiment(**(PLAIN | given)).yaml()).seeds == [0, 1]


SIZED = {
    "gaussian": {}, "mixture": {"components": 3}, "vae": {}, "otcfm": {"ema": {"decay": 0.9}}, "ddpm": {},
    "edm": {"net": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [8], "dropout": 0.0}},
    "otcfm_images": {"net": {"channels": 32, "multipliers": [1, 2], "blocks": 1, "attention": [8], "dropout": 0.0}},
    "ddpm_images": {"net": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [8], "dropout": 0.0}},
}  # fmt: skip


@pytest.mark.parametrize("name", SIZED)
def test_the_size_of_a_state_is_that_of_one_that_is_made(name: str) -> None:
    generator = GENERATORS.parse({"name": name, **SIZED[name]})
    event = (1, 9, 11) if "images" in generator.makes else (3,)
    state = generator.init(event, Streams((0,)))
    made = sum(leaf.numel() * leaf.element_size() for leaf in state.values())
    assert made - 100 <= generator.state_size(event) <= made


def test_a_network_that_cannot_be_is_refused_before_a_fit() -> None:
    size = {"channels": 6, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.0, "group_channels": 4}
    settings = {
        "data": {"name": "digit_images"},
        "generator": {"name": "edm", "net": size | {"channels": 50}},
        "metrics": ["variance_ratio"],
    }
    with pytest.raises(ConfigError, match=r"generator edm does not fit events \(1, 8, 8\): .* groups of one size"):
        refuse_excess(Experiment.build(PLAIN | settings), lambda arm: ((1, 8, 8), 100))


@pytest.mark.parametrize("generator", ["otcfm", {"name": "estimator", "estimator": "GaussianMixture", "arguments": {}}])
def test_what_fits_is_left_alone(generator: Any, tmp_path: Path) -> None:
    experiment = Experiment.build(
        PLAIN | {"generator": generator, "grid": {"mixing.lam": [0, 0.5, math.inf]}, "seeds": 3}
    )
    assert len(prepared(experiment, tmp_path).environment["arms"]) == len(arms(experiment)) == 9


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (25_300_000_000, "25.3 GB"), (4 * 10**24, "10^24 bytes")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words


def test_there_is_memory() -> None:
    assert 2**28 < memory.memory() < 2**60


def test_a_flow_is_no_smaller_than_is_said() -> None:
    pytest.importorskip("zuko")
    generator = GENERATORS.parse({"name": "flow", "ema": {"decay": 0.9}})
    made = sum(leaf.numel() * leaf.element_size() for leaf in generator.init((3,), Streams((0,))).values())
    assert 0.7 * made < generator.state_size((3,)) <= made


DIFFUSERS = {
    "name": "diffusers",
    "unet": {
        "block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4,
        "down_block_types": ["DownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "UpBlock2D"],
    },
}  # fmt: skip


class TestDiffusers:
    def test_sides_that_cannot_be_halved(self) -> None:
        pytest.importorskip("diffusers")
        generator = GENERATORS.parse(DIFFUSERS | {"steps": 2, "batch_size": 2})
        state = generator.init((1, 7, 9), Streams((0,)))
        made = sum(leaf.numel() * leaf.element_size() for leaf in state.values())
        assert made - 100 <= generator.state_size((1, 7, 9)) <= made
        assert generator.sample(state, 3, Streams((0,))).shape == (1, 3, 1, 7, 9)

    def test_a_network_that_does_not_go_with_the_picture_is_refused(self) -> None:
        pytest.importorskip("diffusers")
        generator = GENERATORS.parse(DIFFUSERS | {"unet": DIFFUSERS["unet"] | {"downsample_padding": 3}})
        with pytest.raises(ConfigError, match=r"this unet (does not take|returns) images \(1, 8, 8\)"):
            generator.state_size((1, 8, 8))


@pytest.mark.slow
def test_settings_that_would_not_be_read_again_are_refused() -> None:
    arguments: dict[str, Any] = {"weights_init": [0.123456789] * 100_000}
    generator = {"name": "estimator", "estimator": "GaussianMixture", "arguments": arguments}
    with pytest.raises(ConfigError, match="what would be recorded of the settings is longer than"):
        refuse_excess(Experiment.build(PLAIN | {"generator": generator}), lambda arm: ((2,), 100))


@pytest.mark.parametrize("name", ["edm", "otcfm_images", "ddpm_images"])
def test_pictures_of_any_sides_are_learned_and_drawn(name: str) -> None:
    few = {"tolerance": 0.5} if name == "otcfm_images" else {"steps": 2}
    settings = {"name": name, **SIZED[name], **few, "batch_size": 2}
    generator, streams, event = GENERATORS.parse(settings), Streams((0,)), (1, 7, 9)
    x = torch.randint(0, 256, (1, 4, *event), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state = generator.fit(generator.init(event, streams), Samples.full(x, born=0), Budget(steps=1), streams)
    assert generator.sample(state, 3, streams).shape == (1, 3, *event)
