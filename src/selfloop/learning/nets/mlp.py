"""Small networks with a replica axis: R independent copies evaluated together.

Every function takes a flat dict of parameters whose leaves lead with R and inputs (R, B, ·), and no copy sees
another: in float32 on a CPU, where stacks train, a copy's bits are those it has alone, at every size. Most operations
have that property by themselves; matrix products and SELU do not, and are compiled here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from selfloop.core.streams import Streams
from selfloop.learning.nets import kernels

Params = dict[str, Tensor]

_SLOPE = 0.02  # of the decoder's leaky ReLUs


def mlp(params: Params, names: Sequence[str], x: Tensor) -> Tensor:
    """Apply affine layers, with their biases if they have one, and SELU between them: (R, B, in) → (R, B, out)."""
    weights = [params[f"{name}.weight"] for name in names]
    biases = [params.get(f"{name}.bias") for name in names]
    if _compiled(x):
        return cast(Tensor, _MLP.apply(x, *weights, *biases))  # type: ignore[no-untyped-call]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = x if layer == 0 else F.selu(x)
        x = x @ weight.transpose(1, 2) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
    return x


def linear(params: Params, name: str, x: Tensor) -> Tensor:
    """Apply one affine layer: (R, B, in) → (R, B, out)."""
    return mlp(params, [name], x)


def _compiled(x: Tensor) -> bool:
    """Whether the kernels take x; torch differentiates what they do not take any number of times."""
    return x.device.type == "cpu" and x.dtype == torch.float32


class _MLP(torch.autograd.Function):
    """:func:`mlp` by :mod:`selfloop.learning.nets.kernels`, of x and L weights and biases; differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *layers: Tensor | None) -> Tensor:
        weights, biases = [w for w in layers[: len(layers) // 2] if w is not None], layers[len(layers) // 2 :]
        outputs = [x.new_empty(*x.shape[:2], w.shape[1]) for w in weights]
        empty = x.new_empty(len(x), 0)
        kernels.mlp(_numpy(x), _all(weights), _all([empty if b is None else b for b in biases]), _all(outputs))
        ctx.save_for_backward(x, *weights, *outputs[:-1])
        ctx.biased = [b is not None for b in biases]
        return outputs[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        weights, hidden = rest[: len(ctx.biased)], rest[len(ctx.biased) :]
        to_x = x.new_empty(x.shape if ctx.needs_input_grad[0] else (0, 0, 0))
        to_weights = [w.new_empty(w.shape) for w in weights]
        to_biases = [w.new_empty(len(w), w.shape[1] * has) for w, has in zip(weights, ctx.biased, strict=True)]
        # The last output plays no part in its own gradient; its place keeps the tuples of one type.
        outputs = _all([*hidden, gradient])
        kernels.mlp_backward(
            _numpy(gradient), _numpy(x), _all(weights), outputs, _numpy(to_x), _all(to_weights), _all(to_biases)
        )
        slopes = [g if has else None for g, has in zip(to_biases, ctx.biased, strict=True)]
        return (to_x if ctx.needs_input_grad[0] else None, *to_weights, *slopes)


def _numpy(x: Tensor) -> NDArray[Any]:
    return x.detach().contiguous().numpy()


def _all(tensors: Sequence[Tensor]) -> tuple[NDArray[Any], ...]:
    return tuple(_numpy(x) for x in tensors)


def norm(params: Params, name: str, x: Tensor, slope: float = 1.0) -> Tensor:
    """Normalise the last axis (ε = 1e-5), scale and shift each copy by its own weights, and apply a leaky ReLU."""
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    if _compiled(x):
        return cast(Tensor, _Norm.apply(x, weight, bias, slope))  # type: ignore[no-untyped-call]
    return F.leaky_relu(F.layer_norm(x, x.shape[-1:]) * weight.unsqueeze(1) + bias.unsqueeze(1), slope)


class _Norm(torch.autograd.Function):
    """:func:`norm` by :mod:`selfloop.learning.nets.kernels`; differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        x = x.contiguous()
        y, scale = x.new_empty(x.shape), x.new_empty(x.shape[:2])
        kernels.norm(*_all([x, weight, bias]), np.float32(slope), y.numpy(), scale.numpy())
        ctx.save_for_backward(x, weight, y, scale)
        ctx.slope = slope
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y, scale = ctx.saved_tensors
        slopes = [v.new_empty(v.shape) for v in (x, weight, weight)]
        kernels.norm_backward(*_all([gradient, x, weight, y, scale]), np.float32(ctx.slope), *_all(slopes))
        return (*slopes, None)


def _uniform(streams: Streams, name: str, shape: tuple[int, ...], bound: float) -> Tensor:
    return (2 * streams.uniform(f"init/{name}", shape) - 1) * bound


def mlp_init(streams: Streams, name: str, widths: Sequence[int]) -> Params:
    """Draw weights and biases uniform on ±1/√fan_in, PyTorch's Linear default.

    Returns:
        Leaves ``name.{0,2,4,…}.weight`` (R, out, in) and ``.bias`` (R, out): the numbers in a torch.nn.Sequential that
        has an activation after each but the last.
    """
    params: Params = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        bound = 1 / math.sqrt(fan_in)
        for leaf, shape in (("weight", (fan_out, fan_in)), ("bias", (fan_out,))):
            params[f"{name}.{2 * i}.{leaf}"] = _uniform(streams, f"{name}.{2 * i}.{leaf}", shape, bound)
    return params


def mlp_count(widths: Sequence[int]) -> int:
    """Return how many parameters :func:`mlp_init` draws of a copy."""
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))


def time_mlp_init(streams: Streams, dim: int, width: int) -> Params:
    """Draw the parameters of :func:`time_mlp`: leaves ``net.{0,2,4,6}.weight`` and ``.bias``, torchcfm's own names."""
    return mlp_init(streams, "net", (dim + 1, width, width, width, dim))


def time_mlp(params: Params, x: Tensor, t: Tensor) -> Tensor:
    """Evaluate the time-conditioned MLP of torchcfm: three SELU layers on (x, t), then a linear one.

    Args:
        x: (R, B, d) points.
        t: times, broadcastable to (R, B).

    Returns:
        (R, B, d) velocities.
    """
    h = torch.cat([x, t.expand(x.shape[:2]).unsqueeze(-1)], dim=-1)
    return mlp(params, ("net.0", "net.2", "net.4", "net.6"), h)


def sinusoidal_embedding(t: Tensor, width: int) -> Tensor:
    """Embed times (R, B) as (R, B, width): sines, then cosines, of t·10000^(−i/(width/2 − 1)) (Ho et al. 2020)."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10_000) / (half - 1)))
    angle = t.to(torch.float32).unsqueeze(-1) * frequency.to(t.device)
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=-1), (0, width % 2))


def decoder_init(streams: Streams, dim: int, width: int) -> Params:
    """Draw the parameters of :func:`decoder`: Xavier-uniform weights, zero biases, unit norms.

    Returns:
        Leaves named as in ddpm-torch's toy ``Decoder``, its shared temporal layer once, as ``temp_fc.0``.
    """
    params: Params = {}
    for name, fan_in, fan_out, bias in (
        ("in_fc", dim, width, False),
        ("temp_fc.0.fc1", width, width, False),
        ("temp_fc.0.fc2", width, width, False),
        ("temp_fc.0.enc", width, width, True),
        ("out_fc", width, dim, True),
        ("t_proj.0", width, width, True),
    ):
        bound = math.sqrt(6 / (fan_in + fan_out))
        params[f"{name}.weight"] = _uniform(streams, f"{name}.weight", (fan_out, fan_in), bound)
        if bias:
            params[f"{name}.bias"] = torch.zeros(len(streams.seeds), fan_out)
    for name in ("temp_fc.0.norm1", "temp_fc.0.norm2", "out_norm"):
        params[f"{name}.weight"] = torch.ones(len(streams.seeds), width)
        params[f"{name}.bias"] = torch.zeros(len(streams.seeds), width)
    return params


def decoder_shift(params: Params, t: Tensor) -> Tensor:
    """Return what :func:`decoder` is told of integer diffusion times t (R, B): shifts of its units, (R, B, width)."""
    embedding = sinusoidal_embedding(t, params["in_fc.weight"].shape[1])
    # The shared temporal layer sees the same embedding each time, so its projection is computed once.
    return linear(params, "temp_fc.0.enc", F.leaky_relu(linear(params, "t_proj.0", embedding), _SLOPE))


def decoder(params: Params, x: Tensor, shift: Tensor, layers: int) -> Tensor:
    """Evaluate ddpm-torch's toy decoder: one residual temporal layer, its weights shared, applied ``layers`` times.

    Args:
        x: (R, B, d) noisy points.
        shift: of their times, (R, B, width), or (R, 1, width) where all rows of a copy share one.
        layers: how often the temporal layer is applied.

    Returns:
        (R, B, d) predicted noise.
    """
    h = linear(params, "in_fc", x)
    for _ in range(layers):
        inner = linear(params, "temp_fc.0.fc1", norm(params, "temp_fc.0.norm1", h, _SLOPE))
        h = h + linear(params, "temp_fc.0.fc2", norm(params, "temp_fc.0.norm2", inner + shift, _SLOPE))
    return linear(params, "out_fc", norm(params, "out_norm", h))
