"""Where real rows lie densest, as where generated ones should be."""

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
class Centre(Judge):
    """The nearest of the centres that k-means finds in the real rows (Gillman et al. 2024).

    The centres are the same in all generations of an arm.

    Attributes:
        k: how many centres.
    """

    name: Literal["centre"] = "centre"
    needs: ClassVar[frozenset[Capability]] = frozenset(("numbers",))
    says: ClassVar[Literal["scores", "rows"]] = "rows"
    k: int = Field(default=10, ge=1)

    def check(self, data: Dataset, event: Sequence[int], n: int) -> None:
        """Refuse more centres than rows."""
        if self.k > n:
            raise ConfigError(f"judge centre: k is {self.k}, and there are {n} real rows: lower it")

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        """Return (N, *event) float64."""
        from scipy.cluster.vq import kmeans, vq  # takes time that only this judge should cost

        real = pool.real.arm(0).flatten(1).double().numpy()
        (rng,) = pool.streams.at(0).numpy("centres")
        first = real[rng.choice(len(real), self.k, replace=False)]
        centres, _ = kmeans(real, first)
        nearest, _ = vq(x.flatten(1).double().numpy(), centres)
        return torch.from_numpy(centres[nearest]).view(x.shape)
