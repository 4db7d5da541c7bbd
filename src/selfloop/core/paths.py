"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home directory for a leading ``~``; that of a user who is not known stays as it is."""
    return Path(os.path.expanduser(path))
