"""What a metric is, and the evidence that every metric is computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from selfloop.generators.base import Generator
from selfloop.learning.training import State

Shared = TypeVar("Shared")
Which = Literal["train", "held_out", "generated"]
WORDS = {"train": "the real training set", "held_out": "the held-out real set"}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of R arms at one generation; tensors lead with R.

    Attributes:
        generator: the family.
        state: after this generation's fit.
        first: the state after generation 0.
        untrained: the state before generation 0, the random initialisation.
        train: (R, n, *event) real training rows.
        held_out: (R, m, *event) real rows that no model trains on.
        generated: (R, n, *event) samples of this generation.
        features: maps (N, *event) rows to (N, k) features; the flag says that they are real, and so worth keeping.
        modes: centres (K, *event) of the real distribution and their standard deviation, where they are known.
    """

    generator: Generator
    state: State
    first: State
    untrained: State
    train: Tensor
    held_out: Tensor
    generated: Tensor
    features: Callable[[Tensor, bool], Tensor] = lambda x, real: x.flatten(1)
    modes: tuple[Tensor, float] | None = None
    _shared: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def shared(self, key: Any, compute: Callable[[], Shared]) -> Shared:
        """Return ``compute()``, computed once for all metrics that ask for it by this key."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]  # type: ignore[no-any-return]

    def featured(self, which: Which) -> list[Tensor]:
        """Return the features of one of the three sets, (n, k) for every arm."""
        rows: Tensor = getattr(self, which)
        return self.shared(which, lambda: [self.features(arm, which != "generated") for arm in rows])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number per arm and generation.

    Attributes:
        name: the key in records and configurations.
        title: a short label for charts.
        definition: what is computed, in one sentence.
        direction: what better means, "lower is better", "1 is best" and so on.
        version: rises whenever the same samples would give another number.
        unit: of the value.
        compute: maps the evidence to (R,) float64.
        floor: whether the value between training and held-out rows is a floor worth recording beside it.
        density: whether the generator must have ``log_prob``.
        modes: whether the modes of the real distribution must be known.
        parameters: whether the generator must have parameters.
    """

    name: str
    title: str
    definition: str
    direction: str
    version: int
    unit: str
    compute: Callable[[Evidence], Tensor]
    floor: bool = False
    density: bool = False
    modes: bool = False
    parameters: bool = False


def per_arm(value: Callable[..., float], *sets: Sequence[Any]) -> Tensor:
    """Return ``value`` of every arm's sets, (R,) float64."""
    return torch.tensor([value(*arm) for arm in zip(*sets, strict=True)], dtype=torch.float64)


def compared(
    name: str, title: str, definition: str, unit: str, value: Callable[[Tensor, Tensor], float], version: int = 1
) -> tuple[Metric, Metric]:
    """Return a distance as two metrics: of the generated features to those of the training and of the held-out set.

    Args:
        name: to which ``_train`` and ``_held_out`` are added.
        title: to which the set is added.
        definition: with "{real}" where the set is named.
        unit: of the value.
        value: maps (n, k) real and generated features to the distance.
        version: as of :class:`Metric`.
    """
    train, held_out = (
        Metric(
            name=f"{name}_{against}",
            title=f"{title} to {'training' if against == 'train' else 'held-out'} data",
            definition=definition.format(real=WORDS[against]),
            direction="lower is better",
            version=version,
            unit=unit,
            compute=lambda e, against=against: per_arm(value, e.featured(against), e.featured("generated")),  # type: ignore[misc]
            floor=against == "held_out",
        )
        for against in ("train", "held_out")
    )
    return train, held_out
