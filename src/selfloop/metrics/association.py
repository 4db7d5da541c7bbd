"""How columns go together, pair by pair, beside the real rows.

Legend: n rows, k and r levels, z numbers in standard units.
"""

from __future__ import annotations

import numpy as np

from selfloop.metrics.base import METRICS, compared
from selfloop.metrics.tables import COLUMNS, MISSING, Codes, Floats, Table, tables

_MOST = 100
"""Columns whose pairs are looked at."""


def associations(x: Table) -> Floats:
    """Return the association of every two columns, (K, K) in their order, 1 with themselves.

    Of two numbers or times it is Pearson's correlation over the rows where both are there, −1 … 1; of two categories
    Cramér's V, and of a number with a category the correlation ratio, 0 … 1, with their corrections for bias, without
    which a set would have more of either the fewer its rows are. A missing category is a level. It is 0 where it is not
    defined, as where one of the two does not vary.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, associations
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> associations(real).shape
        (2, 2)
    """
    at = {name: i for i, name in enumerate(x.names)}
    found = np.eye(len(x.names))
    numbers, categories = [at[name] for name in x.numbers], list(x.codes)
    if numbers:
        found[np.ix_(numbers, numbers)] = _correlations(np.column_stack(list(x.numbers.values())))
    for i, one in enumerate(categories):
        for other in categories[:i]:
            found[at[one], at[other]] = found[at[other], at[one]] = cramers_v(x.codes[one], x.codes[other])
        for number, values in x.numbers.items():
            found[at[one], at[number]] = found[at[number], at[one]] = correlation_ratio(x.codes[one], values)
    return found


def association_error(real: Table, generated: Table) -> float:
    """Return the mean |difference| of the associations over all pairs of columns; 0 where there is one column.

    Of more than 100 columns it is that of 100 at equal distances.

    Examples:
        >>> import numpy as np
        >>> from selfloop.core.columns import Category, Number
        >>> from selfloop.metrics import Table, association_error
        >>> columns = [Number("age", "int64", low=20, high=60), Category("city", levels=("A", "B"))]
        >>> real = Table.of({"age": np.array([20, 30, 50, 60]), "city": np.array(["A", "A", "B", "B"])}, columns)
        >>> association_error(real, real)
        0.0
    """
    names = real.names
    if len(names) > _MOST:
        names = tuple(names[i] for i in np.linspace(0, len(names) - 1, _MOST).round().astype(int))
    a, b = (associations(x.only(names)) for x in (real, generated))
    error = np.abs(a - b)[np.triu_indices(len(names), 1)]
    return float(error.mean()) if len(error) else 0.0


def _correlations(x: Floats) -> Floats:
    """Return Pearson's correlations of (n, d) numbers over the rows where both of a pair are there, (d, d)."""
    gaps = np.isnan(x)
    z = _standard(x)
    found = np.where(gaps, 0.0, z).T @ np.where(gaps, 0.0, z) / len(x)
    for i in np.flatnonzero(gaps.any(0)).tolist():
        for j in range(x.shape[1]):
            pair = x[~(gaps[:, i] | gaps[:, j])][:, [i, j]]
            found[i, j] = found[j, i] = _standard(pair).prod(1).mean() if len(pair) else 0.0
    np.fill_diagonal(found, 1.0)
    return found.clip(-1, 1)


def _standard(x: Floats) -> Floats:
    """Return numbers (n, …) less their mean over their deviation, whatever their size; NaN stays, constants are 0."""
    there = ~np.isnan(x)
    low, high = x.min(0, where=there, initial=np.inf), x.max(0, where=there, initial=-np.inf)
    low, high = np.where(there.any(0), [low, high], 0.0)
    span = np.where(high > low, high / 2 - low / 2, 1.0)
    u = (x - np.where(high > low, high / 2 + low / 2, low)) / span
    count = np.maximum(there.sum(0), 1)
    u = u - u.sum(0, where=there) / count
    deviation = np.sqrt((u * u).sum(0, where=there) / count)
    z: Floats = u / np.where(deviation > 0, deviation, 1.0)
    return z


def cramers_v(a: Codes, b: Codes) -> float:
    """Return Cramér's V of two categories (n,), corrected for bias (Bergsma 2013).

    φ² = χ²/n loses what it has by chance, (k − 1)(r − 1)/(n − 1), and so do k and r.
    """
    n, (i, p), (j, q) = len(a), _present(a), _present(b)
    k, r = len(p), len(q)
    if k < 2 or r < 2:
        return 0.0
    if k * r <= n:
        every = np.bincount(i * r + j, minlength=k * r)
        pair = np.flatnonzero(every)
        count = every[pair]
    else:  # a table of all pairs would be larger than the rows
        pair, count = np.unique(i * r + j, return_counts=True)
    chance = (k - 1) * (r - 1) / (n - 1)
    phi = max(0.0, float((count / p[pair // r] * (count / q[pair % r])).sum()) - 1 - chance)
    least = min(k - (k - 1) ** 2 / (n - 1), r - (r - 1) ** 2 / (n - 1)) - 1
    return min(1.0, float(np.sqrt(phi / least))) if least > 0 else 0.0


def _present(codes: Codes) -> tuple[Codes, Codes]:
    """Return which of the codes that occur each is, (n,), and how often each of these does; quicker than sorting."""
    times = np.bincount(codes - MISSING)
    return (np.cumsum(times > 0) - 1)[codes - MISSING], times[times > 0]


def correlation_ratio(codes: Codes, numbers: Floats) -> float:
    """Return the correlation ratio of numbers (n,) on categories (n,), corrected for bias: ε of Kelley 1935.

    ε² = 1 − (1 − η²)(n − 1)/(n − k), and η² the share of the variance that is between the k categories; over the rows
    whose number is there.
    """
    there = ~np.isnan(numbers)
    n = int(there.sum())
    of, count = _present(codes[there])
    k = len(count)
    if not 2 <= k < n:
        return 0.0
    z = _standard(numbers[there])
    between = float((np.bincount(of, z) ** 2 / count).sum() / n)
    if not z.any():
        return 0.0
    return float(np.sqrt(min(1.0, max(0.0, 1 - (1 - between) * (n - 1) / (n - k)))))


METRICS.register(
    *compared(
        "association_error",
        "Association error",
        "Mean |difference| over pairs of columns between the generated rows and {real} of their association: Pearson's "
        "correlation of numbers and times, Cramér's V of categories (Bergsma's), the correlation ratio of both "
        "(Kelley's); of more than 100 columns, of 100 at equal distances.",
        "correlation",
        association_error,
        sets=tables,
        needs=COLUMNS,
    )
)
