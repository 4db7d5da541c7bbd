"""Which levels of categories are still there, and which of the rare ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.tables import COLUMNS, Table, tables

RARE = 0.01
"""The share of rows below which a level is rare."""


@dataclass(frozen=True)
class Kept:
    """How many of the levels of the real rows' categories are among the generated ones; NaN of none.

    Attributes:
        levels: share of the levels.
        weighted: share of the real values whose level it is.
        rare: share of the levels that less than 1 % of the real rows have.
    """

    levels: float
    weighted: float
    rare: float


def levels_kept(real: Table, generated: Table) -> Kept:
    """Return how many levels of all categories survive, a missing one being a level.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, levels_kept
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> made = Table.of({"age": np.array([20, 20, 30, 30]), "city": np.array(["A", "A", "A", "B"])}, columns)
        >>> levels_kept(real, made)
        Kept(levels=1.0, weighted=1.0, rare=nan)
    """
    weights, survivors = [np.empty(0)], [np.empty(0, bool)]
    for name, codes in real.codes.items():
        level, count = np.unique(codes, return_counts=True)
        weights.append(count / len(codes))
        survivors.append(np.isin(level, generated.codes[name]))
    weight, kept = np.concatenate(weights), np.concatenate(survivors)
    if not len(kept):
        return Kept(np.nan, np.nan, np.nan)
    rare = weight < RARE
    weighted = float(weight @ kept / weight.sum())
    return Kept(float(kept.mean()), weighted, float(kept[rare].mean()) if rare.any() else np.nan)


def _part(part: str) -> Callable[[Evidence], Tensor]:
    def kept(real: Table, generated: Table) -> float:
        return float(getattr(levels_kept(real, generated), part))

    return lambda e: per_arm(kept, tables(e, "train"), tables(e, "generated"))


_OF = "that the real training rows have of all categories"
_SEEN = "that are among the generated rows too, a missing one being a level"

METRICS.register(
    *(
        Metric(
            name=name,
            title=title,
            definition=definition,
            goal="higher",
            version=1,
            unit="share",
            compute=_part(part),
            needs=COLUMNS,
        )
        for name, title, definition, part in (
            ("levels_kept", "Levels kept", f"Share of the levels {_OF} {_SEEN}.", "levels"),
            (
                "levels_kept_weighted",
                "Levels kept, by rows",
                f"The same, each level weighted by the share of training rows that have it: the levels {_OF}, {_SEEN}.",
                "weighted",
            ),
            (
                "rare_levels_kept",
                "Rare levels kept",
                f"Share of the levels {_OF}, each in less than 1 % of them, {_SEEN}.",
                "rare",
            ),
        )
    )
)
