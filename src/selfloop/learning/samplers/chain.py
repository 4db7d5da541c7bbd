"""Chains from x_T to x_0 with a network that predicts the noise: DDPM's ancestral one, and DDIM.

Symbols: ᾱ_t signal left at time t, ε predicted noise, x_0 predicted data; s the time that a step leads to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from selfloop.learning.schedule import Schedule

PredictNoise = Callable[[Tensor, int], Tensor]  # (x (R, N, *event), t 0 … T − 1) → ε (R, N, *event)
Noise = Callable[[int], Tensor]  # i → standard normals (R, N, *event) of the i-th step


def predicted_data(x: Tensor, eps: Tensor, alpha_bar: float, clamp: bool) -> Tensor:
    """Return the x_0 that x_t and its noise ε imply (Ho et al. 2020, Eq. 15), clamped to [−1, 1] or not."""
    x0 = x / float(np.sqrt(alpha_bar)) - eps * float(np.sqrt(1 / alpha_bar - 1))
    return x0.clamp(-1, 1) if clamp else x0


def ancestral(
    predict_noise: PredictNoise,
    x: Tensor,
    schedule: Schedule,
    noise: Noise,
    variance: str = "fixed-large",
    clamp: bool = False,
) -> Tensor:
    """Run DDPM's reverse chain from x_T to x_0 (Ho et al. 2020, Algorithm 2).

    Args:
        predict_noise: maps states and their time to the predicted ε.
        x: (R, N, *event) x_T.
        schedule: β and what follows from it.
        noise: maps i = 0 … T − 1 to the standard normals of the i-th step, at time T − 1 − i; unused at time 0.
        variance: "fixed-large" or "fixed-small".
        clamp: whether every predicted x_0 is clamped to [−1, 1], as is usual with images.
    """
    timesteps = len(schedule.betas)
    for i in range(timesteps):
        t = timesteps - 1 - i
        x = ancestral_step(x, predict_noise(x, t), schedule, t, noise(i) if t > 0 else None, variance, clamp)
    return x


def ancestral_step(
    x: Tensor,
    eps: Tensor,
    schedule: Schedule,
    t: int,
    noise: Tensor | None,
    variance: str = "fixed-large",
    clamp: bool = False,
) -> Tensor:
    """Return x_{t−1} for x_t and its predicted noise; None adds no fresh noise. The rest is as in :func:`ancestral`."""
    x0 = predicted_data(x, eps, float(schedule.alphas_bar[t]), clamp)
    x = float(schedule.posterior_mean_x0[t]) * x0 + float(schedule.posterior_mean_xt[t]) * x
    return x if noise is None else x + float(np.exp(0.5 * schedule.log_variance(variance)[t])) * noise


def ddim(
    predict_noise: PredictNoise,
    x: Tensor,
    schedule: Schedule,
    times: np.ndarray,
    *,
    eta: float = 0.0,
    noise: Noise | None = None,
    clamp: bool = False,
) -> Tensor:
    """Run DDIM through some of a schedule's times (Song et al. 2021, Eqs. 12 and 16).

    A clamped x_0 changes the noise that carries on, too. A time that follows itself is passed over: with η = 0 its step
    changes nothing, and with any η it has no variance. Where the variance is 0 no noise is added; ddpm-torch adds
    1e-10 of it.

    Args:
        predict_noise: maps states and their time to the predicted ε.
        x: (R, N, *event) state at the last of the times.
        schedule: β and what follows from it.
        times: (S,) that do not fall, such as ``quadratic_steps``; taken from the last to the
            first, and from there to x_0.
        eta: 0 is deterministic, 1 has the variance β̃ of the ancestral chain.
        noise: maps i = 0 … S − 1 to the standard normals of the i-th step, at times[S − 1 − i]; only with η > 0.
        clamp: whether every predicted x_0 is clamped to [−1, 1].

    Raises:
        ValueError: η > 0 without noise.
    """
    if eta > 0 and noise is None:
        raise ValueError("eta > 0 needs noise")
    signal = schedule.alphas_bar[times]
    for i in range(len(times)):
        k = len(times) - 1 - i
        t, a, a_s = int(times[k]), float(signal[k]), float(signal[k - 1]) if k else 1.0
        if a == a_s:
            continue
        x0 = predicted_data(x, predict_noise(x, t), a, clamp)
        variance = eta**2 * (1 - a_s) / (1 - a) * (1 - a / a_s)
        keep = float(np.sqrt((1 - a_s - variance) / (1 - a)))
        x = (float(np.sqrt(a_s)) - float(np.sqrt(a)) * keep) * x0 + keep * x
        if noise is not None and variance > 0:
            x = x + float(np.sqrt(variance)) * noise(i)
    return x
