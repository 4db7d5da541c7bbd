"""The model of generation 0, which saw real rows alone, as a judge."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.mixing.base import Pool
from selfloop.mixing.judges.base import JUDGES, Judge


@JUDGES.register
class Likelihood(Judge):
    """The log density of rows under the model of generation 0, in nats."""

    name: Literal["likelihood"] = "likelihood"
    least: ClassVar[float | None] = None
    needs: ClassVar[frozenset[Capability]] = frozenset(("density",))

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        """Return log p₀(x), (N,)."""
        return pool.score(x)
