"""Exact errors of loops that train on weighted pools of row sets: replace, augment, accumulate, subsample, window.

The model is a mean and a variance fitted by maximum likelihood, in one dimension; the truth has mean 0 and variance 1.
Generation t trains on the sets 0 … t, where set 0 holds the real rows and set k is drawn from generation k − 1. One
identity carries everything: rows keep their second moment on average, E x² = 1 in every set, because those of a model
have E x² = E(μ² + σ²), which is that of its own training rows. So

    E σ²_t = 1 − E μ_t²

exactly, whatever the pool, its weights and n. With M_k the mean of set k and n_k its rows, D_kl = E M_k M_l obeys
D_kl = Σ_j p_lj D_kj for k < l, p_lj the shares of what set l's model was trained on, and D_ll = e + (1 − e)/n_l with
e = Σ p_lj p_li D_ij: a linear recursion (:func:`pooled`). A categorical model's heterozygosity 1 − Σp² takes the place
of σ² in the same equations, for the sum of its categories' errors.

Legend: n rows of a set; t generations after the fit to real rows alone, t = 0; e mean square error of μ; v = σ².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Expected errors by generation, in units of the truth's variance.

    Attributes:
        mean_square: (T + 1,) E(μ_t − μ)².
        variance: (T + 1,) E σ²_t.
    """

    mean_square: Doubles
    variance: Doubles


def pooled(shares: Doubles, rows: int | Doubles) -> Moments:
    """Return the exact errors of maximum likelihood on a pool, for generations 0 … T (see the module).

    Args:
        shares: (T + 1, T + 1), lower triangular, rows that sum to 1: what share of generation t's training rows, or of
            their weight, set k has.
        rows: n of every set, or (T + 1,) of each.

    Raises:
        ValueError: shares of another form, or a set without rows.
    """
    shares = np.asarray(shares, np.float64)
    size = len(shares)
    if shares.shape != (size, size) or np.triu(shares, 1).any() or not np.allclose(shares.sum(1), 1):
        raise ValueError("shares must be a lower triangular matrix whose rows sum to 1")
    n = np.broadcast_to(np.asarray(rows, np.float64), size)
    if (n < 1).any():
        raise ValueError("every set needs a row")
    between, error = np.zeros((size, size)), np.zeros(size)  # D, and E μ_t²
    between[0, 0] = 1 / n[0]
    for t in range(size):
        p = shares[t, : t + 1]
        with_model = between[: t + 1, : t + 1] @ p
        error[t] = p @ with_model
        if t + 1 < size:
            between[: t + 1, t + 1] = between[t + 1, : t + 1] = with_model
            between[t + 1, t + 1] = error[t] + (1 - error[t]) / n[t + 1]
    return Moments(error, 1 - error)


def window_shares(generations: int, window: int, *, real: bool) -> Doubles:
    """Return the shares (T + 1, T + 1) of a window of the last W sets, of equal size, with or without the real rows.

    Without them the real rows leave the window as any set does. The first generations train on what there is.
    """
    shares = np.zeros((generations + 1, generations + 1))
    for t in range(generations + 1):
        shares[t, max(0, t + 1 - window) : t + 1] = 1
        if real:
            shares[t, 0] = 1
    return np.asarray(shares / shares.sum(1, keepdims=True), np.float64)


def window_drift(n: int, window: int) -> float:
    """Return by what E(μ_t − μ_0)²/σ² grows a generation, in the long run: 4/(n(W + 1)²).

    μ_{t+1} is the mean of the last W sets' means μ_k + ε_k, ε of variance σ²/n. So Σ_j (W − j) μ_{t−j}, j < W, changes
    by the sum of the last W errors alone, in which every ε is W times; its weights sum to W(W + 1)/2, and μ moves by
    2ε/(W + 1) in the long run. A replaced set of Wn rows moves by σ²/(Wn), which is (W + 1)²/(4W) ≥ 1 times as much.
    """
    return 4 / (n * (window + 1) ** 2)


def accumulate(n: int, generations: int, *, unbiased: bool = False) -> Moments:
    """Return the exact errors of training on the real rows and all earlier samples, sets of n rows.

    Fit k, to nk rows, moves the mean by 1/k of the newest set's error: E μ² grows by E σ²/(nk²). So for maximum
    likelihood E σ² = Π(1 − 1/(nk²)), k = 1 … t + 1. The unbiased variance of nk rows of which the newest n came from
    the fit before keeps 1 − 1/(k(nk − 1)) of its expectation, k = 2 … t + 1.
    """
    k = np.arange(1, generations + 2, dtype=np.float64)
    kept = 1 - 1 / (n * k**2)
    if unbiased:
        kept[0], kept[1:] = 1.0, 1 - 1 / (k[1:] * (n * k[1:] - 1))
    variance = np.asarray(np.cumprod(kept), np.float64)
    # The newest set of a fit is of the model before, that of the first one of the truth.
    mean_square = np.cumsum(np.append(1.0, variance[:-1]) / (n * k**2))
    return Moments(np.asarray(mean_square, np.float64), variance)


def accumulate_limit(n: int) -> float:
    """Return where E σ² settles when samples accumulate, by maximum likelihood: sin(π/√n)/(π/√n) (Euler's product)."""
    return float(np.sinc(1 / math.sqrt(n)))


def accumulate_subsample(n: int, generations: int, *, replacement: bool = False) -> Moments:
    """Return the exact errors of maximum likelihood on n rows drawn from the real rows and all earlier samples.

    a is E of the union's squared mean and e that of the subsample's, which adds the variance of drawing n of N = n(t +
    1) rows: e = a + (1 − a) f, with f = (N − n)/(N − 1)/n, or 1/n with replacement. One more set gives
    (t + 1)² a′ = t² a + 2t a + e + (1 − e)/n. Kazdan et al. 2024 (arXiv:2410.16713) study this regime.
    """
    union, error = 1 / n, np.zeros(generations + 1)
    for t in range(1, generations + 2):
        total = n * t
        drawing = 1 / n if replacement else (total - n) / (total - 1) / n if total > 1 else 0.0
        e = error[t - 1] = union + (1 - union) * drawing
        union = ((t * t + 2 * t) * union + e + (1 - e) / n) / (t + 1) ** 2
    return Moments(error, 1 - error)


def accumulated_bias(share: float, generations: int) -> float:
    """Return Π(1 − α/k), k = 1 … t: what is left of a first model's bias when samples accumulate with α real rows.

    Every set has a share α of real rows and 1 − α of rows of the model before; the first model's own training rows are
    not in the pool. Set k moves the mean by 1/k of its distance, of which real rows are α: the rest dies like t^−α, for
    any α > 0. Where those rows stay in the pool as a set of their own, k runs from 2 to t + 1.
    """
    return float(np.prod(1 - share / np.arange(1, generations + 1)))
