"""Which tokens are still said, how often the rare ones are, and how evenly all of them are.

Legend: p_k the share of token k among the tokens of a set, edges not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from torch import Tensor

from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.text_rows import TEXT, Ids, counts, ids, rows_of

Band = Literal["common", "middle", "rare"]
BANDS: dict[Band, tuple[float, float]] = {"common": (0.0, 0.5), "middle": (0.5, 0.9), "rare": (0.9, 1.0)}
"""By which shares of the tokens of the training rows bands begin and end, the commonest first."""


def band(train: Ids, name: Band) -> NDArray[np.bool_]:
    """Return which tokens are of a band of frequency, (V,) by id.

    The tokens of the training rows are taken from the commonest down, of equally common ones the lower id first; each
    is of the band in which the share of those before it lies.

    Args:
        train: (N, L) ids.
        name: of the band.
    """
    count = counts(ids(train))
    order = np.argsort(-count, kind="stable")
    before = (count[order].cumsum() - count[order]) / max(count.sum(), 1)
    low, high = BANDS[name]
    found = np.zeros(len(count), bool)
    found[order] = (low <= before) & (before < high) & (count[order] > 0)
    return found


def tokens_kept(train: Ids, generated: Ids, name: Band | None = None) -> float:
    """Return the share of the tokens of training rows that generated rows still have; NaN of none.

    Args:
        train: (N, L) ids.
        generated: (M, L) ids.
        name: of the band of tokens; None is all.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import tokens_kept
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> round(tokens_kept(real, made), 3)
        0.444
    """
    there = counts(ids(train)) > 0 if name is None else band(train, name)
    kept = counts(ids(generated), len(there))[: len(there)] > 0
    return float(kept[there].mean()) if there.any() else math.nan


def mass_ratio(train: Ids, generated: Ids, name: Band) -> float:
    """Return Σ p_k of the tokens of a band among the generated over the same among the training rows; NaN of none.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import mass_ratio
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> round(mass_ratio(real, made, "rare"), 3)
        0.0
    """
    of = band(train, name)
    real, made = counts(ids(train), len(of)), counts(ids(generated), len(of))
    if not of.any() or not made.any():
        return math.nan
    return float((made[: len(of)][of].sum() / made.sum()) / (real[of].sum() / real.sum()))


def token_entropy(x: Ids) -> float:
    """Return −Σ p_k ln p_k of (N, L) rows in nats, of the shares as they are; NaN without tokens.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import token_entropy
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> token_entropy(made) < token_entropy(real)
        True
    """
    count = counts(ids(x))
    if not count.any():
        return math.nan
    share = count / count.sum()
    return float(-xlogy(share, share).sum())


def _against_training(value: Callable[[Ids, Ids], float]) -> Callable[[Evidence], Tensor]:
    return lambda e: per_arm(value, rows_of(e, "train"), rows_of(e, "generated"))


_BY = "of the tokens that the real training rows have"
_WHICH = {
    "common": "the commonest, which make up half of their tokens",
    "middle": "those after the commonest half and before the rarest tenth of their tokens",
    "rare": "the rarest, which make up the last tenth of their tokens",
}

METRICS.register(
    Metric(
        name="tokens_kept",
        title="Tokens kept",
        definition=f"Share {_BY} that are in the generated rows too.",
        goal="higher",
        note="up to that of held-out rows",
        version=1,
        unit="share",
        compute=_against_training(tokens_kept),
        needs=TEXT,
    ),
    Metric(
        name="rare_tokens_kept",
        title="Rare tokens kept",
        definition=f"Share {_BY}, {_WHICH['rare']}, that are in the generated rows too.",
        goal="higher",
        note="up to that of held-out rows",
        version=1,
        unit="share",
        compute=_against_training(lambda train, generated: tokens_kept(train, generated, "rare")),
        needs=TEXT,
    ),
    *(
        Metric(
            name=f"{name}_mass_ratio",
            title=f"Mass of {name} tokens",
            definition=(
                f"Share of the generated tokens that are, {_BY}, {words}; over the same share of the training rows."
            ),
            goal=1.0,
            version=1,
            unit="ratio",
            compute=_against_training(lambda train, generated, name=name: mass_ratio(train, generated, name)),  # type: ignore[misc]
            needs=TEXT,
        )
        for name, words in _WHICH.items()
    ),
    Metric(
        name="token_entropy",
        title="Token entropy",
        definition="Entropy of the shares of single tokens in the generated rows, less that of the real training rows.",
        goal=0.0,
        version=1,
        unit="nats",
        scale="difference",
        compute=_against_training(lambda train, generated: token_entropy(generated) - token_entropy(train)),
        needs=TEXT,
    ),
)
