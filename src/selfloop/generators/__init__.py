"""Generative models, one family a file."""

from __future__ import annotations

from typing import Any

from selfloop.generators.base import GENERATORS, Density, Generator, Sampler

__all__ = ["GENERATORS", "Density", "Generator", "Sampler"]


def __getattr__(name: str) -> Any:
    """Return a built-in generator by the name of its class."""
    return GENERATORS.attribute(name)
