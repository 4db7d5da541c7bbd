"""The parts of a U-Net: residual blocks, attention, changes of resolution, and the embedding of times.

They evaluate one copy: parameters have no replica axis, images are (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from selfloop.learning.nets.architecture import Frequencies, Step, Style
from selfloop.learning.nets.mlp import sinusoidal_embedding

Copy = Mapping[str, Tensor]  # the parameters of one copy


def embed(t: Tensor, width: int, frequencies: Frequencies) -> Tensor:
    """Embed times (…) as (…, width): sines and cosines of t·ω_i, i < width/2.

    "exponential" and "power" both mean sines first and ω_i = 10000^(−i/(width/2 − 1)), but round it as ddpm-torch and
    EDM do, which at times near 1000 moves the embedding by some 1e-5. "cosines" puts cosines first and has
    ω_i = 10000^(−i/(width/2)), as torchcfm does.
    """
    if frequencies == "exponential":
        return sinusoidal_embedding(t, width)
    i = torch.arange(width // 2, dtype=torch.float32, device=t.device)
    exponent = i / (width // 2 - (frequencies == "power"))
    angle = t.to(torch.float32).unsqueeze(-1) * (1 / 10_000) ** exponent
    waves = [angle.sin(), angle.cos()] if frequencies == "power" else [angle.cos(), angle.sin()]
    return F.pad(torch.cat(waves, dim=-1), (0, width % 2))


def linear(params: Copy, name: str, x: Tensor) -> Tensor:
    """Apply an affine layer, with its bias if it has one."""
    return F.linear(x, params[f"{name}.weight"], params.get(f"{name}.bias"))


def conv(params: Copy, name: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
    """Convolve, by default with as many zeros around the image as keep its size."""
    weight = params[f"{name}.weight"]
    zeros = weight.shape[-1] // 2 if padding is None else padding
    return F.conv2d(x, weight, params[f"{name}.bias"], stride=stride, padding=zeros)


def norm(style: Style, params: Copy, name: str, x: Tensor) -> Tensor:
    """Normalise each image's groups of channels, and scale and shift each channel, at the precision of x.

    Sums are float32's within the kernel. Left to autocast, images of 16 bits would be widened before it and narrowed
    after what follows it, which moves twice the bytes.
    """
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    if weight.dtype == x.dtype:
        return F.group_norm(x, style.groups(x.shape[1]), weight, bias, style.eps)
    with torch.autocast(x.device.type, enabled=False):
        return F.group_norm(x, style.groups(x.shape[1]), weight.to(x.dtype), bias.to(x.dtype), style.eps)


def attention(style: Style, params: Copy, name: str, x: Tensor) -> Tensor:
    """Return what scaled dot-product attention of the pixels to each other adds to x (B, C, H, W)."""
    b, c, h, w = x.shape
    heads = style.heads_of(c)
    three = conv(params, f"{name}.qkv", norm(style, params, f"{name}.norm", x))
    if style.qkv == "interleaved":
        q, k, v = three.reshape(b, heads, c // heads, 3, h * w).unbind(3)
    elif style.qkv == "by head":
        q, k, v = three.reshape(b, heads, 3, c // heads, h * w).unbind(2)
    else:
        q, k, v = three.reshape(b, 3, heads, c // heads, h * w).unbind(1)
    # The fused kernels want the channels of a pixel next to each other in memory.
    y = F.scaled_dot_product_attention(q.mT.contiguous(), k.mT.contiguous(), v.mT.contiguous())
    return conv(params, f"{name}.out", y.mT.reshape(b, c, h, w))


def _resampled(x: Tensor, way: Literal["down", "up"] | None) -> Tensor:
    if way is None:
        return x
    return F.avg_pool2d(x, 2) if way == "down" else F.interpolate(x, scale_factor=2.0, mode="nearest")


def _dropped(style: Style, x: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None or style.dropout == 0:
        return x
    kept = 1 - style.dropout
    return x * torch.empty_like(x).bernoulli_(kept, generator=generator).div_(kept)


def take(
    style: Style, params: Copy, step: Step, x: Tensor, embedding: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Take one step.

    Args:
        style: of the network.
        params: one copy's.
        step: which to take.
        x: (B, step.inputs, H, W).
        embedding: (B, width) after the nonlinearity, or (1, width) where all images share one.
        generator: draws what is dropped, on the device of x; without it nothing is.

    Returns:
        (B, step.outputs, H, W), H and W halved or doubled where the resolution changes.
    """
    name = step.name
    if step.resample and style.resample != "block":
        return _convolved(style, params, f"{name}.conv", step.resample, x)
    change = linear(params, f"{name}.embed", embedding)[..., None, None]
    h = conv(params, f"{name}.conv1", _resampled(F.silu(norm(style, params, f"{name}.norm1", x)), step.resample))
    if style.adaptive_scale:
        scale, shift = change.chunk(2, dim=1)
        h = norm(style, params, f"{name}.norm2", h) * (1 + scale) + shift
    else:
        h = norm(style, params, f"{name}.norm2", h + change)
    h = conv(params, f"{name}.conv2", _dropped(style, F.silu(h), generator))
    x = _resampled(x, step.resample)
    if f"{name}.skip.weight" in params:
        x = conv(params, f"{name}.skip", x)
    x = (x + h) * style.skip_scale
    if step.attention:
        x = (x + attention(style, params, f"{name}.attention", x)) * style.skip_scale
    return x


def _convolved(style: Style, params: Copy, name: str, way: Literal["down", "up"], x: Tensor) -> Tensor:
    if way == "up":
        return conv(params, name, _resampled(x, way))
    if style.resample == "padded conv":
        return conv(params, name, F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
    return conv(params, name, x, stride=2)
