"""Where a loop's loss passes a tolerance, as its share of synthetic data grows: a bracket that holds however one looks.

Shares are tried on a dyadic ladder, 0, 1, 1/2, 1/4, 3/4, …, each in the same seeds as the control. A share is shown
to be fine or worse by one-sided bounds of its paired excess at up to four looks, after 8, 16, 32 and 64 seeds. Shares
are claimed fine from the smallest tried on upwards and worse from the largest downwards, as far as the chain of claims
goes.

That both claims hold together with 95 % confidence, whichever shares were tried when and wherever one stopped, follows
from three facts. (1) The loss is taken to grow with the share: there is a threshold p*, up to which "worse" is false
and above which "fine" is. (2) A share of level d on the ladder is tried only between neighbours of lower levels that
were tried before. So the smallest share tried above p* is always the first multiple of 2^−d above it, for a d = 0 … D,
and the largest up to p* the last multiple: numbers that chance has no part in. (3) A chain that claims too much claims
one of these wrongly, at one of K looks, each of them in one direction; from a level to the next only one of the two
neighbours changes. Those are (D + 2) K tests for each criterion, and each is given its part of the 5 % (Bonferroni, in
equal parts; Lan & DeMets 1983 spend the same at the looks of a trial, less cautiously as looks are correlated).

Legend: p a share of synthetic rows in [0, 1]; D depth of the ladder; K looks; S seeds; τ tolerance.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from selfloop.analysis.curves import Array
from selfloop.analysis.paired import LEVEL, excess
from selfloop.metrics.base import Metric
from selfloop.theory.measured import Interval

Word = Literal["fine", "worse", "open"]

LOOKS = (8, 16, 32, 64)
"""Seeds after which is looked, K of them."""

DEPTH = 5
"""D: the ladder's finest rungs are 1/2^D apart."""

BEGIN = (Fraction(1), Fraction(1, 2))
"""Shares that are tried first."""

WIDE = Fraction(1, 8)
"""A bracket at most this wide is narrow enough."""

FINEST = Fraction(1, 2**DEPTH)
"""And where no share above 0 is shown to be fine, one at most this wide."""


def each_level(criteria: int) -> float:
    """Return the one-sided level of every test, so that all claims hold together with 95 % confidence."""
    return 1 - (1 - LEVEL) / (criteria * (DEPTH + 2) * len(LOOKS))


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A share that was tried, by one criterion or by all of them.

    Attributes:
        share: of synthetic rows.
        seeds: S in which it was tried.
        excess: by what share the loss is larger than the control's, with the bounds of one test of the last look; of
            several criteria the largest.
        word: what it is shown to be.
    """

    share: Fraction
    seeds: int
    excess: Interval
    word: Word


def tried(share: Fraction, here: Array, there: Array, metric: Metric, tolerance: float, level: float) -> Tried | None:
    """Look at a share in S seeds as often as there were looks: what was shown at one of them stays.

    Args:
        share: of synthetic rows.
        here: (S,) the metric at the end, seed by seed; not finite where an arm diverged.
        there: (S,) of the control, finite.
        metric: says what is worse.
        tolerance: τ.
        level: of each test, one-sided.

    Returns:
        None where the metric cannot be compared: it has no direction, or the control is not finite.
    """
    word: Word = "open"
    found: Interval | None = None
    for seeds in (look for look in LOOKS if look <= len(here)):
        found = excess(here[:seeds], there[:seeds], metric, level)
        if found is None:
            return None
        if word == "open":
            word = "fine" if found.high <= tolerance else "worse" if found.low > tolerance else "open"
    return None if found is None else Tried(share=share, seeds=len(here), excess=found, word=word)


def together(by: Sequence[Tried]) -> Tried:
    """Return a share by several criteria: worse where one is, fine where all are."""
    words = [each.word for each in by]
    word: Word = "worse" if "worse" in words else "open" if "open" in words else "fine"
    worst = max(by, key=lambda each: each.excess.value)
    return Tried(share=by[0].share, seeds=by[0].seeds, excess=worst.excess, word=word)


KNOWN = Tried(share=Fraction(0), seeds=0, excess=Interval(0.0, 0.0, 0.0), word="fine")
"""Of a share of 0 that is the control itself."""


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """What is shown of the shares that were tried.

    Attributes:
        tried: in the order of the shares.
    """

    tried: tuple[Tried, ...]

    @classmethod
    def of(cls, found: Iterable[Tried]) -> Bracket:
        """Return the bracket of shares in any order."""
        return cls(tried=tuple(sorted(found, key=lambda each: each.share)))

    @property
    def fine(self) -> Fraction | None:
        """The largest share of those that are shown to be fine up to it, None where the smallest is not."""
        good = list(itertools.takewhile(lambda each: each.word == "fine", self.tried))
        return good[-1].share if good else None

    @property
    def worse(self) -> Fraction | None:
        """The smallest share from which on all are shown to be worse, None where the largest is not."""
        bad = list(itertools.takewhile(lambda each: each.word == "worse", reversed(self.tried)))
        return bad[-1].share if bad else None

    @property
    def between(self) -> tuple[Tried, ...]:
        """Shares that were tried between the two."""
        low, high = self.fine, self.worse
        return tuple(
            each for each in self.tried if (low is None or each.share > low) and (high is None or each.share < high)
        )

    @property
    def narrow(self) -> bool:
        """Whether no more needs to be known: all shares are fine, or none is, or what is between is little."""
        low, high = self.fine, self.worse
        if not self.between and (low is None or high is None):
            return True
        return low is not None and high is not None and high - low <= (WIDE if low else FINEST)

    def asks(self, last: bool) -> list[Fraction]:
        """Return the shares to try next in the same seeds; none where more seeds must tell first.

        What is between the claims is halved. Where a share there is shown to be neither, so are the gaps beside it, but
        only beside a single one: of several, more seeds tell first, as long as there are more.

        Args:
            last: whether there are none.
        """
        low, high, between = self.fine, self.worse, self.between
        if self.narrow or (len(between) > 1 and not last):
            return []
        edges = [each.share for each in between]
        gaps = [] if low is None else [(low, edges[0] if edges else high)]
        gaps += [] if high is None or not edges else [(edges[-1], high)]
        # Below 1 there are shares without end of nearly nothing real, whose regimes cost ever more rows.
        return [(a + b) / 2 for a, b in gaps if b is not None and b - a > (WIDE if b == 1 else FINEST)]


def brackets(
    ends: Mapping[Fraction, Mapping[str, Array]],
    control: Mapping[str, Array],
    criteria: Mapping[str, Metric],
    tolerance: float,
    *,
    known: Collection[str],
) -> tuple[dict[str, Bracket], Bracket] | None:
    """Return the bracket of each criterion and of all together.

    Args:
        ends: by share and metric, (S,) values at the end.
        control: by metric, (S,).
        criteria: metrics by name.
        tolerance: τ.
        known: metrics by which a share of 0 is the control itself.

    Returns:
        None where a criterion cannot be compared.
    """
    level = each_level(len(criteria))
    by: dict[str, list[Tried]] = {}
    for name, metric in criteria.items():
        by[name] = []
        for share, at in ends.items():
            itself = share == 0 and name in known
            found = KNOWN if itself else tried(share, at[name], control[name], metric, tolerance, level)
            if found is None:
                return None
            by[name].append(found)
    every = [together(each) for each in zip(*by.values(), strict=True)]
    return {name: Bracket.of(each) for name, each in by.items()}, Bracket.of(every)
