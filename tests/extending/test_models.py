"""Whole runs of models of the user's: three of plain PyTorch, scikit-learn's, and one of images."""

from __future__ import annotations

import json
import random
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusion import Diffusion
from flow import RealNVP
from gan import GAN
from helpers import snapshot
from torch import Tensor, nn

from selfloop import Experiment, Run, Streams, run
from selfloop.core.samples import Samples
from selfloop.generators import Estimator
from selfloop.learning.training import Budget, parameters

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
METRICS = ["w2_held_out", "parameter_distance", "parameter_distance_random"]


class Pixels(nn.Module):
    """Independent pixels, each normal, with what images bring along: uint8, a normalisation, a counter."""

    def __init__(self, steps: int = 20) -> None:
        super().__init__()
        self.steps = steps
        self.scale = nn.Parameter(torch.tensor(0.0))
        self.mean = nn.Parameter(torch.rand(1, 8, 8))
        self.norm = nn.BatchNorm2d(1)

    def fit(self, x: Tensor) -> None:
        assert x.dtype == torch.uint8
        assert self.training
        optimizer = torch.optim.SGD([self.scale, self.mean], 1.0)
        for _ in range(self.steps):
            rows = x[torch.randint(len(x), (32,))] / 255
            self.norm(rows)
            loss = ((rows - self.mean) * (-self.scale).exp()).square().mean() / 2 + self.scale
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def sample(self, n: int) -> Tensor:
        assert not self.training
        rows = self.mean + self.scale.exp() * torch.randn(n, 1, 8, 8)
        return (255 * rows).round().clamp(0, 255).to(torch.uint8)


TORCH = {
    "gan": (GAN, {"width": 16, "steps": 20}, METRICS),
    "diffusion": (Diffusion, {"width": 16, "steps": 20, "times": 10}, METRICS),
    "flow": (RealNVP, {"couplings": 4, "width": 16, "steps": 20}, [*METRICS, "nll"]),
    "pixels": (Pixels, {}, METRICS),
}
SKLEARN = {
    "GaussianMixture": {"n_components": 2, "max_iter": 1000},
    "BayesianGaussianMixture": {"n_components": 2, "max_iter": 2000},
    "KernelDensity": {"bandwidth": 0.3},
}


def experiment(name: str, **settings: Any) -> Experiment:
    """Return 3 retrainings on 60 rows, 2 λ × 2 seeds."""
    if name in TORCH:
        make, arguments, metrics = TORCH[name]
        generator = Estimator.of(make, **arguments)
    else:
        generator, metrics = Estimator(estimator=name, arguments=SKLEARN[name]), ["w2_held_out", "nll"]
    plain = {
        "name": name,
        "data": {"name": "digit_images" if name == "pixels" else "two_moons", "n": 60, "held_out": 40},
        "generator": generator,
        "generations": 3,
        "seeds": 2,
        "grid": {"mixing.lam": [0.5, "inf"]},
        "metrics": metrics,
    }
    return Experiment.build(plain | settings)


def randomness() -> list[str]:
    """Return the states of the global generators, and torch's settings."""
    states = (np.random.get_state(legacy=False), random.getstate(), torch.get_rng_state().tolist())  # noqa: NPY002
    more = (torch.initial_seed(), torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())
    return [str(state) for state in (*states, *more)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run every experiment once at a stretch, each with the global generators somewhere else."""
    out = {}
    for i, name in enumerate((*TORCH, *SKLEARN)):
        out[name] = tmp_path_factory.mktemp(name) / "run"
        torch.manual_seed(i)
        before = randomness()
        assert len(list(run(experiment(name), out[name]))) == 4
        assert randomness() == before
    return out


@pytest.mark.parametrize("name", [*TORCH, *SKLEARN])
def test_a_run_gives_what_its_metrics_ask_for(finished: dict[str, Path], name: str) -> None:
    records = Run.open(finished[name]).records()
    assert {record["status"] for record in records} == {"ok"}
    values = [value for record in records for value in record["metrics"].values()]
    assert all(isinstance(value, float) for value in values)
    if name in TORCH:
        moved = [record["metrics"]["parameter_distance"] for record in records if record["generation"] > 0]
        assert min(moved) > 0
        assert all(r["metrics"]["parameter_distance"] == 0 for r in records if r["generation"] == 0)


@pytest.mark.parametrize("name", [*TORCH, *SKLEARN])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(finished: dict[str, Path], name: str, tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(99)
    parts = run(experiment(name), tmp_path / "run")
    next(parts)
    next(parts)
    parts.close()
    torch.rand(5)
    assert len(list(run(experiment(name), tmp_path / "run"))) == 2
    assert snapshot(tmp_path / "run") == snapshot(finished[name])


def test_a_fresh_process_goes_on_to_the_same_bits(finished: dict[str, Path], tmp_path: Path) -> None:
    """Three models in one process: to start it takes longer than all of them."""
    names = ("gan", "diffusion", "flow")
    for name in names:
        next(run(experiment(name), tmp_path / name))
    given = [
        [name, TORCH[name][0].__name__, TORCH[name][1], experiment(name).yaml(), str(tmp_path / name)] for name in names
    ]
    code = """
import importlib, json, sys
from selfloop import Experiment, run
from selfloop.generators import Estimator
for name, make, arguments, plan, out in json.loads(sys.argv[1]):
    Estimator.of(getattr(importlib.import_module(name), make), **arguments)
    print(len(list(run(Experiment.parse(plan), out))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(given)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout.split() == ["3", "3", "3"], done.stderr
    for name in names:
        assert snapshot(tmp_path / name) == snapshot(finished[name])


@pytest.mark.parametrize("name", TORCH)
def test_retraining_from_scratch_is_another_thing_than_going_on(
    finished: dict[str, Path], name: str, tmp_path: Path
) -> None:
    assert len(list(run(experiment(name, retrain="scratch"), tmp_path / "run"))) == 4
    warm, scratch = Run.open(finished[name]), Run.open(tmp_path / "run")
    a, b = warm.state(0, 0), scratch.state(0, 0)
    assert all(torch.equal(a[k], b[k]) for k in a)
    a, b = parameters(warm.state(3, 0)), parameters(scratch.state(3, 0))
    assert not all(torch.equal(a[k], b[k]) for k in a)
    # A model that begins anew every time is further from the first one than one that goes on for a few steps.
    distances = [[r["metrics"]["parameter_distance"] for r in of.records()[-4:]] for of in (warm, scratch)]
    assert np.mean(distances[0]) < np.mean(distances[1])


@pytest.mark.parametrize("name", [*TORCH, *SKLEARN])
def test_an_arm_does_not_depend_on_those_beside_it(finished: dict[str, Path], name: str, tmp_path: Path) -> None:
    alone = experiment(name, seeds=[1], grid={"mixing.lam": ["inf"]}, generations=1)
    list(run(alone, tmp_path / "run"))
    whole, one = Run.open(finished[name]), Run.open(tmp_path / "run")
    (arm,) = [arm.index for arm in whole.arms if arm.seed == 1 and arm.settings["mixing.lam"] == np.inf]
    others = [a.index for a in whole.arms if a.index != arm]
    for t in (0, 1):
        mine, theirs = one.stack_samples(t, 0), whole.stack_samples(t, whole.row(arm)[0])
        assert torch.equal(mine.x, theirs.x)
    assert not any(torch.equal(mine.x, whole.stack_samples(1, whole.row(other)[0]).x) for other in others)


def test_images_stay_uint8_and_what_is_no_parameter_is_kept_apart(finished: dict[str, Path]) -> None:
    opened = Run.open(finished["pixels"])
    assert opened.stack_samples(3, 0).x.dtype == torch.uint8
    state = opened.state(3, 0)
    assert {k: v.shape for k, v in parameters(state).items()} == {
        "model.mean": (1, 1, 8, 8),
        "model.norm.bias": (1, 1),
        "model.norm.weight": (1, 1),
        "model.scale": (1,),
    }
    assert state["buffers.model.norm.num_batches_tracked"].tolist() == [4 * 20]


@pytest.mark.parametrize("make", [GAN, Diffusion, RealNVP])
def test_the_models_learn_the_moons(make: type[nn.Module], tmp_path: Path) -> None:
    plan = experiment("gan", generator=Estimator.of(make), seeds=1, grid={}, metrics=["w2_held_out"], generations=1)
    plan = plan.override("data.n=500", "data.held_out=500")
    (record,) = next(run(plan, tmp_path / "run")).records
    assert record["metrics"]["w2_held_out"] < 0.8  # a Gaussian of the right moments is 0.97 away


def test_a_stack_of_arms_gives_each_what_it_gets_alone() -> None:
    streams, generator = Streams((5, 6)), Estimator.of(Diffusion, steps=3, times=3)
    given = Samples.full(streams.normal("rows", (20, 2), dtype=torch.float64), born=0)

    def fitted(streams: Streams, given: Samples) -> tuple[dict[str, Tensor], Tensor]:
        state = generator.fit(generator.init((2,), streams), given, Budget(steps=1), streams)
        return state, generator.sample(state, 9, streams)

    state, x = fitted(streams, given)
    for r, seed in enumerate(streams.seeds):
        alone, own = fitted(Streams((seed,)), given.select([r]))
        assert all(torch.equal(alone[k], state[k][r : r + 1]) for k in state)
        assert torch.equal(own[0], x[r])


@pytest.mark.parametrize("name", ["gan", "diffusion", "flow"])
def test_the_examples_are_short_and_run_as_scripts(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, shorter = (HERE / f"{name}.py").read_text(encoding="utf-8"), tmp_path / f"{name}.py"
    assert len(text.splitlines()) <= 60
    assert text.count("generations=3") == 1
    shorter.write_text(text.replace("generations=3", "generations=1"), encoding="utf-8")
    runpy.run_path(str(shorter), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == 2
