"""What metrics need of the sets that they compare, known before there are any: rows enough, and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the sets of an arm are.

    Attributes:
        train: rows to train on.
        held_out: rows held out.
        generated: rows generated that metrics look at.
        event: numbers of a row.
        features: numbers of the features of a row.
    """

    train: int
    held_out: int
    generated: int
    event: int
    features: int


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a metric needs.

    Attributes:
        memory: bytes that it holds at once besides rows and features, of one arm.
        rows: the fewest rows it can do with, by set: "train", "held_out", "generated".
        instead: the metric that is for the same and needs less memory, if there is one.
    """

    memory: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    instead: str | None = None


def matrices(count: int, d: int) -> int:
    """Return the bytes of so many float64 matrices of d × d."""
    return 8 * count * d * d
