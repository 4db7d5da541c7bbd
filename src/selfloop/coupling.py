"""Couplings of noise and data in a minibatch: exact optimal transport (Tong et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from selfloop.assignment import assignment

__all__ = ["assignment", "optimal_pairs", "squared_distances"]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ‖a_i − b_j‖² as (…, n, m) float64 from (…, n, d) and (…, m, d).

    Both sides are centred first, so that clouds far from the origin lose no digits to cancellation.
    """
    centre = b.double().mean(dim=-2, keepdim=True)
    a, b = a.double() - centre, b.double() - centre
    square = (a * a).sum(-1).unsqueeze(-1) + (b * b).sum(-1).unsqueeze(-2) - 2 * a @ b.transpose(-1, -2)
    return square.clamp_min(0)


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
    plan = assignment(squared_distances(noise.flatten(2), data.flatten(2)).cpu()).to(draw.device)
    replica = torch.arange(len(draw), device=draw.device).unsqueeze(1)
    return noise[replica, draw], data[replica, plan.gather(1, draw)]
