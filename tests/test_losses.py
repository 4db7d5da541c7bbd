"""The losses of every fit, which are kept in the run."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from helpers import small, snapshot, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from test_on_another_device import pictures
from torch import Tensor

from selfloop import Run, run
from selfloop.core.files import read_sealed, write_sealed
from selfloop.engines.device import Checkpoint, Device
from selfloop.engines.journal import POINTS, Course, Journal, put, width
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import LOSS, fresh, train


def curve(steps: int, losses: Tensor) -> Tensor:
    """Return what is kept of the losses (S, R) of a fit."""
    journal = Journal(arms=range(losses.shape[1]))
    course = Course(journal, range(losses.shape[1]), 0, 0)
    course.begin(steps)
    for step, each in enumerate(losses):
        course.step(step, each)
    course.end()
    return journal.tensors()["loss"][:, 0]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3 * POINTS + 7), st.integers(1, 3), st.integers(0, 99))
def test_points_are_means_of_equally_many_steps(steps: int, copies: int, seed: int) -> None:
    losses = torch.rand(steps, copies, generator=torch.Generator().manual_seed(seed))
    found, size = curve(steps, losses), width(steps)
    assert found.shape[1] == -(-steps // size) <= POINTS
    means = torch.stack([part.double().mean(0) for part in losses.split(size)], 1)
    torch.testing.assert_close(found.double(), means, rtol=1e-5, atol=0)
    for r in range(copies):
        assert torch.equal(curve(steps, losses[:, [r]])[0], found[r])  # to the bit, whatever is beside it


def test_a_fit_that_was_killed_leaves_the_same_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfloop.engines.journal.POINTS", 10)
    monkeypatch.setattr("selfloop.engines.journal._BLOCK", 6)
    steps = 29

    def fit(path: Path, stop: int | None) -> Journal:
        journal = Journal(arms=[0, 1])
        seen = 0

        def loss(params: dict[str, Tensor], step: int) -> Tensor:
            nonlocal seen
            seen += 1
            if seen == stop:
                raise KeyboardInterrupt
            return ((params["w"] - torch.tensor([1.0, 2.0]) * (step % 7)) ** 2).sum(1)

        start = fresh({"w": torch.ones(2, 2)}, ema=False)
        checkpoint = Checkpoint(path, 0.0, Course(journal, (0, 1), 0, 0))
        train(start, loss, steps=steps, adam=Adam(), checkpoint=checkpoint)
        return journal

    whole = fit(tmp_path / "a", None).tensors()
    for stop in (5, 5, 4, 3):  # at and between the ends of points and of what is added up at once
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "b", stop)
    again = fit(tmp_path / "b", None).tensors()
    assert not whole["loss"].isnan().any()
    assert whole["loss"].shape == (2, 1, 10)
    assert torch.equal(whole["loss"], again["loss"])
    assert whole["steps"].tolist() == [[steps], [steps]]


def test_they_end_in_the_loss_of_the_state(tmp_path: Path) -> None:
    list(run(small(generations=1), tmp_path / "run"))
    of = Run.open(tmp_path / "run")
    of.verify()
    found = {each.arm: each for each in of.losses(1)}
    assert sorted(found) == [0, 1, 2, 3]
    for s, members in enumerate(of.stacks):
        for row, arm in enumerate(members):
            assert found[arm.index].step.tolist() == list(range(1, 11))
            torch.testing.assert_close(found[arm.index].loss[-2:].mean(), of.state(1, s)[LOSS][row])
    first = [each.loss.tolist() for each in of.losses(0)]
    assert first[0] == first[2]  # generation 0 is one for arms that differ in regime
    assert first[0] != first[1]


def test_growth_leaves_the_same_files(tmp_path: Path) -> None:
    list(run(tiny(generations=3), tmp_path / "whole"))
    list(run(tiny(generations=1), tmp_path / "parts"))
    list(run(tiny(generations=3), tmp_path / "parts"))
    whole, parts = snapshot(tmp_path / "whole"), snapshot(tmp_path / "parts")
    names = [name for name in whole if "losses" in name]
    assert len(names) == 4 * 2
    assert all(whole[name] == parts[name] for name in names)


def test_every_model_of_an_ensemble_has_its_own(tmp_path: Path) -> None:
    generator = {"name": "ensemble", "models": 2, "of": tiny().model_dump()["generator"]}
    list(run(tiny(generator=generator, generations=1), tmp_path / "run"))
    found = Run.open(tmp_path / "run").losses(1)
    assert [(each.arm, each.fit) for each in found] == [(arm, fit) for arm in range(4) for fit in range(2)]
    assert len({tuple(each.loss.tolist()) for each in found}) == 8


def test_networks_that_are_fitted_arm_after_arm(tmp_path: Path) -> None:
    list(run(pictures(seeds=2, generations=1), tmp_path / "run"))
    found = Run.open(tmp_path / "run").losses(1)
    assert [each.arm for each in found] == [0, 1, 2, 3]
    assert all(torch.isfinite(each.loss).all() for each in found)
    assert found[0].loss.tolist() != found[1].loss.tolist()


def test_models_without_gradient_steps_have_none_and_runs_of_before_are_read(tmp_path: Path) -> None:
    list(run(tiny(generator="gaussian", budget=None, generations=1), tmp_path / "gaussian"))
    of = Run.open(tmp_path / "gaussian")
    assert of.losses(1) == []
    assert not list(of.path.glob("*/losses-*"))
    list(run(tiny(generations=1), tmp_path / "run"))
    for manifest in (tmp_path / "run").glob("*/manifest.json"):  # as they were before
        content = read_sealed(manifest)
        for stack in content["stacks"].values():
            stack["files"] = {name: note for name, note in stack["files"].items() if not name.startswith("losses")}
        write_sealed(manifest, content)
        for file in manifest.parent.glob("losses-*"):
            file.unlink()
    old = Run.open(tmp_path / "run")
    old.verify()
    assert old.losses(0) == old.losses(1) == []
    assert [each.t for each in run(tiny(generations=2), tmp_path / "run")] == [2]
    grown = Run.open(tmp_path / "run")
    grown.verify()
    assert len(grown.losses(2)) == 4


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    list(run(tiny(generations=1), tmp_path / "run"))
    (tmp_path / "run" / "generation-0001" / "losses-001.safetensors").unlink()
    (line,) = Run.open(tmp_path / "run").damage()
    assert "losses-001.safetensors' is missing" in line


def test_as_a_frame(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    list(run(tiny(generations=1), tmp_path / "run"))
    found = Run.open(tmp_path / "run").losses_frame()
    assert list(found.columns) == ["arm", "seed", "mixing.lam", "generation", "fit", "step", "loss"]
    assert len(found) == 4 * 2 * 2


def test_what_a_fit_says_is_whole_and_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("selfloop.engines.journal.time.monotonic", lambda: now)
    journal = Journal(functools.partial(put, tmp_path / "told.json"), {"stack": 0}, arms=[3, 4])
    device = Device(checkpoints=tmp_path / "fit", journal=journal, rows=(0, 1))
    checkpoint = device.checkpoint(0)
    assert checkpoint is not None
    assert checkpoint.course is not None
    checkpoint.course.begin(100)
    said = []
    for step in range(100):
        now += 0.09
        checkpoint.course.step(step, torch.tensor([1.0, torch.nan]))
        if (tmp_path / "told.json").exists():
            said.append(json.loads((tmp_path / "told.json").read_text())["step"])
    assert len(set(said)) == 8  # in nine seconds
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["loss"] == {"3": 1.0}
    assert told["rate"] == pytest.approx(1 / 0.09)
    assert [path.name for path in tmp_path.iterdir()] == ["told.json"]
