"""Gradient-boosted trees on the columns of a table, as metrics use them: always the same, and on one thread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from selfloop.metrics.tables import MISSING, Codes, Floats, Table

_LEVELS = 254
"""Levels of a category that trees tell apart; the others are one more, as a bin is a byte."""


def probabilities(fitted: Table, classes: Codes, asked: Table, names: Sequence[str]) -> tuple[Codes, Floats]:
    """Return the classes that there are, (k,), and how probable each is in the rows asked, (M, k).

    It is scikit-learn's histogram gradient boosting with its defaults, and no early stopping. A missing value is a
    state of its own; of a category with more than 254 levels the commonest are told apart.

    Args:
        fitted: rows to fit to.
        classes: of them, (N,); where there is one, it is certain.
        asked: M rows.
        names: of the columns to look at; without any, a class is as probable as it is frequent.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second that these metrics alone should cost

    known, count = np.unique(classes, return_counts=True)
    if len(known) == 1 or not names:
        return known, np.tile(count / len(classes), (len(asked), 1))
    x, y = _matrices(fitted, asked, names)
    model = HistGradientBoostingClassifier(
        early_stopping=False, random_state=0, categorical_features=_chosen(fitted, names)
    )
    with threadpool_limits(1):
        share: Floats = model.fit(x, classes).predict_proba(y)
    return known, share


def expectations(fitted: Table, values: Floats, asked: Table, names: Sequence[str]) -> Floats:
    """Return the value to expect in each of the rows asked, (M,), by the same for values (N,)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    mean, deviation = values.mean(), values.std()
    if not deviation > 0 or not names:
        return np.full(len(asked), mean)
    x, y = _matrices(fitted, asked, names)
    model = HistGradientBoostingRegressor(
        early_stopping=False, random_state=0, categorical_features=_chosen(fitted, names)
    )
    with threadpool_limits(1):  # gradients are float32
        found: Floats = model.fit(x, (values - mean) / deviation).predict(y)
    return mean + deviation * found


def _chosen(x: Table, names: Sequence[str]) -> list[bool]:
    return [name in x.codes for name in names]


def _matrices(fitted: Table, asked: Table, names: Sequence[str]) -> list[Floats]:
    """Return the columns of both, (N, d) and (M, d), categories by their rank among the rows to fit to."""
    pairs = []
    for name in names:
        if name in fitted.numbers:
            pairs.append([fitted.numbers[name], asked.numbers[name]])
            continue
        codes = [fitted.codes[name], asked.codes[name]]
        rank = _ranks(codes[0], 1 + max(int(c.max(initial=MISSING)) for c in codes))
        pairs.append([np.where(c == MISSING, np.nan, rank[c]) for c in codes])
    return [np.column_stack(columns) for columns in zip(*pairs, strict=True)]


def _ranks(codes: Codes, count: int) -> Codes:
    """Return the rank of every code below ``count`` by how often it occurs, at most so many."""
    times = np.bincount(codes[codes != MISSING], minlength=count)
    rank = np.empty(count, np.int64)
    rank[np.argsort(-times, kind="stable")] = np.arange(count)
    return rank.clip(max=_LEVELS)
