"""After the fit: extrapolation away from a fit to one's own samples, and warm starts.

Extrapolation (SIMS, Alemohammad et al. 2024; Neon, 2025) takes θ = θ_r − w(θ_s − θ_r), θ_r fitted to real rows and θ_s
to samples of θ_r. Where the sampler is biased, this undoes it.
"""

from __future__ import annotations

import math
from typing import Literal


def best_weight(tau: float, parameter: Literal["variance", "log_variance", "precision"]) -> float:
    """Return the w at which samples have the truth's variance, for a sampler that multiplies σ² by τ > 0.

    The model must have σ²/τ. With θ_r = σ² and θ_s = τσ² that is w = 1/τ where σ² is the parameter, 1 where ln σ² is,
    and τ where 1/σ² is: the best weight is the parametrisation's, not the sampler's alone. For τ = 1 there is nothing
    to undo, and any w serves.
    """
    return {"variance": 1 / tau, "log_variance": 1.0, "precision": tau}[parameter]


def reached_variance(tau: float, weight: float) -> float:
    """Return the samples' variance after extrapolation in σ², against the truth's: τ(1 + w − wτ)."""
    return tau * (1 + weight - weight * tau)


def looped_variance(tau: float, weight: float, lam: float = math.inf, generations: int | None = None) -> float:
    """Return the model's σ²_t against the truth's where every generation is extrapolated in σ² from generation 0.

    Of infinitely many rows, samples of τσ²_t beside real ones in the share u = λ/(1 + λ) are fitted as
    (1 − u) + uτσ²_t, so that σ²_{t+1} = 1 + wu(1 − τσ²_t), from σ²_0 = 1: it turns about (1 + wu)/(1 + wuτ) with the
    rate −wuτ. The weight that mends the first retraining of samples alone, w = 1/τ, is where that is −1: σ²
    alternates between 1/τ and 1 for ever, and no weight has a limit of 1/τ.

    Args:
        tau: τ > 0.
        weight: w ≥ 0.
        lam: λ; inf is samples alone.
        generations: t; none: t = ∞, inf where there is no limit.
    """
    pull = weight * (1.0 if math.isinf(lam) else lam / (1 + lam))
    limit, rate = (1 + pull) / (1 + pull * tau), -pull * tau
    if generations is None:
        return limit if abs(rate) < 1 or tau == 1 else math.inf
    return limit + rate**generations * (1 - limit)


def warm_start_rate(rate: float, memory: float) -> float:
    """Return m + (1 − m)ρ: the rate of a loop that trains on from the last model instead of to the end.

    k steps of gradient descent leave m = (1 − ηh)^k of the distance to the optimum along a direction of curvature h, so
    θ′ = mθ + (1 − m)G(θ). It slows every loop that returns, and none that does can be made unstable by it.

    Args:
        rate: ρ of training to the end, along that direction.
        memory: m, from 0 (to the end) to 1 (no step).
    """
    return memory + (1 - memory) * rate
