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
    j = np.arange(of + 1)
    # Divided by e^a, which may overflow.
    return float(binom.pmf(j, of, p) @ (j / (j + (of - j) * math.exp(-advantage))))


def anchored(p: Doubles, reward: Doubles, lam: float) -> Doubles:
    """Return the fixed point (1 − w)p_0/(1 − we^r/Z) of curation beside real data, for probabilities p_0 (m,), K = ∞.

    Z > we^r everywhere follows from its sum being 1, which has one solution: a table's best category has a share of the
    data, and nothing condenses.
    """
    w = lam / (1 + lam)
    boltzmann = np.exp(reward - reward.max())
    seen = p > 0
    top = float(boltzmann[seen].max())
    p0, gain = p[seen], boltzmann[seen] / top

    def excess(z: float) -> float:  # z = w/Z in units of the best reward, 0 … 1
        return float((1 - w) * (p0 / (1 - z * gain)).sum() - 1)

    best = float(p0[gain == 1].sum())
    # At this z the best category alone has all the mass: the root is below.
    z = brentq(excess, 0.0, 1 - (1 - w) * best, xtol=1e-15) if w > 0 and excess(1 - (1 - w) * best) > 0 else 0.0
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
    w = lam / (1 + lam)
    if w == 0:
        return float(2 ** (-d / 2))
    if lam >= critical_ratio(d):
        return w
    z = brentq(lambda z: (1 - w) * _polylog(d / 2, z) / z - 1, 1e-9, 1 - 1e-12)
    return float(w / z)


def _polylog(s: float, z: float) -> float:
    """Return Li_s(z) = Σ z^k/k^s by Bose's integral ∫ x^{s−1}/(e^x/z − 1) dx/Γ(s), 0 < z < 1."""
    # x = u² takes the root at 0 away.
    value, _ = quad(lambda u: 2 * u ** (2 * s - 1) / math.expm1(u * u - math.log(z)), 0, 26, limit=200)
    return float(value / math.exp(gammaln(s)))
