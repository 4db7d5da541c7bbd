"""A regime out of parts that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Composed, Part, refuse_shares


@MIXINGS.register
class Compose(Composed):
    """Parts from real, fresh, newest, earlier or all rows: how many, which are kept, how they count.

    Attributes:
        parts: in the order of their rows; fresh ones stand in one of them at most.
    """

    name: Literal["compose"] = "compose"
    parts: list[Part] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _sound(self) -> Compose:
        refuse_shares(self.parts)
        if sum(part.source == "fresh" for part in self.parts) > 1:
            raise ValueError("fresh rows of a generation are the same for all that ask: have one part from fresh")
        return self

    def made_of(self) -> Sequence[Part]:
        """Return the parts as they were given."""
        return self.parts
