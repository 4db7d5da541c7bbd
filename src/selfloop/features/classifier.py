"""Features by a small classifier of labelled images."""

from __future__ import annotations

import hashlib
import math
import os
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count
from selfloop.core.errors import DataError
from selfloop.core.paths import cache
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.data.reading.labelled import read_labelled
from selfloop.engines.threads import as_in_a_worker
from selfloop.features import colour
from selfloop.features.base import FEATURES, Call, Network, keep
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import fresh, parameters, train


@FEATURES.register
class Classifier(Network):
    """A small convolutional network, trained to name labelled images; features are its last hidden layer.

    Grey images are learned in seconds by two layers, those in colour by :mod:`selfloop.features.colour`, CIFAR-10 in
    minutes. Weights are kept in the cache under a hash of the data and the settings, and come out the same bits when
    trained again on the same machine.

    Attributes:
        labelled: "digits" (scikit-learn's); the path of an NPZ with ``x``, uint8 (N, H, W) or (N, H, W, C), and integer
            labels ``y`` (N,); that of CIFAR-10 as data ``cifar10`` take it, whose 50,000 training images are learned;
            or a folder or zip of pictures whose classes are in ``dataset.json`` or are the folders.
        width: features, the units of the last hidden layer.
        epochs: passes over four fifths of the images; the rest says how often it is right. Where none are given they
            are 30 of the digits and an NPZ, and 4 of what else there is.
    """

    offers: ClassVar[frozenset[Capability]] = frozenset(("naming",))

    name: Literal["classifier"] = "classifier"
    labelled: str = "digits"
    width: int = Field(default=64, gt=0, le=10_000)
    epochs: Count = 30

    @model_validator(mode="before")
    @classmethod
    def _fewer_of_many(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and "epochs" not in settings:
            source = settings.get("labelled", "digits")
            few = isinstance(source, str) and source != "digits" and not source.lower().endswith(".npz")
            return settings | {"epochs": 4} if few else settings
        return settings

    def key(self) -> str:
        """Return the hash of data and settings."""
        return f"classifier {_VERSIONS[self.channels()[0]]} {self._digest}"

    def channels(self) -> tuple[int, ...]:
        """Return those of the labelled images."""
        return (self._data[0].shape[1],)

    @cached_property
    def _data(self) -> tuple[Tensor, Tensor]:
        return read_labelled(os.path.expanduser(self.labelled))

    @cached_property
    def _digest(self) -> str:
        x, y = self._data
        digest = hashlib.sha256(f"{_VERSIONS[x.shape[1]]} {self.width} {self.epochs} {tuple(x.shape)}".encode())
        digest.update(x.numpy().tobytes())
        digest.update(y.numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def _weights(self) -> State:
        path = cache() / f"classifier-{self._digest}.safetensors"
        if not path.is_file():
            with as_in_a_worker():
                weights = _trained(*self._data, self.width, self.epochs)
            keep(path, weights)
        try:
            return load_file(path, device=self.device)
        except SafetensorError as error:
            raise DataError(f"features classifier: {str(path)!r} is damaged; delete it to train again") from error

    @property
    def accuracy(self) -> float:
        """The share of the images left out of training that it names right."""
        return float(self._weights["accuracy"])

    def named(self, features: Tensor) -> Tensor:
        """Return the classes (N,) int64 that features (N, width) show."""
        weights = self._weights
        logits = F.linear(features.to(self.device), weights["name.weight"][0], weights["name.bias"][0])
        return logits.argmax(1).cpu()

    @property
    def names(self) -> int:
        """How many classes it names."""
        return int(self._data[1].max()) + 1

    def _load(self) -> Call:
        weights = self._weights
        hidden = _NETWORKS[self.channels()[0]]
        return lambda x: hidden(weights, x)


def _hidden(p: State, x: Tensor) -> Tensor:
    """Return the last hidden layer (N, width) of the classifier, whose leaves lead with R = 1, on uint8 images."""
    h = x.float() / 127.5 - 1
    for layer in ("first", "second"):
        h = F.relu(F.conv2d(h, p[f"{layer}.weight"][0], p[f"{layer}.bias"][0], padding=1))
    h = F.adaptive_avg_pool2d(h, 4).flatten(1)
    return F.relu(F.linear(h, p["hidden.weight"][0], p["hidden.bias"][0]))


_NETWORKS = {1: _hidden, 3: colour.hidden}  # by channels, as are
_VERSIONS = {1: 1, 3: 2}


def _trained(x: Tensor, y: Tensor, width: int, epochs: int) -> State:
    """Train on four fifths of the images; return the weights and, under ``accuracy``, how right it is on the rest."""
    streams = Streams(seeds=(0,))
    (order,) = streams.permutations("split", [len(x)])
    cut = max(1, len(x) // 5)
    test, rest = torch.from_numpy(order[:cut]), torch.from_numpy(order[cut:])
    if x.shape[1] == 3:
        p = colour.trained(x[rest], y[rest], width, int(y.max()) + 1, epochs)
    else:
        p = _trained_on_grey(x, y, rest, width, epochs)
    with torch.no_grad():
        inner = torch.cat([_NETWORKS[x.shape[1]](p, x[rows]) for rows in torch.split(test, 1000)])
        named = F.linear(inner, p["name.weight"][0], p["name.bias"][0]).argmax(1)
    return p | {"accuracy": (named == y[test]).double().mean().reshape(1)}


def _trained_on_grey(x: Tensor, y: Tensor, rest: Tensor, width: int, epochs: int) -> State:
    streams = Streams(seeds=(0,))
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
    return parameters(train(fresh(p, ema=False), loss, steps=len(walk), adam=Adam()))
