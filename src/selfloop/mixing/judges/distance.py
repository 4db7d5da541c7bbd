"""How near rows are to a point, or to the real rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import quoted_value
from selfloop.core.errors import ConfigError
from selfloop.data.base import Dataset
from selfloop.mixing.base import Pool
from selfloop.mixing.judges.base import JUDGES, Judge

_CHUNK = 1024  # rows whose distances to all real ones are in memory at once


@JUDGES.register
class Distance(Judge):
    """−‖x − c‖² / (2 scale²), c a point or the nearest real row: the log density of a normal one, but for a constant.

    Attributes:
        to: the point's numbers in model units, or "real" for each row's nearest real one.
        scale: in model units.
    """

    name: Literal["distance"] = "distance"
    needs: ClassVar[frozenset[Capability]] = frozenset(("numbers",))
    least: ClassVar[float | None] = None
    to: Literal["real"] | list[float] = "real"
    scale: float = Field(default=1.0, gt=0)

    @field_validator("to", mode="before")
    @classmethod
    def _a_point(cls, to: Any) -> Any:
        point = isinstance(to, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in to)
        if to == "real" or (point and all(map(math.isfinite, to))):
            return to
        raise ValueError(f"a point is a list of finite numbers, or real, not {quoted_value(to)}")

    def check(self, data: Dataset, event: Sequence[int], n: int) -> None:
        """Refuse a point of another dimension."""
        if isinstance(self.to, list) and len(self.to) != math.prod(event):
            raise ConfigError(f"judge distance: to has {len(self.to)} numbers, and a row {math.prod(event)}")

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        """Return (N,) float64."""
        flat = x.flatten(1).double()
        if isinstance(self.to, list):
            square = (flat - torch.tensor(self.to, dtype=torch.float64)).square().sum(1)
        else:
            real = pool.real.arm(0).flatten(1).double()
            parts = (flat[i : i + _CHUNK] for i in range(0, max(len(flat), 1), _CHUNK))
            near = [torch.cdist(part, real, compute_mode="donot_use_mm_for_euclid_dist") for part in parts]
            square = torch.cat([each.min(1).values for each in near]).square()
        return -square / (2 * self.scale**2)
