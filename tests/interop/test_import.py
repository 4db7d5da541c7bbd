"""Sound checkpoints, written here by torch and pickle themselves, come back as they were."""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import FrozenInstanceError
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from spelling import archive, checkpoint, snapshot
from torch import Tensor, nn

from selfloop.core.errors import DataError
from selfloop.interop import Imported, describe, export, read_checkpoint

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int32, torch.int64)

FORMS: list[dict[str, Any]] = [
    {},
    {"_use_new_zipfile_serialization": False},
    {"pickle_protocol": 3},
    {"pickle_protocol": 4},
    {"pickle_protocol": 5},
    {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
]
"""The ways in which torch.save writes."""


@pytest.fixture
def read(tmp_path):
    """Write a file and read it."""

    def read_back(content: bytes) -> Imported:
        path = tmp_path / "checkpoint.pt"
        path.write_bytes(content)
        return read_checkpoint(path)

    return read_back


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        assert ours[name].shape == value.shape, name
        assert torch.equal(ours[name], value), name


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def views() -> dict[str, Tensor]:
    """Return tensors of every dtype, and views of one storage."""
    base = random(6, 8)
    return {
        **{str(dtype): (random(3, 5) * 9).abs().to(dtype) for dtype in DTYPES},
        "base": base,
        "row": base[2],
        "column": base[:, 3],
        "transposed": base.t(),
        "every second": base[1::2, ::3],
        "one of a long stride": base[::5][:1],
        "scalar": base[1, 1],
        "empty": torch.empty(0, 4),
        "part that is empty": base[6:],
        "infinite": torch.tensor([float("inf"), -0.0, 1e-45]),
        "parameter": nn.Parameter(random(2)),
    }


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_tensors_of_every_make(read, form):
    imported = read(archive(checkpoint(model=views()), **form))
    same(imported.networks["model"], {name: value.detach() for name, value in views().items()})


@pytest.mark.parametrize("form", FORMS[:2], ids=str)
def test_views_share_what_they_shared(read, form):
    model = read(archive(checkpoint(model=views()), **form)).networks["model"]
    model["base"][2, 3] = 77
    assert model["row"][3] == model["column"][2] == model["transposed"][3, 2] == 77


def test_an_export_shares_nothing_and_is_contiguous(read):
    imported = read(archive(checkpoint(model=views())))
    exported = export(imported, "model")
    same(exported, imported.networks["model"])
    assert all(value.is_contiguous() for value in exported.values())
    held = [value.untyped_storage().data_ptr() for value in exported.values() if value.numel()]
    assert len(set(held)) == len(held)
    exported["base"].zero_()
    assert imported.networks["model"]["base"].any()


def test_an_unknown_network_is_refused_by_name(read):
    with pytest.raises(DataError, match=r"the ddpm-torch checkpoint has no network 'ema'; it has model"):
        export(read(archive()), "ema")


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(2):
        net(random(5, 3)).square().sum().backward()
        optimizer.step()
    return net, optimizer


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


@pytest.mark.parametrize("form", FORMS[:2], ids=str)
def test_torchcfm(read, form):
    net, optimizer = trained()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    average = {name: value * 2 for name, value in net.state_dict().items()}
    content = {
        "net_model": net.state_dict(),
        "ema_model": average,
        "sched": schedule.state_dict(),
        "optim": optimizer.state_dict(),
        "step": 70_000,
    }
    imported = read(archive(content, **form))
    assert (imported.kind, imported.step) == ("torchcfm", 70_000)
    same(imported.networks["net_model"], net.state_dict())
    same(imported.networks["ema_model"], average)
    same(imported.optimizer, moments(optimizer))
    assert imported.settings["sched"]["base_lrs"] == [1e-3]
    assert imported.settings["optim"]["param_groups"][0]["betas"] == [0.9, 0.999]
    assert "net_model" not in imported.settings


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("schedule", [False, True])
def test_ddpm_torch_with_and_without_its_options(read, average, schedule):
    net, optimizer = trained()
    content = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7, "loss": torch.tensor(0.25)}
    if average:
        shadow = {name: value.detach() for name, value in net.named_parameters()}
        content["ema"] = {"decay": 0.9999, "shadow": shadow, "num_updates": 2}
    if schedule:
        content["scheduler"] = {"last_epoch": 11}
    imported = read(archive(content))
    assert imported.kind == "ddpm-torch"
    assert list(imported.networks) == (["model", "ema"] if average else ["model"])
    assert imported.step == (11 if schedule else None)
    assert imported.settings["loss"] == 0.25
    if average:
        same(imported.networks["ema"], shadow)
        assert imported.settings["ema"] == {"decay": 0.9999, "num_updates": 2}
    same(imported.optimizer, moments(optimizer))


def test_steps_that_are_plain_numbers_become_tensors(read):
    state = {0: {"step": 5, "exp_avg": torch.ones(2), "nothing": None}}
    imported = read(archive(checkpoint(optimizer={"state": state, "param_groups": []})))
    same(imported.optimizer, {"0.step": torch.tensor(5.0), "0.exp_avg": torch.ones(2)})


class Block(nn.Module):
    """A module as EDM pickles it: by ``_reconstruct_persistent_obj`` of its class's source and its attributes."""

    def __init__(self, width: int, scale: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(random(width, 2))
        self.bias = None
        self.register_parameter("absent", None)
        self.register_buffer("kept", torch.arange(width))
        self.register_buffer("hidden", torch.ones(3), persistent=False)
        self.layers = nn.ModuleDict({"a b": nn.ModuleList([nn.Sequential()])})
        self.scale, self.fixed = scale, torch.nn.Parameter(random(2).half(), requires_grad=False)
        self._init_args, self._init_kwargs = (width,), {"scale": scale, "sizes": [1, 2]}

    def __reduce__(self) -> Any:
        meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": "Block"}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta | {"state": self.__dict__},)


@pytest.fixture
def net(monkeypatch):
    """A persistent module that holds others."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("nothing calls it")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = _reconstruct_persistent_obj.__name__
    for name in ("torch_utils", "torch_utils.persistence"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    outer = Block(3, np.sqrt(0.5))
    outer.layers["inner"] = Block(4, np.float32(0.25))
    outer.layers["integer"] = Block(2, np.int64(-7))
    return outer


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_edm_snapshot(read, net, protocol):
    content = {"ema": net, "loss_fn": Block(1, True), "dataset_kwargs": {"path": "a.zip", "max_size": None}}
    imported = read(pickle.dumps(content, protocol))
    assert (imported.kind, imported.step, imported.optimizer) == ("edm-snapshot", None, {})
    same(imported.networks["ema"], net.state_dict())
    assert "layers.inner.kept" in imported.networks["ema"]
    settings = imported.settings
    assert settings["dataset_kwargs"] == content["dataset_kwargs"]
    assert settings["ema"] == {
        "class": "Block",
        "arguments": {"scale": float(np.sqrt(0.5)), "sizes": [1, 2]},
        "positional": [3],
        "attributes": {"scale": float(np.sqrt(0.5))},
    }
    assert settings["loss_fn"]["attributes"] == {"scale": True}


def test_edm_training_state(read, net):
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4)
    net.weight.grad = torch.ones_like(net.weight)
    optimizer.step()
    imported = read(archive({"net": net, "optimizer_state": optimizer.state_dict()}))
    assert imported.kind == "edm-training-state"
    same(imported.networks["net"], net.state_dict())
    same(imported.optimizer, moments(optimizer))
    assert imported.settings["optimizer_state"]["param_groups"][0]["lr"] == 2e-4
    assert imported.settings["net"]["class"] == "Block"


def test_shared_parameters_keep_both_names(read, net):
    net.layers["again"] = net.layers["inner"]
    imported = read(pickle.dumps({"ema": net}, 4))
    same(imported.networks["ema"], net.state_dict())


def behind(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


WRAPPED = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "_fsdp_wrapped_module.module."]


@pytest.mark.parametrize("prefixes", [(p, p) for p in WRAPPED] + [("module.", ""), ("", "_orig_mod.")], ids=str)
def test_networks_that_several_devices_or_a_compiler_wrapped(read, prefixes):
    """Each network of a file on its own: an average is often of the module inside."""
    net, optimizer = trained()
    last, average = (
        behind(prefix, tensors)
        for prefix, tensors in zip(prefixes, (net.state_dict(), dict(net.named_parameters())), strict=True)
    )
    files = {
        "torchcfm": {"net_model": last, "ema_model": average, "optim": optimizer.state_dict(), "step": 1},
        "ddpm-torch": {"model": last, "ema": {"shadow": average}, "optimizer": optimizer.state_dict(), "epoch": 1},
    }
    for kind, content in files.items():
        imported = read(archive(content))
        assert imported.kind == kind
        for found, whole in zip(imported.networks.values(), (net.state_dict(), net.named_parameters()), strict=True):
            same(found, dict(whole))
        same(imported.optimizer, moments(optimizer))


def test_a_wrapped_module_within_a_pickled_one(read, net):
    expected = net.state_dict()
    net.layers["inner"] = nn.ModuleDict({"module": net.layers["inner"]})
    imported = read(pickle.dumps({"ema": net}, 4))
    assert imported.networks["ema"].keys() == expected.keys()
    optimizer = torch.optim.Adam(net.parameters())
    state = read(archive({"net": nn.ModuleDict({"_orig_mod": net}), "optimizer_state": optimizer.state_dict()}))
    assert state.networks["net"].keys() == expected.keys()


def test_names_that_only_wrappers_tell_apart_are_refused(read):
    with pytest.raises(DataError, match="two tensors are called 'w'"):
        read(archive(checkpoint(model={"w": torch.ones(1), "module.w": torch.ones(1)})))
    held = read(archive(checkpoint(model={"module": torch.ones(1), "submodule.w": torch.ones(1)})))
    assert list(held.networks["model"]) == ["module", "submodule.w"]


def test_what_is_imported_cannot_be_swapped(read):
    imported = read(snapshot())
    with pytest.raises(FrozenInstanceError):
        imported.kind = "torchcfm"


def test_describe_is_safe_to_print(read):
    evil = "\x1b[2J\n" * 1000
    many = {f"setting {i}": i for i in range(1000)}
    content = checkpoint(scheduler={evil: evil, "list": [evil] * 1000, "last_epoch": 3} | many)
    rows = describe(read(archive(content)))
    assert rows[:3] == [
        ("kind", "ddpm-torch checkpoint"),
        ("step", "3"),
        ("network model", "2 tensors, 10 numbers, float32"),
    ]
    assert ("epoch", "1") in describe(read(archive()))
    assert all(isinstance(text, str) and text.isprintable() and len(text) < 1000 for row in rows for text in row)
    assert len(rows) < 250


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"weights": torch.ones(2)},
            r"is none of: EDM network snapshot, EDM training state, torchcfm checkpoint, ddpm",
        ),
        (torch.ones(2), r"is none of"),
        ([1, 2], r"is none of"),
        (checkpoint(model={"w": [1.0]}), r"something else than named tensors in model; save its state_dict there"),
        (checkpoint(other={"x": torch.ones(2)}), r"has a Tensor among its settings"),
        (checkpoint(model={"w": torch.ones(2, dtype=torch.complex64)}), r"asks for 'torch\.ComplexFloatStorage'"),
        (checkpoint(model={"w": torch.eye(2).to_sparse()}), r"asks for 'torch\._utils\._rebuild_sparse_tensor'"),
        (checkpoint(model={"w": torch.ones(1).expand(9)}), r"reaches beyond its storage of 1 numbers"),
        (checkpoint(model=nn.Linear(1, 1)), r"asks for 'torch\.nn\.modules\.linear\.Linear'"),
    ],
    ids=range(9),
)
def test_other_contents_are_refused(read, content, words):
    with pytest.raises(DataError, match=words):
        read(archive(content))


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"checkpoint '.*nowhere\.pkl' does not exist"):
        read_checkpoint(tmp_path / "nowhere.pkl")
    with pytest.raises(DataError, match=r"checkpoint '.*' is not a file"):
        read_checkpoint(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"checkpoint '.*pipe' is not a file"):
        read_checkpoint(tmp_path / "pipe")


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    with (tmp_path / "large.pkl").open("wb") as file:
        file.truncate(2**33 + 1)
    with pytest.raises(DataError, match=r"large\.pkl' has 8,589,934,593 bytes; the limit is 8,589,934,592"):
        read_checkpoint(tmp_path / "large.pkl")
