"""The convolutional network that learns to name labelled colour pictures, and how it learns.

Blocks of a 3 × 3 convolution, batch normalisation and a ReLU, one of them residual (He et al. 2016), on pixels taken
two by two; trained in few passes by a rate that rises and falls (Smith & Topin 2018), on pictures mirrored and shifted
by up to two pixels. Leaves lead with R = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import Batches, fresh, parameters, train

_LAYERS = {"first": (48, 12), "second": (96, 48), "third": (96, 96), "fourth": (192, 96)}  # channels out and in
_HALVED = ("first", "third")  # after these, height and width are
_BATCH = 256
_RATE = 0.01
_EPS = 1e-5  # added to variances
_SHIFT = 2  # pixels
_SETTLING = 4096  # pictures by which the normalisation is settled


class _OneCycle(Adam):
    """Adam whose learning rate rises over a quarter of the ``steps``, and falls to nothing."""

    steps: int

    def rate(self, taken: int, step: int, batch_size: int) -> float:
        """Return the learning rate of step number ``step``."""
        done = (step + 0.5) / self.steps
        return self.learning_rate * min(4 * done, (1 - done) / 0.75)


def hidden(p: State, x: Tensor) -> Tensor:
    """Return the last hidden layer (N, width) on uint8 pictures (N, 3, H, W)."""
    return _layers(p, _scaled(x), lambda layer, h: h + p[f"{layer}.bias"][0].view(-1, 1, 1))


def trained(x: Tensor, y: Tensor, width: int, classes: int, epochs: int) -> State:
    """Train on uint8 pictures (N, 3, H, W) and their classes (N,); ``hidden`` and ``name`` are the last two layers."""
    streams = Streams(seeds=(0,))
    size = min(_BATCH, len(x))
    batches = Batches(Samples.full(x[None], born=0, label=y[None]), size, streams)
    steps = epochs * math.ceil(len(x) / size)

    def loss(p: State, step: int) -> Tensor:
        pictures = _moved(_scaled(batches[step][0]), streams, step)
        logits = F.linear(_layers(p, pictures, _by_batch(p)), p["name.weight"][0], p["name.bias"][0])
        return F.cross_entropy(logits, batches.classes(step)[0], label_smoothing=0.1).unsqueeze(0)

    adam = _OneCycle(learning_rate=_RATE, steps=steps)
    return _settled(
        parameters(train(fresh(_begun(width, classes, streams), ema=False), loss, steps=steps, adam=adam)), x
    )


def _scaled(x: Tensor) -> Tensor:
    return x.float() / 127.5 - 1


def _begun(width: int, classes: int, streams: Streams) -> State:
    """Return the network before training (He et al. 2015)."""
    shapes = {layer: (made, taken, 3, 3) for layer, (made, taken) in _LAYERS.items()}
    last = _LAYERS["fourth"][0]
    p: State = {}
    for name, shape in (shapes | {"hidden": (width, last), "name": (classes, width)}).items():
        bound = math.sqrt(6 / math.prod(shape[1:]))
        p[f"{name}.weight"] = (2 * streams.uniform(f"init/{name}", shape) - 1) * bound
        p[f"{name}.bias"] = torch.zeros(1, shape[0])
        if name in _LAYERS:
            p[f"{name}.scale"] = torch.ones(1, shape[0])
    return p


def _layers(p: State, x: Tensor, normalized: Callable[[str, Tensor], Tensor]) -> Tensor:
    """Return the last hidden layer (N, width) on pictures (N, 3, H, W) of −1 to 1."""
    height, width = x.shape[2:]
    h = F.pixel_unshuffle(F.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
    h = h.contiguous(memory_format=torch.channels_last)
    for layer in _LAYERS:
        made = F.relu(normalized(layer, F.conv2d(h, p[f"{layer}.weight"][0], padding=1)))
        h = h + made if h.shape == made.shape else made
        if layer in _HALVED:
            h = F.max_pool2d(h, 2, ceil_mode=True)
    return F.relu(F.linear(h.amax((2, 3)), p["hidden.weight"][0], p["hidden.bias"][0]))


def _by_batch(p: State) -> Callable[[str, Tensor], Tensor]:
    """Return what normalises a layer by the means and variances of the batch (Ioffe & Szegedy 2015)."""
    return lambda layer, h: F.batch_norm(
        h, None, None, p[f"{layer}.scale"][0], p[f"{layer}.bias"][0], training=True, eps=_EPS
    )


def _moved(x: Tensor, streams: Streams, step: int) -> Tensor:
    """Return pictures mirrored with probability ½ and shifted, what comes in at an edge being like that edge."""
    (rng,) = streams.numpy("moved", step)
    n, _, height, width = x.shape
    x = torch.where(torch.from_numpy(rng.random(n) < 0.5).view(-1, 1, 1, 1), x.flip(3), x)
    down, right = torch.from_numpy(rng.integers(-_SHIFT, _SHIFT + 1, size=(2, n, 1)))
    rows = (torch.arange(height) + down).clamp(0, height - 1)
    columns = (torch.arange(width) + right).clamp(0, width - 1)
    moved = x.permute(0, 2, 3, 1)[torch.arange(n).view(-1, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)]
    return moved.permute(0, 3, 1, 2)


def _settled(p: State, x: Tensor) -> State:
    """Return the network with means and variances of many pictures folded into the convolutions: scales are gone."""
    sums = {layer: torch.zeros(2, made) for layer, (made, _) in _LAYERS.items()}
    normalized = _by_batch(p)

    def noted(layer: str, h: Tensor) -> Tensor:
        variance, mean = torch.var_mean(h, (0, 2, 3), correction=0)
        sums[layer] += torch.stack([mean, variance])
        return normalized(layer, h)

    batches = [batch for batch in torch.split(x[:_SETTLING], _BATCH) if len(batch) >= min(len(x), _BATCH)]
    with torch.no_grad():
        for batch in batches:
            _layers(p, _scaled(batch), noted)
    out = {name: leaf for name, leaf in p.items() if not name.endswith(".scale")}
    for layer, total in sums.items():
        mean, variance = total / len(batches)
        factor = p[f"{layer}.scale"] / (variance + _EPS).sqrt()
        out[f"{layer}.weight"] = p[f"{layer}.weight"] * factor.view(1, -1, 1, 1, 1)
        out[f"{layer}.bias"] = p[f"{layer}.bias"] - mean * factor
    return out
