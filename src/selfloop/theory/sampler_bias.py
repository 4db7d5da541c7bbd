"""What a diffusion sampler makes of the variance of a mode: in one pass with the exact denoiser, and in a loop.

Near a mode, data are N(m, vI), and the best denoiser is linear: E[x_0 | x_t] = m + g_t (x_t − √ᾱ_t m) with

    g_t = √ᾱ_t v / (ᾱ_t v + 1 − ᾱ_t)

A step of DDPM's chain, x_{t−1} = a_t E[x_0 | x_t] + b_t x_t + σ_t z, has a_t + b_t √ᾱ_t = √ᾱ_{t−1}: it keeps the mean
in place, and takes the variance V_t about it to

    V_{t−1} = (a_t g_t + b_t)² V_t + σ_t²,        V_T = 1,        no noise in the last step

and one of DDIM from ᾱ to ᾱ′, c = √((1 − ᾱ′)/(1 − ᾱ)), to ((√ᾱ′ − √ᾱ c) g + c)² V. What comes out at last is F(v), the
sampler's rule. The chain would return v if its noise were what the truth has, β̃_t + a_t² Var(x_0 | x_t), and if its
last step, which returns E[x_0 | x_1], did not lose Var(x_0 | x_1). For v ≤ 1 that noise lies between β̃_t,
"fixed-small", exact for a point, and β_t, "fixed-large", exact for N(0, I). So fixed-small removes variance wherever
there is some; fixed-large adds some on the way and loses some in the last step, which takes almost all of v ≪ β_1:
F(v) ~ v².

Fully synthetic loops of infinitely many rows iterate F. A network resolves no detail below a size κ of its own: it is
taken for the exact denoiser of its training rows plus N(0, κ²I), so that v ← F(v + κ²).

Symbols: t times 1 … T, ᾱ_t signal, β_t noise, β̃_t posterior variance, a_t and b_t the posterior mean's weights of x_0
and x_t (Ho et al. 2020, Eqs. 4, 6 and 7; DDIM: Song et al. 2021, Eq. 12). Rules are derived here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from torch import Tensor

from selfloop.learning.samplers.chain import PredictNoise
from selfloop.learning.schedule import Schedule

Doubles = NDArray[np.float64]
Rule = Callable[[ArrayLike], Doubles]
"""F: variances of the rows that a model is trained on to those of its samples, of the same shape."""


def ancestral_variance(schedule: Schedule, variance: ArrayLike, kind: str = "fixed-large") -> Doubles:
    """Return F(v) of DDPM's chain over all times.

    Args:
        schedule: β and what follows from it.
        variance: v of the data, of any shape.
        kind: of the chain's noise, "fixed-large" (β_t) or "fixed-small" (β̃_t).
    """
    v = np.asarray(variance, np.float64)
    noise = np.exp(schedule.log_variance(kind))
    out = np.ones_like(v)
    for t in reversed(range(len(schedule.betas))):
        keep = schedule.posterior_mean_x0[t] * _gain(schedule.alphas_bar[t], v) + schedule.posterior_mean_xt[t]
        out = keep**2 * out + (noise[t] if t > 0 else 0.0)
    return out


def ddim_variance(schedule: Schedule, variance: ArrayLike, times: Sequence[int] | NDArray[np.int64]) -> Doubles:
    """Return F(v) of deterministic DDIM through rising times 0 … T − 1, from the last of them to x_0."""
    v = np.asarray(variance, np.float64)
    out = np.ones_like(v)
    signal = schedule.alphas_bar[np.asarray(times)]
    for after, before in itertools.pairwise([*signal[::-1], 1.0]):
        carry = math.sqrt((1 - before) / (1 - after))
        out = ((math.sqrt(before) - math.sqrt(after) * carry) * _gain(after, v) + carry) ** 2 * out
    return out


def _gain(alpha_bar: float, v: Doubles) -> Doubles:
    return np.asarray(math.sqrt(alpha_bar) * v / (alpha_bar * v + 1 - alpha_bar))


def vanishing(schedule: Schedule) -> float:
    """Return C of fixed-small's F(v) → C v² for v → 0, (1 − β_1)/β_1: below 1/C a loop squares v C a generation."""
    first = float(schedule.betas[0])
    return (1 - first) / first


def looped(rule: Rule, start: float, generations: int, smoothing: float = 0.0) -> Doubles:
    """Return v_0 = ``start`` and v_t = F(v_{t−1} + κ²), (T + 1,), of a fully synthetic loop with infinitely many rows.

    Args:
        rule: F.
        start: variance of the real rows.
        generations: T; v_1 is of the samples of the model that was trained on real rows.
        smoothing: κ², the same in every generation.
    """
    out = np.empty(generations + 1)
    out[0] = start
    for t in range(generations):
        out[t + 1] = float(rule(out[t] + smoothing))
    return out


def smoothing(rule: Rule, start: float, seen: float) -> float:
    """Return κ² ≥ 0 with F(start + κ²) = ``seen``, what one pass of a trained model shows of it; 0 if F(start) is more.

    Raises:
        ValueError: no smoothing below a unit of variance makes as much.
    """
    if seen <= float(rule(start)):
        return 0.0
    if seen >= float(rule(start + 1.0)):
        raise ValueError(f"no denoiser of a variance up to {start + 1:g} makes {seen:g}")
    return float(brentq(lambda extra: float(rule(start + extra)) - seen, 0.0, 1.0, xtol=1e-15))


@dataclass(frozen=True)
class FixedPoint:
    """A variance that a retraining leaves as it is, and whether a loop near it comes to it."""

    variance: float
    stable: bool


def fixed_points(rule: Rule, smoothing: float = 0.0, low: float = 1e-8, high: float = 1.0) -> list[FixedPoint]:
    """Return the v between ``low`` and ``high`` with F(v + κ²) = v, in rising order.

    Where κ = 0, v = 0 is one, too. An unstable one is a watershed: loops that start below it contract, those above it
    spread.
    """

    def growth(v: Doubles) -> Doubles:
        return np.asarray(rule(v + smoothing) / v - 1)

    grid = np.geomspace(low, high, 400)
    sign = np.sign(growth(grid))
    return [
        FixedPoint(float(brentq(growth, grid[k], grid[k + 1], rtol=1e-12)), bool(sign[k] > 0))
        for k in np.flatnonzero(sign[:-1] * sign[1:] < 0)
    ]


def mixture_noise(schedule: Schedule, weights: Tensor, centres: Tensor, variances: Tensor) -> PredictNoise:
    """Return the exact ε = E[ε | x_t] of data Σ_k w_k N(m_k, v_k I): what a perfect network would predict.

    Args:
        schedule: β and what follows from it.
        weights: (K,) w_k, which sum to 1.
        centres: (K, d) m_k.
        variances: (K,) v_k, 0 for a point.
    """

    def predict(x: Tensor, t: int) -> Tensor:
        a = float(schedule.alphas_bar[t])
        spread = a * variances + 1 - a
        away = x.unsqueeze(-2) - math.sqrt(a) * centres
        logits = weights.log() - 0.5 * centres.shape[1] * spread.log() - 0.5 * away.square().sum(-1) / spread
        # Given the component, E[ε | x_t] = √(1 − ᾱ) (x_t − √ᾱ m)/(ᾱ v + 1 − ᾱ).
        share = torch.softmax(logits, -1) * math.sqrt(1 - a) / spread
        return (share.unsqueeze(-1) * away).sum(-2)

    return predict
