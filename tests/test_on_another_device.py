"""A run that goes on on another device, and one whose device has too little memory or is taken away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import snapshot
from torch import Tensor

from selfloop import Experiment, Run, run
from selfloop import runner as runners
from selfloop.core.errors import ConfigError, RunError
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.engines.team import Team
from selfloop.generators import EDM
from selfloop.generators.images import Size
from selfloop.generators.network import Draws, Net
from selfloop.learning.training import Budget

NET = {"channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.0, "group_channels": 4}
STREAMS = Streams((0,))


def pictures(**settings: Any) -> Experiment:
    """Return a loop of EDM over a few digits in two arms, each a stack of its own."""
    return Experiment.model_validate(
        {
            "name": "pictures",
            "data": {"name": "digit_images", "n": 12, "held_out": 8},
            "generator": {"name": "edm", "net": NET, "batch_size": 4, "augment": 0.0, "steps": 2},
            "generations": 1,
            "budget": {"steps": 1},
            "grid": {"mixing.lam": [1, "inf"]},
            "metrics": ["variance_ratio"],
        }
        | settings
    )


def named(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setattr(Team, "name", name)


@pytest.mark.slow
def test_a_run_goes_on_on_a_gpu_and_back_and_its_records_say_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for generations, name in ((1, None), (2, "Some GPU"), (3, None)):
        named(monkeypatch, name)
        list(run(pictures(generations=generations), tmp_path / "moved"))
    named(monkeypatch, None)
    list(run(pictures(generations=3), tmp_path / "stayed"))
    moved, stayed = Run.open(tmp_path / "moved"), Run.open(tmp_path / "stayed")
    moved.verify()
    where = [{record.get("device") for record in moved.everything_of(t)} for t in range(4)]
    assert where == [{None}, {None}, {"Some GPU"}, {None}]
    assert [r | {"device": None} for t in range(4) for r in moved.everything_of(t)] == [
        r | {"device": None} for t in range(4) for r in stayed.everything_of(t)
    ]
    log = (tmp_path / "moved" / "log.txt").read_text().splitlines()
    told = [line.endswith(' device="Some GPU"') for line in log if " event=generation " in line]
    assert told == [
        False,
        False,
        True,
        False,
    ]
    assert "device" not in (tmp_path / "stayed" / "metrics.jsonl").read_text()


def test_models_that_run_on_no_device_name_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "Some GPU")
    toy = {"name": "toy", "data": {"name": "two_moons", "n": 20}, "generator": {"name": "gaussian"}, "generations": 1}
    list(run(Experiment.model_validate(toy | {"mixing": {"name": "augment", "lam": 1}}), tmp_path / "run"))
    assert "device" not in (tmp_path / "run" / "metrics.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [("accumulate", 2), ("sample_batch", 3), ("channels_last", True), ("compile", False)],
)
def test_how_it_is_computed_may_change_under_way(tmp_path: Path, key: str, value: object) -> None:
    list(run(pictures(), tmp_path / "run"))
    changed = pictures(generations=2).override(f"generator.{key}={value}")
    assert [generation.t for generation in run(changed, tmp_path / "run")] == [2]
    assert getattr(Run.open(tmp_path / "run").experiment.generator, key) == value


def test_what_is_computed_may_not(tmp_path: Path) -> None:
    list(run(pictures(), tmp_path / "run"))
    with pytest.raises(RunError, match=r"generator\.precision"):
        list(run(pictures(generations=2).override("generator.precision=bfloat16"), tmp_path / "run"))


class Interrupted(Exception):
    """Somebody pulls the plug."""


def cut_off(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """Run the pictures until the second stack of generation 1 is to be computed."""
    real = runners._outcome

    def outcome(task: Any, stack: int) -> Any:
        if (task.t, stack) == (1, 1):
            raise Interrupted
        return real(task, stack)

    with monkeypatch.context() as patched:
        patched.setattr(runners, "_outcome", outcome)
        with pytest.raises(Interrupted):
            list(run(pictures(), out))


@pytest.mark.slow
def test_arms_that_were_done_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "_WORTH_KEEPING", 0.0)
    list(run(pictures(generations=2), tmp_path / "whole"))
    computed: list[tuple[int, int]] = []
    real = runners._outcome

    def outcome(task: Any, stack: int) -> Any:
        if (task.t, stack) == (1, 1) and (1, 1) not in computed:
            computed.append((1, 1))
            raise Interrupted
        computed.append((task.t, stack))
        return real(task, stack)

    monkeypatch.setattr(runners, "_outcome", outcome)
    with pytest.raises(Interrupted):
        list(run(pictures(generations=2), tmp_path / "cut"))
    assert [p.name for p in (tmp_path / "cut").glob(".fit-*")] == [".fit-0001-000-done.safetensors"]
    list(run(pictures(generations=2), tmp_path / "cut"))
    assert computed.count((1, 0)) == 1
    assert not list((tmp_path / "cut").glob(".fit-*"))
    assert snapshot(tmp_path / "cut") == snapshot(tmp_path / "whole")


@pytest.mark.slow
def test_what_was_done_keeps_the_classes_of_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "_WORTH_KEEPING", 0.0)
    labelled = {"name": "digit_images", "n": 30, "held_out": 20, "labels": True}
    told = {"name": "edm", "net": NET, "batch_size": 4, "augment": 0.0, "steps": 2, "conditional": {"classes": 10}}
    experiment = pictures(
        data=labelled, generator=told, metrics=["class_tv_held_out", "class_frechet_worst_train"], generations=2
    )
    list(run(experiment, tmp_path / "whole"))
    real, done = runners._outcome, []

    def outcome(task: Any, stack: int) -> Any:
        if task.t > 0 and stack == 1 and task.t not in done:
            done.append(task.t)
            raise Interrupted
        return real(task, stack)

    monkeypatch.setattr(runners, "_outcome", outcome)
    for _ in range(2):
        with pytest.raises(Interrupted):
            list(run(experiment, tmp_path / "cut"))
    list(run(experiment, tmp_path / "cut"))
    assert snapshot(tmp_path / "cut") == snapshot(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut short", "empty", "a flipped bit", "another kept file"])
def test_what_was_done_and_is_damaged_is_said_and_may_be_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(runners, "_WORTH_KEEPING", 0.0)
    list(run(pictures(), tmp_path / "whole"))
    cut_off(monkeypatch, cut := tmp_path / "cut")
    kept = cut / ".fit-0001-000-done.safetensors"
    content = bytearray(kept.read_bytes())
    if damage == "another kept file":  # of other arms: it is not this stack's, and is not looked at
        kept.rename(cut / ".fit-0001-001-done.safetensors")
    else:
        content[len(content) // 2] ^= 1
        kept.write_bytes({"cut short": content[: len(content) // 2], "empty": b""}.get(damage, bytes(content)))
        with pytest.raises(RunError, match=r"^[^\n]* is damaged: move it elsewhere, and what it holds is [^\n]*$"):
            list(run(pictures(), cut))
        kept.unlink()
    list(run(pictures(), cut))
    assert snapshot(cut) == snapshot(tmp_path / "whole")


def test_what_was_done_of_other_metrics_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "_WORTH_KEEPING", 0.0)
    cut_off(monkeypatch, tmp_path / "cut")
    more = pictures(metrics=["variance_ratio", "vendi_ratio"])
    list(run(more, tmp_path / "cut"))
    list(run(more, tmp_path / "whole"))
    assert snapshot(tmp_path / "cut") == snapshot(tmp_path / "whole")


class Small(EDM):
    """EDM on a device on which no more than two images at once fit."""

    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        if batch[0].shape[1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().loss(net, batch, draws)

    def generate(self, net: Net, noise: Any) -> Tensor:
        if noise().shape[1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().generate(net, noise)


def little(batch: int, accumulate: int = 1) -> Small:
    net = Size.model_validate(NET)
    return Small(net=net, batch_size=batch, accumulate=accumulate, augment=0.0, steps=2, sample_batch=8)


@pytest.mark.parametrize(("batch", "parts"), [(4, 2), (12, 6), (9, 9)])
def test_too_large_a_batch_is_answered_with_the_parts_that_fit(batch: int, parts: int) -> None:
    data = Samples.full(STREAMS.integers("levels", 256, (20, 1, 4, 4)).to(torch.uint8), born=0)
    state = little(batch).init((1, 4, 4), STREAMS)
    with pytest.raises(ConfigError) as error:
        little(batch).fit(state, data, Budget(steps=3), STREAMS)
    said = str(error.value)
    assert said.startswith("there is not enough memory on device 'cpu': ")
    assert said.endswith(f"parts of {batch // parts} fits: set generator.accumulate to {parts}")
    assert "\n" not in said
    little(batch, parts).fit(state, data, Budget(steps=1), STREAMS)


def test_too_many_images_at_once_are_answered_with_as_many_as_fit() -> None:
    state = little(2).init((1, 4, 4), STREAMS)
    with pytest.raises(ConfigError, match=r"set generator\.sample_batch to 2$"):
        little(2).sample(state, 8, STREAMS)
    few = little(2).model_copy(update={"sample_batch": 2})
    assert few.sample(state, 8, STREAMS).shape == (1, 8, 1, 4, 4)


def test_a_network_too_large_for_a_single_image_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Small, "loss", none)
    monkeypatch.setattr(Small, "generate", none)
    data = Samples.full(STREAMS.integers("levels", 256, (20, 1, 4, 4)).to(torch.uint8), born=0)
    state = little(4).init((1, 4, 4), STREAMS)
    with pytest.raises(ConfigError, match=r"use a smaller network$"):
        little(4).fit(state, data, Budget(steps=1), STREAMS)
    with pytest.raises(ConfigError, match=r"use a smaller network$"):
        little(4).sample(state, 3, STREAMS)
