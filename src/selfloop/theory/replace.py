"""Fully synthetic loops: random walks of what is fitted, in closed form.

A generation is fitted to n_t rows of the one before. What a fit multiplies a scale by is independent of the scale, so
that logarithms walk; ψ and ψ₁ (digamma, trigamma) are the mean and variance of a log Gamma variable.

Legend: n rows; d dimensions; t retrainings; Σ_t fitted covariance; μ_t fitted mean; σ² the first model's variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import polygamma, psi

from selfloop.theory.gaussian import Walk, log_variance_walk


def log_det_walk(n: int, d: int, t: int, *, unbiased: bool = True) -> Walk:
    """Return the moments of ln det Σ_t − ln det Σ_0 after t retrainings in d < n dimensions, exactly.

    det Σ is multiplied by Π χ²_{n−i}/(n−1), i = 1 … d (Bartlett's diagonal): a step has the mean
    Σ[ψ((n−i)/2) + ln(2/(n−1))] and the variance Σψ₁((n−i)/2). Maximum likelihood has n for n − 1.

    Raises:
        ValueError: n ≤ d, where the first retraining makes the determinant 0, or t is negative.
    """
    if n <= d or d < 1 or t < 0:
        raise ValueError(f"n must be above d ≥ 1 and t at least 0, not {n}, {d} and {t}")
    halves = (n - np.arange(1, d + 1)) / 2
    step = float((psi(halves) + math.log(2 / (n - 1 if unbiased else n))).sum())
    return Walk(t * step, t * float(polygamma(1, halves).sum()))


def half_life(n: int, *, unbiased: bool = True) -> float:
    """Return after how many retrainings the geometric mean of σ² is halved: ln 2 over the log walk's drift.

    It is ≈ (n − 4/3) ln 2 for the unbiased variance and about half that, (n/2) ln 2, for maximum likelihood.
    Expectations tell another story: E σ² never shrinks for the first, and halves after ≈ n ln 2 for the second.
    """
    return math.log(2) / -log_variance_walk(n, 1, unbiased=unbiased).mean


def growing_drift(rows: Sequence[int], *, unbiased: bool = True) -> float:
    """Return E(μ_t − μ_0)²/σ² after retrainings on n_1 … n_t rows: Σ 1/n_k for the unbiased variance.

    By maximum likelihood the k-th term is smaller by Π(1 − 1/n_j), j < k. It stays bounded, and the log variance's walk
    converges, if and only if Σ 1/n_k does: n_k ∝ k^p for any p > 1 never collapses.
    """
    n = np.asarray(rows, np.float64)
    kept = np.ones(len(n)) if unbiased else np.append(1.0, np.cumprod(1 - 1 / n)[:-1])
    return float((kept / n).sum())


def growing_walk(rows: Sequence[int], *, unbiased: bool = True) -> Walk:
    """Return the moments of ln σ²_t − ln σ²_0 after retrainings on n_1 … n_t rows in one dimension, exactly."""
    steps = [log_variance_walk(n, 1, unbiased=unbiased) for n in rows]
    return Walk(sum(step.mean for step in steps), sum(step.variance for step in steps))


def exponential_walk(n: int, t: int) -> Walk:
    """Return the moments of ln θ_t − ln θ_0 of an exponential density's mean θ, exactly: t(ψ(n) − ln n) and tψ₁(n).

    A retraining multiplies θ by a Gamma(n)/n variable.
    """
    return Walk(t * (float(psi(n)) - math.log(n)), t * float(polygamma(1, n)))
