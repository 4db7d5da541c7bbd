"""How far the laws of single tokens and of pairs are from those of real text.

Legend: p_k the share of k, a token or a pair, among the real ones; q_k among the generated ones, ½ added to each count.
"""

from __future__ import annotations

import numpy as np

from selfloop.metrics.base import METRICS, compared
from selfloop.metrics.text_rows import TEXT, Ids, held, ids, kinds, looked_up, rows_of, told

_ADDED = 0.5


def unigram_kl(real: Ids, generated: Ids) -> float:
    """Return Σ p_k ln(p_k / q_k) in nats over tokens, the edge that ends a row being one.

    Every token that either set has counts half an occurrence more among the generated ones (Krichevsky & Trofimov
    1981), so that one which these lack has a finite price.

    Args:
        real: (N, L) ids.
        generated: (M, L) ids.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import unigram_kl
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> unigram_kl(real, real) < unigram_kl(real, made)
        True
    """
    return _divergence(*(x[told(x)] for x in (ids(real), ids(generated))))


def bigram_kl(real: Ids, generated: Ids) -> float:
    """Return the same over pairs of a token and the one before it, which is the edge at the beginning of a row.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import bigram_kl
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> bigram_kl(real, real) < bigram_kl(real, made)
        True
    """
    real, generated = ids(real), ids(generated)
    size = int(max(real.max(), generated.max())) + 1
    return _divergence(*(_pairs(x, size) for x in (real, generated)))


def _pairs(x: Ids, size: int) -> Ids:
    before = np.pad(x[:, :-1], ((0, 0), (1, 0)))
    return (before * size + x)[told(x)]


def _divergence(real: Ids, generated: Ids) -> float:
    """Return Σ p_k ln(p_k / q_k) of kinds (N,) and (M,)."""
    (kind, here), (other, there) = kinds(real), kinds(generated)
    made = looked_up(other, there, kind)
    different = len(kind) + len(other) - np.count_nonzero(made)
    p, q = here / len(real), (made + _ADDED) / (len(generated) + _ADDED * different)
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
