"""Training-set regimes: what generation t trains on."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor

from selfloop.core.config import Frozen, Real
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams

History = Callable[[int], Samples]  # the samples of generation t


class Mixing(Protocol):
    """A regime; ``lam`` is λ, the ratio of synthetic to real rows, by which arms of one stack may differ."""

    lam: float

    def synthetic(self, n: int) -> int:
        """Return how many synthetic rows join ``n`` real ones."""

    def __call__(self, t: int, real: Samples, history: History, streams: Streams) -> Samples:
        """Return the training set of generation t, one arm per row of ``real``."""


class Augment(Frozen):
    """All real rows and ⌊λ·n⌋ from the last model (Algorithm 1); λ = inf: n synthetic rows and no real one.

    Only the newest generation is used. Its rows are independent draws, so taking the first ⌊λ·n⌋ of them is the same as
    drawing that many without replacement.

    Attributes:
        lam: λ ≥ 0, or inf for the fully synthetic loop.
    """

    name: Literal["augment"] = "augment"
    lam: Real = Field(default=1.0)

    @field_validator("lam")
    @classmethod
    def _not_negative(cls, lam: float) -> float:
        if math.isnan(lam) or lam < 0:
            raise ValueError("λ must be 0 or more, or inf for the fully synthetic loop")
        return lam

    def synthetic(self, n: int) -> int:
        """Return ⌊λ·n⌋, with λ taken as the decimal it was written as (0.29 · 100 is 29), or n where λ is inf."""
        return n if math.isinf(self.lam) else math.floor(Fraction(repr(self.lam)) * n)

    def __call__(self, t: int, real: Samples, history: History, streams: Streams) -> Samples:
        """Return real ∪ synthetic, real rows first and byte for byte; generation 0 is real data alone."""
        if t == 0 or self.lam == 0:
            return real
        drawn = self.synthetic(real.x.shape[1])
        latest = history(t - 1)
        if drawn > (available := int(latest.count.min())):
            raise ValueError(f"λ = {self.lam} needs {drawn} synthetic rows, generation {t - 1} has {available}")
        taken = Samples(x=latest.x[:, :drawn], born=latest.born[:, :drawn], count=torch.full_like(latest.count, drawn))
        return taken if math.isinf(self.lam) else _union(real, taken)


def _union(a: Samples, b: Samples) -> Samples:
    return Samples(x=torch.cat([a.x, b.x], 1), born=torch.cat([a.born, b.born], 1), count=a.count + b.count)


def stack(parts: list[Samples]) -> Samples:
    """Stack arms whose training sets differ in size, padding the shorter ones with zeros; one alone is not copied."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.x.shape[1] for part in parts)

    def pad(x: Tensor) -> Tensor:
        padding = x.new_zeros(x.shape[0], longest - x.shape[1], *x.shape[2:])
        return torch.cat([x, padding], 1)

    return Samples(
        x=torch.cat([pad(part.x) for part in parts]),
        born=torch.cat([pad(part.born) for part in parts]),
        count=torch.cat([part.count for part in parts]),
    )


ALL: tuple[type[Augment], ...] = (Augment,)
