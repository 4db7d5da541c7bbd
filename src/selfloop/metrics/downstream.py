"""What generated rows are worth to a task: a model is trained on them and tested on real rows (Esteban et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.metrics.base import METRICS, Evidence, Metric, per_arm
from selfloop.metrics.boosting import expectations, probabilities
from selfloop.metrics.tables import COLUMNS, Table, tables


@dataclass(frozen=True)
class Classified:
    """How well classes of rows are told.

    Attributes:
        accuracy: share of the rows whose class is the most probable one.
        auc: area under the ROC curve of one class against the rest, the mean over the classes of the rows.
    """

    accuracy: float
    auc: float


def classification(train: Table, test: Table, target: str) -> Classified:
    """Return how well gradient-boosted trees, trained on one table, tell the classes of another.

    Rows without a class are left out of both. A class that is not in ``train`` has probability 0 in every row, so that
    no row of it is told right, and its area is ½. NaN where either has no row left, and for the area where the rows are
    all of one class.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, classification
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> classification(real, real, "city").accuracy
        0.5
    """
    from sklearn.metrics import roc_auc_score

    train, test = (x.take(~x.missing(target)) for x in (train, test))
    if not len(train) or not len(test):
        return Classified(np.nan, np.nan)
    known, share = probabilities(train, train.codes[target], test, target)
    true = test.codes[target]
    nothing = np.zeros(len(test))
    by = {int(code): share[:, i] for i, code in enumerate(known)}
    classes = np.unique(true)
    areas = [roc_auc_score(true == code, by.get(int(code), nothing)) for code in classes if len(classes) > 1]
    return Classified(float((known[share.argmax(1)] == true).mean()), float(np.mean(areas)) if areas else np.nan)


def regression(train: Table, test: Table, target: str) -> float:
    """Return R², of gradient-boosted trees that are trained on one table, in another.

    Rows without a value are left out of both. NaN where either has no row left, or the values do not vary.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, regression
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> regression(real, real, "age")
        0.0
    """
    train, test = (x.take(~x.missing(target)) for x in (train, test))
    if not len(train) or not len(test):
        return np.nan
    true = test.numbers[target]
    unit = true.max() - true.min()
    if not unit > 0:
        return np.nan
    found = expectations(train, train.numbers[target], test, target)
    error, spread = (found - true) / unit, (true - true.mean()) / unit
    return float(1 - (error @ error) / (spread @ spread))


def _classified(evidence: Evidence) -> list[Classified]:
    target = _target(evidence)
    return evidence.shared("classified", lambda: [classification(*arm, target) for arm in _pairs(evidence)])


def _score(evidence: Evidence) -> Tensor:
    target, pairs = _target(evidence), _pairs(evidence)
    if target in pairs[0][1].codes:
        return per_arm(lambda found: found.accuracy, _classified(evidence))
    return per_arm(lambda train, test: regression(train, test, target), *zip(*pairs, strict=True))


def _pairs(evidence: Evidence) -> list[tuple[Table, Table]]:
    return list(zip(tables(evidence, "generated"), tables(evidence, "held_out"), strict=True))


def _target(evidence: Evidence) -> str:
    if evidence.target is None:
        raise TypeError("there is no column to predict")
    return evidence.target


_NEEDS: frozenset[Capability] = COLUMNS | {"target"}
_MODEL = (
    "of scikit-learn's histogram gradient boosting, with its defaults, no early stopping and at most 1,000 trees, "
    "trained on the generated rows to predict the target column from the others, in the held-out real rows"
)

METRICS.register(
    Metric(
        name="tstr_score",
        title="Downstream score",
        definition=f"Accuracy, or R² where the target is a number, {_MODEL}.",
        goal="higher",
        note="up to that of the training rows",
        version=2,
        unit="share",
        scale="difference",
        floor=True,
        compute=_score,
        needs=_NEEDS,
    ),
    Metric(
        name="tstr_auc",
        title="Downstream AUC",
        definition=f"Area under the ROC curve, one class against the rest, the mean over classes, {_MODEL}.",
        goal="higher",
        note="up to that of the training rows",
        version=2,
        unit="probability",
        floor=True,
        compute=lambda e: per_arm(lambda found: found.auc, _classified(e)),
        needs=_NEEDS,
        classes=True,
    ),
)
