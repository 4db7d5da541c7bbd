"""Gradient-boosted trees on the columns of a table, as metrics use them: always the same, and on one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from selfloop.metrics.tables import MISSING, Codes, Floats, Table

_TREES = 1000
"""Of a model at most: every iteration makes one for each class, so that many classes have fewer iterations."""

_LEVELS = 254
"""Levels of a category that trees tell apart; the others are one more, as a bin is a byte."""


def probabilities(fitted: Table, classes: Codes, asked: Table, target: str | None = None) -> tuple[Codes, Floats]:
    """Return the classes that there are, (k,), and how probable each is in the rows asked, (M, k).

    It is scikit-learn's histogram gradient boosting with its defaults, no early stopping, and at most 1000 trees: of
    more than 10 classes fewer iterations than 100. A missing value is a state of its own; of a category with more than
    254 levels the commonest are told apart.

    Args:
        fitted: rows to fit to; where they lack all values, a class is as probable as it is frequent.
        classes: of them, (N,); where there is one, it is certain.
        asked: M rows with the same columns.
        target: a column not to look at.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second that these metrics alone should cost

    known, count = np.unique(classes, return_counts=True)
    seen = _informed(fitted, target)
    if len(known) == 1 or not seen.names:
        return known, np.tile(count / len(classes), (len(asked), 1))
    return known, _boosted(HistGradientBoostingClassifier, seen, classes, asked, "predict_proba", len(known))


def expectations(fitted: Table, values: Floats, asked: Table, target: str) -> Floats:
    """Return the value to expect in each of the rows asked, (M,), by the same for values (N,)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    mean, deviation, seen = values.mean(), values.std(), _informed(fitted, target)
    if not deviation > 0 or not seen.names:
        return np.full(len(asked), mean)
    units = (values - mean) / deviation  # as gradients are float32
    found: Floats = mean + deviation * _boosted(HistGradientBoostingRegressor, seen, units, asked, "predict")
    return found


def _informed(x: Table, target: str | None) -> Table:
    """Return the other columns that have a value at all, as scikit-learn makes no bins of nothing."""
    return x.only([name for name in x.names if name != target and not x.missing(name).all()])


def _boosted(model: Any, fitted: Table, y: Any, asked: Table, answer: str, classes: int = 2) -> Floats:
    x, wanted = _matrices(fitted, asked)
    categories = [name in fitted.codes for name in fitted.names]
    trees = classes if classes > 2 else 1  # of an iteration
    iterations = min(100, max(1, _TREES // trees))
    boosted = model(max_iter=iterations, early_stopping=False, random_state=0, categorical_features=categories)
    with threadpool_limits(1):
        found: Floats = getattr(boosted.fit(x, y), answer)(wanted)
    return found


def _matrices(fitted: Table, asked: Table) -> list[Floats]:
    """Return the columns of both, (N, d) and (M, d), categories by their rank among the rows to fit to."""
    pairs = []
    for name in fitted.names:
        if name in fitted.numbers:
            pairs.append([fitted.numbers[name], asked.numbers[name]])
            continue
        codes = [fitted.codes[name], asked.codes[name]]
        rank = _ranks(codes[0], 1 + max(int(c.max()) for c in codes))
        pairs.append([np.where(c == MISSING, np.nan, rank[c]) for c in codes])
    return [np.column_stack(columns) for columns in zip(*pairs, strict=True)]


def _ranks(codes: Codes, count: int) -> Codes:
    """Return the rank of every code below ``count`` by how often it occurs, at most so many."""
    times = np.bincount(codes[codes != MISSING], minlength=count)
    rank = np.empty(count, np.int64)
    rank[np.argsort(-times, kind="stable")] = np.arange(count)
    return rank.clip(max=_LEVELS)
