"""Perplexity of samples under a fixed judge: an n-gram model of the real training rows.

Legend: h the k tokens before w; c(h, w) how often w follows h; c(h) how often anything does; t(h) how many different
tokens do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.demand import Demand
from selfloop.metrics.text_rows import (
    FIRST,
    TEXT,
    Ids,
    Keys,
    held,
    ids,
    looked_up,
    rows_of,
    scored,
    vocabulary,
    windows,
)

_ORDER = 3


@dataclass(frozen=True)
class _Level:
    """What follows k tokens in the fitted rows: hashes in ascending order, and the counts of each."""

    grams: Keys
    count: Ids
    contexts: Keys
    total: Ids
    different: Ids


class NgramJudge:
    """An n-gram model with Witten & Bell's smoothing (1991), interpolated down to the uniform law, which is exact:

        P(w | h) = (c(h, w) + t(h) P(w | h′)) / (c(h) + t(h)),     h′ being h without its first token.

    Before the first token of a row there are edges, and the edge that ends a row is told like a token.

    Args:
        x: (N, L) ids to fit it on.
        vocabulary: how many tokens there are, the edge among them.
        order: tokens that it looks at together.
    """

    def __init__(self, x: Ids, vocabulary: int, order: int = _ORDER) -> None:
        self._order, self._vocabulary = order, vocabulary
        x = ids(x)
        self._levels = []
        for k in range(order):
            context, gram = self._keys(x, k)
            grams, at, count = np.unique(gram, return_index=True, return_counts=True)
            contexts, inverse = np.unique(context[at], return_inverse=True)
            total = np.bincount(inverse, count).astype(np.int64)
            self._levels.append(_Level(grams, count, contexts, total, np.bincount(inverse)))

    def _keys(self, x: Ids, k: int) -> tuple[Keys, Keys]:
        """Return the hashes of the k tokens before each that is told, and of these with it, (M,) both."""
        told = np.arange(x.shape[1]) < scored(x)[:, None]
        padded = np.pad(x, ((0, 0), (k, 0)))
        context = windows(padded, k)[:, : x.shape[1]][told] if k else np.zeros(int(told.sum()), np.uint64)
        return context, windows(padded, k + 1)[told]

    def log_prob(self, x: Ids) -> NDArray[np.float64]:
        """Return ln P of each token that is told in (M, L) ids, row after row, in nats."""
        x = ids(x)
        p = np.full(int(scored(x).sum()), 1 / self._vocabulary)
        for k, level in enumerate(self._levels):
            context, gram = self._keys(x, k)
            total, different = (looked_up(level.contexts, each, context) for each in (level.total, level.different))
            count = looked_up(level.grams, level.count, gram)
            p = np.where(total > 0, (count + different * p) / np.maximum(total + different, 1), p)
        logs: NDArray[np.float64] = np.log(p)
        return logs


def judged_ratio(train: Ids, held_out: Ids, generated: Ids, size: int) -> float:
    """Return the perplexity of generated rows under a judge of the training rows over that of held-out rows.

    Args:
        train: (N, L) ids.
        held_out: (K, L) ids.
        generated: (M, L) ids.
        size: of the vocabulary.
    """
    judge = NgramJudge(train, size)
    made, real = (-judge.log_prob(x).mean() for x in (generated, held_out))
    return math.exp(made - real)


def _compute(evidence: Evidence) -> Tensor:
    size = vocabulary(evidence)
    sets = (rows_of(evidence, which) for which in ("train", "held_out", "generated"))
    return per_arm(
        lambda train, held_out, generated: judged_ratio(train, held_out[:FIRST], generated[:FIRST], size), *sets
    )


METRICS.register(
    Metric(
        name="perplexity_judge_ratio",
        title="Perplexity of samples under a judge",
        definition=(
            f"Perplexity a token of the first {FIRST} generated rows under a trigram model of the real training rows "
            f"with Witten and Bell's smoothing, over that of the first {FIRST} held-out real rows under the same model."
        ),
        goal=1.0,
        note="below 1 for samples more predictable than real text",
        version=1,
        unit="ratio",
        floor=True,
        compute=_compute,
        needs=TEXT,
        demand=lambda sizes: Demand(memory=3 * held(sizes)),
    )
)
