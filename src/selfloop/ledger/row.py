"""A published number or statement beside our own, and the rule by which one reproduces the other.

Theirs and ours each have a standard error. A number is reproduced where they differ by less than ``LIMIT`` of both
together; a bound, where ours is not on its wrong side by as much; a statement that something is larger or smaller,
where ours shows it by as much, and it is not where ours shows the contrary by as much. What is too uncertain to tell
says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_UNCERTAIN = "ours is too uncertain"

LIMIT = 3.0
"""|z| at which a number is not reproduced, and a statement is shown."""

COARSE = 0.05
"""Of a published number or bound: by so much ours may be uncertain, or by twice theirs."""


@dataclass(frozen=True)
class Measured:
    """A number with its standard error, 0 of one that no chance enters."""

    value: float
    error: float = 0.0

    @classmethod
    def mean(cls, values: NDArray[np.float64 | np.bool_]) -> Measured:
        """Return the mean of independent values (R,), R > 1."""
        x = np.asarray(values, np.float64)
        return cls(float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))))

    @classmethod
    def jackknifed(cls, estimate: Callable[[Doubles], float], values: Doubles) -> Measured:
        """Return a function of independent values (R, …), by leaving out one of the R at a time.

        The value is without the function's bias of order 1/R (Quenouille 1956), the error Tukey's.
        """
        r = len(values)
        left = np.array([estimate(np.delete(values, i, 0)) for i in range(r)])
        value = r * estimate(values) - (r - 1) * float(left.mean())
        return cls(value, float(math.sqrt((r - 1) / r * np.square(left - left.mean()).sum())))


@dataclass(frozen=True)
class Published:
    """A number as it was published.

    Attributes:
        value: the number.
        error: its standard error; where none was published, half a unit of the last digit; 0 of a formula.
        text: its digits.
    """

    value: float
    error: float
    text: str

    @classmethod
    def printed(cls, text: str, error: float | None = None) -> Published:
        """Return a number by its digits, and by the standard error that was published with it."""
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        return cls(float(text), half if error is None else error, text)

    @classmethod
    def one_run(cls, text: str, ours: Doubles) -> Published:
        """Return a number of a single run, which is as uncertain as runs differ: as ours (R,) do, theirs being unknown.

        It is uncertain by half a unit of the last digit at least.
        """
        printed = cls.printed(text)
        return cls.printed(text, max(printed.error, float(np.std(ours, ddof=1))))

    @classmethod
    def formula(cls, value: float) -> Published:
        """Return what a formula, or a rule, says under the conditions of the row."""
        return cls(value, 0.0, f"{value:.4g}")


Kind = Literal["number", "at least", "at most", "above", "below"]


class Verdict(StrEnum):
    """What became of a published number or statement."""

    reproduced = "reproduced"
    not_reproduced = "not reproduced"
    not_comparable = "not comparable"


class Seen(StrEnum):
    """In what a published number or statement was read, the nearest to the paper first."""

    paper = "the paper"
    abstract = "its abstract"
    files = "its authors' files"
    notes = "others' notes"
    nowhere = "not seen"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published number or statement.

    Attributes:
        statement: what it is of, under which conditions.
        where: in the paper.
        seen: in what it was read there; ``nowhere`` of what was taken over without its source.
        theirs: the number; of a bound, the bound; of a statement, what ours must be above or below;
            None where there is none.
        ours: None where it was not tried.
        kind: a "number"; a bound, which ours is to be "at least" or "at most"; or a statement, that ours is "above" or
            "below".
        exact: what the theory says of ours, where it says something.
        why: why the two cannot be compared.
    """

    statement: str
    where: str
    seen: Seen
    theirs: Published | None
    ours: Measured | None
    kind: Kind = "number"
    exact: float | None = None
    why: str = ""

    @property
    def z(self) -> float | None:
        """(ours − theirs) over both errors together; of a bound, 0 on its right side; None where one is lacking."""
        if self.ours is None or self.theirs is None:
            return None
        off, both = self.ours.value - self.theirs.value, math.hypot(self.ours.error, self.theirs.error)
        if self.kind == "at least":
            off = min(off, 0.0)
        elif self.kind == "at most":
            off = max(off, 0.0)
        return off / both if both else math.copysign(math.inf, off) if off else 0.0

    @property
    def reason(self) -> str:
        """Why there is no verdict, "" where there is one."""
        z = self.z
        if self.why or z is None or self.ours is None or self.theirs is None or math.isnan(z):
            return self.why or "no number here"
        allowed = max(2 * self.theirs.error, COARSE * abs(self.theirs.value))
        decided = abs(z) >= LIMIT if self.kind in ("above", "below") else self.ours.error <= allowed
        return "" if decided else _UNCERTAIN

    @property
    def verdict(self) -> Verdict:
        """By the rule of the module."""
        if self.reason or self.z is None:
            return Verdict.not_comparable
        right = {"above": self.z > 0, "below": self.z < 0}.get(self.kind, abs(self.z) < LIMIT)
        return Verdict.reproduced if right else Verdict.not_reproduced


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A paper, and what of it is run again.

    Attributes:
        title: of the paper, with its authors.
        source: how it is found, as "arXiv:2410.16713".
        recipe: what is run here, in a few sentences.
        rows: runs it.
        found: what holds and what does not, and why, as far as known.
    """

    title: str
    source: str
    recipe: str
    rows: Callable[[], Iterator[Row]]
    found: str
