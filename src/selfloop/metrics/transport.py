"""Exact Wasserstein distances between equally weighted point sets."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from selfloop.core.seeding import seeded
from selfloop.learning.transport.coupling import assignment, squared_distances
from selfloop.metrics.arrays import ArrayLike, pair
from selfloop.metrics.base import METRICS, WORDS, Evidence, Metric, per_arm


def wasserstein(a: ArrayLike, b: ArrayLike, p: Literal[1, 2] = 2) -> float:
    """Return the exact Wasserstein-p distance between a (n, *event) and b (m, *event) under the Euclidean norm.

    Equal numbers of rows are an assignment problem; unequal ones go to POT's network simplex. All sums are float64, and
    the distances of the optimal pairs are computed from their differences, so that a set is at distance 0 from itself.

    Raises:
        ValueError: an entry is not finite, or the events differ in size.
    """
    a, b = (side.double() for side in pair(a, b, ("a", "b")))
    cost = squared_distances(a, b)
    if p == 1:
        cost = cost.sqrt()
    if len(a) == len(b):
        pairs = (a - b[assignment(cost)]).square().sum(1)
        weights = torch.full_like(pairs, 1 / len(a))
    else:
        with seeded(0):  # importing it draws random numbers
            import ot  # slow to import, and only sets of unequal size need it

        plan = ot.emd(np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b)), cost.numpy(), numItermax=10_000_000)
        row, column = (torch.from_numpy(index) for index in np.nonzero(plan))
        pairs, weights = (a[row] - b[column]).square().sum(1), torch.from_numpy(plan[row, column])
    return float((weights * pairs).sum().sqrt() if p == 2 else (weights * pairs.sqrt()).sum())


def _metric(p: Literal[1, 2], against: Literal["train", "held_out"]) -> Metric:
    words = WORDS[against]

    def compute(evidence: Evidence) -> Tensor:
        reference = evidence.held_out if against == "held_out" else evidence.train
        return per_arm(lambda x, y: wasserstein(x, y, p), list(evidence.generated), list(reference))

    return Metric(
        name=f"w{p}_{against}",
        title=f"W{'₁₂'[p - 1]} to {'held-out data' if against == 'held_out' else 'training data'}",
        definition=f"Exact Wasserstein-{p} distance (Euclidean) between the generated rows and {words}.",
        goal="lower",
        version=1,
        unit="data units",
        compute=compute,
        floor=against == "held_out",
    )


METRICS.register(_metric(1, "held_out"), _metric(2, "held_out"), _metric(1, "train"), _metric(2, "train"))
