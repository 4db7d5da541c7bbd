"""How far from its fixed point a loop of finite samples stays: Theorem 2's envelope, and the linear noise model.

Theorem 2 of Bertrand et al. 2024 adds up the largest errors of all retrainings as if they pointed the same way:

    ‖θ_t − θ*‖ ≤ (ε_OPT + a/√n √log(bt/δ)) Σ_{l=0}^t ρ^l + ρ^t ‖θ_0 − θ*‖,

for one t with probability 1 − δ, where ε_OPT, a and b are those of Assumption 3. Its ρ bounds a norm of the Jacobian,
Theorem 1's or ‖J‖₂, or the spectral radius in the norm ‖x‖² = xᵀ(−A)x of the likelihood's own curvature, in which J
is symmetric.

Independent errors of mean 0 do not point the same way. In the linear model x_{t+1} = J x_t + e_t their covariances add,

    S = J S Jᵀ + Q.

Two different things can be said of S, and the larger number of them is not the error that is seen:

- The *amplification* 1/√(1 − ρ²) is by how much the errors of single retrainings add up, in a norm in which J is
  symmetric, for a given size of e. For a likelihood that is the norm of its own curvature. For a J that is symmetric
  in no known norm, such as a network's under flow matching, there is no such bound: J = (ρ c; 0 ρ) has the same ρ for
  every c, and its errors settle at any size.
- The *total error* is that of the model itself. As λ grows, a retraining's own error shrinks, because it is trained on
  n(1 + λ) rows: of a well-specified model it is Q = λ/(1 + λ)² V/n, if V/n is the covariance of the fit to the n real
  rows. What the synthetic rows add settles at Q/(1 − ρ²) = λ/(1 + 2λ) V/n, and with the real rows' own error, which is
  independent of it and stays, the covariance is (1 + 3λ)/(1 + 2λ) V/n in every direction: the root mean square is at
  most √1.5 = 1.2247 times that of real data alone, in every norm and for every finite λ.

Legend: ρ rate; s size of one retraining's error; n rows; t retrainings; δ probability to be outside; d_i observed
deviations ‖G^n_λ(θ) − G_λ(θ)‖.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov
from scipy.special import betaincinv

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Deviations:
    """Assumption 3: with probability 1 − δ one retraining is off by at most ε_OPT + a/√n √log(b/δ).

    Attributes:
        optimisation: ε_OPT ≥ 0, what no number of rows takes away.
        sampling: a ≥ 0.
        tail: b ≥ 1.
    """

    optimisation: float
    sampling: float
    tail: float

    def bound(self, n: int, delta: float) -> float:
        """Return the bound of one retraining (Eq. 13) for n rows and 0 < δ < 1."""
        return self.optimisation + self.sampling / math.sqrt(n) * math.sqrt(math.log(self.tail / delta))

    @classmethod
    def estimate(cls, observed: Mapping[int, Sequence[float]]) -> Deviations:
        """Estimate the constants from observed deviations, as if these were lengths of normal errors.

        Normal errors of mean 0 and covariance Σ/n meet the assumption with a² = 2 tr Σ and b = 1 for every δ ≤ 0.46:
        of all normal vectors with one mean square the one that varies along a line has the heaviest tail there (Székely
        & Bakirov 2003, Probab. Theory Relat. Fields 126, 184–202), and P(|z| > x) ≤ exp(−x²/2). So ε_OPT is the
        intercept of the means over 1/√n, at least 0; a² is twice the mean square of √n (d − ε_OPT), the larger one of
        the numbers of rows; and b is the least from 1 on that covers the deviations, but for what chance explains: the
        k-th largest of K has the level δ of the 1 % quantile of Beta(k, K + 1 − k). Errors that are not normal need
        b > 1. Beyond δ = 1/K it is the normal tail that is believed, and from fewer than 100 deviations the bound of
        a tail may be exceeded too often: ``python -m studies.deviations`` says how often.

        Args:
            observed: by the number of rows n, at least two of them, the deviations d_i of at least 10 retrainings.

        Raises:
            ValueError: there are fewer, or one is negative or not finite.
        """
        if len(observed) < 2 or min(map(len, observed.values())) < 10:
            raise ValueError("constants need deviations at two numbers of rows, at least 10 of each")
        rows = np.array(list(observed), np.float64)
        seen = [np.sort(np.asarray(values, np.float64))[::-1] for values in observed.values()]
        if not all(np.isfinite(values).all() and (values >= 0).all() for values in seen):
            raise ValueError("deviations are distances: finite, and not negative")
        means = np.array([values.mean() for values in seen])
        slope, intercept = np.polyfit(rows**-0.5, means, 1)
        # Without a share that grows with 1/√n the intercept is all there is.
        epsilon = max(0.0, float(intercept)) if slope > 0 else float(means.min())
        excess = [n * np.maximum(values - epsilon, 0) ** 2 for n, values in zip(rows, seen, strict=True)]
        a2 = 2 * max(float(squares.mean()) for squares in excess)
        if a2 == 0:
            return cls(epsilon, 0.0, 1.0)
        log_b = max(float((squares / a2 - _levels(len(squares))).max()) for squares in excess)
        return cls(epsilon, math.sqrt(a2), math.exp(max(log_b, 0.0)))


def _levels(count: int) -> Doubles:
    """Return log 1/δ (K,) at which the k-th largest of K deviations may lie by chance, once in a hundred."""
    k = np.arange(1, count + 1)
    return np.asarray(-np.log(betaincinv(k, count + 1 - k, 0.01)))


def envelope(
    deviations: Deviations, rate: float, *, start: float, rows: int, generations: int, delta: float = 0.05
) -> Doubles:
    """Return Theorem 2's bound on ‖θ_t − θ*‖ for t = 0 … ``generations``, (T + 1,) (Eq. 14).

    Each entry holds with probability 1 − δ by itself, not all of them at once; entry 0 is ``start``.

    Args:
        deviations: of a single retraining.
        rate: ρ, by which a retraining of infinitely many samples shrinks distances, in the norm of the deviations.
        start: ‖θ_0 − θ*‖.
        rows: n.
        generations: T.
        delta: δ.

    Raises:
        ValueError: ρ is not in [0, 1), or δ not in (0, 1).
    """
    if not 0 <= rate < 1 or not 0 < delta < 1:
        raise ValueError(f"Theorem 2 needs 0 ≤ ρ < 1 and 0 < δ < 1, not {rate} and {delta}")
    t = np.arange(1, generations + 1)
    each = np.array([deviations.bound(rows, delta / step) for step in t])
    bound = each * (1 - rate ** (t + 1)) / (1 - rate) + rate**t * start
    return np.append(start, bound)


def amplification(rate: float) -> float:
    """Return 1/√(1 − ρ²), inf for ρ ≥ 1: what independent errors add up to, in sizes of a single retraining's error.

    It is the most in a norm in which J is symmetric, and no bound where there is none. It is no harm by itself: a
    retraining's error shrinks as ρ grows, and :func:`total_error` is what is left of both.
    """
    return 1 / math.sqrt(1 - rate**2) if rate < 1 else math.inf


def total_error(ratio: float) -> float:
    """Return √((1 + 3λ)/(1 + 2λ)), the settled root mean square error against that of the same real rows alone.

    It is that of a well-specified likelihood's parameters near the truth, to first order in 1/n, from 1 for λ = 0 to
    1.2247 as λ grows; inf for λ = inf, where errors add up for ever.

    Args:
        ratio: λ, synthetic rows per real row.
    """
    if math.isinf(ratio):
        return math.inf
    return math.sqrt(1 + 1 / (2 + 1 / ratio)) if ratio > 0 else 1.0


def excess_error(ratio: float, generations: int | None = None) -> float:
    """Return λ/(1 + 2λ)(1 − w^2t), w = λ/(1 + λ): what synthetic rows add to the mean square error, in units of V/n.

    It is that of a well-specified likelihood's parameters, to first order in 1/n, t retrainings after the fit to the
    real rows alone: e_{t+1} = w²e_t + λ/(1+λ)² from e_0 = 0.

    Args:
        ratio: λ, finite.
        generations: t; none: t = ∞.
    """
    settled = ratio / (1 + 2 * ratio)
    return settled if generations is None else settled * (1 - (ratio / (1 + ratio)) ** (2 * generations))


def largest_ratio(excess: float) -> float:
    """Return τ/(1 − 2τ), the largest λ for which synthetic rows add at most τ V/n, settled; inf for τ ≥ ½."""
    return excess / (1 - 2 * excess) if excess < 0.5 else math.inf


def settled(jacobian: Doubles, noise: Doubles) -> Doubles:
    """Return the covariance S = J S Jᵀ + Q (p, p) at which errors of covariance Q a retraining settle.

    Raises:
        ValueError: the spectral radius of J is 1 or more.
    """
    if np.abs(np.linalg.eigvals(jacobian)).max() >= 1:
        raise ValueError("the loop is not stable: its errors settle nowhere")
    return np.asarray(solve_discrete_lyapunov(jacobian, noise), np.float64)


def times(factor: float) -> str:
    """Return a factor as "1.15×", "2.3×" or "∞"."""
    return "∞" if math.isinf(factor) else f"{factor:.2f}×" if factor < 2 else f"{factor:.2g}×"
