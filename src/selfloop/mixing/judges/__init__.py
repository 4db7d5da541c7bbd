"""Judges: what is said of generated rows, one file each."""

from __future__ import annotations

from typing import Any

from selfloop.mixing.judges.base import JUDGES, Judge, Quantile

__all__ = ["JUDGES", "Judge", "Quantile"]


def __getattr__(name: str) -> Any:
    """Return a built-in judge by the name of its class."""
    return JUDGES.attribute(name)
