"""Two processes that share every fit do what one does, and leave with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from selfloop import Run
from selfloop.core.errors import ConfigError
from selfloop.engines.team import Team, available

EXPERIMENT = """
name: shared
data: {name: digit_images, n: 32, held_out: 32}
generator:
  name: edm
  net: {channels: 32, multipliers: [1, 2], blocks: 1, attention: [4], dropout: 0.0}
  batch_size: 16
  optimizer: {learning_rate: 1.0e-3}
  ema: {decay: 0.9}
  steps: 2
  sample_batch: 8
generations: 1
budget: {steps: 6}
grid: {mixing.lam: [1]}
features: {name: classifier, epochs: 1}
metrics: [frechet_held_out, variance_ratio, parameter_distance]
keep_states: all
"""


def run(folder: Path, out: str, *launch: str, options: tuple[str, ...] = ()) -> None:
    """Run the experiment by ``python LAUNCH selfloop run``."""
    file = folder / "experiment.yaml"
    file.write_text(EXPERIMENT)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SELFLOOP_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", *launch, "selfloop", "run", str(file), "--out", str(folder / out), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team")
    run(folder, "alone", options=("--workers", "0"))
    return folder


def same(folder: Path, out: str) -> None:
    """Compare a run with that of one process: the same up to the order of a sum."""
    ours, theirs = Run.open(folder / out), Run.open(folder / "alone")
    for a, b in zip(ours.records(), theirs.records(), strict=True):
        assert a["metrics"]["frechet_held_out"] == pytest.approx(b["metrics"]["frechet_held_out"], rel=1e-3)
        assert a["metrics"]["variance_ratio"] == pytest.approx(b["metrics"]["variance_ratio"], rel=1e-4)
    for t in range(2):
        state, reference = ours.state(t, 0), theirs.state(t, 0)
        assert state["loss"] == pytest.approx(reference["loss"], rel=1e-5)
        for name, leaf in state.items():
            # Softmax is blind to the biases of keys: Adam makes steps of what is rounding in their gradients.
            if not name.startswith("optimizer") and not name.endswith("qkv.bias"):
                torch.testing.assert_close(leaf, reference[name], rtol=1e-3, atol=1e-4, msg=name)
        levels = ours.stack_samples(t, 0).x.int() - theirs.stack_samples(t, 0).x.int()
        assert (levels != 0).float().mean() < 0.02  # a level on the border may fall on either side
        assert levels.abs().max() <= 1


@pytest.mark.slow
def test_two_processes_do_what_one_does(alone: Path) -> None:
    """``--devices 2`` starts a second process; the global batch, the latents and the features are shared."""
    run(alone, "two", options=("--devices", "2"))
    same(alone, "two")


@pytest.mark.slow
def test_torchrun_starts_them_too(alone: Path) -> None:
    run(alone, "torchrun", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29611", "-m")
    same(alone, "torchrun")


def test_vectors_and_workers_are_refused(tmp_path: Path) -> None:
    class Pair(Team):
        def __init__(self) -> None:
            super().__init__()
            self.size = 2

        def broadcast(self, said: object) -> object:
            return said

    from helpers import tiny

    from selfloop.runner import run as begin

    with pytest.raises(ConfigError, match="several devices share fits of large networks"):
        list(begin(tiny(), tmp_path / "run", team=Pair()))
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    from selfloop.generators import EDM

    team = Team()
    team.size = 3
    with pytest.raises(ConfigError, match="batch_size 256 cannot be split evenly into 1 parts of 3 devices"):
        EDM()._share(team)


def test_a_device_that_torch_does_not_know() -> None:
    with pytest.raises(ConfigError, match=r"^torch knows no device 'gpu': give cpu, cuda, cuda:1 or mps$"):
        available("gpu")
