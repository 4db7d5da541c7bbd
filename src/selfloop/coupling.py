"""Couplings of noise and data in a minibatch: exact optimal transport (Tong et al. 2023)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from selfloop.assignment import assignment

__all__ = ["assignment", "optimal_pairs", "squared_distances"]

_FEW = 16  # dimensions up to which differences are quicker than a matrix product


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ‖a_i − b_j‖² as (n, m) float64 from (n, d) and (m, d) on the CPU.

    In few dimensions from the differences, so that a point is at distance 0 from itself; else by a matrix product of
    the centred points, so that clouds far from the origin lose no digits to cancellation.
    """
    a, b = a.double(), b.double()
    if a.shape[1] <= _FEW:
        out = np.empty((len(a), len(b)))
        _differences(a.contiguous().numpy(), b.T.contiguous().numpy(), out)
        return torch.from_numpy(out)
    centre = b.mean(0)
    a, b = a - centre, b - centre
    square = torch.addmm((b * b).sum(1), a, b.T, alpha=-2)
    return square.add_((a * a).sum(1, keepdim=True)).clamp_min_(0)


@njit(cache=True, nogil=True)
def _differences(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the squared distances (n, m) of a (n, d) and b (d, m)."""
    for i in range(len(a)):
        out[i] = 0
        for k in range(len(b)):
            for j in range(b.shape[1]):
                difference = a[i, k] - b[k, j]
                out[i, j] += difference * difference


def optimal_pairs(noise: Tensor, data: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Draw pairs with replacement from the exact optimal plan between two minibatches.

    Between equal numbers of equally weighted points the plan is a permutation σ, so that drawing from it is
    drawing a row i uniformly and taking (i, σ(i)); about 1 − 1/e of the rows appear, as in torchcfm.

    Args:
        noise: (R, B, *event) source points.
        data: (R, B, *event) target points.
        draw: (R, B) int64 rows i, uniform on 0 … B − 1.

    Returns:
        The paired source and target points, (R, B, *event) each.
    """
    # One problem at a time: its costs are still in the cache when they are solved.
    clouds = zip(noise.flatten(2).cpu(), data.flatten(2).cpu(), strict=True)
    plan = torch.stack([assignment(squared_distances(*pair)) for pair in clouds]).to(draw.device)
    replica = torch.arange(len(draw), device=draw.device).unsqueeze(1)
    return noise[replica, draw], data[replica, plan.gather(1, draw)]
