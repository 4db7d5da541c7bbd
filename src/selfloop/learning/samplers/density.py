"""The density that a flow gives to points, by the instantaneous change of variables (Chen et al. 2018, Eq. 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from selfloop.core.replicas import add
from selfloop.core.streams import generator
from selfloop.learning.samplers.ode import Velocity, dopri5


@dataclass(frozen=True)
class PulledBack:
    """Points of t = 1 carried back to t = 0.

    Attributes:
        latents: (R, N, d) where they come from.
        log_det: (R, N) log |∂latents/∂x| = −∫₀¹ div v dt along the way.
    """

    latents: Tensor
    log_det: Tensor

    @property
    def log_prob(self) -> Tensor:
        """The log density of the points where latents are N(0, I), (R, N) nats."""
        d = self.latents.shape[-1]
        return self.log_det - 0.5 * (self.latents.square().sum(-1) + d * math.log(2 * math.pi))


def pull_back(velocity: Velocity, x: Tensor, probes: Tensor, tolerance: float = 1e-5, nats: float = 1e-3) -> PulledBack:
    """Integrate dx/dt = velocity(x, t) from t = 1 to 0, and the divergence with it, by one Dormand–Prince.

    A copy that does not arrive comes back as NaN. The slope of SELU and its like jumps, and the divergence of such a
    network jumps all along the way: its integral converges as slowly as a step function's, whatever the solver's order.
    So it has an absolute tolerance of its own.

    Args:
        velocity: maps (R, N, d) states and (R, 1) times to (R, N, d), each row by itself; differentiable once.
        x: (R, N, d) points.
        probes: (P, N or 1, d) directions e whose sum of e eᵀ is the identity (:func:`exact`), or is on average
            (:func:`rademacher`).
        tolerance: rtol = atol of the points.
        nats: atol of the integral, over one step and as a root mean square over rows like all errors.
    """

    weight = tolerance / nats  # of the last column, in which one tolerance serves for both

    def backward(joint: Tensor, s: Tensor) -> Tensor:
        v, div = _divergence(velocity, joint[..., :-1], 1 - s, probes)
        return -torch.cat([v, weight * div.unsqueeze(-1)], -1)

    end = dopri5(backward, torch.cat([x, torch.zeros_like(x[..., :1])], -1), tolerance, tolerance)
    return PulledBack(end[..., :-1], end[..., -1] / weight)


def _divergence(velocity: Velocity, x: Tensor, t: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Return v (R, N, d) and Σ_e eᵀ (∂v/∂x) e, (R, N)."""
    with torch.enable_grad():
        x = x.contiguous().detach().requires_grad_()
        v = velocity(x, t)
        products = [
            torch.autograd.grad(v, x, e.expand_as(v), retain_graph=i + 1 < len(probes), materialize_grads=True)[0] * e
            for i, e in enumerate(probes)
        ]
    return v.detach(), add([product.sum(-1) for product in products])


def exact(d: int) -> Tensor:
    """Return the d unit vectors, (d, 1, d): the trace itself, for d gradients."""
    return torch.eye(d).unsqueeze(1)


def rademacher(count: int, rows: int, d: int) -> Tensor:
    """Return random signs over √count, (count, rows, d): Hutchinson's estimate of the trace, for ``count`` gradients.

    It is unbiased with variance (‖S‖_F² − Σ S_ii²) · 2/count, S being the symmetric part of ∂v/∂x, and independent from
    row to row. The signs are the same in every call and for every copy.
    """
    signs = generator("hutchinson", rows, d).integers(2, size=(count, rows, d)) * 2 - 1
    return torch.from_numpy(signs).float() / math.sqrt(count)
