"""Updates: what becomes of the weights after a fit, one file each."""

from __future__ import annotations

from typing import Any

from selfloop.updates.base import UPDATES, Update

__all__ = ["UPDATES", "Update"]


def __getattr__(name: str) -> Any:
    """Return a built-in update by the name of its class."""
    return UPDATES.attribute(name)
