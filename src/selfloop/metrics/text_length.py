"""How long rows of text are."""

from __future__ import annotations

import math

from selfloop.metrics.base import METRICS, Metric, per_arm
from selfloop.metrics.text_rows import TEXT, Ids, ids, lengths, rows_of


def mean_length(x: Ids) -> float:
    """Return the mean number of tokens before the edge of (N, L) rows."""
    return float(lengths(ids(x)).mean())


def _ratio(train: Ids, generated: Ids) -> float:
    return mean_length(generated) / whole if (whole := mean_length(train)) else math.nan


METRICS.register(
    Metric(
        name="length_ratio",
        title="Length of rows",
        definition="Mean number of tokens before the edge of the generated rows, over that of the real training rows.",
        goal=1.0,
        version=1,
        unit="ratio",
        compute=lambda e: per_arm(_ratio, rows_of(e, "train"), rows_of(e, "generated")),
        needs=TEXT,
    )
)
