"""What an experiment says of alarms: which statistics are watched while it runs, and what an alarm does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from selfloop.core.config import Frozen
from selfloop.core.errors import ConfigError, nearest
from selfloop.core.sequential import Array
from selfloop.metrics.base import Metric

EARLIEST = ("coverage_train", "precision_train", "density_train", "neighbour_entropy", "variance_ratio")
"""Statistics that see a collapse before distances do, whether it is one into noise or one onto modes."""


class Alarm(Frozen):
    """What an experiment watches while it runs.

    Attributes:
        statistics: names of recorded metrics that have a direction.
        level: the probability α of a false alarm of an arm, for all statistics and generations together.
        action: "note" alarms in the log and the report, or "stop" an arm from the generation after its alarm on.
    """

    statistics: list[str] = Field(default_factory=lambda: list(EARLIEST))
    level: float = Field(default=0.05, gt=0, lt=1)
    action: Literal["stop", "note"] = "note"

    @field_validator("statistics")
    @classmethod
    def _distinct(cls, names: list[str]) -> list[str]:
        if not names or len(set(names)) < len(names):
            raise ValueError("name at least one metric, and each only once")
        return names

    @property
    def fewest(self) -> int:
        """How many seeds arms and controls need, so that one false alarm among them is no more than the level."""
        return math.ceil(1 / self.level - 1e-9)


def refuse_unrecorded(statistics: Sequence[str], recorded: Sequence[str], known: Mapping[str, Metric]) -> None:
    """Refuse statistics that an alarm cannot look at.

    Args:
        statistics: names.
        recorded: names of the metrics that there are.
        known: what is known of them; of one that is not in it, nothing is said.

    Raises:
        ConfigError: one is not recorded, or has no direction.
    """
    for name in statistics:
        if name not in recorded:
            there = [other for other in recorded if other not in known or known[other].goal is not None]
            raise ConfigError(
                f"alarm: {name!r} is not recorded{nearest(name, there)}: add it to metrics, or set alarm.statistics to "
                f"some of {', '.join(there) or 'them'}"
            )
        if name in known and known[name].goal is None:
            raise ConfigError(f"alarm: {name!r} has no direction: neither more nor less of it is worse")


def badness(about: Sequence[Metric], values: Sequence[Sequence[float | None]]) -> Array:
    """Return the badness (S, A) of the values of S metrics in A arms, NaN where one is None."""
    rows = [
        [math.nan if value is None else metric.badness(value) for value in row]
        for metric, row in zip(about, values, strict=True)
    ]
    return np.array(rows, dtype=np.float64)
