"""New real rows each generation, beside samples of the model before: errors, and the weight that makes them least.

Generation t trains on n_r real rows drawn anew and n_s = k n_r rows of generation t − 1, with the weight a on the real
ones and w = 1 − a on the others. With e = E(μ − truth)² in units of σ²,

    e′ = a²/n_r + w² (e + v/n_s),

where v = E σ²_t = 1 − e exactly for maximum likelihood (see :mod:`selfloop.theory.pooled`) and ≈ 1 to first order in
1/n. He, Xu & Cheng 2025 (arXiv:2502.18049) find the optimum in many families, the reciprocal of the golden ratio at k =
1.
"""

from __future__ import annotations

import math

import numpy as np

from selfloop.theory.pooled import Moments


def fresh(n_real: int, k: float, generations: int, *, weight: float | None = None) -> Moments:
    """Return the exact errors of maximum likelihood for generations 0 … T; generation 0 has n_r real rows alone.

    Args:
        n_real: n_r new real rows a generation.
        k: synthetic rows per real row; k n_r must be a whole number.
        generations: T.
        weight: a on the real rows; none: 1/(1 + k), as the rows count.
    """
    a, n_synthetic = _weight(k, weight), k * n_real
    error = np.empty(generations + 1)
    error[0] = 1 / n_real
    for t in range(generations):
        error[t + 1] = a**2 / n_real + (1 - a) ** 2 * (error[t] + (1 - error[t]) / n_synthetic)
    return Moments(error, 1 - error)


def fresh_limit(k: float, *, weight: float | None = None) -> float:
    """Return n_r times the settled e, to first order in 1/n: (a² + (1 − a)²/k)/(a(2 − a)), (1 + k)/(1 + 2k) unweighted.

    It is the error against that of the n_r rows alone: below 1, so that synthetic rows help, if they are not weighted
    too highly; without real rows, a = 0, it is infinite.
    """
    a = _weight(k, weight)
    return (a**2 + (1 - a) ** 2 / k) / (a * (2 - a)) if a > 0 else math.inf


def golden_weight(k: float) -> float:
    """Return the weight on the real rows that makes the settled error least: (√(4k + 1) − 1)/(2k).

    It is the root of k a² + a = 1, and the error reached is that number itself, a* σ²/n_r. For k = 1 both are 0.618.
    """
    return 2 / (1 + math.sqrt(4 * k + 1))  # without the difference, which is lost to rounding for small k


def _weight(k: float, weight: float | None) -> float:
    return 1 / (1 + k) if weight is None else weight
