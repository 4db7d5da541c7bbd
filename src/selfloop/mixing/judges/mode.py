"""Which mode of the data a row belongs to: its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.errors import ConfigError
from selfloop.data.base import Dataset
from selfloop.mixing.base import Pool
from selfloop.mixing.judges.base import JUDGES, Judge


@JUDGES.register
class Mode(Judge):
    """``reward`` for rows of a class, a mode of the data, and 0 for others.

    Attributes:
        index: of the mode that a row must be nearest to, from 0 on; None takes any.
        within: how many of the modes' standard deviations it may be off at most; None sets no limit.
        reward: of a row that is as it should be.
    """

    name: Literal["mode"] = "mode"
    needs: ClassVar[frozenset[Capability]] = frozenset(("modes",))
    index: int | None = Field(default=None, ge=0)
    within: float | None = Field(default=None, gt=0)
    reward: float = 1.0

    def check(self, data: Dataset, event: Sequence[int], n: int) -> None:
        """Refuse a mode that the data do not have."""
        modes = data.modes()
        if modes is not None and self.index is not None and self.index >= len(modes[0]):
            raise ConfigError(
                f"judge mode: index is {self.index}, and the data have the modes 0 to {len(modes[0]) - 1}"
            )

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        """Return (N,) float64."""
        centres, std = pool.modes
        distances = torch.cdist(
            x.flatten(1).double(), centres.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist"
        )
        nearest = distances.min(1)
        right = torch.ones(len(x), dtype=torch.bool)
        if self.index is not None:
            right &= nearest.indices == self.index
        if self.within is not None:
            right &= nearest.values <= self.within * std
        return self.reward * right.double()
