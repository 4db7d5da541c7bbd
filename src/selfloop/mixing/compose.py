"""A regime out of parts that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import PositiveFloat, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from selfloop.core.capabilities import Capability
from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Composed, Part, refuse_shares, tempering

_MOST_PARTS = 100


@MIXINGS.register
class Compose(Composed):
    """Parts from real, fresh, newest, earlier or all rows: how many, which are kept, how they count.

    Attributes:
        parts: in the order of their rows; fresh ones stand in one of them at most.
        temperature: at which all models are sampled; None is 1, that of the models themselves.
    """

    name: Literal["compose"] = "compose"
    parts: list[Part]
    temperature: PositiveFloat | None = None

    @field_validator("parts", mode="before")
    @classmethod
    def _some(cls, parts: Any) -> Any:
        if isinstance(parts, list | tuple) and not 1 <= len(parts) <= _MOST_PARTS:
            raise ValueError(f"a regime has 1 to {_MOST_PARTS} parts, and these are {len(parts)}")
        return parts

    @model_serializer(mode="wrap")
    def _written(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the settings as they are recorded, without a temperature where there is none: once there was none."""
        return {key: value for key, value in usual(self).items() if key != "temperature" or value is not None}

    @model_validator(mode="after")
    def _sound(self) -> Compose:
        refuse_shares(self.parts)
        if sum(part.source == "fresh" for part in self.parts) > 1:
            raise ValueError("fresh rows of a generation are the same for all that ask: have one part from fresh")
        return self

    @property
    def needs(self) -> frozenset[Capability]:  # type: ignore[override]
        """What its parts need, and samples at a temperature where it is not 1."""
        return super().needs | tempering(self.temperature)

    def sampling_temperature(self, t: int) -> float:
        """Return the temperature."""
        return 1.0 if self.temperature is None else self.temperature

    def made_of(self) -> Sequence[Part]:
        """Return the parts as they were given."""
        return self.parts
