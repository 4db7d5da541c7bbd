"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from selfloop.core.errors import ConfigError


def is_path(word: str) -> bool:
    """Whether a word that is the name of nothing was meant for a file: with a folder in it, or an ending."""
    return bool(Path(word).suffix) or any(mark and mark in word for mark in (os.sep, os.altsep))


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home directory for a leading ``~``; that of a user who is not known stays as it is.

    Raises:
        ConfigError: there is nothing to go by, as of a variable of the shell that is not set.
    """
    if path == "":
        raise ConfigError("the name of a file or folder is empty: give one, as . for this folder")
    return Path(os.path.expanduser(path))
