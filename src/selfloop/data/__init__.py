"""Real data: toys, digits, tables, images and what a program holds in memory, one file each."""

from __future__ import annotations

from typing import Any

from selfloop.data.arrays import array
from selfloop.data.base import DATA, Dataset, Split, split_rows
from selfloop.data.functions import function

__all__ = ["DATA", "Dataset", "Split", "array", "function", "split_rows"]


def __getattr__(name: str) -> Any:
    """Return a built-in data set by the name of its class."""
    return DATA.attribute(name)
