"""What a data set hands to the loop: training and held-out rows per arm, and what these rows are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Frozen
from selfloop.core.errors import DataError
from selfloop.core.events import Events, Kind
from selfloop.core.registry import Family
from selfloop.core.streams import Streams


@dataclass(frozen=True, kw_only=True)
class Split:
    """Real data of R arms in model units.

    Attributes:
        train: (R, n, *event), float64 or, of images, uint8.
        held_out: (R, m, *event), rows that no model trains on.
        events: what a row is.
    """

    train: Tensor
    held_out: Tensor
    events: Events

    def restore(self, x: Tensor) -> Tensor:
        """Return (..., *event) rows in the user's units, float64 on the CPU."""
        return self.events.restore(x)


class Dataset(Frozen, ABC):
    """Settings that name a data set; concrete classes add ``name``, by which a configuration selects them.

    Attributes:
        holds: the kind of its events.
        offers: what it has besides rows: "modes", a form as "pixels", "fresh" rows.
    """

    holds: ClassVar[Kind] = "vectors"
    offers: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def load(self, seeds: Sequence[int]) -> Split:
        """Return one training and one held-out set per seed; equal seeds give equal bits.

        Raises:
            DataError: the data cannot be read, or has too few rows for the split asked for.
        """

    def modes(self) -> tuple[Tensor, float] | None:
        """Return the centres (K, d) of equally likely normal modes and their standard deviation, if it has such."""
        return None

    def fresh(self, seed: int, generation: int, k: int) -> Tensor:
        """Return k real rows (k, *event), in model units, that neither ``load`` nor another generation has.

        Raises:
            DataError: there are not as many left.
        """
        raise DataError(f"data {DATA.name_of(self)} offers no fresh rows")


DATA: Family[type[Dataset]] = Family("data", "selfloop.data", {"load": 1})


def split_rows(
    rows: np.ndarray, n: int | None, held_out: int, seeds: Sequence[int], source: str
) -> tuple[Tensor, Tensor]:
    """Split fixed rows (N, *event) by one permutation per seed into (R, n, *event) and (R, held_out, *event).

    The permutation's first n rows train and the next ``held_out`` are held out; n None trains on the rest.
    ``source`` names the data in messages.

    Raises:
        DataError: fewer than 2 rows to train on or 1 to hold out, or more asked for than there are.
    """
    total = len(rows)
    if held_out < 1:
        raise DataError(f"{source}: held_out is {held_out}, but at least 1 row must be held out")
    if n is not None and n < 2:
        raise DataError(f"{source}: n is {n}, but at least 2 rows are needed to train on")
    n = max(total - held_out, 2) if n is None else n
    if n + held_out > total:
        raise DataError(
            f"{source} has {total} rows, fewer than n + held_out = {n} + {held_out} = {n + held_out}: "
            "lower n or held_out"
        )
    orders = Streams(seeds=tuple(seeds)).permutations("data", [total] * len(seeds))
    return _taken(rows, [order[:n] for order in orders]), _taken(rows, [order[n : n + held_out] for order in orders])


def _taken(rows: np.ndarray, orders: list[np.ndarray]) -> Tensor:
    """Return rows in each order, (R, n, *event); one order costs one copy."""
    taken = [rows[order] for order in orders]
    return torch.from_numpy(taken[0][None] if len(taken) == 1 else np.stack(taken))
