"""Rows of text as metrics take them: token ids, how many of them are there, and the n-grams of a row.

Legend: a row is L ids, and token 0 the edge, which ends it; what comes after the first edge is padding, all edges. A
row without an edge is a piece of a longer text, and full.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfloop.core import events, sequences
from selfloop.core.capabilities import Capability
from selfloop.metrics.base import Evidence, Which
from selfloop.metrics.demand import Sizes

TEXT: frozenset[Capability] = frozenset(("text",))
"""What metrics of text need."""

FIRST = 1000
"""Rows that metrics look at of which every row costs much."""

Ids = NDArray[np.int64]
Keys = NDArray[np.uint64]
Mask = NDArray[np.bool_]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # of SplitMix64's finaliser (Steele et al. 2014)


def ids(x: Any, name: str = "rows") -> Ids:
    """Return rows of token ids as an array (N, L) int64.

    Raises:
        ValueError: they are no whole numbers from 0, or have another shape; the message has ``name``.
    """
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, but must be (N, L), both at least 1")
    if array.dtype.kind not in "iu" or array.min() < 0:
        raise ValueError(f"{name} must hold token ids, whole numbers from 0")
    return array.astype(np.int64)


def rows_of(evidence: Evidence, which: Which) -> list[Ids]:
    """Return the rows of one of the three sets, (n, L) for every arm, made once for all metrics."""
    return evidence.shared(("ids", which), lambda: [ids(x, which) for x in getattr(evidence, which)])


def lengths(x: Ids) -> Ids:
    """Return how many tokens (N, L) rows have before their edge, (N,)."""
    found: Ids = sequences.lengths(torch.from_numpy(x)).numpy()
    return found


def told(x: Ids) -> Mask:
    """Return which tokens of (N, L) rows a model is asked for: those of the row, and the edge that ends it."""
    found: Mask = sequences.scored(torch.from_numpy(x)).numpy()
    return found


class Windows:
    """64-bit hashes of the windows of (N, L) rows, of any width.

    The hash of a window is made of those of two overlapping ones whose width is a power of two, which are kept, so that
    each width costs one pass. Of a million windows two different ones agree with a probability of 3e-8.
    """

    def __init__(self, x: Ids) -> None:
        self._powers = [_mixed(x.astype(np.uint64) + np.uint64(1))]

    def __call__(self, n: int) -> Keys:
        """Return the hash of every n ids that follow each other, (N, L − n + 1), n from 1 to L."""
        power = n.bit_length() - 1
        while len(self._powers) <= power:
            self._powers.append(_joined(self._powers[-1], 2 ** (len(self._powers) - 1)))
        return _joined(self._powers[power], n - 2**power) if n > 2**power else self._powers[power]


def windows(x: Ids, n: int) -> Keys:
    """Return the hash of every n ids that follow each other in (N, L) rows, (N, L − n + 1), n from 1 to L."""
    return Windows(x)(n)


def _joined(key: Keys, by: int) -> Keys:
    return _mixed(key[:, :-by] * _ODD + key[:, by:])


def _mixed(x: Keys) -> Keys:
    x = x + _ODD
    for shift, factor in _STEPS:
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def inside(x: Ids, n: int) -> Mask:
    """Return which windows of n ids are n tokens of the row, without its edge, (N, L − n + 1)."""
    return np.arange(x.shape[1] - n + 1) + n <= lengths(x)[:, None]


def ngrams(x: Ids, n: int) -> Keys:
    """Return the hashes of all n-grams within (N, L) rows, (M,); edges are in none."""
    return windows(x, n)[inside(x, n)] if n <= x.shape[1] else np.empty(0, np.uint64)


def counts(x: Ids, least: int = 0) -> Ids:
    """Return how often each token is there in (N, L) rows, (V,) by its id; the edge counts 0.

    Args:
        x: the rows.
        least: ids to count for, there or not.
    """
    found = np.bincount(x[inside(x, 1)], minlength=max(least, 1))
    return found.astype(np.int64)


def vocabulary(evidence: Evidence) -> int:
    """Return how many tokens there are, the edge among them.

    Raises:
        TypeError: the rows are no text.
    """
    if not isinstance(evidence.events, events.Text):
        raise TypeError("the rows are no text")
    return evidence.events.tokenizer.size


def held(sizes: Sizes) -> int:
    """Return the bytes that hashing all windows of the largest set takes, with the sort of them."""
    return 8 * 6 * max(sizes.train, sizes.held_out, sizes.generated) * sizes.event
