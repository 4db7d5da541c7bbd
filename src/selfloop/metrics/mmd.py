"""Maximum mean discrepancy (Gretton et al. 2012, Lemma 6): KID's polynomial kernel (Bińkowski et al. 2018), and RBF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from selfloop.learning.transport.coupling import squared_distances
from selfloop.metrics.arrays import ArrayLike, level, pair, rows
from selfloop.metrics.base import METRICS, compared

_BLOCK = 2048
_SOME = 1000  # rows that a bandwidth is read from


def mmd(
    real: ArrayLike,
    generated: ArrayLike,
    kernel: Literal["polynomial", "rbf"] = "polynomial",
    bandwidth: float | None = None,
) -> float:
    """Return the unbiased estimate of MMD², which may be below 0; with the polynomial kernel it is KID.

    All pairs of rows enter, block by block, in float64: there is no drawing of subsets.

    Args:
        real: (N, *event) features.
        generated: (M, *event) features.
        kernel: (x·y/d + 1)³, or exp(−‖x − y‖² / 2σ²).
        bandwidth: σ; None takes the median distance between the first 1000 real rows.

    Raises:
        ValueError: fewer than 2 rows, an entry that is not finite, events of different sizes, a bandwidth not above 0.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import mmd
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> mmd(real, generated) > 0
        True
    """
    sets = Kernelled.of(real, generated, kernel, bandwidth)
    return sets.estimate([sets.sums(slice(None))])


Kernel = Callable[[Tensor, Tensor], Tensor]
Sums = tuple[float, float, float]  # of the kernel within x, within y, and between them


@dataclass(frozen=True)
class Kernelled:
    """Two sets in units in which nothing over- or underflows, x (N, d) and y (M, d) float64, and a kernel of them."""

    x: Tensor
    y: Tensor
    kernel: Kernel

    @classmethod
    def of(
        cls, real: ArrayLike, generated: ArrayLike, kernel: str = "polynomial", bandwidth: float | None = None
    ) -> Self:
        """Take the sets as :func:`mmd` does, and raise what it does."""
        x, y = (side.double() for side in pair(real, generated, least=2))
        (u, v), scale = level(x, y)
        if kernel == "polynomial":
            u, v = scale * u, scale * v
            return cls(u, v, _polynomial(x[0] - u[0]))
        if kernel == "rbf":
            return cls(u, v, rbf(median_distance(u) if bandwidth is None else bandwidth / scale))
        raise ValueError(f"kernel must be 'polynomial' or 'rbf', not {kernel!r}")

    def sums(self, some: slice) -> Sums:
        """Return the kernel's sums over pairs of different rows, one of which is among some, by place in its set."""
        x, y = self.x[some], self.y[some]

        def within(part: Tensor, whole: Tensor) -> float:
            return _total(self.kernel, part, whole) - _diagonal(self.kernel, part) if len(part) else 0.0

        between = _total(self.kernel, x, self.y) if len(x) else 0.0
        return within(x, self.x), within(y, self.y), between

    def estimate(self, sums: Sequence[Sums]) -> float:
        """Return MMD² of the sums over spans that are all rows."""
        n, m = len(self.x), len(self.y)
        x, y, between = (float(sum(part)) for part in zip(*sums, strict=True))
        return x / (n * (n - 1)) + y / (m * (m - 1)) - 2 * between / (n * m)


def _polynomial(origin: Tensor) -> Kernel:
    """Return the kernel (x·y/d + 1)³ of x = origin + a and y = origin + b, less terms of x alone and of y alone.

    MMD² does not see these, and they may be so great that the rest would drown in their rounding: in small units they
    are the 1, and far from 0 nearly all.
    """
    d = len(origin)
    constant = origin @ origin / d + 1
    if not origin.any():
        return lambda a, b: (g := a @ b.T / d) * (3 + g * (3 + g))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        g, along_a, along_b = a @ b.T / d, (a @ origin / d).unsqueeze(1), b @ origin / d
        whole = constant + along_a + along_b
        return 3 * along_a * along_b * (constant + whole) + g * (3 * whole * whole + g * (3 * whole + g))

    return kernel


def rbf(bandwidth: float) -> Kernel:
    """Return the kernel exp(−‖x − y‖² / 2σ²) of (n, d) and (m, d) rows.

    Raises:
        ValueError: σ is not above 0.
    """
    if not bandwidth > 0:
        raise ValueError(f"the bandwidth must be above 0, not {bandwidth}")
    return lambda a, b: torch.exp(squared_distances(a, b) / (-2 * bandwidth**2))


def median_distance(x: ArrayLike) -> float:
    """Return the median distance between different rows among the first 1000, (N, *event)."""
    # From differences, so that the distance of equal rows is 0.
    return float(torch.pdist(rows(x, "x", least=2)[:_SOME].double()).median())


def _total(k: Kernel, a: Tensor, b: Tensor) -> float:
    blocks = [k(p, q).sum() for p in torch.split(a, _BLOCK) for q in torch.split(b, _BLOCK)]
    return float(torch.stack(blocks).sum())


def _diagonal(k: Kernel, a: Tensor) -> float:
    return float(torch.stack([k(p, p).diagonal().sum() for p in torch.split(a, 64)]).sum())


METRICS.register(
    *compared(
        "kid",
        "KID",
        "Unbiased MMD² with the kernel (x·y/d + 1)³ between the generated features and those of {real}, all pairs.",
        "kernel units",
        mmd,
        scale="difference",
        least=2,
    ),
    *compared(
        "mmd_rbf",
        "MMD²",
        "Unbiased MMD² with an RBF kernel, its bandwidth the median distance within {real}, between features.",
        "kernel units",
        lambda real, generated: mmd(real, generated, "rbf"),
        scale="difference",
        least=2,
    ),
)
