"""A table of mixed columns, as people have them, drawn by a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from selfloop.core.columns import Category, Column, Constant, Number
from selfloop.metrics.tables import Table

CITIES = ("Ulm", "Bonn", "Kiel", "Jena")
COLUMNS: tuple[Column, ...] = (
    Number("age", "int64", 18, 80, missing=True, decimals=0, shift=45, scale=15),
    Number("income", "float64", 0, 1e6, shift=2e4, scale=2e4),
    Category("city", CITIES, missing=True),
    Constant("country", "DE"),
    Category("owner", (False, True)),
    Number("since", "int64", 0, 2e4, shift=8e3, scale=2e3, epoch=("1970-01-01", "D")),
)
Values = dict[str, np.ndarray[Any, Any]]


def values(n: int, seed: int, tilt: float = 0.0) -> Values:
    """Return n rows; ``tilt`` moves every column and how it goes with the others."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n)
    age = np.clip(np.rint(45 + 12 * z + 5 * tilt), 18, 80)
    age[rng.random(n) < 0.1 + 0.2 * tilt] = np.nan
    income = np.exp(9.5 + (0.5 - 0.4 * tilt) * z + 0.4 * rng.standard_normal(n)).round(2)
    city = np.array([*CITIES, None], dtype=object)[rng.choice(5, n, p=np.array([8, 6, 3, 1, 2]) / 20)]
    owner = (rng.random(n) < 1 / (1 + np.exp(-(1 - tilt) * 2 * z + (city == "Ulm")))).astype(object)
    days = np.rint(8000 + 1500 * rng.standard_normal(n) + 1000 * owner.astype(float)).astype("int64")
    since = np.datetime64("1970-01-01", "D") + days.astype("timedelta64[D]")
    country = np.array(["DE"] * n, dtype=object)
    return {"age": age, "income": income, "city": city, "country": country, "owner": owner, "since": since}


def table(n: int, seed: int, tilt: float = 0.0) -> Table:
    """Return the same as metrics take it."""
    return Table.of(values(n, seed, tilt), COLUMNS)
