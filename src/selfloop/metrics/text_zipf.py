"""The exponent of Zipf's law of token frequencies."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.text_rows import TEXT, Ids, counts, ids, rows_of

_STEEPEST = 128.0  # at which all but the first rank are below any share that can be counted


def zipf_exponent(x: Ids) -> float:
    """Return s of greatest likelihood under p(r) ∝ r^(−s) of the ranks r = 1 … K of the K tokens there; NaN below two.

    It solves E_s[ln r] = the mean of ln r over the tokens, so that each token weighs the same; a line through the
    logarithms of frequencies would give every rank the same weight, most of them of tokens seen once. Ranks are those
    of the set itself, which makes s too large by a little where most tokens are rare.

    Args:
        x: (N, L) ids; edges do not count.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import zipf_exponent
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> zipf_exponent(real) < zipf_exponent(made)
        True
    """
    from scipy.optimize import brentq  # not before: it takes a tenth of a second

    count = np.sort(counts(ids(x)))[::-1]
    count = count[count > 0]
    if len(count) < 2:
        return math.nan
    log = np.log(np.arange(1, len(count) + 1))
    seen = float(count @ log / count.sum())

    def excess(s: float) -> float:
        weight = np.exp(-s * log)
        return float(weight @ log / weight.sum()) - seen

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, _STEEPEST, xtol=1e-12))


def _compute(evidence: Evidence) -> Tensor:
    return per_arm(zipf_exponent, rows_of(evidence, "generated"))


METRICS.register(
    Metric(
        name="zipf_exponent",
        title="Zipf exponent",
        definition=(
            "s of greatest likelihood where the r-th commonest token of the generated rows has a share ∝ r^(−s), "
            "edges not counted."
        ),
        note="that of the training rows is the one to have",
        version=1,
        unit="exponent",
        floor=True,
        compute=_compute,
        needs=TEXT,
    )
)
