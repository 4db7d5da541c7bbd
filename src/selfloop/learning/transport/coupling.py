"""Couplings of noise and data in a minibatch: exact optimal transport (Tong et al. 2023)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from selfloop.learning.transport.assignment import (
    CANCELLED,
    FEW,
    assign_points,
    assignment,
    cancelled_differences,
    squared_differences,
)

__all__ = ["assignment", "optimal_pairs", "squared_distances"]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ‖a_i − b_j‖² as (n, m) float64 from (n, d) and (m, d) on the CPU.

    In few dimensions from the differences; else by a matrix product of the centred points, and from the differences
    where the product cancels. So a point is at distance 0 from itself, and no distance has lost more than the last six
    of its digits, wherever the points are.
    """
    a, b = a.double(), b.double()
    if a.shape[1] <= FEW:
        out = np.empty((len(a), len(b)))
        squared_differences(a.contiguous().numpy(), b.T.contiguous().numpy(), out)
        return torch.from_numpy(out)
    centre = b.mean(0)
    x, y = a - centre, b - centre
    x_square, y_square = (x * x).sum(1), (y * y).sum(1)
    square = torch.addmm(y_square, x, y.T, alpha=-2).add_(x_square.unsqueeze(1))
    # From the points as they are: the centred ones are rounded where the centre is far from them.
    points = (a.contiguous().numpy(), b.contiguous().numpy())
    cancelled_differences(*points, x_square.numpy(), y_square.numpy(), CANCELLED, square.numpy())
    return square


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
    a, b = noise.flatten(2).double().cpu(), data.flatten(2).double().cpu()
    plan = torch.from_numpy(assign_points(a.numpy(), b.numpy())).to(draw.device)
    replica = torch.arange(len(draw), device=draw.device).unsqueeze(1)
    return noise[replica, draw], data[replica, plan.gather(1, draw)]
