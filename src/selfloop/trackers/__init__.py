"""Trackers: who is told of a run while it goes on, one file each."""

from __future__ import annotations

from typing import Any

from selfloop.trackers.base import TRACKERS, Tracker

__all__ = ["TRACKERS", "Tracker"]


def __getattr__(name: str) -> Any:
    """Return a built-in tracker by the name of its class."""
    return TRACKERS.attribute(name)
