"""Checkpoints of the original projects, whichever wrapper their networks were saved in, become the same state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from selfloop import Experiment, run
from selfloop.core.errors import DataError
from selfloop.core.streams import Streams
from selfloop.generators import DDPMImages, OTCFMImages
from selfloop.generators.images import Size
from selfloop.learning.nets import names, unet

EVENT = (1, 8, 8)
SIZE = Size(channels=16, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.0, group_channels=4)


def content(family: str, net: dict[str, Tensor], average: dict[str, Tensor]) -> dict[str, Any]:
    """Return what the original saves after one step of Adam."""
    adam = torch.optim.Adam([torch.nn.Parameter(tensor.clone()) for tensor in net.values()])
    for parameter in adam.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    adam.step()
    if family == "ddpm":
        return {"model": net, "ema": {"shadow": average}, "optimizer": adam.state_dict(), "epoch": 1}
    return {"net_model": net, "ema_model": average, "sched": {}, "optim": adam.state_dict(), "step": 9}


@pytest.mark.parametrize("family", ["otcfm", "ddpm"])
def test_wrapped_networks_are_the_networks(tmp_path: Path, family: str) -> None:
    generator = (DDPMImages if family == "ddpm" else OTCFMImages)(net=SIZE)
    original = names.DDPM_TORCH if family == "ddpm" else names.TORCHCFM
    architecture = generator.unet(EVENT)
    drawn = unet.init(Streams(seeds=(0, 1), generation=0), architecture)
    net, average = (
        {name: leaf[r].clone() for name, leaf in names.to_original(original, architecture, drawn).items()}
        for r in range(2)
    )

    def state(of_net: str, of_average: str) -> dict[str, Tensor]:
        path = tmp_path / "checkpoint.pt"
        wrapped = [{p + k: v for k, v in tensors.items()} for p, tensors in ((of_net, net), (of_average, average))]
        torch.save(content(family, *wrapped), path)
        return generator.pretrained(path, architecture, EVENT)

    plain = state("", "")
    assert any(name.startswith("optimizer.exp_avg.") for name in plain)
    for pair in [("module.", "module."), ("module.", ""), ("", "_orig_mod."), ("module._orig_mod.", "_orig_mod.")]:
        found = state(*pair)
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], leaf) for name, leaf in plain.items())
    with pytest.raises(DataError, match=r"holds another network: net\.\S+ is not a parameter of this network"):
        state("net.", "net.")


def test_a_checkpoint_of_another_size_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    small = OTCFMImages(net=SIZE.model_copy(update={"channels": 8}))
    architecture = small.unet(EVENT)
    theirs = names.to_original(names.TORCHCFM, architecture, unet.init(Streams(seeds=(0,)), architecture))
    net = {name: leaf[0].clone() for name, leaf in theirs.items()}
    torch.save(content("otcfm", net, net), tmp_path / "checkpoint.pt")
    plain = {
        "name": "pretrained",
        "data": {"name": "digit_images", "n": 20, "held_out": 20},
        "generator": OTCFMImages(net=SIZE, checkpoint=str(tmp_path / "checkpoint.pt")),
        "generations": 1,
        "budget": {"steps": 1},
        "seeds": 2,
    }
    with pytest.raises(DataError, match=r"^[^\n]*has shape \(32, 8\) where \(64, 16\) is expected$"):
        next(run(Experiment.build(plain), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
