"""Stands for what models trained on elsewhere, which nothing here knows."""

from __future__ import annotations

from typing import ClassVar, Literal

from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples
from selfloop.mixing.base import MIXINGS, Pool, Regime


@MIXINGS.register
class Outside(Regime):
    """A loop that was run elsewhere, or the control beside it, which is taken to have seen real rows alone.

    Attributes:
        sequence: which of the two.
    """

    name: Literal["outside"] = "outside"
    sequence: Literal["loop", "control"] = "loop"
    elsewhere: ClassVar[bool] = True

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Refuse.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "mixing outside stands for what models trained on elsewhere: there is nothing to run; use another one"
        )

    @property
    def ratio(self) -> float | None:
        """Return 0 of the control; None of the loop, whose share of generated rows is not known."""
        return 0.0 if self.sequence == "control" else None

    @property
    def label(self) -> str:
        """What it is called in charts."""
        return "the control" if self.sequence == "control" else "the loop"
