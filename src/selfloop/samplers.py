"""Solvers from noise to samples: fixed-step Euler, adaptive Dormand–Prince, and DDPM's ancestral chain.

All take (R, N, d) states; the adaptive solver keeps a step size per copy, so that an arm's samples do not depend on
its neighbours in the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfloop.replicas import add

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x (R, N, d), t (R, 1)) → (R, N, d)


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


def dopri5(velocity: Velocity, x: Tensor, rtol: float = 1e-5, atol: float = 1e-5, max_steps: int = 1000) -> Tensor:
    """Integrate dx/dt = velocity(x, t) from t = 0 to 1 by Dormand–Prince 5(4) with a step size per copy.

    The last step ends at t = 1 exactly. A copy whose velocity is not finite, or that has not arrived after
    ``max_steps`` attempts, comes back as NaN; the others are not affected.

    Args:
        velocity: maps (R, N, d) states and (R, 1) times to (R, N, d).
        x: (R, N, d) states at t = 0.
        rtol: relative tolerance of one step, on the RMS over a copy's rows.
        atol: absolute tolerance of one step.
        max_steps: attempts, accepted or not.
    """
    wide = (-1, *[1] * (x.ndim - 1))
    t = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    k0 = velocity(x, t.unsqueeze(1))
    h = _first_step(velocity, x, k0, rtol, atol)
    for _ in range(max_steps):
        running = (t < 1) & torch.isfinite(h)
        if not running.any():
            break
        last = t + h >= 1
        h = torch.where(last, 1 - t, h)
        stages = [k0]
        for node, weights in zip(_NODES, _STAGES, strict=True):
            y = x + h.view(wide) * _weighted(stages, weights)
            stages.append(velocity(y, (t + node * h).unsqueeze(1)))
        error = h.view(wide) * _weighted(stages, _ERROR)
        ratio = _norm(error / (atol + rtol * torch.maximum(x.abs(), y.abs())))
        accept = running & (ratio <= 1)
        x = torch.where(accept.view(wide), y, x)
        k0 = torch.where(accept.view(wide), stages[-1], k0)
        t = torch.where(accept, torch.where(last, torch.ones_like(t), t + h), t)
        factor = (0.9 * ratio.clamp_min(1e-10) ** -0.2).clamp(0.2, 10.0)
        h = torch.where(running, h * factor, h)
    return torch.where((t >= 1).view(wide), x, torch.full_like(x, torch.nan))


@dataclass(frozen=True)
class Schedule:
    """A linear β schedule and what DDPM derives from it, float64 (Ho et al. 2020, Sections 2–3).

    Attributes:
        betas: (T,) β_t.
        alphas_bar: (T,) ᾱ_t = ∏(1 − β).
        posterior_variance: (T,) β̃_t, the variance of q(x_{t−1} | x_t, x_0), "fixed-small".
        posterior_log_variance: (T,) log β̃_t, with β̃_2 in place of β̃_1 = 0.
        posterior_mean_x0: (T,) weight of x_0 in the posterior mean.
        posterior_mean_xt: (T,) weight of x_t in the posterior mean.
    """

    betas: np.ndarray
    alphas_bar: np.ndarray
    posterior_variance: np.ndarray
    posterior_log_variance: np.ndarray
    posterior_mean_x0: np.ndarray
    posterior_mean_xt: np.ndarray

    @classmethod
    def linear(cls, beta_start: float, beta_end: float, timesteps: int) -> Schedule:
        """Return the schedule whose β rise linearly from ``beta_start`` to ``beta_end``."""
        return cls.from_betas(np.linspace(beta_start, beta_end, timesteps, dtype=np.float64))

    @classmethod
    def from_betas(cls, betas: np.ndarray) -> Schedule:
        """Return the schedule of given (T,) β, T ≥ 2."""
        alphas_bar = np.cumprod(1 - betas)
        before = np.append(1.0, alphas_bar[:-1])
        variance = betas * (1 - before) / (1 - alphas_bar)
        return cls(
            betas=betas,
            alphas_bar=alphas_bar,
            posterior_variance=variance,
            posterior_log_variance=np.log(np.append(variance[1], variance[1:])),
            posterior_mean_x0=betas * np.sqrt(before) / (1 - alphas_bar),
            posterior_mean_xt=(1 - before) * np.sqrt(1 - betas) / (1 - alphas_bar),
        )

    def log_variance(self, kind: str) -> np.ndarray:
        """Return the log of the reverse step's variance, (T,): "fixed-large" (β_t) or "fixed-small" (β̃_t)."""
        if kind == "fixed-large":
            # β_1 would leave visible noise on the samples; its place takes β̃_2, as in Ho et al.'s code.
            large: np.ndarray = np.log(np.append(self.posterior_variance[1], self.betas[1:]))
            return large
        return self.posterior_log_variance


def ancestral(
    predict_noise: Callable[[Tensor, int], Tensor],
    x: Tensor,
    schedule: Schedule,
    noise: Callable[[int], Tensor],
    variance: str = "fixed-large",
) -> Tensor:
    """Run DDPM's reverse chain from x_T to x_0 (Ho et al. 2020, Algorithm 2); x_0 is not clamped.

    Args:
        predict_noise: maps (R, N, d) states and their time 0 … T − 1 to the predicted ε, (R, N, d).
        x: (R, N, d) x_T.
        schedule: β and what follows from it.
        noise: maps i = 0 … T − 1 to the standard normals of the i-th step, at time T − 1 − i; unused at time 0.
        variance: "fixed-large" or "fixed-small".
    """
    timesteps = len(schedule.betas)
    sigma = np.exp(0.5 * schedule.log_variance(variance))
    for i in range(timesteps):
        t = timesteps - 1 - i
        eps = predict_noise(x, t)
        x0 = x / float(np.sqrt(schedule.alphas_bar[t])) - eps * float(np.sqrt(1 / schedule.alphas_bar[t] - 1))
        x = float(schedule.posterior_mean_x0[t]) * x0 + float(schedule.posterior_mean_xt[t]) * x
        if t > 0:
            x = x + float(sigma[t]) * noise(i)
    return x
