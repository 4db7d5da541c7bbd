"""Recorded networks under our names, and how their numbers are compared with ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from torch import Tensor

from selfloop.learning.nets import names, presets
from selfloop.learning.nets.architecture import UNet
from selfloop.learning.nets.names import Original, from_original
from selfloop.learning.nets.unet import Params, evaluate

T = TypeVar("T")

NETWORK = 1e-5  # of the largest output
ELSEWHERE = {"class_name", "use_fp16", "constructor"}  # of a configuration, settings that are not the network's


@dataclass(frozen=True)
class Network:
    """A recorded network and everything recorded with it."""

    record: Any
    unet: UNet
    original: Original

    @property
    def params(self) -> Params:
        return from_original(self.original, self.unet, self.record.parameters())

    def __call__(self, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
        """Evaluate the one copy: (B, C, H, W) images, times (B,) or one for all of them."""
        more = {name: value.unsqueeze(0) for name, value in labels.items()}
        return evaluate(self.params, self.unet, x.unsqueeze(0), t.reshape(1, -1), **more)[0]


def settings(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in ELSEWHERE}


def edm_of(config: dict[str, Any]) -> tuple[UNet, Original]:
    return presets.ddpmpp(**settings(config)), names.edm(config["img_resolution"])


def torchcfm_of(config: dict[str, Any]) -> tuple[UNet, Original]:
    return presets.guided(**settings(config)), names.TORCHCFM


def ddpm_of(config: dict[str, Any]) -> tuple[UNet, Original]:
    return presets.ddpm(**settings(config)), names.DDPM_TORCH


OF = {"edm": edm_of, "torchcfm": torchcfm_of, "ddpm": ddpm_of}
NETWORKS = {"edm": "edm_net_", "torchcfm": "cfm_unet", "ddpm": "ddpm_unet"}


def files(golden, family: str, pattern: str) -> list[str]:
    """Return the names of a family's files that match; a test of none is skipped."""
    return some([name for name in golden.files(family) if re.fullmatch(pattern, name)], f"{family}'s file {pattern}")


def some(found: list[T], what: str) -> list[T]:
    """Return what was found; a test that finds nothing to compare is skipped, and says so."""
    if not found:
        pytest.skip(f"not recorded: {what}")
    return found


def networks(golden, family: str) -> Iterator[Network]:
    for name in files(golden, family, rf"{NETWORKS[family]}\w*\.safetensors"):
        record = golden.record(family, name.removesuffix(".safetensors"))
        # EDM's files hold one network under two preconditionings.
        config = record.config["edm"] if family == "edm" else record.config
        yield Network(record, *OF[family](config))


def check(ours: Tensor, theirs: Tensor, share: float = NETWORK) -> None:
    """The largest difference is at most a share of the largest value."""
    assert ours.shape == theirs.shape
    assert float((ours.double() - theirs.double()).abs().max()) <= share * float(theirs.abs().max())


def number(record, key: str, pattern: str) -> float:
    """Return the number that the manifest's words on a tensor give."""
    found = re.search(pattern, record.meaning(key))
    assert found, f"{key}: {record.meaning(key)}"
    return float(found[1])
