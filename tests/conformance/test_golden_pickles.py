"""Checkpoints of the reference implementations: the importer returns their tensors and settings, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded import some
from torch import Tensor

from selfloop.interop import Imported, describe, export, read_checkpoint


def entries(golden, family: str, kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (path, manifest entry) of the files of a kind; a test of none is skipped."""
    found = [name for name, entry in golden.files(family).items() if re.search(kind, entry["kind"])]
    for name in some(found, f"{family}'s {kind}"):
        entry, _ = golden._checked(family, name)
        yield golden.directory / name, entry


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        assert torch.equal(ours[name], value), name


def below(tensors: dict[str, Tensor], prefix: str, names: Iterator[str] | dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors under a prefix, in the order of ``names``; safetensors keeps none."""
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    assert found.keys() == set(names)
    return {name: found[name] for name in names}


def arguments(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "class_name"}


@pytest.fixture(scope="module")
def contents(golden):
    return golden.record("edm", "edm_pickle_contents")


def test_edm_snapshots(golden, contents):
    for path, entry in entries(golden, "edm", "^pickle$"):
        imported = read_checkpoint(path)
        assert imported.kind == "edm-snapshot"
        ema = imported.networks["ema"]
        same(ema, below(contents.tensors, "ema.", ema))
        settings = imported.settings
        assert settings["ema"]["class"] == entry["config"]["class_name"].rpartition(".")[2]
        assert settings["ema"]["arguments"] == arguments(entry["config"]) == arguments(contents.config["net"])
        assert settings["dataset_kwargs"] == contents.scalars["dataset_kwargs"]
        assert settings["augment_pipe"]["arguments"]["p"] == contents.scalars["augment_p"]
        assert "CANARY" not in str(describe(imported))


def test_edm_training_states(golden, contents):
    for path, entry in entries(golden, "edm", "EDM training state"):
        imported = read_checkpoint(path)
        assert imported.kind == "edm-training-state"
        net = imported.networks["net"]
        same(net, below(contents.tensors, "net.", net))
        assert imported.settings["net"]["arguments"] == arguments(entry["config"])
        recorded = {key.removeprefix("opt."): value for key, value in contents.tensors.items() if key[:4] == "opt."}
        assert recorded
        same({key: imported.optimizer[key] for key in recorded}, recorded)
        optimizer = contents.config["optimizer"]
        assert imported.settings["optimizer_state"]["param_groups"][0]["lr"] == optimizer["lr"]
        assert {value.item() for key, value in imported.optimizer.items() if key.endswith(".step")} == {
            optimizer["step"]
        }


def moments(imported: Imported, tensors: dict[str, Tensor]) -> None:
    """Compare the recorded moments of Adam."""
    recorded = {
        re.sub(r"^adam_(.+)_(\d+)$", r"\2.\1", key): value for key, value in tensors.items() if key[:5] == "adam_"
    }
    assert recorded
    same({key: imported.optimizer[key] for key in recorded}, recorded)


def reference(path: Path) -> dict[str, Any]:
    """Load a file that holds tensors and plain values alone with torch's own restricted reader."""
    return torch.load(path, map_location="cpu", weights_only=True)


def optimizer_of(state: dict[str, Any]) -> dict[str, Tensor]:
    return {f"{i}.{name}": value for i, values in state["state"].items() for name, value in values.items()}


def test_torchcfm_checkpoints(golden):
    probe = golden.record("torchcfm", "cfm_checkpoint_probe")
    for path, _ in entries(golden, "torchcfm", "torchcfm CIFAR-10 checkpoint"):
        imported, theirs = read_checkpoint(path), reference(path)
        assert imported.kind == "torchcfm"
        assert imported.step == theirs["step"] == int(re.findall(r"\d+", path.stem)[-1])
        for name in ("net_model", "ema_model"):
            same(imported.networks[name], theirs[name])
        same(imported.optimizer, optimizer_of(theirs["optim"]))
        moments(imported, probe.tensors)
        assert imported.settings["sched"] == theirs["sched"]
        assert imported.settings["sched"]["last_epoch"] == probe.scalars["last_epoch"]
        assert imported.settings["optim"]["param_groups"][0]["lr"] == probe.scalars["lr"]


def test_ddpm_checkpoints(golden):
    probe = golden.record("ddpm", "ddpm_checkpoint_probe")
    for path, _ in entries(golden, "ddpm", "ddpm-torch trainer checkpoint"):
        imported, theirs = read_checkpoint(path), reference(path)
        assert imported.kind == "ddpm-torch"
        same(imported.networks["model"], theirs["model"])
        same(imported.networks["ema"], theirs["ema"]["shadow"])
        same(imported.optimizer, optimizer_of(theirs["optimizer"]))
        moments(imported, probe.tensors)
        settings = imported.settings
        assert imported.step == theirs["scheduler"]["last_epoch"]
        assert settings["ema"] == {"decay": probe.scalars["ema_decay"], "num_updates": probe.scalars["ema_num_updates"]}
        assert settings["optimizer"]["param_groups"][0]["lr"] == probe.scalars["lr"]
        assert (settings["epoch"], settings["loss"]) == (probe.scalars["epoch"], probe.scalars["loss"])


@pytest.mark.parametrize(
    ("family", "kind"),
    [("edm", "^pickle$"), ("edm", "training state"), ("torchcfm", "checkpoint"), ("ddpm", "checkpoint")],
)
def test_export_is_what_the_project_loads(golden, tmp_path, family, kind):
    for path, _ in entries(golden, family, kind):
        imported = read_checkpoint(path)
        for name, tensors in imported.networks.items():
            exported = export(imported, name)
            same(exported, tensors)
            torch.save(exported, tmp_path / "state_dict.pt")
            same(reference(tmp_path / "state_dict.pt"), tensors)
