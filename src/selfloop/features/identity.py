"""Rows as they are."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.events import DATA_UNITS
from selfloop.features.base import FEATURES, Features, Progress


@FEATURES.register
class Identity(Features):
    """Rows as they are, in the model's units."""

    name: Literal["identity"] = "identity"
    needs: ClassVar[frozenset[Capability]] = frozenset(("numbers",))
    unit: ClassVar[str] = DATA_UNITS

    def key(self) -> str:
        """Return what the features depend on besides the rows."""
        return "identity 1"

    def __call__(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Return (N, *event) rows as (N, d)."""
        return x.flatten(1)
