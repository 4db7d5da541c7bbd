"""Features by a TorchScript file, such as the Inception network for FID."""

from __future__ import annotations

import hashlib
import io
import warnings
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from selfloop.core.config import SHA256, FilePath
from selfloop.core.errors import DataError
from selfloop.core.paths import cache
from selfloop.features.base import FEATURES, Call, Network

INCEPTION = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics"

Argument = bool | int | float | str
_POOLED: dict[str, Argument] = {"return_features": True}


@FEATURES.register
class TorchScript(Network):
    """A TorchScript file that takes uint8 (N, 3, H, W) and returns features; grey images are given thrice.

    The default is the Inception network for FID as NVIDIA distributes it: its file resizes and normalises as the
    reference does, and returns 2048 pooled features if called with ``return_features=True``. TorchScript is a program:
    give the SHA-256 of a file that you trust.

    Attributes:
        path: of the file; a bare name is looked for in the cache directory too.
        sha256: of its bytes; None takes what is there, and records what it was.
        arguments: keywords of the call; None is ``return_features=True`` for a network that takes it, else nothing.
        device: where it runs.
    """

    name: Literal["torchscript"] = "torchscript"
    path: FilePath = "inception-2015-12-05.pt"
    sha256: SHA256 | None = None
    arguments: dict[str, Argument] | None = None

    def key(self) -> str:
        """Return the file's hash and the arguments."""
        told = _POOLED if self.arguments is None else self.arguments
        return f"torchscript 1 {self._content[1]} {sorted(told.items())}"

    @cached_property
    def _content(self) -> tuple[bytes, str]:
        places = [Path(self.path), cache() / self.path]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            name = Path(self.path).name
            source = f"{INCEPTION}/{name}" if name == "inception-2015-12-05.pt" else name
            raise DataError(f"features torchscript: no file {self.path!r}; fetch {source} and put it at {places[-1]}")
        content = found.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if self.sha256 not in (None, digest):
            raise DataError(f"features torchscript: {str(found)!r} has SHA-256 {digest}, not {self.sha256}")
        return content, digest

    def _load(self) -> Call:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, in which the format is written
            try:
                module = torch.jit.load(io.BytesIO(self._content[0]), map_location=self.device).eval()  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise DataError(f"features torchscript: {self.path!r} is not a TorchScript file") from error

        takes = {argument.name for argument in module.forward.schema.arguments}
        told = self.arguments
        if told is None:
            told = {name: value for name, value in _POOLED.items() if name in takes}

        def call(x: Tensor) -> Tensor:
            features: Tensor = module(x.expand(-1, 3, -1, -1), **told)
            return features

        return call
