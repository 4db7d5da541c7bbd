"""Rows that are there before: in the generation itself, or among the training rows."""

from __future__ import annotations

from selfloop.metrics.base import METRICS, Metric, per_arm
from selfloop.metrics.tables import COLUMNS, Table, tables


def duplicate_rows(x: Table) -> float:
    """Return the share of rows that agree in every column with one before them.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, duplicate_rows
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> made = Table.of({"age": np.array([20, 20, 30, 30]), "city": np.array(["A", "A", "A", "B"])}, columns)
        >>> duplicate_rows(made)
        0.25
    """
    return 1 - len({*x.keys}) / len(x)


def copied_rows(train: Table, generated: Table) -> float:
    """Return the share of generated rows that agree in every column with a training row.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, copied_rows
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> made = Table.of({"age": np.array([20, 20, 30, 30]), "city": np.array(["A", "A", "A", "B"])}, columns)
        >>> copied_rows(real, made)
        0.75
    """
    known = {*train.keys}
    return sum(key in known for key in generated.keys) / len(generated)


METRICS.register(
    Metric(
        name="duplicate_rows",
        title="Duplicates",
        definition="Share of the generated rows that agree in every column with an earlier one of them.",
        goal="lower",
        note="down to that of the training rows",
        version=1,
        unit="share",
        scale="difference",
        compute=lambda e: per_arm(duplicate_rows, tables(e, "generated")),
        needs=COLUMNS,
    ),
    Metric(
        name="copied_rows",
        title="Copies of training rows",
        definition="Share of the generated rows that agree in every column with a real training row.",
        goal="lower",
        note="down to that of held-out rows",
        version=1,
        unit="share",
        scale="difference",
        compute=lambda e: per_arm(copied_rows, tables(e, "train"), tables(e, "generated")),
        needs=COLUMNS,
    ),
)
