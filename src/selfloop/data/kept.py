"""Rows that no file of the user's holds: a program has them, and a run keeps them, known by their SHA-256.

A run directory has them in ``data-<first 16 digits>.safetensors``. A process looks for them among what it was given
itself, then in the run directories that it has opened.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import torch
from torch import Tensor

from selfloop.core.errors import DataError, RunError
from selfloop.core.files import load_sealed

_HELD: dict[str, Tensor] = {}  # what this process was given
_FOLDERS: dict[Path, None] = {}  # where there may be more; the latest is the last


def digest(rows: Tensor) -> str:
    """Return the SHA-256 of rows, their number type and their shape."""
    found = hashlib.sha256(f"{rows.dtype} {tuple(rows.shape)}\n".encode())
    found.update(rows.contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def hold(rows: Tensor) -> str:
    """Keep rows, which nobody else may write into, as long as the process lives; return their SHA-256."""
    key = digest(rows)
    _HELD.setdefault(key, rows)
    return key


def look_in(folder: str | Path) -> None:
    """Look in a folder, too, for rows that this process was not given."""
    path = Path(folder).absolute()
    _FOLDERS.pop(path, None)
    _FOLDERS[path] = None


def file_name(key: str) -> str:
    """Return what the file is called in which a run keeps rows of a SHA-256."""
    return f"data-{key[:16]}.safetensors"


def find(key: str, source: str) -> Tensor:
    """Return the rows of a SHA-256; ``source`` names them in messages.

    Raises:
        DataError: they are nowhere, or the file that they should be in is damaged.
    """
    if key in _HELD:
        return _HELD[key]
    for folder in reversed(_FOLDERS):
        if (path := folder / file_name(key)).is_file():
            return _read(path, key)
    raise DataError(
        f"{source} is not here: give the same one again, or put {file_name(key)} back into the run directory"
    )


@functools.lru_cache(maxsize=2)
def _read(path: Path, key: str) -> Tensor:
    try:
        rows = load_sealed(path)[0]["rows"]
    except (RunError, KeyError) as error:
        raise DataError(f"{str(path)!r} is damaged, and the rows in it are lost: give the same array again") from error
    if digest(rows) != key:
        raise DataError(f"{str(path)!r} holds other rows than its run was made with: give the same array again")
    return rows
