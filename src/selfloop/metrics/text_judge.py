"""Perplexity of samples under a fixed judge: an n-gram model of the real training rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfloop.core.recent import Recent
from selfloop.learning.ngrams import Law, counted
from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.demand import Demand
from selfloop.metrics.text_rows import TEXT, Ids, held, ids, rows_of, told, vocabulary

_ORDER = 3
_DISCOUNT = 0.75


def judge(train: Ids, size: int) -> Law:
    """Return a trigram model of (N, L) ids with Kneser and Ney's smoothing, interpolated down to the uniform law.

    Args:
        train: the rows.
        size: of the vocabulary, the edge included.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import judge
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> law = judge(real, size=10)
        >>> law.log_prob(real.astype(np.int32), real > 0).shape
        (3,)
    """
    x = ids(train)
    return Law(counted(x.astype(np.int32), told(x), None, _ORDER, size), size, None, _DISCOUNT)


def judged_perplexities(by: Law, x: Ids) -> NDArray[np.float64]:
    """Return the perplexity a token of each of (M, L) rows, (M,); edges that end them are tokens.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import judge, judged_perplexities
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> law = judge(real, size=10)
        >>> int(judged_perplexities(law, made).argmax())  # the row that is none of the real ones
        2
    """
    use = told(ids(x))
    found: NDArray[np.float64] = np.exp(-by.log_prob(ids(x).astype(np.int32), use) / use.sum(1))
    return found


def judged_ratio(train: Ids, held_out: Ids, generated: Ids, size: int) -> float:
    """Return the perplexity of generated rows under a judge of the training rows over that of held-out rows.

    All tokens of a set weigh the same.

    Args:
        train: (N, L) ids.
        held_out: (K, L) ids.
        generated: (M, L) ids.
        size: of the vocabulary, the edge included.
    """
    by = _JUDGES.get((train, held_out), size, lambda: _Judge.of(train, held_out, size))
    return math.exp(_loss(by.law, generated) - by.real)


@dataclass(frozen=True)
class _Judge:
    """A judge of some training rows, and the loss a token of the held-out ones by it, in nats."""

    law: Law
    real: float

    @classmethod
    def of(cls, train: Ids, held_out: Ids, size: int) -> _Judge:
        law = judge(train, size)
        return cls(law, _loss(law, held_out))

    @property
    def nbytes(self) -> int:
        return self.law.nbytes


_JUDGES: Recent[_Judge] = Recent(2**28)  # real rows are the same in every generation


def _loss(by: Law, x: Ids) -> float:
    return float(-by.log_prob(x.astype(np.int32), told(x)).sum() / told(x).sum())


def _compute(evidence: Evidence) -> Tensor:
    size = vocabulary(evidence)
    sets = (rows_of(evidence, which) for which in ("train", "held_out", "generated"))
    return per_arm(lambda train, held_out, generated: judged_ratio(train, held_out, generated, size), *sets)


METRICS.register(
    Metric(
        name="perplexity_judge_ratio",
        title="Perplexity of samples under a judge",
        definition=(
            "Perplexity a token of the generated rows under a trigram model of the real training rows with Kneser and "
            "Ney's smoothing, over that of the held-out real rows under the same model."
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
