"""DDPM's discrete times 0 … T − 1: how much noise an image has at each, and what follows from it.

Tables are float64 and indexed by a time; single times give numbers, (R, B) times numbers for each image, rounded to the
images' precision when they are looked up. Symbols: β_t noise added by step t, ᾱ_t = ∏ (1 − β) signal that is left,
x_0 data, x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε noisy data.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor


def at(table: np.ndarray, t: Tensor, x: Tensor) -> Tensor:
    """Return a (T,) table's values at times (R, B) as what broadcasts against x (R, B, *event), in its dtype."""
    values = torch.as_tensor(table, device=t.device)[t].to(x.device, x.dtype, non_blocking=True)
    return values.view(*t.shape, *[1] * (x.ndim - t.ndim))


def refuse_falling(beta_start: float, beta_end: float) -> None:
    """Refuse a noise that does not rise.

    Raises:
        ValueError: β_1 is above β_T.
    """
    if beta_start > beta_end:
        raise ValueError(f"beta_start {beta_start:g} is above beta_end {beta_end:g}: the noise must rise")


@dataclass(frozen=True)
class Schedule:
    """A β schedule and what DDPM derives from it, float64 (Ho et al. 2020, Sections 2–3).

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

    def diffuse(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t for x_0 and standard normals (R, B, *event) and times (R, B) (Ho et al. 2020, Eq. 4)."""
        return at(np.sqrt(self.alphas_bar), t, x0) * x0 + at(np.sqrt(1 - self.alphas_bar), t, x0) * noise

    def posterior_mean(self, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """Return the mean of q(x_{t−1} | x_t, x_0), (R, B, *event), at times (R, B) (Ho et al. 2020, Eq. 7)."""
        return at(self.posterior_mean_x0, t, x0) * x0 + at(self.posterior_mean_xt, t, xt) * xt


def quadratic_steps(timesteps: int, size: int) -> np.ndarray:
    """Return ``size`` of the times 0 … T − 1, rising as squares, (size,) int64 (Song et al. 2021, App. D.2).

    As in ddpm-torch, the last is 0.8 T, which at T = 1000 leaves 3.9 % of the signal's amplitude and not none, and
    small ones are repeated where the squares are denser than the times. Squares are exact, and a half is rounded to
    the even time: 12.5 is 12.

    Raises:
        ValueError: there are fewer than two times, or 0.8 T is none of them.
    """
    if size < 2 or round(0.8 * timesteps) >= timesteps:
        raise ValueError(f"no quadratic sequence of {size} from {timesteps} times: 2 from 3 is the least")
    step = Fraction(4 * timesteps, 5 * (size - 1) ** 2)
    return np.array([round(step * i**2) for i in range(size)], np.int64)
