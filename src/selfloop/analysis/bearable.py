"""How much synthetic data a loop bears: the largest λ that is no worse than λ = 0 by more than a tolerance.

λs are tested in increasing order, and the first that is not certified ends it: the level of each test is then that of
all together (fixed sequence; Maurer, Hothorn & Lehmacher 1995). λs that are worse by more than the tolerance are told
in the same way from the largest down. What is between was tried, and the seeds tell neither of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfloop.analysis.paired import LEVEL
from selfloop.core.errors import counted
from selfloop.theory.measured import Interval


@dataclass(frozen=True, kw_only=True)
class Open:
    """A λ that was tried and is shown neither to be within tolerance nor to be worse.

    Attributes:
        ratio: λ.
        at_most: by what share it is worse at most with 95 % confidence, inf where there is no bound.
    """

    ratio: float
    at_most: float


@dataclass(frozen=True, kw_only=True)
class Bearable:
    """What the λs of a grid are shown to be, each claim with 95 % confidence.

    Attributes:
        among: the settings besides λ that its arms share, "" where λ alone varies.
        ratio: the largest λ of those that are within tolerance of λ = 0 up to it; 0 where the smallest other is not
            shown to be. None where nothing can be said.
        top: whether no larger λ was tried.
        between: larger ones that are shown neither way, in their order.
        worse: the smallest λ from which on all are worse by more than the tolerance; None where the largest is not
            shown to be.
        notes: what is missing, and which verdicts on λs within tolerance are others, and why.
    """

    among: str
    ratio: float | None
    top: bool
    between: tuple[Open, ...]
    worse: float | None
    notes: tuple[str, ...]


def bearable(among: str, excesses: Mapping[float, Sequence[Interval]], tolerance: float) -> Bearable:
    """Say what λs are shown to be.

    Args:
        among: the settings besides λ that they share.
        excesses: by λ > 0, by what share each of its settings is worse than λ = 0, with one-sided bounds.
        tolerance: a share.
    """
    lams = sorted(excesses)
    good = list(itertools.takewhile(lambda lam: max(e.high for e in excesses[lam]) <= tolerance, lams))
    left = lams[len(good) :]
    bad = list(itertools.takewhile(lambda lam: min(e.low for e in excesses[lam]) > tolerance, reversed(left)))
    between = left[: len(left) - len(bad)]
    return Bearable(
        among=among,
        ratio=good[-1] if good else 0.0,
        top=not left,
        between=tuple(Open(ratio=lam, at_most=max(e.high for e in excesses[lam])) for lam in between),
        worse=bad[-1] if bad else None,
        notes=(),
    )


def unknown(among: str, notes: Sequence[str]) -> Bearable:
    """Return that nothing can be said, and why."""
    return Bearable(among=among, ratio=None, top=False, between=(), worse=None, notes=tuple(notes))


def sentences(found: Bearable, tolerance: float, retrainings: int) -> list[str]:
    """Return what there is to say of one combination of the other settings, after so many retrainings."""
    where, level, sure = f"{found.among}: " if found.among else "", share(tolerance), f"{100 * LEVEL:g} % confidence"
    lines = []
    if found.ratio is not None:
        if found.ratio > 0:
            top = ", the largest that was tried" if found.top else ""
            after = f"after {counted(retrainings, 'retraining')}"
            lines.append(f"No worse than {level} {after}, with {sure}, up to λ = {lam(found.ratio)}{top}.")
        else:
            lines.append(f"No λ that was tried is shown with {sure} to be no worse than {level}.")
        if found.between:
            beyond = "Tried beyond it" if found.ratio > 0 else "Tried"
            words = ", ".join(f"λ = {lam(each.ratio)} ({_at_most(each.at_most)})" for each in found.between)
            lines.append(f"{beyond}, and shown neither way: {words}; more seeds would tell.")
        if found.worse is not None:
            onwards = "" if math.isinf(found.worse) else " on"
            lines.append(f"Worse by more than {level} with {sure} from λ = {lam(found.worse)}{onwards}.")
    return [where + " ".join(lines)] * bool(lines) + [f"{where}{note[0].upper()}{note[1:]}." for note in found.notes]


def _at_most(bound: float) -> str:
    return "no bound" if math.isinf(bound) else f"at most {share(max(bound, 0.0))} worse"


def share(x: float) -> str:
    """Return a share in per cent."""
    return f"{100 * x:.3g} %"


def lam(ratio: float) -> str:
    """Return a λ in words."""
    return "∞" if math.isinf(ratio) else f"{ratio:g}"
