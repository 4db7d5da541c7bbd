"""The exact assignment problem: the permutation of least total cost."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def assignment(cost: Tensor) -> Tensor:
    """Return for each row the column of an assignment of least total cost.

    Args:
        cost: (n, n) or (batch, n, n) finite costs.

    Returns:
        int64 permutation(s), (n,) or (batch, n); each problem's depends on that problem alone.

    Raises:
        ValueError: a cost is not finite, or the problems are not square.
    """
    if cost.ndim not in (2, 3) or cost.shape[-1] != cost.shape[-2]:
        raise ValueError(f"assignment needs (n, n) or (batch, n, n) costs, not {tuple(cost.shape)}")
    if not torch.isfinite(cost).all():
        raise ValueError("assignment needs finite costs")
    problems = cost.detach().cpu().numpy().reshape(-1, *cost.shape[-2:])
    columns = np.stack([linear_sum_assignment(problem)[1] for problem in problems])
    return torch.from_numpy(columns.astype(np.int64)).reshape(cost.shape[:-1])
