"""What metrics look at: rows as they are, or the features of images by a network that tells them apart."""

from __future__ import annotations

from typing import Any

from selfloop.features.base import FEATURES, Extractor, Features, Progress, cached

__all__ = ["FEATURES", "Extractor", "Features", "Progress", "cached"]


def __getattr__(name: str) -> Any:
    """Return a built-in extractor by the name of its class."""
    return FEATURES.attribute(name)
