"""Maximum mean discrepancy (Gretton et al. 2012, Lemma 6): KID's polynomial kernel (Bińkowski et al. 2018), and RBF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from selfloop.learning.transport.coupling import squared_distances
from selfloop.metrics.arrays import ArrayLike, pair, rows
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
    """
    x, y = (side.double() for side in pair(real, generated, least=2))
    k: Kernel
    if kernel == "polynomial":
        k = _polynomial
    elif kernel == "rbf":
        k = rbf(median_distance(x) if bandwidth is None else bandwidth)
    else:
        raise ValueError(f"kernel must be 'polynomial' or 'rbf', not {kernel!r}")
    n, m = len(x), len(y)
    within = (_total(k, x, x) - _diagonal(k, x)) / (n * (n - 1)) + (_total(k, y, y) - _diagonal(k, y)) / (m * (m - 1))
    return within - 2 * _total(k, x, y) / (n * m)


Kernel = Callable[[Tensor, Tensor], Tensor]


def _polynomial(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


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
    ),
    *compared(
        "mmd_rbf",
        "MMD²",
        "Unbiased MMD² with an RBF kernel, its bandwidth the median distance within {real}, between features.",
        "kernel units",
        lambda real, generated: mmd(real, generated, "rbf"),
        scale="difference",
    ),
)
