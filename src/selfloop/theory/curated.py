"""Samples chosen by a reward: of every K one, with probability ∝ e^{r} (Ferbach et al. 2024, arXiv:2407.09499).

Infinitely many rows, and models that can be any distribution. For K = ∞ a retraining multiplies the density by e^r/Z,
with Z = E e^r under it. Legend: λ synthetic rows per real row, w = λ/(1 + λ); p_0 the data.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import gammaln, zeta
from scipy.stats import binom

Doubles = NDArray[np.float64]

_NEAREST = 1e-13  # to z = 1 that −ln z is looked for


def tilted(p: Doubles, reward: Doubles, generations: float) -> Doubles:
    """Return p e^{tr}/Z of probabilities p (m,): t retrainings on chosen rows alone, for K = ∞, exactly.

    A normal density N(0, 1) goes to N(at, 1) by r = ax, and to N(0, 1/(1 + ct)) by r = −cx²/2.
    """
    logs = generations * (reward - reward.max())
    found = p * np.exp(logs)
    return np.asarray(found / found.sum(), np.float64)


def chosen_share(p: float, advantage: float, of: int) -> float:
    """Return the share of the better of two classes after one choice of ``of`` = K rows, p before it, exactly.

    Of K rows J ~ Bin(K, p) are of the class, whose reward is larger by a: E J e^a/(J e^a + K − J). K = ∞ tilts by e^a.
    """
    j = np.arange(1, of + 1)
    # Divided by e^a, which may overflow.
    return float(binom.pmf(j, of, p) @ (j / (j + (of - j) * math.exp(-advantage))))


def anchored(p: Doubles, reward: Doubles, lam: float) -> Doubles:
    """Return the fixed point (1 − w)p_0/(1 − we^r/Z) of curation beside real data, for probabilities p_0 (m,), K = ∞.

    Z > we^r everywhere follows from its sum being 1, which has one solution: a table's best category has a share of the
    data, and nothing condenses.
    """
    w, seen = lam / (1 + lam), p > 0
    p0, gain = p[seen], np.exp(reward[seen] - reward[seen].max())

    def excess(z: float) -> float:  # of the mass over 1, z = w/Z for rewards whose largest is 0
        return float((p0 * (z * gain - w) / (1 - z * gain)).sum())

    # There the best categories alone have all the mass, so that the root is not above.
    most = 1 - (1 - w) * float(p0[gain == 1].sum())
    z = brentq(excess, 0.0, most, xtol=1e-15) if excess(most) > 0 else most
    found = np.zeros_like(p)
    found[seen] = (1 - w) * p0 / (1 - z * gain)
    return np.asarray(found / found.sum(), np.float64)


def critical_ratio(d: int) -> float:
    """Return λ_c = ζ(d/2) − 1 above which curation condenses, p_0 = N(0, I_d) and r = −‖x‖²/2; inf for d ≤ 2.

    The fixed point's mass is (1 − w) Σ_k z^k (1 + k)^{−d/2}, z = w/Z ≤ 1, because E e^{kr} = (1 + k)^{−d/2}. It is at
    most (1 − w)ζ(d/2): where that is below 1 the rest lies in the single best point, as in Bose and Einstein's gas.
    """
    return float(zeta(d / 2)) - 1 if d > 2 else math.inf


def condensed_share(lam: float, d: int) -> float:
    """Return the mass in the best point x = 0 in the long run: 1 − ζ(d/2)/(1 + λ) above λ_c, 0 below."""
    return max(0.0, 1 - (1 + critical_ratio(d)) / (1 + lam))


def normaliser(lam: float, d: int) -> float:
    """Return Z = E e^r at the fixed point, p_0 = N(0, I_d) and r = −‖x‖²/2: w above λ_c, else w/z by the mass of 1."""
    w, s = lam / (1 + lam), d / 2
    if w == 0:
        return float(2**-s)
    if lam >= critical_ratio(d) or (1 - w) * _mass(s, _NEAREST) < 1:
        return w
    depth = brentq(lambda depth: (1 - w) * _mass(s, depth) - 1, _NEAREST, 50.0)
    return float(w * math.exp(depth))


def _mass(s: float, depth: float) -> float:
    """Return Σ z^k (1 + k)^−s over k ≥ 0, z = e^−depth, which is Li_s(z)/z."""
    if depth > 0.1:
        k = np.arange(400)
        return float((np.exp(-depth * k) * (1.0 + k) ** -s).sum())
    # Bose's integral ∫ x^{s−1}/(e^{x + depth} − 1) dx/Γ(s), with x = u², which takes the root at 0 away.
    peak = math.sqrt(depth)
    value, _ = quad(
        lambda u: 2 * u ** (2 * s - 1) / math.expm1(u * u + depth), 0, 26, points=[peak, 10 * peak], limit=200
    )
    return float(value * math.exp(depth - gammaln(s)))
