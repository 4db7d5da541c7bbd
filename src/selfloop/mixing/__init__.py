"""Regimes: what a generation trains on, one file each."""

from __future__ import annotations

from typing import Any

from selfloop.mixing.base import MIXINGS, Mixing, Pool, Regime

__all__ = ["MIXINGS", "Mixing", "Pool", "Regime"]


def __getattr__(name: str) -> Any:
    """Return a built-in regime by the name of its class."""
    return MIXINGS.attribute(name)
