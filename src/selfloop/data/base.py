"""What a data set hands to the loop: training and held-out rows per arm, and what these rows are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Frozen
from selfloop.core.errors import DataError
from selfloop.core.events import Events, Kind
from selfloop.core.memory import refuse_beyond_memory
from selfloop.core.registry import Family
from selfloop.core.samples import State
from selfloop.core.streams import Streams


@dataclass(frozen=True, kw_only=True)
class Split:
    """Real data of R arms in model units.

    Attributes:
        train: (R, n, *event), float64 or, of images, uint8, or, of text, int32.
        held_out: (R, m, *event), rows that no model trains on.
        events: what a row is.
        aside: (R, f, *event), rows that neither train nor are held out, for later generations; None where none are.
        train_label: (R, n) int64, the classes of the rows to train on, 0 … events.classes − 1; None without.
        held_out_label: (R, m), of those held out.
        aside_label: (R, f), of those set aside.
    """

    train: Tensor
    held_out: Tensor
    events: Events
    aside: Tensor | None = None
    train_label: Tensor | None = None
    held_out_label: Tensor | None = None
    aside_label: Tensor | None = None

    def select(self, rows: list[int]) -> Split:
        """Return the data of the arms ``rows``."""
        of: dict[str, Any] = {name: leaf[rows] for name, leaf in vars(self).items() if isinstance(leaf, Tensor)}
        return replace(self, **of)

    def fresh(self, r: int, generation: int, k: int) -> Tensor:
        """Return the k rows (k, *event) that are set aside for a generation of arm r: the ((generation − 1)·k)-th on.

        Generations that ask for equally many never see the same ones.

        Raises:
            DataError: there are not as many left, or it is generation 0, which trains on the fixed rows.
        """
        first = first_fresh(0 if self.aside is None else self.aside.shape[1], generation, k)
        return self.train[r, :0] if self.aside is None else self.aside[r, first : first + k]

    def fresh_label(self, r: int, generation: int, k: int) -> Tensor | None:
        """Return the classes (k,) of the rows that :meth:`fresh` returns; None where they have none."""
        if self.aside_label is None:
            return None
        return self.aside_label[r, (generation - 1) * k :][:k]

    def restore(self, x: Tensor) -> Tensor:
        """Return (..., *event) rows in the user's units, float64 on the CPU."""
        return self.events.restore(x)


def first_fresh(there: int, generation: int, k: int) -> int:
    """Return which of the rows that are set aside is the first of the k that a generation has.

    Raises:
        DataError: as :meth:`Split.fresh`.
    """
    if generation < 1:
        raise DataError("data.fresh_rows are for generation 1 and later ones: generation 0 trains on the fixed rows")
    first = (generation - 1) * k
    left = max(there - first, 0)
    if not 0 <= k <= left:
        raise DataError(
            f"generation {generation} asks for {k} fresh rows, and of the {there} set aside {left} are left: "
            f"raise data.fresh_rows to {generation * k} or more"
        )
    return first


class Dataset(Frozen, ABC):
    """Settings that name a data set; concrete classes add ``name``, by which a configuration selects them.

    Attributes:
        holds: the kind of its events.
        offers: what it has besides rows: "modes", a form as "pixels", "fresh" rows, "coefficients", "labelled" rows,
            "columns", a "target", "text".
    """

    holds: ClassVar[Kind] = "vectors"
    offers: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def load(self, seeds: Sequence[int]) -> Split:
        """Return one training and one held-out set per seed; equal seeds give equal bits.

        Raises:
            DataError: the data cannot be read, or has too few rows for the split asked for.
        """

    def extent(self) -> tuple[tuple[int, ...], int]:
        """Return the space of events and how many rows there are to train on, from the settings where they tell.

        Raises:
            DataError: they do not, and the data cannot be read.
        """
        split = self.load([0])
        return split.events.space, split.train.shape[1]

    def modes(self) -> tuple[Tensor, float] | None:
        """Return the centres (K, d) of equally likely normal modes and their standard deviation, if it has such."""
        return None

    def true_coefficients(self) -> Tensor | None:
        """Return those of the linear predictor that makes one column of the others, (d − 1,), if they are known."""
        return None

    def predicted(self) -> str | None:
        """Return the name of the column that models are to predict from the others, if there is one."""
        return None

    def fresh(self, seed: int, generation: int, k: int) -> Tensor:
        """Return k real rows (k, *event), in model units, that neither ``load`` nor another generation has.

        Raises:
            DataError: there are not as many left.
        """
        raise DataError(f"data {DATA.name_of(self)} offers no fresh rows")

    def files(self) -> dict[str, State]:
        """Return what a run must keep of the data because nothing else has it: tensors, by the name of their file.

        Raises:
            DataError: it is not there.
        """
        return {}


DATA: Family[type[Dataset]] = Family(
    "data",
    "selfloop.data",
    {"load": 1},
    also="an array, a tensor, a data frame, a function of a seed, or a file as {name: table, path: FILE} "
    "(or name: text, image_files)",
)


def refuse_rows(count: int, columns: int, what: str) -> None:
    """Refuse rows of float64 numbers that memory does not hold, before they are drawn.

    Raises:
        ConfigError: with ``what`` they are.
    """
    refuse_beyond_memory(8 * count * columns, f"{what}: {count:.6g} rows of {columns:.6g} numbers")


class Parts(NamedTuple):
    """Rows of R arms: (R, n, *event) to train on, (R, m, *event) held out, (R, f, *event) set aside, if any are.

    Where rows are labelled, ``labels`` are their classes, (R, n), (R, m) and (R, f), out of so many ``classes``.
    """

    train: Tensor
    held_out: Tensor
    aside: Tensor | None = None
    labels: Parts | None = None
    classes: int = 0


def split_rows(
    rows: np.ndarray, n: int | None, held_out: int, seeds: Sequence[int], source: str
) -> tuple[Tensor, Tensor]:
    """Split fixed rows (N, *event) by one permutation per seed into (R, n, *event) and (R, held_out, *event).

    The permutation's first n rows train and the next ``held_out`` are held out; n None trains on the rest.
    ``source`` names the data in messages.

    Raises:
        DataError: fewer than 2 rows to train on or 1 to hold out, or more asked for than there are.
    """
    parts = divide(rows, n, held_out, seeds, source)
    return parts.train, parts.held_out


def divide(
    rows: np.ndarray,
    n: int | None,
    held_out: int | None,
    seeds: Sequence[int],
    source: str,
    *,
    fresh_rows: int = 0,
    apart: np.ndarray | None = None,
) -> Parts:
    """Divide fixed rows (N, *event) by one permutation per seed.

    Args:
        rows: all there are.
        n: the permutation's first n rows train; None takes all that are not used otherwise.
        held_out: the next ones are held out; of ``apart``, where there is that, and None takes all of it.
        seeds: of the arms.
        source: names the data in messages.
        fresh_rows: those after them are set aside.
        apart: (M, *event) rows to hold out that are none of ``rows``.

    Raises:
        DataError: fewer than 2 rows to train on or 1 to hold out, or more asked for than there are.
    """
    m = 0 if apart is not None else held_out or 0
    if apart is None and m < 1:
        raise DataError(f"{source}: held_out is {m}, but at least 1 row must be held out")
    n = _training_rows(len(rows), n, m, fresh_rows, source)
    orders = Streams(seeds=tuple(seeds)).permutations("data", [len(rows)] * len(seeds))
    held = _taken(rows, [order[n : n + m] for order in orders]) if apart is None else held_apart(apart, held_out, seeds)
    aside = _taken(rows, [order[n + m : n + m + fresh_rows] for order in orders]) if fresh_rows else None
    return Parts(_taken(rows, [order[:n] for order in orders]), held, aside)


def _training_rows(total: int, n: int | None, held_out: int, fresh_rows: int, source: str) -> int:
    """Return how many of all rows train."""
    if n is not None and n < 2:
        raise DataError(f"{source}: n is {n}, but at least 2 rows are needed to train on")
    n = max(total - held_out - fresh_rows, 2) if n is None else n
    counts = {"n": n} | {k: v for k, v in (("held_out", held_out), ("fresh_rows", fresh_rows)) if v}
    if (asked := sum(counts.values())) > total:
        numbers = f" = {' + '.join(map(str, counts.values()))}" if len(counts) > 1 else ""
        words, lower = " + ".join(counts), " or ".join(counts)
        raise DataError(f"{source} has {total} rows, fewer than {words}{numbers} = {asked}: lower {lower}")
    return n


def held_apart(apart: np.ndarray, count: int | None, seeds: Sequence[int]) -> Tensor:
    """Return ``count`` of rows that are none to train on for each seed, (R, count, *event); all are shared, not copied.

    Raises:
        DataError: there are not as many.
    """
    if count is None:
        return torch.from_numpy(apart).expand(len(seeds), *apart.shape)
    if count > len(apart):
        raise DataError(f"held_out is {count}, and there are {len(apart)} rows to hold out: lower it, or leave it out")
    orders = Streams(seeds=tuple(seeds)).permutations("data/held_out", [len(apart)] * len(seeds))
    return _taken(apart, [order[:count] for order in orders])


def _taken(rows: np.ndarray, orders: list[np.ndarray]) -> Tensor:
    """Return rows in each order, (R, n, *event); one order costs one copy."""
    taken = [rows[order] for order in orders]
    return torch.from_numpy(taken[0][None] if len(taken) == 1 else np.stack(taken))
