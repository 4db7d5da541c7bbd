"""How far the laws of single tokens and of pairs are from those of real text.

Legend: p_k the share of k, a token or a pair, among the real ones; q_k among the generated ones, ½ added to each count.
"""

from __future__ import annotations

import numpy as np

from selfloop.metrics.base import METRICS, compared
from selfloop.metrics.counts import Counts
from selfloop.metrics.text_rows import TEXT, Ids, held, ids, rows_of, told

_ADDED = 0.5
_PAIR = 2**32
_TOKENS, _PAIRS = "tokens", "pairs of tokens"


def token_counts(x: Ids) -> Counts:
    """Return how often each token is told in (N, L) ids, the edge that ends a row being one.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import token_counts, unigram_kl
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> parts = token_counts(real[:1]) + token_counts(real[1:])
        >>> unigram_kl(parts, real) == unigram_kl(real, real)
        True
    """
    x = ids(x)
    return Counts.of(x[told(x)], _TOKENS)


def bigram_counts(x: Ids) -> Counts:
    """Return how often each pair of a token and the one before it, the edge at the beginning of a row, is told.

    A pair counts under 2³² times the token before plus the token.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import bigram_counts
        >>> bigram_counts(np.array([[1, 2, 1, 2]])).times.tolist()  # edge 1, 1 2, 2 1
        [1, 2, 1]
    """
    x = ids(x)
    before = np.pad(x[:, :-1], ((0, 0), (1, 0)))
    return Counts.of((before * _PAIR + x)[told(x)], _PAIRS)


def unigram_kl(real: Ids | Counts, generated: Ids | Counts) -> float:
    """Return Σ p_k ln(p_k / q_k) in nats over tokens, the edge that ends a row being one.

    Every token that either set has counts half an occurrence more among the generated ones (Krichevsky & Trofimov
    1981), so that one which these lack has a finite price.

    Args:
        real: (N, L) ids, or their :func:`token_counts`, which may be the sum of those of parts.
        generated: the same of the other set.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import unigram_kl
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> unigram_kl(real, real) < unigram_kl(real, made)
        True
    """
    here, there = (x if isinstance(x, Counts) else token_counts(x) for x in (real, generated))
    return _divergence(here, there, _TOKENS)


def bigram_kl(real: Ids | Counts, generated: Ids | Counts) -> float:
    """Return the same over pairs of a token and the one before it, of ids or :func:`bigram_counts`.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import bigram_kl
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> bigram_kl(real, real) < bigram_kl(real, made)
        True
    """
    here, there = (x if isinstance(x, Counts) else bigram_counts(x) for x in (real, generated))
    return _divergence(here, there, _PAIRS)


def _divergence(real: Counts, generated: Counts, what: str) -> float:
    """Return Σ p_k ln(p_k / q_k)."""
    for counts in (real, generated):
        counts.refuse_other(what)
    made = generated.at(real.kinds)
    different = len(real.kinds) + len(generated.kinds) - np.count_nonzero(made)
    p, q = real.times / real.total, (made + _ADDED) / (generated.total + _ADDED * different)
    return max(0.0, float((p * np.log(p / q)).sum()))


METRICS.register(
    *(
        metric
        for name, title, value, what in (
            ("unigram_kl", "Unigram KL", unigram_kl, "tokens, the edge that ends a row among them"),
            ("bigram_kl", "Bigram KL", bigram_kl, "pairs of a token and the one before it, rows between edges"),
        )
        for metric in compared(
            name,
            title,
            f"Kullback–Leibler divergence from {{real}} to the generated rows of the shares of {what}, ½ added to "
            "every count of the latter.",
            "nats",
            value,
            memory=held,
            sets=rows_of,
            needs=TEXT,
        )
    )
)
