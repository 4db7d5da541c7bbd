"""What every typed setting has in common: frozen, strict, and no unknown keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Frozen(BaseModel):
    """A set of settings that never changes after it was checked."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _words_to_float(value: Any) -> Any:
    """Let YAML's bare ``inf`` mean infinity, as it does in Python and NumPy."""
    return float("inf") if value in ("inf", "infinity", ".inf") else value


Real = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_words_to_float)]
