"""Loops of counts: tables of categories, Bernoulli and Poisson models. They are the Wright-Fisher model of genetics.

A fit to n rows of categories is their frequencies, so that fully synthetic retraining is genetic drift in a population
of n: heterozygosity H = 1 − Σp² decays, a category that is lost never returns, and a Bernoulli model ends at 1 with the
probability p it began with, at 0 otherwise (p is a martingale). Training on a pool, E H_t/H_0 is the E σ²_t of
:mod:`selfloop.theory.pooled`, :func:`~selfloop.theory.pooled.accumulate` among them: no formula of its own is needed.

Legend: n real rows; m = ⌊λn⌋ synthetic ones; w = m/(n + m); H_0 the heterozygosity of the real rows' frequencies.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from selfloop.mixing.augment import synthetic_rows

Doubles = NDArray[np.float64]


def replaced_heterozygosity(n: int, generations: int) -> float:
    """Return E H_t/H_0 = (1 − 1/n)^t: two of n draws are the same copy with probability 1/n, and then alike."""
    return (1 - 1 / n) ** generations


def mixed_heterozygosity(n: int, lam: float, generations: int | None = None) -> float:
    """Return E H_t/H_0 beside n real rows, for 0 < λ < inf; (1 − w²)/(1 − w²(1 − 1/m)) for t = ∞.

    Frequencies keep their expectation given the real rows, so that H′ = (1 − w²) H_0 + w² (1 − 1/m) H.

    Raises:
        ValueError: λ makes no synthetic row or infinitely many.
    """
    m = synthetic_rows(lam, n) if math.isfinite(lam) else 0
    if m < 1:
        raise ValueError(f"0 < λ < inf must give at least one synthetic row, not λ = {lam} with n = {n}")
    w2 = (m / (n + m)) ** 2
    rate = w2 * (1 - 1 / m)
    limit = (1 - w2) / (1 - rate)
    return limit if generations is None else limit + rate**generations * (1 - limit)


def loss_probability(copies: float, generations: int) -> float:
    """Return q_t^c, the probability that a category of c copies is lost within t fully synthetic retrainings.

    Each copy leaves a Poisson(1) number of copies (n → ∞; of n rows a binomial one, off by about c²/(2n)): q_0 = 0,
    q_{t+1} = e^{q_t − 1}. It is ≈ e^{−2c/t} for many retrainings.
    """
    q = 0.0
    for _ in range(generations):
        q = math.exp(q - 1)
    return q**copies if generations else 0.0


def poisson_alive(n: int, rate: float, fits: int) -> float:
    """Return the probability that a Poisson model is not at rate 0 after t fits of n rows, the first one to real data.

    The n rows of Poisson(λ) sum to Poisson(nλ), and nλ is the sum before: each unit is a copy of its own, and
    1 − q_t^{nλ_0} is exact. Suresh et al. 2024 (arXiv:2412.17646).
    """
    return 1 - loss_probability(n * rate, fits)
