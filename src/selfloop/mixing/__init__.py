"""Regimes: what a generation trains on, one file each; what they are made of is in :mod:`selfloop.mixing.parts`."""

from __future__ import annotations

from typing import Any

from selfloop.mixing.base import MIXINGS, Mixing, Pool, Regime
from selfloop.mixing.judges.base import JUDGES, Judge, Quantile

__all__ = ["JUDGES", "MIXINGS", "Judge", "Mixing", "Pool", "Quantile", "Regime"]


def __getattr__(name: str) -> Any:
    """Return a built-in regime by the name of its class."""
    return MIXINGS.attribute(name)
