"""Flows from noise at t = 0 to samples at t = 1: fixed-step Euler, adaptive Dormand–Prince.

The adaptive solver keeps a step size per copy, so that an arm's samples do not depend on its neighbours in the stack.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from selfloop.core.replicas import add

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x (R, N, *event), t (R, 1)) → (R, N, *event)


def euler(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Integrate dx/dt = velocity(x, t) from t = 0 to 1 in ``steps`` equal Euler steps; the error is O(1/steps)."""
    for i in range(steps):
        t = torch.full((len(x), 1), i / steps, dtype=x.dtype, device=x.device)
        x = x + velocity(x, t) / steps
    return x


# Dormand & Prince (1980), RK5(4)7M: nodes, stages, and the difference between the two orders' weights.
_NODES = (0.2, 0.3, 0.8, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def _weighted(stages: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    return add([w * k for w, k in zip(weights, stages, strict=True) if w])


def _norm(x: Tensor) -> Tensor:
    """Return each copy's root mean square, (R,)."""
    return x.flatten(1).square().mean(1).sqrt()


def _first_step(velocity: Velocity, x: Tensor, k: Tensor, rtol: float, atol: float) -> Tensor:
    """Guess a first step per copy (Hairer, Nørsett & Wanner, Solving ODEs I, II.4)."""
    scale = atol + rtol * x.abs()
    d0, d1 = _norm(x / scale), _norm(k / scale)
    h0 = torch.where((d0 < 1e-5) | (d1 < 1e-5), torch.full_like(d0, 1e-6), 0.01 * d0 / d1).clamp_max(1.0)
    step = h0.view(-1, *[1] * (x.ndim - 1))
    d2 = _norm((velocity(x + step * k, h0.unsqueeze(1)) - k) / scale) / h0
    largest = torch.maximum(d1, d2)
    h1 = torch.where(largest <= 1e-15, (h0 * 1e-3).clamp_min(1e-6), (0.01 / largest) ** 0.2)
    return torch.minimum(100 * h0, h1)


def dopri5(
    velocity: Velocity, x: Tensor, rtol: float = 1e-5, atol: float = 1e-5, max_steps: int = 1000, end: float = 1.0
) -> Tensor:
    """Integrate dx/dt = velocity(x, t) from t = 0 to ``end`` by Dormand–Prince 5(4) with a step size per copy.

    The last step ends at ``end`` exactly. A copy whose velocity is not finite, or that has not arrived after
    ``max_steps`` attempts, comes back as NaN; the others are not affected.

    Args:
        velocity: maps (R, N, *event) states and (R, 1) times to (R, N, *event).
        x: (R, N, *event) states at t = 0.
        rtol: relative tolerance of one step, on the RMS over a copy's rows.
        atol: absolute tolerance of one step.
        max_steps: attempts, accepted or not.
        end: the last time, at which the velocity is evaluated, too.
    """
    wide = (-1, *[1] * (x.ndim - 1))
    t = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    k0 = velocity(x, t.unsqueeze(1))
    h = _first_step(velocity, x, k0, rtol, atol)
    for _ in range(max_steps):
        running = (t < end) & torch.isfinite(h)
        if not running.any():
            break
        last = t + h >= end
        h = torch.where(last, end - t, h)
        stages = [k0]
        for node, weights in zip(_NODES, _STAGES, strict=True):
            y = x + h.view(wide) * _weighted(stages, weights)
            stages.append(velocity(y, (t + node * h).unsqueeze(1)))
        error = h.view(wide) * _weighted(stages, _ERROR)
        ratio = _norm(error / (atol + rtol * torch.maximum(x.abs(), y.abs())))
        accept = running & (ratio <= 1)
        x = torch.where(accept.view(wide), y, x)
        k0 = torch.where(accept.view(wide), stages[-1], k0)
        t = torch.where(accept, torch.where(last, torch.full_like(t, end), t + h), t)
        factor = (0.9 * ratio.clamp_min(1e-10) ** -0.2).clamp(0.2, 10.0)
        h = torch.where(running, h * factor, h)
    return torch.where((t >= end).view(wide), x, torch.full_like(x, torch.nan))
