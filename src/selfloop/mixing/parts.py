"""What regimes are made of: parts of a training set, each from one source, so many rows, chosen so, of such a weight.

Legend: n real rows; t the generation that is trained; K candidates, of which one is taken; γ strength of a correction.
"""

from __future__ import annotations

import functools
import itertools
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Frozen, Real
from selfloop.core.errors import ConfigError
from selfloop.core.registry import Named, within
from selfloop.core.samples import Samples
from selfloop.data.base import Dataset
from selfloop.mixing.base import MIXINGS, Pool, Regime
from selfloop.mixing.judges.base import (
    JUDGES,
    Judge,
    Threshold,
    check,
    kept,
    moved,
    needs,
    refuse,
    refuse_incomplete,
    refuse_no_threshold,
    scores,
    settings_of,
)

_ULPS = 1e-9  # relative, by which a power that is a whole number may be off


def multiple(factor: float, n: int) -> int:
    """Return ⌊factor·n⌋ for a finite factor ≥ 0, as the decimal that it is written as: 0.29 · 100 is 29, not 28.999…"""
    return math.floor(Fraction(str(factor)) * n)


def tempering(temperature: float | None) -> frozenset[Capability]:
    """Return what a generator must offer that is sampled at a temperature; None is 1, and any has that."""
    return frozenset(() if temperature in (None, 1) else ("temperature",))


class Power(Frozen):
    """⌊n·t^power⌋ rows at generation t ≥ 1: as many as the real ones at first, and more and more.

    Attributes:
        power: 0 is a constant number.
    """

    power: float = Field(ge=0, le=20)

    def count(self, t: int, n: int) -> int:
        """Return ⌊n·t^power⌋."""
        value: float = n * float(t) ** self.power
        return round(value) if abs(value - round(value)) <= _ULPS * value else math.floor(value)


class Verify(Frozen):
    """Rows that a verifier keeps.

    Attributes:
        verifier: scores rows.
        least: the score from which on one is kept, or the quantile of the real rows' scores that it must reach; None is
            the verifier's own threshold.
    """

    verifier: Annotated[Judge, Named(JUDGES, whole=True)]
    least: Threshold = None

    @model_validator(mode="after")
    def _sound(self) -> Verify:
        refuse(self.verifier, "scores", "verified")
        return self

    @property
    def judge(self) -> Judge:
        """The verifier."""
        return self.verifier

    def apply(self, rows: Samples, pool: Pool, purpose: str) -> Samples:
        """Return those of the rows of one arm that are kept, in their order."""
        if not int(rows.count[0]):
            return rows
        return rows.keep(kept(self.verifier, self.least, rows.arm(0), replace(pool, judged=rows.classes(0))))


class Curate(Frozen):
    """Of every K rows one, chosen with a probability proportional to e^r (Ferbach et al. 2024, Eq. 1).

    Attributes:
        reward: r, of each row.
        k: K.
    """

    reward: Annotated[Judge, Named(JUDGES, whole=True)]
    k: int = Field(default=2, ge=1, le=10**6)

    @model_validator(mode="after")
    def _sound(self) -> Curate:
        refuse(self.reward, "scores", "curated")
        return self

    @property
    def judge(self) -> Judge:
        """What gives the reward."""
        return self.reward

    def apply(self, rows: Samples, pool: Pool, purpose: str) -> Samples:
        """Return ⌊N/K⌋ rows of N of one arm: one of the first K, one of the next, and so on."""
        groups = int(rows.count[0]) // self.k
        rows = rows.first(groups * self.k)
        if groups == 0:
            return rows
        asked = replace(pool, judged=rows.classes(0))
        reward = scores(self.reward, rows.arm(0), asked).view(groups, self.k).numpy()
        (rng,) = pool.streams.numpy(f"{purpose}/curated")
        # The largest of r + g is that of each with probability ∝ e^r, for g = −ln(−ln u) (Gumbel).
        best = np.argmax(reward + rng.gumbel(size=reward.shape), 1)
        return rows.take(torch.from_numpy(best + self.k * np.arange(groups)))


class Correct(Frozen):
    """Rows moved towards where they should be: (x + γ c) / (1 + γ) (Gillman et al. 2024).

    Attributes:
        target: says where each row should be, c.
        strength: γ; 0 leaves rows alone, inf puts them where they should be.
    """

    target: Annotated[Judge, Named(JUDGES, whole=True)] = Field(default_factory=lambda: JUDGES.parse("centre"))
    strength: Real = 1.0

    @field_validator("strength")
    @classmethod
    def _a_number(cls, strength: float) -> float:
        if not strength >= 0:
            raise ValueError(f"the strength of a correction must be 0 or more, or inf, not {strength}")
        return strength

    @model_validator(mode="after")
    def _sound(self) -> Correct:
        refuse(self.target, "rows", "corrected")
        return self

    @property
    def judge(self) -> Judge:
        """What says where rows should be."""
        return self.target

    def apply(self, rows: Samples, pool: Pool, purpose: str) -> Samples:
        """Return the rows of one arm where they are moved to, born when they were; images in whole levels."""
        if self.strength == 0 or not int(rows.count[0]):
            return rows
        x = rows.arm(0)
        share = 1.0 if math.isinf(self.strength) else self.strength / (1 + self.strength)
        there = moved(self.target, x, replace(pool, judged=rows.classes(0)))
        there = there if share == 1 else x.double() + share * (there - x.double())
        return replace(rows.first(len(x)), x=_typed(there, x.dtype)[None])


def _typed(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.round().clamp(0, 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)


class Part(Frozen):
    """A part of a training set.

    Attributes:
        source: "real", the fixed real rows; "fresh", new ones; "newest", the last model's samples; "earlier", those of
            all earlier models; "all", these and the fixed real rows. Written ``from``.
        rows: how many, as a multiple of the real ones, or growing; what is left is chosen at random. None is n of fresh
            and newest ones, and all there are of the others.
        generations: of "earlier", how many generations back at most; None is all.
        verified: which of them are kept.
        curated: one of every K is taken, of those kept; of a given number of rows K times as many are looked at.
        corrected: how those are moved.
        weight: the share that the part has in the whole, however many rows it comes to; None: rows count as rows.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    source: Literal["real", "fresh", "newest", "earlier", "all"] = Field(alias="from")
    rows: Annotated[
        Annotated[float, Field(ge=0)] | Power | None, BeforeValidator(functools.partial(settings_of, Power))
    ] = None
    generations: int | None = Field(default=None, ge=1)
    verified: Verify | None = None
    curated: Curate | None = None
    corrected: Correct | None = None
    weight: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _sound(self) -> Part:
        if self.generations is not None and self.source != "earlier":
            raise ValueError(f"generations is for a part from earlier, not from {self.source}")
        if self.source == "real" and (isinstance(self.rows, Power) or (self.rows or 0) > 1):
            raise ValueError("a part from real has at most all real rows: rows must be 0 to 1")
        if self.source == "fresh" and isinstance(self.rows, Power):
            raise ValueError("a part from fresh has as many rows in every generation: rows must be a number")
        if self.source == "real" and self.steps:
            raise ValueError("the fixed real rows are taken as they are: leave out verified, curated and corrected")
        if self.source in ("fresh", "all") and self.corrected is not None:
            raise ValueError(f"real rows stay as they are: a part from {self.source} cannot be corrected")
        return self

    @property
    def steps(self) -> list[Verify | Curate | Correct]:
        """What is done with the rows, in its order."""
        return [step for step in (self.verified, self.curated, self.corrected) if step is not None]

    @property
    def needs(self) -> frozenset[Capability]:
        """What data or generator must offer."""
        own = frozenset[Capability](("fresh",) if self.source == "fresh" else ())
        return own.union(*(needs(step.judge) for step in self.steps))

    def candidates(self, t: int, n: int) -> int | None:
        """Return how many rows generation t looks at, None for all there are."""
        if self.rows is None:
            count = n if self.source in ("fresh", "newest") else None
        else:
            count = self.rows.count(t, n) if isinstance(self.rows, Power) else multiple(self.rows, n)
        return count if count is None or self.curated is None else count * self.curated.k

    def draws(self, t: int, n: int) -> int:
        """Return how many rows generation t must sample for what the next one takes of them."""
        if self.source not in ("newest", "earlier", "all"):
            return 0
        asked = self.candidates(t + 1, n) or 0
        return asked - n if self.source == "all" else asked

    def take(self, pool: Pool, purpose: str, asked: Counter[str]) -> Samples:
        """Return the part of a generation t ≥ 1.

        Args:
            pool: of one arm.
            purpose: of its random streams, which no other part of the regime has.
            asked: how many judges of each name the parts before it asked; its own are added.
        """
        rows = self._found(pool, self.candidates(pool.t, pool.n), purpose)
        for step in self.steps:
            rows = step.apply(rows, replace(pool, judge=asked[JUDGES.name_of(step.judge)]), purpose)
            asked.update(name for word, name in within(step) if word == JUDGES.word)
        return rows

    def _found(self, pool: Pool, count: int | None, purpose: str) -> Samples:
        if self.source == "fresh":
            return pool.fresh(pool.n if count is None else count)
        if self.source == "newest":
            return pool.generated(pool.t - 1, count)
        if self.source == "real":
            return chosen([pool.real], count, pool, purpose)
        first = 0 if self.generations is None else max(0, pool.t - self.generations)
        earlier = [pool.generated(g) for g in range(first, pool.t)]
        return chosen([pool.real, *earlier] if self.source == "all" else earlier, count, pool, purpose)


def chosen(sets: Sequence[Samples], count: int | None, pool: Pool, purpose: str) -> Samples:
    """Return ``count`` rows of some sets, each equally likely and none twice, in their order; None is all.

    Only chosen rows are copied: sets may be mapped from files.

    Raises:
        ConfigError: there are fewer.
    """
    sizes = [int(each.count[0]) for each in sets]
    if count is None or count == sum(sizes):
        return sets[0] if len(sets) == 1 else Samples.union(sets)
    if count > sum(sizes):
        raise ConfigError(f"{pool.asker} asks generation {pool.t} for {count} rows out of {sum(sizes)}: lower rows")
    (rng,) = pool.streams.numpy(f"{purpose}/rows")
    of = np.sort(rng.choice(sum(sizes), count, replace=False, shuffle=False))
    edges = np.searchsorted(of, np.cumsum([0, *sizes]))
    starts = np.cumsum([0, *sizes[:-1]])
    found = [
        each.take(torch.from_numpy(of[a:b] - start))
        for each, (a, b), start in zip(sets, itertools.pairwise(edges), starts, strict=True)
        if b > a
    ]
    return Samples.union(found) if found else sets[0].first(0)


class Composed(Regime):
    """A regime that is a list of parts."""

    @abstractmethod
    def made_of(self) -> Sequence[Part]:
        """Return the parts of every generation from 1 on."""

    @property
    def needs(self) -> frozenset[Capability]:  # type: ignore[override]
        """What its parts need."""
        return frozenset[Capability]().union(*(part.needs for part in self.made_of()))

    def draws(self, t: int, n: int) -> int:
        """Return what the most demanding part needs, and n at least."""
        return max(n, *(part.draws(t, n) for part in self.made_of()))

    def fresh_rows(self, n: int) -> int:
        """Return how many of them its parts ask for."""
        return sum(part.candidates(1, n) or 0 for part in self.made_of() if part.source == "fresh")

    def check(self, data: Dataset, event: Sequence[int], n: int) -> None:
        """Refuse parts that come to no row or move tokens part of the way, and let their judges look at the data."""
        if all(part.candidates(1, n) == 0 for part in self.made_of()):
            raise ConfigError(f"mixing {MIXINGS.name_of(self)} takes no row where there are {n} real ones: raise rows")
        for step in (step for part in self.made_of() for step in part.steps):
            check(step.judge, data, event, n)
            if isinstance(step, Correct) and data.holds == "text" and 0 < step.strength < math.inf:
                raise ConfigError(
                    f"mixing {MIXINGS.name_of(self)}: tokens are no numbers, and cannot be moved part of the way: set "
                    "strength to inf, at which rows are those that the judge says"
                )

    def refuse_incomplete(self) -> None:
        """Refuse a verifier of which nobody says how much is enough, and judges whose settings lack something."""
        for step in (step for part in self.made_of() for step in part.steps):
            if isinstance(step, Verify):
                refuse_no_threshold(step.verifier, step.least, "least")
            refuse_incomplete(step.judge)

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return the parts behind each other, with their weights where they have some."""
        asked: Counter[str] = Counter()
        parts = self.made_of()
        return joined([(part.take(pool, f"mixing/{i}", asked), part.weight) for i, part in enumerate(parts)])


def joined(parts: Sequence[tuple[Samples, float | None]]) -> Samples:
    """Join the rows of parts, each of which has a share of the whole, or rows that count as rows.

    A part without rows leaves its share to the others.
    """
    there = [(rows, share) for rows, share in parts if int(rows.count[0])]
    if not there:
        return parts[0][0]
    sets = [rows if share is None else rows.weighed(share / int(rows.count[0])) for rows, share in there]
    return sets[0] if len(sets) == 1 else Samples.union(sets)


def refuse_shares(parts: Sequence[Part]) -> None:
    """Refuse weights of parts that are no shares of a whole.

    Raises:
        ValueError: some parts lack theirs, or they do not add up to 1.
    """
    shares: list[Any] = [part.weight for part in parts]
    if shares.count(None) == len(shares):
        return
    if None in shares:
        raise ValueError("some parts have a weight and others have none: give every part its share, or none")
    if abs(sum(shares) - 1) > _ULPS:
        raise ValueError(f"the weights of the parts add up to {sum(shares):g}: they are shares, and must add up to 1")
