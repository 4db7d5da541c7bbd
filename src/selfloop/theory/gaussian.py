"""What theory says of the Gaussian's loop, in closed form (Bertrand et al. 2024, Section 2.2 and Appendix A).

Fully synthetic, the log of the standard deviation is a random walk and the model collapses (Proposition 1). Mixed with
real data the errors of mean and variance follow an exact linear recursion, contract by λ/(1 + λ) a retraining and
settle.

Legend: n rows; d dimensions; t retrainings; μ_t, σ²_t the fitted mean and variance; α(n) the shrinking of E√Σ;
ψ, ψ₁ digamma and trigamma; w = λ/(1 + λ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, polygamma, psi

from selfloop.core.streams import generator
from selfloop.mixing.augment import synthetic_rows

_DRAWS = 20_000  # of a Wishart matrix, for α(n) in more than one dimension


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error, 0 where it is exact."""

    value: float
    error: float = 0.0


def alpha(n: int, d: int = 1, *, seed: int = 0) -> Estimate:
    """Return by what a fit to n samples shrinks E√Σ, for the unbiased covariance (Proposition 1).

    In one dimension it is E χ_{n−1} / √(n−1), and E√Σ_{t+1} ⪯ α(n) E√Σ_t with this α(n) in *every* dimension. From an
    isotropic Σ in d dimensions the shrinking is stronger, E√Σ_1 = α(n, d) √Σ_0 with α(n, d) = λ_max(E√S) / √(n−1) and S
    Wishart of n − 1 degrees: E√S is a multiple of the identity, its mean eigenvalue, estimated by draws. Lemma A.2 of
    the paper takes α(n, d) for every Σ; as a bound it fails from the second retraining on, when Σ is isotropic no more.

    Args:
        n: rows of a fit, at least 2.
        d: dimensions.
        seed: of the draws where d > 1.

    Raises:
        ValueError: fewer than 2 rows or no dimension.
    """
    if n < 2 or d < 1:
        raise ValueError(f"n must be at least 2 and d at least 1, not {n} and {d}")
    if d == 1:
        return Estimate(math.exp(0.5 * math.log(2 / (n - 1)) + float(gammaln(n / 2) - gammaln((n - 1) / 2))))
    rng, means = generator(seed, "wishart", n, d), []
    left, at_a_time = _DRAWS, max(1, 2**22 // (n * d))
    while left > 0:
        x = rng.standard_normal((min(left, at_a_time), n - 1, d))
        # The singular values of the rows are the roots of the eigenvalues of their scatter; those of rank 0 are 0.
        means.append(np.linalg.svd(x, compute_uv=False).sum(1) / d)
        left -= at_a_time
    roots = np.concatenate(means) / math.sqrt(n - 1)
    return Estimate(float(roots.mean()), float(roots.std(ddof=1) / math.sqrt(len(roots))))


@dataclass(frozen=True)
class Walk:
    """The distribution of ln σ²_t − ln σ²_0: its mean and variance."""

    mean: float
    variance: float


def log_variance_walk(n: int, t: int, *, unbiased: bool = True) -> Walk:
    """Return the moments of ln σ²_t − ln σ²_0 after t fully synthetic retrainings in one dimension, exactly.

    A retraining multiplies σ² by χ²_{n−1}/(n−1), or by χ²_{n−1}/n for the maximum likelihood fit.

    Raises:
        ValueError: fewer than 2 rows or a negative t.
    """
    if n < 2 or t < 0:
        raise ValueError(f"n must be at least 2 and t at least 0, not {n} and {t}")
    half = (n - 1) / 2
    step = float(psi(half)) + math.log(2 / (n - 1 if unbiased else n))
    return Walk(t * step, t * float(polygamma(1, half)))


def mean_drift(n: int, t: int, *, unbiased: bool = True) -> float:
    """Return E(μ_t − μ_0)² / σ²_0 after t fully synthetic retrainings in one dimension, exactly.

    It is t/n for the unbiased fit, whose variance keeps its expectation; for maximum likelihood each term is smaller
    than the one before by (n − 1)/n.
    """
    if unbiased:
        return t / n
    shrink = (n - 1) / n
    return (1 - shrink**t) / (1 - shrink) / n


@dataclass(frozen=True)
class MixedErrors:
    """Expected errors of a loop on real ∪ synthetic data, given the real rows' own mean m and unbiased variance s².

    Attributes:
        mean_square: (T + 1,) E(μ_t − m)² / s².
        variance: (T + 1,) E σ²_t / s².
        stationary_mean_square: where the first goes.
        stationary_variance: where the second goes.
        contraction: λ/(1 + λ), by which E(μ_t − m) shrinks a retraining.
    """

    mean_square: np.ndarray
    variance: np.ndarray
    stationary_mean_square: float
    stationary_variance: float
    contraction: float


def mixed_errors(n: int, lam: float, generations: int) -> MixedErrors:
    """Return the exact recursion of the errors in one dimension for 0 < λ < inf, from the fit to real data alone.

    With m = ⌊λn⌋ synthetic rows of N(μ, σ²), e = E(μ − m̄)² and v = E σ², the pooled fit gives

        e′ = w² (e + v/m)
        v′ = ((n − 1) s² + (m − 1) v + n m/(n + m) (e + v/m)) / (n + m − 1),      w = m/(n + m)

    because the synthetic mean and variance are independent given the model. Both are linear, so the stationary values
    solve two linear equations.

    Raises:
        ValueError: fewer than 2 rows, or a λ that makes no synthetic row or infinitely many.
    """
    m = synthetic_rows(lam, n) if math.isfinite(lam) else 0
    if n < 2 or m < 1:
        raise ValueError(f"n must be at least 2 and 0 < λ < inf with at least one synthetic row, not {n} and {lam}")
    w, total = m / (n + m), n + m - 1
    step = np.array(
        [
            [w**2, w**2 / m],
            [n * m / (n + m) / total, (m - 1 + n / (n + m)) / total],
        ]
    )
    source = np.array([0.0, (n - 1) / total])
    x = np.array([0.0, 1.0])
    path = [x]
    for _ in range(generations):
        x = step @ x + source
        path.append(x)
    limit = np.linalg.solve(np.eye(2) - step, source)
    errors = np.array(path)
    return MixedErrors(errors[:, 0], errors[:, 1], float(limit[0]), float(limit[1]), w)
