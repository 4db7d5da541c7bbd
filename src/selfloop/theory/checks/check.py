"""One prediction beside its measurement."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

LIMIT = 4.0
"""|z| at which a row fails."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One prediction.

    Attributes:
        statement: what is predicted, with its parameters.
        source: where it is stated.
        predicted: the value; an upper bound where ``bound`` says so.
        measured: the simulation's.
        error: its standard error, and the prediction's if that is estimated too; of a calculation, its tolerance.
        bound: whether only more than predicted counts against it.
    """

    statement: str
    source: str
    predicted: float
    measured: float
    error: float
    bound: bool = False

    @property
    def z(self) -> float:
        """How many standard errors the measurement is off; below a bound, 0."""
        off = self.measured - self.predicted
        return max(off, 0.0) / self.error if self.bound else off / self.error

    @property
    def holds(self) -> bool:
        """Whether |z| is below the limit."""
        return abs(self.z) < LIMIT


def mean_and_error(x: Doubles) -> tuple[float, float]:
    """Return the mean of independent values (R,) and its standard error."""
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))


def expected(statement: str, source: str, predicted: float, values: NDArray[np.float64 | np.bool_]) -> Check:
    """Return the check of an expectation on independent values (R,)."""
    measured, error = mean_and_error(np.asarray(values, np.float64))
    return Check(statement=statement, source=source, predicted=predicted, measured=measured, error=error)


def calculated(statement: str, source: str, predicted: float, measured: float, tolerance: float = 1e-8) -> Check:
    """Return the check of one calculation against another."""
    return Check(statement=statement, source=source, predicted=predicted, measured=measured, error=tolerance)


HEADINGS = ("statement", "source", "predicted", "measured ± s.e.", "z", "")
"""Of the columns that :func:`cells` fills."""


def cells(check: Check) -> tuple[str, ...]:
    """Return a check as a row of a table, in words."""
    predicted = f"{'≤ ' if check.bound else ''}{check.predicted:.6g}"
    measured = f"{check.measured:.6g} ± {check.error:.2g}"
    return check.statement, check.source, predicted, measured, f"{check.z:+.2f}", "" if check.holds else "FAILED"


_AS_ITSELF = re.compile(r"[|*]")  # what Markdown would take for the end of a cell, or for emphasis


def page(checks: Sequence[Check]) -> str:
    """Return checks as a page of Markdown."""
    kept = sum(check.holds for check in checks)
    worst = max(abs(check.z) for check in checks)
    bounds = sum(check.bound for check in checks)
    lines = [
        "# Predictions, checked",
        "",
        f"`selfloop verify` checks {len(checks)} predictions of the theory, {bounds} of them bounds, against",
        f"simulations with seeds fixed beforehand. {kept} hold; the largest |z| is {worst:.2f}, and a row fails at",
        f"{LIMIT:g}. z is the distance between measurement and prediction in standard errors (of a calculation: in",
        "tolerances); below a bound it is 0.",
        "",
        "| " + " | ".join(HEADINGS[:-1]) + " |",
        "|" + "---|" * (len(HEADINGS) - 1),
    ]
    for check in checks:
        *row, failed = (_AS_ITSELF.sub(r"\\\g<0>", cell) for cell in cells(check))
        lines.append("| " + " | ".join(row) + (f" **{failed}**" if failed else "") + " |")
    return "\n".join([*lines, "", "This page is the output of `selfloop verify --markdown`.", ""])
