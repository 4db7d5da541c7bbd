"""What a regime is, and the pool of rows that it makes a training set of."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Frozen
from selfloop.core.errors import FOREIGN, ConfigError, SelfloopError, said
from selfloop.core.registry import Family
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams

_MOST_ROWS = 10**12

History = Callable[[int], Samples]  # the samples of generation t


@dataclass(frozen=True)
class Pool:
    """The rows that generation t of one arm may train on; everything leads with R = 1.

    Attributes:
        t: the generation that is about to be trained.
        real: the fixed real rows, born 0.
        streams: the arm's random streams at generation t.
        history: samples of earlier generations; use :meth:`generated`.
        source: returns k new real rows (k, *event) in model units; None where the data offer none. Use :meth:`fresh`.
    """

    t: int
    real: Samples
    streams: Streams
    history: History
    source: Callable[[int], Tensor] | None = None

    @property
    def n(self) -> int:
        """How many fixed real rows there are."""
        return self.real.x.shape[1]

    def generated(self, g: int, k: int | None = None) -> Samples:
        """Return the samples of generation g, born g + 1: all of them, or the first k.

        They are independent draws, so taking the first k is the same as drawing k without replacement.

        Raises:
            ConfigError: there is no such generation before t, or it has fewer rows.
        """
        if not 0 <= g < self.t:
            there = f"there are those of 0 to {self.t - 1}" if self.t else "there are none yet"
            raise ConfigError(f"mixing asks generation {self.t} for samples of generation {g}: {there}")
        found = self.history(g)
        count = int(found.count[0])
        if not 0 <= (k := count if k is None else k) <= count:
            raise ConfigError(
                f"mixing asks for {k} samples of generation {g}, which has {count}: let draws(t, n) return enough"
            )
        return found.first(k)

    def fresh(self, k: int) -> Samples:
        """Return k new real rows, born 0, that no other generation sees; the same ones if asked again.

        Raises:
            ConfigError: the data offer none.
            DataError: they have too few left.
        """
        if self.source is None:
            raise ConfigError("mixing asks for fresh real rows, which these data do not offer: set data.fresh_rows")
        return Samples.full(self.source(k)[None], born=0)


class Mixing(Protocol):
    """A regime; it may also have ``ratio`` and ``label``, see :class:`Regime`."""

    def draws(self, t: int, n: int) -> int:
        """Return how many rows generation t must sample, given n real ones."""

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return the training set of generation t of one arm, R = 1."""


class Regime(Frozen, ABC):
    """A regime with the usual answers: as many samples as real rows, no ratio, its settings as label.

    Attributes:
        needs: what data or generator must offer: "fresh" where it asks the pool for fresh rows.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset()

    def draws(self, t: int, n: int) -> int:
        """Return how many rows generation t must sample, given n real ones; metrics look at n of them at most."""
        return n

    @abstractmethod
    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return the training set of generation t of one arm, R = 1; its rows say when they were born."""

    @property
    def ratio(self) -> float | None:
        """Synthetic rows per real one, inf without real ones: λ of the paper's regime. None where that says nothing."""
        return None

    @property
    def label(self) -> str:
        """What it is called in charts."""
        settings = {key: value for key, value in self.model_dump().items() if key != "name"}
        return ", ".join([MIXINGS.name_of(self), *(f"{key} = {value}" for key, value in settings.items())])


MIXINGS: Family[type[Mixing]] = Family("mixing", "selfloop.mixing", {"draws": 2, "__call__": 2})


def ratio(mixing: Mixing) -> float | None:
    """Return a regime's ratio of synthetic to real rows, None where it has none."""
    try:
        found = getattr(mixing, "ratio", None)
        value = None if found is None else float(found)
    except FOREIGN as error:
        raise ConfigError(f"mixing {MIXINGS.name_of(mixing)!r}: its ratio is no number: {said(error)}") from error
    if value is not None and not value >= 0:
        raise ConfigError(f"mixing {MIXINGS.name_of(mixing)!r}: its ratio is {value}, and must be 0 or more, or None")
    return value


def label(mixing: Mixing) -> str:
    """Return what a regime is called in charts."""
    try:
        found = str(getattr(mixing, "label", None) or MIXINGS.name_of(mixing))
    except FOREIGN as error:
        raise ConfigError(f"mixing {MIXINGS.name_of(mixing)!r}: its label is no text: {said(error)}") from error
    return "".join(c if c.isprintable() else "?" for c in found)


def draws(mixing: Mixing, t: int, n: int) -> int:
    """Return how many rows a regime wants generation t to sample.

    Raises:
        ConfigError: that is no whole number from 1 on, or it fails.
    """
    what = f"mixing {MIXINGS.name_of(mixing)!r}"
    try:
        wanted = mixing.draws(t, n)
        count = 0 if isinstance(wanted, bool) else operator.index(wanted)
    except FOREIGN as error:  # whatever the regime's own code raises
        raise ConfigError(f"{what}: draws({t}, {n}) fails or gives no whole number: {said(error)}") from error
    if not 1 <= count < _MOST_ROWS:
        raise ConfigError(f"{what}: draws({t}, {n}) is {wanted!r}: it must be a whole number from 1 to 10 ** 12")
    return count


def training_set(mixing: Mixing, pool: Pool) -> Samples:
    """Return what a regime makes of a pool, checked.

    Raises:
        ConfigError: it returned something else than rows like the real ones, no rows, or weights that are none.
    """
    what, version = f"mixing {MIXINGS.name_of(mixing)!r}", pool.real.x._version
    try:
        found = mixing(pool.t, pool)
    except SelfloopError:
        raise
    except FOREIGN as error:  # whatever the regime's own code raises
        raise ConfigError(f"{what} failed at generation {pool.t}: {said(error)}") from error
    if pool.real.x._version != version:
        raise ConfigError(f"{what} changed the real rows themselves at generation {pool.t}: let it return other rows")
    if not isinstance(found, Samples):
        raise ConfigError(f"{what} returned {type(found).__name__} for generation {pool.t}: return Samples")
    event = tuple(pool.real.x.shape[2:])
    if tuple(found.x.shape[2:]) != event or len(found.x) != 1 or found.x.dtype != pool.real.x.dtype:
        shape = f"{found.x.dtype} {tuple(found.x.shape)}"
        rows = ", ".join(map(str, event))
        raise ConfigError(
            f"{what} returned {shape} for generation {pool.t}: rows are {pool.real.x.dtype} (1, N, {rows})"
        )
    count = int(found.count[0])
    if count < 1:
        raise ConfigError(f"{what} left nothing to train generation {pool.t} on: keep at least one row")
    if not torch.isfinite(found.arm(0)).all():
        raise ConfigError(f"{what} gave generation {pool.t} rows that are not finite: leave them out")
    born = found.born[0, :count]
    if int(born.min()) < 0 or int(born.max()) > pool.t:
        raise ConfigError(f"{what} gave generation {pool.t} rows that are not born yet: born is 0 … {pool.t}")
    if found.weight is not None:
        used = found.weight[0, :count]
        if not torch.isfinite(used).all() or (used < 0).any() or not (used > 0).any():
            raise ConfigError(f"{what} gave generation {pool.t} weights that are negative, all zero or not finite")
    return found
