"""What a metric is, and the evidence that every metric is computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from selfloop.generators.base import Generator
from selfloop.training import State


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
    """

    generator: Generator
    state: State
    first: State
    untrained: State
    train: Tensor
    held_out: Tensor
    generated: Tensor


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
