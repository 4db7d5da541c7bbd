"""Samplers that are biased: at another temperature, or sharpened. Infinitely many rows.

Synthetic rows have τ times the model's variance (a temperature), or the density p^β/∫p^β (sharpening; of a normal
density that is τ = 1/β). Beside λ synthetic rows per real one, w = λ/(1 + λ).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def tempered_variance(lam: float, tau: float, generations: int | None = None) -> float:
    """Return σ²_t against the data's when samples have τ times the model's variance: 1/(1 + λ(1 − τ)) for t = ∞.

    σ²_{t+1} = (1 − w) + wτσ²_t from σ²_0 = 1, with the rate wτ. It grows for ever, to inf, from λ = 1/(τ − 1) on.

    Args:
        lam: λ, finite, for which the equation holds with real rows.
        tau: τ ≥ 0.
        generations: t; none: t = ∞.
    """
    rate, limit = tempered_rate(lam, tau), 1 + lam * (1 - tau)
    if generations is None:
        return 1 / limit if limit > 0 else math.inf
    if limit == 0:
        return 1 + generations / (1 + lam)
    return 1 / limit + rate**generations * (1 - 1 / limit)


def tempered_rate(lam: float, tau: float) -> float:
    """Return wτ, by which an error of σ² shrinks a retraining. The mean's is w whatever τ is.

    Sharpening a categorical model by β multiplies small departures from a uniform distribution by wβ likewise.
    """
    return tau if math.isinf(lam) else lam / (1 + lam) * tau


def critical_ratio(bias: float) -> float:
    """Return the λ from which on the loop is not stable: 1/(τ − 1), or 1/(β − 1) for sharpening; inf where bias ≤ 1.

    At λ = 1/(τ − 1) itself the variance grows linearly. The uniform distribution over more than two categories loses
    its stability at 1/(β − 1) by a jump: a large departure may stay from a smaller λ on.
    """
    return 1 / (bias - 1) if bias > 1 else math.inf


def sharpened(p: Doubles, beta: float) -> Doubles:
    """Return p^β/Σp^β of probabilities (..., m)."""
    logs = beta * np.log(p, where=p > 0, out=np.full(p.shape, -math.inf))
    powers = np.exp(logs - logs.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float64)
