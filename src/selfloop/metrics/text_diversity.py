"""How varied texts are: n-grams that differ, n-grams that a row says again, and rows that say what others say."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.counts import Counts
from selfloop.metrics.demand import Demand
from selfloop.metrics.text_rows import FIRST, TEXT, Ids, held, ids, inside, lengths, ngrams, rows_of, windows

_ORDER = 4  # of BLEU, and of the n-grams whose repetition is counted
_SMALL = 0.1  # matches that BLEU counts where there are none


def distinct(x: Ids, n: int) -> float:
    """Return the share of different n-grams among all within rows (Li et al. 2016); NaN of none.

    Args:
        x: (N, L) ids.
        n: tokens of an n-gram.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import distinct
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> distinct(made, 1) < distinct(real, 1)
        True
    """
    keys = ngrams(ids(x), n)
    return len(Counts.of(keys).kinds) / len(keys) if len(keys) else math.nan


def repetition(x: Ids, n: int = _ORDER) -> float:
    """Return the share of a row's n-grams that it has said before, the mean over rows that have some; NaN of none.

    That is 1 − |different n-grams| / |n-grams|, seq-rep-n of Welleck et al. 2020.

    Args:
        x: (N, L) ids.
        n: tokens of an n-gram.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import repetition
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> round(repetition(made, n=2), 3)
        0.111
    """
    x = ids(x)
    if n > x.shape[1]:
        return math.nan
    total = np.maximum(lengths(x) - n + 1, 0)
    keys = np.sort(np.where(inside(x, n), windows(x, n), np.uint64(0)), axis=1)  # a hash is never 0 but by chance
    again = ((keys[:, 1:] == keys[:, :-1]) & (keys[:, 1:] != 0)).sum(1)
    some = total > 0
    return float((again[some] / total[some]).mean()) if some.any() else math.nan


def self_bleu(x: Ids) -> float:
    """Return the mean BLEU-4 of each row with all others as its references (Zhu et al. 2018); NaN of a single row.

    Precisions are of n-grams up to 4, each clipped at the most that any other row has of it, and count 0.1 matches
    where there are none (method 1 of Chen & Cherry 2014); the brevity penalty is to the nearest length, the shorter of
    two; a row of which no token is elsewhere has 0. All rows take part: what is clipped at needs the two rows alone
    that have most of an n-gram, so that the cost is that of sorting n-grams.

    Args:
        x: (N, L) ids.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import self_bleu
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> self_bleu(made) > self_bleu(real)
        True
    """
    x = ids(x)
    if len(x) == 1:
        return math.nan
    length = lengths(x)
    logs, none = np.zeros(len(x)), np.zeros(len(x), bool)
    for n in range(1, _ORDER + 1):
        matched = _clipped(x, n)
        none |= (n == 1) & (matched == 0)
        logs += np.log(np.where(matched > 0, matched, _SMALL) / np.maximum(length - n + 1, 1))
    nearest = _nearest(length)
    brevity = np.where(length > nearest, 0.0, 1 - nearest / np.maximum(length, 1))
    return float(np.where(none | (length == 0), 0.0, np.exp(brevity + logs / _ORDER)).mean())


def _clipped(x: Ids, n: int) -> Ids:
    """Return how many n-grams of each row are elsewhere, each at most as often as in the row that has most, (N,)."""
    if n > x.shape[1]:
        return np.zeros(len(x), np.int64)
    use = inside(x, n)
    if not use.any():
        return np.zeros(len(x), np.int64)
    gram = np.unique(windows(x, n)[use], return_inverse=True)[1]
    pairs = Counts.of(gram * len(x) + np.nonzero(use)[0])  # by n-gram, then by row
    pair, count = pairs.kinds, pairs.times
    gram, row = pair // len(x), pair % len(x)
    begin = np.flatnonzero(np.diff(gram, prepend=-1))
    most = np.maximum.reduceat(count, begin)
    top = np.flatnonzero(count == most[gram])
    top = top[np.diff(gram[top], prepend=-1) > 0]  # one row that has most of each n-gram
    others = count.copy()
    others[top] = 0
    limit = most[gram]
    limit[top] = np.maximum.reduceat(others, begin)  # which is clipped at the second most
    return np.bincount(row, np.minimum(count, limit), minlength=len(x)).astype(np.int64)


def _nearest(length: Ids) -> Ids:
    """Return of each row the length nearest to its own among the others', the shorter of two, (N,)."""
    own, inverse, count = np.unique(length, return_inverse=True, return_counts=True)
    below, above = np.roll(own, 1), np.roll(own, -1)
    far = np.iinfo(np.int64).max
    down, up = own - below, above - own
    down[0], up[-1] = far, far
    other = np.where(down <= up, below, above)
    return np.where(count > 1, own, other)[inverse]


def _of(value: Callable[[Ids], float]) -> Callable[[Evidence], Tensor]:
    return lambda e: per_arm(value, rows_of(e, "generated"))


METRICS.register(
    *(
        Metric(
            name=f"distinct_{n}",
            title=f"Distinct-{n}",
            definition=(
                f"Share of different {word} among all {word} within the generated rows, edges not counted "
                "(Li et al. 2016); it falls with the number of tokens."
            ),
            goal="higher",
            note="up to that of the training rows",
            version=1,
            unit="share",
            floor=True,
            compute=_of(functools.partial(distinct, n=n)),
            needs=TEXT,
            demand=lambda sizes: Demand(memory=held(sizes)),
        )
        for n, word in ((1, "tokens"), (2, "pairs of tokens"), (3, "triples of tokens"))
    ),
    Metric(
        name="repetition_4",
        title="Repetition within rows",
        definition=(
            "1 less the share of different 4-grams of tokens among those of a row (seq-rep-4; Welleck et al. 2020), "
            "the mean over the generated rows that have some."
        ),
        goal="lower",
        note="down to that of the training rows",
        version=1,
        unit="share",
        scale="difference",
        floor=True,
        compute=_of(repetition),
        needs=TEXT,
        demand=lambda sizes: Demand(memory=held(sizes)),
    ),
    Metric(
        name="self_bleu",
        title="Self-BLEU",
        definition=(
            f"Mean BLEU-4 of each of the first {FIRST} generated rows with all others of them as its references (Zhu "
            "et al. 2018), a precision of 0 counting 0.1 matches; it rises with the number of rows."
        ),
        goal="lower",
        note="down to that of the training rows",
        version=1,
        unit="share",
        floor=True,
        compute=_of(lambda x: self_bleu(x[:FIRST])),
        needs=TEXT,
        demand=lambda sizes: Demand(rows={"generated": 2}),
    ),
)
