"""EDM's sampler: Heun's method on the probability-flow ODE, with or without fresh noise (Karras et al. 2022).

Symbols: t_i noise levels, γ_i by which share fresh noise raises a level, d = dx/dt. Levels are numbers that all copies
and images share, so every step is the same for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (x (R, N, *event) float64, σ (R, 1) float64) → D(x; σ)


def noise_levels(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> np.ndarray:
    """Return t_0 = ``sigma_max`` … t_{N−1} = ``sigma_min`` and t_N = 0, equidistant in t^(1/ρ), (N + 1,) (Eq. 5).

    EDM keeps ``sigma_min`` and ``sigma_max`` within the limits of the preconditioning. One step leads from
    ``sigma_max`` to 0.
    """
    ramp = np.arange(steps) / max(steps - 1, 1)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return np.append((high + ramp * (low - high)) ** rho, 0.0)


@dataclass(frozen=True)
class Churn:
    """The stochastic sampler's settings (Karras et al. 2022, Algorithm 2).

    Attributes:
        S_churn: noise added over all steps; a step raises its level by at most √2 − 1.
        S_min: least level at which noise is added.
        S_max: greatest.
        S_noise: standard deviation of what is added, where 1 is exact and a little more makes up for lost detail.
    """

    S_churn: float
    S_min: float = 0.0
    S_max: float = math.inf
    S_noise: float = 1.0

    def gamma(self, level: float, steps: int) -> float:
        """Return γ_i, by which a level is raised."""
        return min(self.S_churn / steps, math.sqrt(2) - 1) if self.S_min <= level <= self.S_max else 0.0


def heun(
    denoiser: Denoiser,
    latents: Tensor,
    levels: np.ndarray,
    *,
    churn: Churn | None = None,
    noise: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """Solve dx/dσ = (x − D(x; σ))/σ down to σ = 0; 2 N − 1 evaluations, the error is O(1/N²).

    Args:
        denoiser: maps float64 states and (R, 1) levels to D; may answer in float32.
        latents: (R, N, *event) standard normals.
        levels: (steps + 1,) falling noise levels whose last is 0, :func:`noise_levels`.
        churn: how much fresh noise is added; None is the deterministic Algorithm 1, else Algorithm 2.
        noise: maps i = 0 … steps − 1 to the standard normals (R, N, *event) of the i-th step; asked where γ_i > 0.

    Returns:
        (R, N, *event) samples, float64.

    Raises:
        ValueError: churn without noise.
    """
    if churn is not None and noise is None:
        raise ValueError("churn needs noise")
    steps = len(levels) - 1

    def slope(x: Tensor, level: float) -> Tensor:
        sigma = torch.full((len(x), 1), level, dtype=torch.float64, device=x.device)
        return (x - denoiser(x, sigma).double()) / level

    x = latents.double() * float(levels[0])
    for i in range(steps):
        t, following = float(levels[i]), float(levels[i + 1])
        gamma = churn.gamma(t, steps) if churn is not None else 0.0
        if churn is not None and noise is not None and gamma > 0:
            raised = t + gamma * t
            x = x + math.sqrt(raised**2 - t**2) * churn.S_noise * noise(i).to(x)
            t = raised
        d = slope(x, t)
        euler = x + (following - t) * d
        x = euler if following == 0 else x + (following - t) * (0.5 * d + 0.5 * slope(euler, following))
    return x
