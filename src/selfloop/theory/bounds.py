"""How far from its fixed point a loop of finite samples stays: Theorem 2's envelope, and the linear noise model.

Theorem 2 of Bertrand et al. 2024 adds up the largest errors of all retrainings as if they pointed the same way:

    ‖θ_t − θ*‖ ≤ (ε_OPT + a/√n √log(bt/δ)) Σ_{l=0}^t ρ^l + ρ^t ‖θ_0 − θ*‖,

for one t with probability 1 − δ, where ε_OPT, a and b are those of Assumption 3. Its ρ bounds a norm of the Jacobian,
Theorem 1's or ‖J‖₂, or the spectral radius in the norm ‖x‖² = xᵀ(−A)x of the likelihood's own curvature, in which J
is symmetric.

Independent errors of mean 0 do not point the same way. In the linear model x_{t+1} = J x_t + e_t their covariances add,

    S = J S Jᵀ + Q,

and an error of size s at every retraining settles at no more than s/√(1 − ρ²) in that norm.

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
        """Fit the constants to observed deviations, so that the bound covers every quantile of them.

        The k-th largest of K deviations belongs to δ = k/(K + 1). Means over 1/√n give ε_OPT as their intercept, at
        least 0; squares of √n (d − ε_OPT) over log 1/δ give a² as their slope; b is the least that covers all.

        Args:
            observed: by the number of rows n, at least two of them, the deviations d_i of at least 10 retrainings.

        Raises:
            ValueError: there are fewer, or one is negative or not finite.
        """
        if len(observed) < 2 or min(map(len, observed.values())) < 10:
            raise ValueError("constants need deviations at two numbers of rows, at least 10 of each")
        rows = np.array(list(observed), np.float64)
        sorted_ = [np.sort(np.asarray(values, np.float64))[::-1] for values in observed.values()]
        if not all(np.isfinite(values).all() and (values >= 0).all() for values in sorted_):
            raise ValueError("deviations are distances: finite, and not negative")
        means = np.array([values.mean() for values in sorted_])
        slope, intercept = np.polyfit(rows**-0.5, means, 1)
        # Without a share that grows with 1/√n the intercept is all there is.
        epsilon = max(0.0, float(intercept)) if slope > 0 else float(means.min())
        levels = np.concatenate([np.log((len(v) + 1) / np.arange(1, len(v) + 1)) for v in sorted_])
        excess = [math.sqrt(n) * np.maximum(v - epsilon, 0) for n, v in zip(rows, sorted_, strict=True)]
        squares = np.concatenate(excess) ** 2
        upper = levels > math.log(2)  # the assumption is about tails
        a2 = max(float(np.polyfit(levels[upper], squares[upper], 1)[0]), 0.0)
        if a2 == 0:
            return cls(
                epsilon + float(max(e.max() / math.sqrt(n) for e, n in zip(excess, rows, strict=True))), 0.0, 1.0
            )
        log_b = float(np.max(squares / a2 - levels))
        return cls(epsilon, math.sqrt(a2), math.exp(max(log_b, 0.0)))


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
    """Return 1/√(1 − ρ²), to which times its size an independent error of every retraining grows; inf for ρ ≥ 1."""
    return 1 / math.sqrt(1 - rate**2) if rate < 1 else math.inf


def settled(jacobian: Doubles, noise: Doubles) -> Doubles:
    """Return the covariance S = J S Jᵀ + Q (p, p) at which errors of covariance Q a retraining settle.

    Raises:
        ValueError: the spectral radius of J is 1 or more.
    """
    if np.abs(np.linalg.eigvals(jacobian)).max() >= 1:
        raise ValueError("the loop is not stable: its errors settle nowhere")
    return np.asarray(solve_discrete_lyapunov(jacobian, noise), np.float64)


def in_words(rates: Mapping[float, float]) -> str:
    """Return "λ = 1: 1.15×, λ = 9: 2.3×" for rates ρ by λ."""
    return ", ".join(f"λ = {_short(lam)}: {times(amplification(rate))}" for lam, rate in rates.items())


def times(factor: float) -> str:
    """Return a factor as "1.15×", "2.3×" or "∞"."""
    return "∞" if math.isinf(factor) else f"{factor:.2f}×" if factor < 2 else f"{factor:.2g}×"


def _short(lam: float) -> str:
    return "∞" if math.isinf(lam) else f"{lam:g}"
