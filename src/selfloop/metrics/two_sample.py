"""How well a classifier tells generated rows from real ones that no model has seen (Lopez-Paz & Oquab 2017)."""

from __future__ import annotations

import numpy as np

from selfloop.metrics.base import METRICS, Metric, per_arm
from selfloop.metrics.boosting import probabilities
from selfloop.metrics.demand import Demand
from selfloop.metrics.tables import COLUMNS, Table, tables

_FOLDS = 5
_MOST = 5000  # rows of either set


def two_sample_auc(real: Table, generated: Table) -> float:
    """Return the area under the ROC curve of gradient-boosted trees that tell two sets apart, mean of 5 folds.

    Equally many of the first rows of both are taken, at most 5000. The i-th row of either is in fold i modulo 5: of two
    sets that are the same in order, trees learn nothing of either, and the area is ½.

    Raises:
        ValueError: fewer than 5 rows.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, two_sample_auc
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> rows = real.take(np.tile(np.arange(4), 5))
        >>> two_sample_auc(rows, rows)
        0.5
    """
    from sklearn.metrics import roc_auc_score

    n = min(len(real), len(generated), _MOST)
    if n < _FOLDS:
        raise ValueError(f"there must be at least {_FOLDS} rows of each, not {n}")
    both = real.take(slice(n)).joined(generated.take(slice(n)))
    fold, made = np.tile(np.arange(n) % _FOLDS, 2), np.repeat([0, 1], n)
    areas = []
    for i in range(_FOLDS):
        fitted, asked = fold != i, fold == i
        _, share = probabilities(both.take(fitted), made[fitted], both.take(asked))
        areas.append(roc_auc_score(made[asked], share[:, 1]))
    return float(np.mean(areas))


METRICS.register(
    Metric(
        name="two_sample_auc",
        title="Two-sample AUC",
        definition=(
            "Area under the ROC curve of gradient-boosted trees that tell the generated from the held-out rows, on as "
            "many of the first of both, at most 5000, by 5-fold cross-validation."
        ),
        goal=0.5,
        note="1 where every row is told",
        version=1,
        unit="probability",
        floor=True,
        compute=lambda e: per_arm(two_sample_auc, tables(e, "held_out"), tables(e, "generated")),
        needs=COLUMNS,
        demand=lambda sizes: Demand(rows={"held_out": _FOLDS, "generated": _FOLDS}),
    )
)
