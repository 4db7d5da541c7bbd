"""A regime that gives way to another one: what comes of a loop that was damaged, or of one that was looked after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from selfloop.core.capabilities import Capability
from selfloop.core.registry import Absent, Named
from selfloop.core.samples import Samples
from selfloop.data.base import Dataset
from selfloop.mixing import base
from selfloop.mixing.base import MIXINGS, Mixing, Pool, Regime

_MANY = 1_000_000  # real rows, of which regimes are asked how many fresh ones they take


@MIXINGS.register
class Then(Regime):
    """One regime until a generation, and another one after it, which sees what the first has left.

    Attributes:
        first: the regime of generations 1 to ``until``.
        until: the last generation that it makes the training set of.
        then: the regime of the generations after it.
    """

    name: Literal["then"] = "then"
    first: Annotated[Mixing, Named(MIXINGS, whole=True)]
    until: int = Field(ge=1)
    then: Annotated[Mixing, Named(MIXINGS, whole=True)]

    @model_validator(mode="after")
    def _sound(self) -> Then:
        if any(isinstance(each, Absent) for each in self._both):
            return self
        asked = {count for each in self._both if (count := base.fresh_rows(each, _MANY))}
        if len(asked) > 1:  # generations that ask for different numbers could see the same rows
            raise ValueError("first and then take different numbers of fresh rows: let them take equally many, or none")
        return self

    @property
    def _both(self) -> tuple[Mixing, Mixing]:
        return self.first, self.then

    def at(self, t: int) -> Mixing:
        """Return the regime that makes generation t's training set."""
        return self.first if t <= self.until else self.then

    @property
    def needs(self) -> frozenset[Capability]:  # type: ignore[override]
        """What both need."""
        return frozenset[Capability]().union(*(getattr(each, "needs", ()) for each in self._both))

    def draws(self, t: int, n: int) -> int:
        """Return how many rows generation t must sample: what the regime of the next generation asks for."""
        return base.draws(self.at(t + 1), t, n)

    def sampling_temperature(self, t: int) -> float:
        """Return the temperature at which the regime of the next generation wants them."""
        return base.sampling_temperature(self.at(t + 1), t)

    def fresh_rows(self, n: int) -> int:
        """Return how many fresh rows a generation takes of the regime that takes some."""
        return max(base.fresh_rows(each, n) for each in self._both)

    def check(self, data: Dataset, event: Sequence[int], n: int) -> None:
        """Refuse data that one of the two cannot be used with."""
        for each in self._both:
            base.check(each, data, event, n)

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return what the regime of generation t makes of the pool."""
        return self.at(t)(t, pool)

    @property
    def label(self) -> str:
        """Both in words, and when the first ends."""
        return f"{base.label(self.first)} until {self.until}, then {base.label(self.then)}"
