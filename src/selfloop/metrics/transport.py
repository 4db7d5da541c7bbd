"""Exact Wasserstein distances between equally weighted point sets."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfloop.core.errors import ConfigError, to_install
from selfloop.core.seeding import seeded
from selfloop.learning.transport.assignment import roots
from selfloop.learning.transport.coupling import assignment, squared_distances
from selfloop.metrics.arrays import ArrayLike, level, pair
from selfloop.metrics.base import METRICS, NUMBERS, WORDS, Evidence, Metric, per_arm
from selfloop.metrics.demand import Demand, Sizes
from selfloop.metrics.sliced import line_costs

Doubles = NDArray[np.float64]

_FAR = 1e4  # times the mean cost
_LARGE = 30  # binary digits of the greatest cost that POT is given
_STEPS = 10**9  # which no problem takes that fits memory
_PAIR_OF_EQUAL, _PAIR = 20, 48  # bytes a pair of rows: costs and the solvers' own, of sets of equal size and others


def wasserstein(a: ArrayLike, b: ArrayLike, p: Literal[1, 2] = 2) -> float:
    """Return the exact Wasserstein-p distance between a (n, *event) and b (m, *event) under the Euclidean norm.

    Rows of one number are sorted; else equal numbers of rows are an assignment problem, and unequal ones go to POT's
    network simplex. All sums are float64, and the distances of the optimal pairs are computed from their differences,
    so that a set is at distance 0 from itself. It is as exact in any unit, and where rows lie far from all others.

    Raises:
        ValueError: an entry is not finite, or the events differ in size.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import wasserstein
        >>> real = np.array([[0.0, 0.0], [1.0, 0.0]])
        >>> wasserstein(real, real + [3.0, 4.0])
        5.0
    """
    (a, b), scale = level(*(side.double() for side in pair(a, b, ("a", "b"))))
    if a.shape[1] == 1:
        return scale * math.pow(float(line_costs(a, b, p)), 1 / p)
    cost = squared_distances(a, b)
    if p == 1:
        roots(cost.numpy())
    if len(a) == len(b):
        pairs = (a - b[assignment(cost)]).square().sum(1)
        weights = torch.full_like(pairs, 1 / len(a))
    else:
        flow = _flow(cost.numpy())
        row, column = (torch.from_numpy(index) for index in np.nonzero(flow))
        pairs, weights = (a[row] - b[column]).square().sum(1), torch.from_numpy(flow[row, column]) / flow.size
    return scale * float((weights * pairs).sum().sqrt() if p == 2 else (weights * pairs.sqrt()).sum())


def _flow(cost: Doubles) -> Doubles:
    """Return the cheapest flow (n, m) of m units from every row, n into every column: all whole numbers.

    The simplex stops where all that is to be gained is some 1e-15 of the greatest cost. Where that is far above the
    mean cost of its flow, it is asked again with the far costs cut down to a multiple of the mean: a flow that uses
    none of these is the cheapest with their true costs, too.
    """
    cut, multiple = float(cost.max()), _FAR
    best = _simplex(cost, cut)
    total = float((best * cost).sum())
    while 0 < (far := multiple * total / cost.size) < cut:
        flow = _simplex(cost, far)
        if flow[cost > far].any():  # masses do not balance among what is near
            multiple *= _FAR
        else:
            cut = far
        if (found := float((flow * cost).sum())) < total:
            best, total = flow, found
    return best


def _simplex(cost: Doubles, cut: float) -> Doubles:
    """Return the flow that POT's network simplex finds cheapest where costs above ``cut`` are that."""
    with seeded(0):  # importing it draws random numbers
        try:
            import ot  # slow to import, and only sets of unequal size need it
        except ImportError as error:
            raise ConfigError(to_install("a distance between sets of unequal size", "POT")) from error

    n, m = cost.shape
    # It adds 1 to costs, which must be little beside them; and fractions of rows would not add up to those of columns.
    unit = 2.0 ** (_LARGE - math.frexp(cut)[1])
    scaled = np.minimum(cost, cut)
    scaled *= unit
    flow: Doubles = ot.emd(np.full(n, float(m)), np.full(m, float(n)), scaled, numItermax=_STEPS)
    return flow


def _metric(p: Literal[1, 2], against: Literal["train", "held_out"]) -> Metric:
    words = WORDS[against]

    def compute(evidence: Evidence) -> Tensor:
        reference = evidence.held_out if against == "held_out" else evidence.train
        return per_arm(lambda x, y: wasserstein(x, y, p), list(evidence.generated), list(reference))

    return Metric(
        name=f"w{p}_{against}",
        needs=NUMBERS,
        title=f"W{'₁₂'[p - 1]} to {'held-out data' if against == 'held_out' else 'training data'}",
        definition=f"Exact Wasserstein-{p} distance (Euclidean) between the generated rows and {words}.",
        goal="lower",
        version=1,
        unit="data units",
        compute=compute,
        floor=against == "held_out",
        demand=lambda sizes: _demand(sizes, against),
    )


def _demand(sizes: Sizes, against: Literal["train", "held_out"]) -> Demand:
    n, m = sizes.generated, getattr(sizes, against)
    pair = 0 if sizes.event == 1 else _PAIR_OF_EQUAL if n == m else _PAIR
    return Demand(memory=pair * n * m, instead=f"sliced_w2_{against}")


METRICS.register(_metric(1, "held_out"), _metric(2, "held_out"), _metric(1, "train"), _metric(2, "train"))
