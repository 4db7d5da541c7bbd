"""How varied a set is by itself: the Vendi score, the entropy of nearest-neighbour distances, modes that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import digamma, gammaln
from torch import Tensor

from selfloop.learning.transport.coupling import squared_distances
from selfloop.metrics.arrays import ArrayLike, level, pair, rows
from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.demand import Demand
from selfloop.metrics.mmd import median_distance, rbf
from selfloop.metrics.neighbours import radii

_MOST = 2000  # rows whose kernel matrix is decomposed


def vendi(x: ArrayLike, bandwidth: float | None = None) -> float:
    """Return the Vendi score, the effective number of different rows (Friedman & Dieng 2023, Eq. 1).

    It is the exponential of the entropy of the eigenvalues of K/n, K the RBF kernel's matrix; 1 where all rows are the
    same. Of more than 2000 rows the first 2000 are taken.

    Args:
        x: (N, *event) features.
        bandwidth: σ of the kernel; None takes the median distance between rows of x. Compare sets at the same one.

    Raises:
        ValueError: fewer than 2 rows, an entry that is not finite, a bandwidth not above 0.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import vendi
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> vendi(generated) < vendi(real)
        True
    """
    (some,), scale = level(rows(x, "x", least=2)[:_MOST].double())
    sigma = median_distance(some) if bandwidth is None else bandwidth / scale
    if bandwidth is None and sigma == 0:  # more than half of all pairs are equal rows
        _, times = torch.unique(some, dim=0, return_counts=True)
        weights = times.double() / len(some)
    else:
        weights = torch.linalg.eigvalsh(rbf(sigma)(some, some) / len(some))
    weights = weights[weights > 0]
    return float(torch.exp(-(weights * weights.log()).sum()))


def neighbour_entropy(x: ArrayLike, k: int = 3) -> float:
    """Return the Kozachenko–Leonenko estimate of the differential entropy in nats, from k-th neighbour distances.

    ψ(N) − ψ(k) + log V_d + d · mean log ρ_k (Kraskov, Stögbauer & Grassberger 2004, Eq. 20, for the Euclidean norm);
    −∞ where a row has k copies.

    Raises:
        ValueError: the set has no k-th neighbour, or an entry is not finite.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import neighbour_entropy
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> neighbour_entropy(generated) < neighbour_entropy(real)
        True
    """
    flat = rows(x, "x", least=2)
    n, d = flat.shape
    reach = radii(flat, k)
    if not reach.all():
        return -math.inf
    log_volume = d / 2 * math.log(math.pi) - float(gammaln(d / 2 + 1))  # of the unit ball
    return float(digamma(n) - digamma(k) + log_volume + d * np.log(reach).mean())


@dataclass(frozen=True)
class Modes:
    """How rows spread over modes whose places are known.

    Attributes:
        coverage: share of modes with at least one row within ``width`` of their centre.
        quality: share of rows within ``width`` of a centre.
        reverse_kl: KL divergence in nats from the true weights to the shares of rows nearest to each centre.
    """

    coverage: float
    quality: float
    reverse_kl: float


def modes(x: ArrayLike, centres: ArrayLike, width: float, weights: ArrayLike | None = None) -> Modes:
    """Return which of the known modes rows reach, and in what proportion (Srivastava et al. 2017, Section 4).

    Args:
        x: (N, *event) rows.
        centres: (K, *event) of the modes.
        width: how far from a centre a row still counts as of high quality; three standard deviations are usual.
        weights: (K,) true shares of the modes, equal ones if None.

    Raises:
        ValueError: an entry is not finite, events of different sizes, a width not above 0.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import modes
        >>> rows = np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 5.1]])
        >>> modes(rows, np.array([[0.0, 0.0], [5.0, 5.0], [9.0, 9.0]]), 0.1)
        Modes(coverage=0.6666666666666666, quality=1.0, reverse_kl=0.46209812037329684)
    """
    (points, middle), scale = level(*pair(x, centres, ("x", "centres")))
    width /= scale
    if not width > 0:
        raise ValueError(f"width must be above 0, not {width}")
    square = squared_distances(points, middle)
    near, nearest = square.min(1)
    close = near <= width**2
    k = len(middle)
    reached = torch.bincount(nearest[close], minlength=k) > 0
    share = torch.bincount(nearest, minlength=k).double() / len(points)
    truth = torch.as_tensor(np.full(k, 1 / k) if weights is None else weights, dtype=torch.float64)
    some = share > 0
    kl = float((share[some] * (share[some] / truth[some]).log()).sum())
    return Modes(float(reached.double().mean()), float(close.double().mean()), max(kl, 0.0))


def _vendi_ratio(train: Tensor, generated: Tensor) -> float:
    sigma = median_distance(train)
    return vendi(generated, sigma) / vendi(train, sigma)


def _of_modes(part: str) -> Callable[[Evidence], Tensor]:
    def compute(evidence: Evidence) -> Tensor:
        assert evidence.modes is not None  # the experiment has seen to that
        centres, std = evidence.modes
        return per_arm(lambda x: float(getattr(modes(x, centres, 3 * std), part)), list(evidence.generated))

    return compute


METRICS.register(
    Metric(
        name="vendi_ratio",
        title="Vendi score ratio",
        definition=(
            "Vendi score of the generated features over that of the real training features, both with the RBF kernel "
            "whose bandwidth is the median distance of the latter, on the first 2000 rows."
        ),
        goal=1.0,
        version=1,
        unit="ratio",
        compute=lambda e: per_arm(_vendi_ratio, e.featured("train"), e.featured("generated")),
        demand=lambda sizes: Demand(rows={"train": 2, "generated": 2}),
    ),
    Metric(
        name="neighbour_entropy",
        title="Entropy of neighbour distances",
        definition=(
            "Kozachenko–Leonenko entropy (k = 3) of the generated features less that of the real training features."
        ),
        goal=0.0,
        version=1,
        unit="nats",
        scale="log",
        compute=lambda e: per_arm(
            lambda real, generated: neighbour_entropy(generated) - neighbour_entropy(real),
            e.featured("train"),
            e.featured("generated"),
        ),
        demand=lambda sizes: Demand(rows={"train": 4, "generated": 4}),
    ),
    Metric(
        name="mode_coverage",
        title="Mode coverage",
        definition="Share of the known modes with a generated row within three standard deviations of the centre.",
        goal="higher",
        version=1,
        unit="share",
        compute=_of_modes("coverage"),
        needs=frozenset(("modes",)),
    ),
    Metric(
        name="mode_quality",
        title="Rows at modes",
        definition="Share of the generated rows within three standard deviations of a known mode's centre.",
        goal="higher",
        version=1,
        unit="share",
        compute=_of_modes("quality"),
        needs=frozenset(("modes",)),
    ),
    Metric(
        name="reverse_kl",
        title="Reverse KL over modes",
        definition="KL divergence of the equal weights of the known modes from the shares of rows nearest to each.",
        goal="lower",
        version=1,
        unit="nats",
        scale="log",
        compute=_of_modes("reverse_kl"),
        needs=frozenset(("modes",)),
    ),
)
