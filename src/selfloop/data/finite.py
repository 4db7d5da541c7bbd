"""What sets of finitely many rows have in common: some of them can be set aside, as fresh ones of later generations."""

from __future__ import annotations

import os
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.data.base import Dataset


class Finite(Dataset):
    """A fixed set of rows.

    Attributes:
        fresh_rows: per seed, how many rows neither train nor are held out, but are new ones for generations 1, 2, …;
            T·k last for T generations that ask for k each.
        always: what it offers besides them, whatever its settings.
    """

    always: ClassVar[frozenset[Capability]] = frozenset()
    fresh_rows: int = Field(default=0, ge=0)

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What it always offers, and fresh rows where some are set aside."""
        return self.always | {"fresh"} if self.fresh_rows else self.always

    def fresh(self, seed: int, generation: int, k: int) -> Tensor:
        """Return the k rows that are set aside for a generation, see :meth:`selfloop.data.base.Split.fresh`."""
        return self.load([seed]).fresh(0, generation, k)


def refuse_twice(path: str, held_out_path: str | None) -> None:
    """Refuse to hold out the very file that models train on.

    Raises:
        ValueError: both are the same.
    """
    if held_out_path is not None and os.path.realpath(held_out_path) == os.path.realpath(path):
        raise ValueError("held_out_path is the file to train on: name another one, or leave it out to hold out a part")
