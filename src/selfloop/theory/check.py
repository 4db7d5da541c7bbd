"""One prediction beside its measurement."""

from __future__ import annotations

from dataclasses import dataclass

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
