"""What metrics look at: rows as they are, or the features of images by a network that was trained to tell them apart.

An extractor is a frozen set of settings. Those of images take uint8 (N, C, H, W) on the CPU and return (N, k) float32;
what they need from outside (weights) is read from a file whose SHA-256 is part of what a number means, and is never
fetched: the error says what to fetch and where to put it.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from platformdirs import user_cache_path
from pydantic import Field, PositiveInt, PrivateAttr
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from selfloop.core.config import Frozen
from selfloop.core.errors import DataError
from selfloop.core.files import save_tensors
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.data.images import labelled_images
from selfloop.engines.threads import as_in_a_worker
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import fresh, parameters, train

Progress = Callable[[int, int], None]  # images done, images in all
Call = Callable[[Tensor], Tensor]
Argument = bool | int | float | str

_BATCH = 128


def cache() -> Path:
    """Return where features and classifiers are kept: ``SELFLOOP_CACHE``, or the user's cache directory."""
    given = os.environ.get("SELFLOOP_CACHE")
    return Path(given) if given else user_cache_path("selfloop")


def _keep(path: Path, tensors: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, tensors)


class Identity(Frozen):
    """Rows as they are, in the model's units."""

    name: Literal["identity"] = "identity"
    images: ClassVar[bool] = False

    def key(self) -> str:
        """Return what the features depend on besides the rows."""
        return "identity 1"

    def __call__(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Return (N, *event) rows as (N, d)."""
        return x.flatten(1)


class _Network(Frozen, ABC):
    """What extractors of images share: batches, a device, RGB."""

    name: str
    images: ClassVar[bool] = True
    device: str = "cpu"
    _call: Call | None = PrivateAttr(default=None)

    @abstractmethod
    def key(self) -> str:
        """Return what the features depend on besides the images."""

    @abstractmethod
    def _load(self) -> Call:
        """Return what maps a batch of uint8 images on the device to features."""

    def __call__(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Return the features (N, k) of uint8 images (N, C, H, W).

        Raises:
            DataError: weights are missing or not what they should be, or x are no such images.
        """
        if x.ndim != 4 or x.dtype != torch.uint8 or x.shape[1] not in (1, 3):
            raise DataError(
                f"features {self.name}: needs uint8 images (N, 1 or 3, height, width), not {x.dtype} {tuple(x.shape)}"
            )
        call, done, parts = self._loaded(), 0, []
        with torch.no_grad():
            for batch in torch.split(x, _BATCH):
                try:
                    parts.append(call(batch.to(self.device)).flatten(1).float().cpu())
                except RuntimeError as error:
                    why = " ".join(str(error).split())[:200]
                    raise DataError(f"features {self.name}: it refuses images {tuple(x.shape)}: {why}") from error
                done += len(batch)
                if progress is not None:
                    progress(done, len(x))
        return torch.cat(parts)

    def _loaded(self) -> Call:
        if self._call is None:
            try:
                self._call = self._load()
            except (RuntimeError, AssertionError) as error:  # torch's words for a device that is not there
                why = " ".join(str(error).split())[:200]
                raise DataError(f"features {self.name}: it cannot run on device {self.device!r}: {why}") from error
        return self._call


class TorchScript(_Network):
    """A TorchScript file that takes uint8 (N, 3, H, W) and returns features; grey images are given thrice.

    The default is the Inception network for FID as NVIDIA distributes it: its file resizes and normalises as the
    reference does, and returns 2048 pooled features if called with ``return_features=True``. TorchScript is a program:
    give the SHA-256 of a file that you trust.

    Attributes:
        path: of the file; a bare name is looked for in the cache directory too.
        sha256: of its bytes; None takes what is there, and records what it was.
        arguments: keywords of the call.
        device: where it runs.
    """

    name: Literal["torchscript"] = "torchscript"
    path: str = "inception-2015-12-05.pt"
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    arguments: dict[str, Argument] = Field(default_factory=lambda: dict[str, Argument](return_features=True))

    def key(self) -> str:
        """Return the file's hash and the arguments."""
        return f"torchscript 1 {self._content[1]} {sorted(self.arguments.items())}"

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

        def call(x: Tensor) -> Tensor:
            features: Tensor = module(x.expand(-1, 3, -1, -1), **self.arguments)
            return features

        return call


INCEPTION = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics"


class TorchFidelity(_Network):
    """A network of the package torch-fidelity, which fetches its own weights (extra ``images``).

    Attributes:
        network: "inception-v3-compat" (2048 features, the FID's) or "dinov2-vit-b-14" (768 features).
        device: where it runs.
    """

    name: Literal["torch_fidelity"] = "torch_fidelity"
    network: Literal["inception-v3-compat", "dinov2-vit-b-14"] = "inception-v3-compat"

    def key(self) -> str:
        """Return the network's name and the package's version."""
        return f"torch_fidelity {_fidelity().__version__} {self.network}"

    def _load(self) -> Call:
        package = _fidelity()
        layer = "2048" if self.network.startswith("inception") else "dinov2"
        extractor = package.registry.FEATURE_EXTRACTORS_REGISTRY[self.network]
        try:
            module = extractor(self.network, [layer]).to(self.device).eval()
        except OSError as error:  # URLError among them
            raise DataError(
                f"features torch_fidelity: the weights of {self.network} cannot be fetched: {error}"
            ) from error
        return lambda x: module(x.expand(-1, 3, -1, -1))[0]


def _fidelity() -> Any:
    try:
        import torch_fidelity
        import torch_fidelity.registry
    except ImportError as error:
        raise DataError("features torch_fidelity: install the package with pip install 'selfloop[images]'") from error
    return torch_fidelity


class Classifier(_Network):
    """A small convolutional network, trained in seconds to name labelled images; features are its last hidden layer.

    Weights are kept in the cache under a hash of the data and the settings, and come out the same bits when trained
    again on the same machine.

    Attributes:
        labelled: "digits" (scikit-learn's), or the path of an NPZ with ``x``, uint8 (N, H, W) or (N, H, W, C), and
            integer labels ``y`` (N,).
        width: features, the units of the last hidden layer.
        epochs: passes over four fifths of the images; the rest says how often it is right.
    """

    name: Literal["classifier"] = "classifier"
    labelled: str = "digits"
    width: PositiveInt = 64
    epochs: PositiveInt = 30

    def key(self) -> str:
        """Return the hash of data and settings."""
        return f"classifier 1 {self._digest}"

    @cached_property
    def _data(self) -> tuple[Tensor, Tensor]:
        return labelled_images(self.labelled)

    @cached_property
    def _digest(self) -> str:
        x, y = self._data
        digest = hashlib.sha256(f"1 {self.width} {self.epochs} {tuple(x.shape)}".encode())
        digest.update(x.numpy().tobytes())
        digest.update(y.numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def _weights(self) -> State:
        path = cache() / f"classifier-{self._digest}.safetensors"
        if not path.is_file():
            with as_in_a_worker():
                weights = _train_classifier(*self._data, self.width, self.epochs)
            _keep(path, weights)
        try:
            return load_file(path, device=self.device)
        except SafetensorError as error:
            raise DataError(f"features classifier: {str(path)!r} is damaged; delete it to train again") from error

    @property
    def accuracy(self) -> float:
        """The share of the images left out of training that it names right."""
        return float(self._weights["accuracy"])

    def _load(self) -> Call:
        weights = self._weights
        return lambda x: _hidden(weights, x)


def _hidden(p: State, x: Tensor) -> Tensor:
    """Return the last hidden layer (N, width) of the classifier, whose leaves lead with R = 1, on uint8 images."""
    h = x.float() / 127.5 - 1
    for layer in ("first", "second"):
        h = F.relu(F.conv2d(h, p[f"{layer}.weight"][0], p[f"{layer}.bias"][0], padding=1))
    h = F.adaptive_avg_pool2d(h, 4).flatten(1)
    return F.relu(F.linear(h, p["hidden.weight"][0], p["hidden.bias"][0]))


def _train_classifier(x: Tensor, y: Tensor, width: int, epochs: int) -> State:
    """Train on four fifths of the images; return the weights and, under ``accuracy``, how right it is on the rest."""
    streams = Streams(seeds=(0,))
    (order,) = streams.permutations("split", [len(x)])
    cut = max(1, len(x) // 5)
    test, rest = torch.from_numpy(order[:cut]), torch.from_numpy(order[cut:])
    batch = min(64, len(rest))
    per_epoch = math.ceil(len(rest) / batch)
    orders = [streams.permutations("order", [len(rest)], epoch)[0] for epoch in range(epochs)]
    walk = torch.from_numpy(np.concatenate([np.resize(o, per_epoch * batch) for o in orders])).view(-1, batch)

    def loss(p: State, step: int) -> Tensor:
        rows = rest[walk[step]]
        logits = F.linear(_hidden(p, x[rows]), p["name.weight"][0], p["name.bias"][0])
        return F.cross_entropy(logits, y[rows]).unsqueeze(0)

    shapes = {
        "first": (32, x.shape[1], 3, 3),
        "second": (32, 32, 3, 3),
        "hidden": (width, 32 * 16),
        "name": (int(y.max()) + 1, width),
    }
    p: State = {}
    for name, shape in shapes.items():
        bound = math.sqrt(6 / math.prod(shape[1:]))  # He et al. 2015
        p[f"{name}.weight"] = (2 * streams.uniform(f"init/{name}", shape) - 1) * bound
        p[f"{name}.bias"] = torch.zeros(1, shape[0])
    trained = parameters(train(fresh(p, ema=False), loss, steps=len(walk), adam=Adam()))
    with torch.no_grad():
        named = F.linear(_hidden(trained, x[test]), trained["name.weight"][0], trained["name.bias"][0]).argmax(1)
    return trained | {"accuracy": (named == y[test]).double().mean().reshape(1)}


ALL: tuple[type[Frozen], ...] = (Identity, Classifier, TorchScript, TorchFidelity)

AnyFeatures = Annotated[Identity | Classifier | TorchScript | TorchFidelity, Field(discriminator="name")]

_LARGE = 1 << 20  # features of fewer bytes than this are computed again rather than kept


@lru_cache(maxsize=4)
def _kept(path: Path) -> Tensor:
    return load_file(path)["features"]


def cached(extractor: Identity | _Network, x: Tensor, progress: Progress | None = None) -> Tensor:
    """Return the features of a real set, from the cache directory where they are there.

    They are kept under the SHA-256 of the images' bytes and the extractor's key; small sets and rows as they are, which
    cost nothing, are not.
    """
    if not extractor.images:
        return extractor(x, progress)
    digest = hashlib.sha256(f"{extractor.key()} {x.dtype} {tuple(x.shape)}".encode())
    digest.update(x.contiguous().numpy().tobytes())
    path = cache() / f"features-{digest.hexdigest()}.safetensors"
    if path.is_file():
        return _kept(path)
    features = extractor(x, progress)
    if features.nbytes >= _LARGE:
        _keep(path, {"features": features})
    return features
