"""Small networks with a replica axis: R independent copies evaluated together.

Every function takes a flat dict of parameters whose leaves lead with R and inputs (R, B, ·), and no copy sees
another: a copy's bits are those it has alone, at every size. Most operations have that property by themselves; a
batched matrix product and SELU do not, and run copy by copy here, at a cost of a few per cent of a training step.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from selfloop.replicas import copies
from selfloop.streams import Streams

Params = dict[str, Tensor]


def linear(params: Params, name: str, x: Tensor) -> Tensor:
    """Apply the layer ``name``: (R, B, in) → (R, B, out), with its bias if it has one."""
    return cast(Tensor, _Affine.apply(x, params[f"{name}.weight"], params.get(f"{name}.bias")))  # type: ignore[no-untyped-call]


class _Affine(torch.autograd.Function):
    """x Wᵀ + b, forwards and backwards one copy at a time.

    A batched product rounds a copy by its place in the batch: by the kernel chosen for R, and by how the copy's memory
    is aligned.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        pairs = zip(copies(x), copies(weight), strict=True)
        if bias is None:
            return torch.stack([x @ w.T for x, w in pairs])
        return torch.stack([torch.addmm(b, x, w.T) for b, (x, w) in zip(copies(bias), pairs, strict=True)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, _ = ctx.needs_input_grad
        gradients = copies(gradient)
        to_x = torch.stack([g @ w for g, w in zip(gradients, copies(weight), strict=True)]) if need_x else None
        to_weight = torch.stack([g.T @ c for g, c in zip(gradients, copies(x), strict=True)]) if need_weight else None
        return to_x, to_weight, torch.stack([g.sum(0) for g in gradients]) if ctx.has_bias else None


def _selu(x: Tensor) -> Tensor:
    """Apply SELU copy by copy: its kernel rounds the last few elements of a tensor differently from the others."""
    return torch.stack([F.selu(copy) for copy in x])


def layer_norm(params: Params, name: str, x: Tensor) -> Tensor:
    """Normalise the last axis (ε = 1e-5), then scale and shift each copy by its own weights."""
    weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
    return F.layer_norm(x, x.shape[-1:]) * weight.unsqueeze(1) + bias.unsqueeze(1)


def _uniform(streams: Streams, name: str, shape: tuple[int, ...], bound: float) -> Tensor:
    return (2 * streams.uniform(f"init/{name}", shape) - 1) * bound


def time_mlp_init(streams: Streams, dim: int, width: int) -> Params:
    """Draw the parameters of :func:`time_mlp`: weights and biases uniform on ±1/√fan_in, PyTorch's Linear default.

    Returns:
        Leaves ``net.{0,2,4,6}.weight`` (R, out, in) and ``.bias`` (R, out), torchcfm's own names.
    """
    params: Params = {}
    for i, (fan_in, fan_out) in enumerate([(dim + 1, width), (width, width), (width, width), (width, dim)]):
        name = f"net.{2 * i}"
        bound = 1 / math.sqrt(fan_in)
        params[f"{name}.weight"] = _uniform(streams, f"{name}.weight", (fan_out, fan_in), bound)
        params[f"{name}.bias"] = _uniform(streams, f"{name}.bias", (fan_out,), bound)
    return params


def time_mlp(params: Params, x: Tensor, t: Tensor) -> Tensor:
    """Evaluate the time-conditioned MLP of torchcfm: three SELU layers on (x, t), then a linear one.

    Args:
        x: (R, B, d) points.
        t: times, broadcastable to (R, B).

    Returns:
        (R, B, d) velocities.
    """
    h = torch.cat([x, t.expand(x.shape[:2]).unsqueeze(-1)], dim=-1)
    for name in ("net.0", "net.2", "net.4"):
        h = _selu(linear(params, name, h))
    return linear(params, "net.6", h)


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


def decoder(params: Params, x: Tensor, t: Tensor, layers: int) -> Tensor:
    """Evaluate ddpm-torch's toy decoder: one residual temporal layer, its weights shared, applied ``layers`` times.

    Args:
        x: (R, B, d) noisy points.
        t: (R, B) integer diffusion times.
        layers: how often the temporal layer is applied.

    Returns:
        (R, B, d) predicted noise.
    """
    width = params["in_fc.weight"].shape[1]
    embedding = F.leaky_relu(linear(params, "t_proj.0", sinusoidal_embedding(t, width)), 0.02)
    # The shared layer sees the same embedding each time, so its projection is computed once.
    shift = linear(params, "temp_fc.0.enc", embedding)
    h = linear(params, "in_fc", x)
    for _ in range(layers):
        inner = linear(params, "temp_fc.0.fc1", F.leaky_relu(layer_norm(params, "temp_fc.0.norm1", h), 0.02))
        inner = F.leaky_relu(layer_norm(params, "temp_fc.0.norm2", inner + shift), 0.02)
        h = h + linear(params, "temp_fc.0.fc2", inner)
    return linear(params, "out_fc", layer_norm(params, "out_norm", h))
