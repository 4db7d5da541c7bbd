"""What a regime is, and the pool of rows that it makes a training set of."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from selfloop.core.capabilities import WORDS, Capability
from selfloop.core.config import Frozen
from selfloop.core.errors import FOREIGN, ConfigError, SelfloopError, said
from selfloop.core.registry import Family
from selfloop.core.samples import Samples
from selfloop.core.settings import in_words
from selfloop.core.streams import Streams
from selfloop.data.base import Dataset

_MOST_ROWS = 10**12

History = Callable[[int], Samples]  # the samples of generation t


@dataclass(frozen=True)
class Pool:
    """The rows that generation t ≥ 1 of one arm may train on; everything leads with R = 1.

    Attributes:
        t: the generation that is about to be trained.
        real: the fixed real rows, born 0.
        streams: the arm's random streams at generation t.
        history: samples of earlier generations; use :meth:`generated`.
        source: returns k new real rows (k, *event) in model units; None where nobody needs any. Use :meth:`fresh`.
        density: log densities (N,) of rows under the model of generation 0; None where nobody needs it. Use
            :meth:`score`.
        known: modes of the data; None where they offer none. Use :attr:`modes`.
        asker: who asks, for messages: a regime or a judge.
        judge: how many judges of the same name the regime asks before the one that asks, so that each can draw from
            streams of its own, ``pool.streams.numpy("purpose", pool.judge)``.
        fresh_label: returns the classes (k,) of the k rows that ``source`` returns; None where they have none.
        judged: of whoever judges, the classes (N,) int64 of the rows that it is shown; None where they have none. Use
            :attr:`labels`.
    """

    t: int
    real: Samples
    streams: Streams
    history: History
    source: Callable[[int], Tensor] | None = None
    density: Callable[[Tensor], Tensor] | None = None
    known: tuple[Tensor, float] | None = None
    asker: str = "mixing"
    judge: int = 0
    fresh_label: Callable[[int], Tensor | None] | None = None
    judged: Tensor | None = None

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
            there = f"0 to {self.t - 1}" if self.t > 1 else "0 alone"
            raise ConfigError(
                f"{self.asker} asks generation {self.t} for samples of generation {g}: there are those of {there}"
            )
        found = self.history(g)
        count = int(found.count[0])
        k = count if k is None else k
        if k < 0:
            raise ConfigError(f"{self.asker} asks for {k} samples of generation {g}: ask for 0 or more")
        if k > count:
            raise ConfigError(
                f"{self.asker} asks for {k} samples of generation {g}, which has {count}: let draws(t, n) return enough"
            )
        return found.first(k)

    def fresh(self, k: int) -> Samples:
        """Return k new real rows, born 0, that no other generation sees; the same ones if asked again.

        Raises:
            ConfigError: whoever asks does not say that it needs some, or k is negative.
            DataError: the data have too few left.
        """
        if self.source is None:
            raise ConfigError(f"{self.asker} asks for fresh real rows: let its class say {_saying('fresh')}")
        if k < 0:
            raise ConfigError(f"{self.asker} asks for {k} fresh real rows: ask for 0 or more")
        rows, label = self.source(k)[None], None if self.fresh_label is None else self.fresh_label(k)
        if label is None and self.real.label is not None:
            raise ConfigError(
                f"{self.asker} asks for fresh real rows, which have no labels, and the fixed ones have some"
            )
        return Samples.full(rows, born=0, label=None if label is None else label[None])

    @property
    def labels(self) -> Tensor:
        """The classes (N,) int64 of the rows that a judge is shown.

        Raises:
            ConfigError: they have none, or nobody judges.
        """
        if self.judged is None:
            raise ConfigError(
                f"{self.asker} asks for labels of rows, which have none: let its class say {_saying('labels')}"
            )
        return self.judged

    def score(self, x: Tensor) -> Tensor:
        """Return the log density (N,), in nats, of rows x (N, *event) under the model of generation 0.

        Raises:
            ConfigError: whoever asks does not say that it needs a density.
        """
        if self.density is None:
            raise ConfigError(
                f"{self.asker} asks for a density under generation 0's model: let its class say {_saying('density')}"
            )
        return self.density(x)

    @property
    def modes(self) -> tuple[Tensor, float]:
        """The centres (K, d) of the data's modes, and their standard deviation.

        Raises:
            ConfigError: the data have none.
        """
        if self.known is None:
            raise ConfigError(f"{self.asker} asks for modes of the data, which have none: name data with known modes")
        return self.known


def _saying(need: Capability) -> str:
    return f'needs = frozenset({{"{need}"}})'


class Mixing(Protocol):
    """A regime; it may also have ``needs``, ``sampling_temperature``, ``ratio`` and ``label``, see :class:`Regime`."""

    def draws(self, t: int, n: int) -> int:
        """Return how many rows generation t must sample, given n real ones."""

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return the training set of generation t ≥ 1 of one arm, R = 1; generation 0 trains on the real rows."""


class Regime(Frozen, ABC):
    """A regime with the usual answers: as many samples as real rows, no ratio, its settings as label.

    Attributes:
        needs: what data or generator must offer: "fresh" where it asks the pool for fresh rows, "density" for scores,
            "temperature" where it wants samples at another one than 1, "labels" where it looks at classes.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset()

    def draws(self, t: int, n: int) -> int:
        """Return how many rows generation t must sample, given n real ones; metrics look at n of them at most."""
        return n

    def sampling_temperature(self, t: int) -> float:
        """Return the temperature at which generation t is sampled, above 0; 1 is that of the model itself."""
        return 1.0

    def fresh_rows(self, n: int) -> int:
        """Return how many fresh real rows each generation after 0 takes, given n fixed ones."""
        return 0

    def refuse_incomplete(self) -> None:
        """Refuse settings that lack something; data and generator offer what it needs.

        Raises:
            ValueError: what.
        """

    def check(self, data: Dataset, event: Sequence[int], n: int) -> None:
        """Refuse data that it cannot be used with: events of a shape, n real rows.

        Raises:
            ConfigError: why.
        """

    @abstractmethod
    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return the training set of generation t ≥ 1 of one arm, R = 1; its rows say when they were born.

        It is not asked for generation 0, which trains on the real rows, whatever the regime.
        """

    @property
    def ratio(self) -> float | None:
        """Synthetic rows per real one, inf without real ones: λ of the paper's regime. None where that says nothing."""
        return None

    @property
    def label(self) -> str:
        """What it is called in charts."""
        settings = {key: value for key, value in self.model_dump().items() if key != "name" and value is not None}
        return ", ".join([MIXINGS.name_of(self), *(f"{key} = {in_words(value)}" for key, value in settings.items())])


MIXINGS: Family[type[Mixing]] = Family("mixing", "selfloop.mixing", {"draws": 2, "__call__": 2})


def needs(mixing: Mixing) -> frozenset[Capability]:
    """Return what a regime says that data or generator must offer; nothing where it does not say.

    Raises:
        ConfigError: that is no set of capabilities, or it fails.
    """
    what = f"mixing {MIXINGS.name_of(mixing)}"
    try:
        found: Any = getattr(mixing, "needs", frozenset())
    except SelfloopError:
        raise
    except FOREIGN as error:  # of a judge that says it otherwise
        raise ConfigError(f"{what}: what it needs cannot be told: {said(error)}") from error
    if not isinstance(found, set | frozenset) or not found <= WORDS.keys():
        raise ConfigError(f"{what}: its needs are {found!r}, and must be a set out of {', '.join(WORDS)}")
    return frozenset(found)


def refuse_incomplete(mixing: Mixing) -> None:
    """Refuse a regime whose settings lack something.

    Raises:
        ConfigError: what.
    """
    try:
        getattr(mixing, "refuse_incomplete", lambda: None)()
    except SelfloopError:
        raise
    except ValueError as error:
        raise ConfigError(f"mixing {MIXINGS.name_of(mixing)}: {error}") from error
    except FOREIGN as error:  # whatever the regime's own code raises
        raise ConfigError(f"mixing {MIXINGS.name_of(mixing)}: its check failed: {said(error)}") from error


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


def sampling_temperature(mixing: Mixing, t: int) -> float:
    """Return the temperature at which a regime wants generation t to be sampled; 1 where it does not say.

    Raises:
        ConfigError: that is no number above 0, or it fails.
    """
    what = f"mixing {MIXINGS.name_of(mixing)!r}"
    try:
        found = float(getattr(mixing, "sampling_temperature", lambda t: 1.0)(t))
    except FOREIGN as error:  # whatever the regime's own code raises
        raise ConfigError(f"{what}: sampling_temperature({t}) fails or gives no number: {said(error)}") from error
    if not 0 < found < math.inf:
        raise ConfigError(f"{what}: sampling_temperature({t}) is {found}: it must be a number above 0")
    return found


def fresh_rows(mixing: Mixing, n: int) -> int:
    """Return how many fresh rows a regime takes each generation after 0; 0 where it does not say.

    Raises:
        ConfigError: it fails, or that is no whole number.
    """
    try:
        return int(operator.index(getattr(mixing, "fresh_rows", lambda n: 0)(n)))
    except FOREIGN as error:  # whatever the regime's own code raises
        what = f"mixing {MIXINGS.name_of(mixing)!r}"
        raise ConfigError(f"{what}: fresh_rows({n}) fails or gives no whole number: {said(error)}") from error


def check(mixing: Mixing, data: Dataset, event: Sequence[int], n: int) -> None:
    """Refuse data that a regime cannot be used with.

    Raises:
        ConfigError: why.
    """
    try:
        getattr(mixing, "check", lambda *_: None)(data, event, n)
    except SelfloopError:
        raise
    except FOREIGN as error:  # whatever the regime's own code raises
        raise ConfigError(f"mixing {MIXINGS.name_of(mixing)!r}: its check failed: {said(error)}") from error


def _refuse_labels(label: Tensor | None, pool: Pool, what: str) -> None:
    """Refuse rows without labels where real ones have some, or the other way round, and labels that are none.

    Raises:
        ConfigError: with ``what`` gave them.
    """
    if (label is None) != (pool.real.label is None):
        lacks = "no labels, and the real rows have some" if label is None else "labels, and the real rows have none"
        raise ConfigError(f"{what} gave the rows of generation {pool.t} {lacks}: let it pass on those of the pool")
    if label is not None and (label.dtype != torch.int64 or bool((label < 0).any())):
        raise ConfigError(f"{what} gave generation {pool.t} labels that are no classes: they are int64 from 0")


def training_set(mixing: Mixing, pool: Pool) -> Samples:
    """Return what a regime makes of a pool, checked; no rows at all starve the arm. Generation 0 has the real rows.

    Raises:
        ConfigError: it returned something else than rows like the real ones, or weights that are none.
    """
    if pool.t == 0:
        return pool.real
    what, version = f"mixing {MIXINGS.name_of(mixing)!r}", pool.real.x._version
    try:
        found = mixing(pool.t, replace(pool, asker=what))
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
    _refuse_labels(found.label, pool, what)
    count = int(found.count[0])
    if count < 1:
        return found
    # Extremes are NaN where a row is, and take no memory: of a long loop's rows a mask of them all would.
    if not all(torch.isfinite(extreme) for extreme in found.arm(0).aminmax()):
        raise ConfigError(f"{what} gave generation {pool.t} rows that are not finite: leave them out")
    born = found.born[0, :count]
    if int(born.min()) < 0 or int(born.max()) > pool.t:
        raise ConfigError(f"{what} gave generation {pool.t} rows that are not born yet: born is 0 … {pool.t}")
    if found.weight is not None:
        used = found.weight[0, :count]
        if not torch.isfinite(used).all() or (used < 0).any() or not (used > 0).any():
            raise ConfigError(
                f"{what} gave generation {pool.t} weights that are negative, all zero or not finite: "
                "return finite ones of 0 or more"
            )
    return found
