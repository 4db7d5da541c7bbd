"""One U-Net for images: down through levels of ever coarser resolution, and up again beside skip connections.

Parameters are a flat dict whose leaves lead with R. Copies are evaluated one after another, so none sees its
neighbours; a network of the size that images need keeps a device busy alone. The settings of the paper's networks are
in :mod:`selfloop.learning.nets.presets`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from selfloop.core.replicas import copies
from selfloop.core.streams import Streams
from selfloop.learning.nets.architecture import Layer, Style, UNet
from selfloop.learning.nets.blocks import Copy, conv, embed, linear, norm, take
from selfloop.learning.nets.mlp import Params


def _spread(style: Style, layer: Layer) -> tuple[float, float]:
    """Return the bounds of a layer's initial weights and biases, uniform around 0; see :class:`Style`."""
    outputs, inputs, *kernel = layer.shape
    fan_in, fan_out = inputs * math.prod(kernel), outputs * math.prod(kernel)
    if style.init == "xavier":
        return layer.gain * math.sqrt(6 / (fan_in + fan_out)), 0.0
    return layer.gain / math.sqrt(fan_in), layer.gain / math.sqrt(fan_in)


def init(streams: Streams, unet: UNet) -> Params:
    """Draw the parameters of R copies as the style says, norms that only normalise, on the CPU in float32."""
    stack = len(streams.seeds)
    params: Params = {}

    def draw(name: str, shape: tuple[int, ...], bound: float) -> None:
        if bound == 0:
            params[name] = torch.zeros(stack, *shape)
        else:
            params[name] = (2 * streams.uniform(f"init/{name}", shape) - 1) * bound

    for name, layer in unet.layers.items():
        if len(layer.shape) == 1:
            params[f"{name}.weight"] = torch.ones(stack, *layer.shape)
            params[f"{name}.bias"] = torch.zeros(stack, *layer.shape)
            continue
        weight, bias = _spread(unet.style, layer)
        draw(f"{name}.weight", layer.shape, weight)
        if layer.bias:
            draw(f"{name}.bias", layer.shape[:1], bias)
    return params


def evaluate(
    params: Params,
    unet: UNet,
    x: Tensor,
    t: Tensor,
    *,
    labels: Tensor | None = None,
    augment: Tensor | None = None,
    dropout: Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Evaluate R copies.

    Args:
        params: leaves named as in ``unet.shapes``, leading with R.
        unet: the settings that they were made for.
        x: (R, B, C, H, W) images; each level but the last halves H and W, which zeros below and to the right make up
            to the next number that can be halved so often, and which are cut away again.
        t: times or noise labels, (R, B), or (R, 1) where all images of a copy share one.
        labels: (R, B, labels) class vectors, one-hot for a known class; None is the zero vector, which knows none.
        augment: (R, B, augment) what was done to the images; None if nothing was.
        dropout: in training, for each copy the generator of what is dropped, on the device of x.

    Returns:
        (R, B, out_channels, H, W).

    Raises:
        ValueError: an input does not fit the settings.
    """
    _check(unet, x, t, labels, augment)
    height, width = x.shape[3:]
    x = padded(x, len(unet.multipliers) - 1)
    leaves = {name: copies(leaf) for name, leaf in params.items()}
    out = []
    for r in range(len(x)):
        copy = {name: each[r] for name, each in leaves.items()}
        told = [None if given is None else given[r] for given in (labels, augment)]
        embedding = _embed(copy, unet, t[r], *told)
        out.append(_way(copy, unet, x[r], embedding, dropout[r] if dropout else None))
    return torch.stack(out)[..., :height, :width]


def whole(side: int, halvings: int) -> int:
    """Return the next number from ``side`` on that can be halved so often."""
    return side + -side % (1 << halvings)


def padded(x: Tensor, halvings: int) -> Tensor:
    """Return images (…, H, W) with zeros below and to the right, so that both sides can be halved so often."""
    height, width = x.shape[-2:]
    below, right = whole(height, halvings) - height, whole(width, halvings) - width
    return F.pad(x, (0, right, 0, below)) if below or right else x


def _check(unet: UNet, x: Tensor, t: Tensor, labels: Tensor | None, augment: Tensor | None) -> None:
    stack, images, channels, *_ = x.shape
    if channels != unet.image_channels:
        raise ValueError(f"images have {channels} channels, and the network reads {unet.image_channels}")
    if t.shape not in ((stack, images), (stack, 1)):
        raise ValueError(f"times have shape {tuple(t.shape)}, and there are {stack} copies of {images} images")
    for name, given, width in (("labels", labels, unet.labels), ("augment", augment, unet.augment)):
        if given is not None and given.shape[2:] != (width,):
            shape = tuple(given.shape)
            raise ValueError(f"{name} have shape {shape}, and the network takes {width} numbers of an image")


def _embed(params: Copy, unet: UNet, t: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
    """Return what all blocks are told, (B, embedding)."""
    h = embed(t, unet.channels, unet.frequencies).to(params["embed.0.weight"].dtype)
    if unet.labels:
        known = h.new_zeros(1, unet.labels) if labels is None else labels
        # A one-hot vector times √labels has entries of unit mean square.
        h = h + linear(params, "embed.label", known * unet.labels**0.5)
    if augment is not None:
        h = h + linear(params, "embed.augment", augment)
    h = F.silu(linear(params, "embed.0", h))
    return F.silu(linear(params, "embed.1", h))


def _way(params: Copy, unet: UNet, x: Tensor, embedding: Tensor, generator: torch.Generator | None) -> Tensor:
    """Take all steps with one copy: (B, C, H, W) → (B, out_channels, H, W)."""
    h = conv(params, "stem", x)
    skips = [h]
    for step in unet.steps:
        if step.joins:
            h = torch.cat([h, skips.pop()], dim=1)
        h = take(unet.style, params, step, h, embedding, generator)
        if step.stage == "down":
            skips.append(h)
    return conv(params, "out.conv", F.silu(norm(unet.style, params, "out.norm", h)))
