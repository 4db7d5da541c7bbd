"""NumPy's files from outside: sizes are held against headers before memory is taken, and nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Container
from pathlib import Path
from typing import IO

import numpy as np

from selfloop.core.errors import DataError, quoted

DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading raises on files that are damaged or of another kind; NotImplementedError is a RuntimeError."""


class UnknownVersion(ValueError):
    """The version of NumPy's format is not one that plain arrays have; its only argument is that version."""


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the shape, whether it is in Fortran's order, and the dtype; the file stands at its beginning.

    Raises:
        UnknownVersion: it is neither 1.0 nor 2.0; 3.0 has named fields.
        ValueError: there is no such header.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise UnknownVersion(version)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    return shape, fortran, dtype


def read_npy(file: IO[bytes], size: int) -> np.ndarray:
    """Read one array, of no Python objects, from a file of ``size`` bytes that stands at its beginning.

    Raises:
        ValueError, …: out of :data:`DAMAGE`; its header promises another size, or objects.
    """
    shape, fortran, dtype = read_header(file)
    count = math.prod(shape)
    if dtype.hasobject or count * dtype.itemsize != size - file.tell():
        raise ValueError(f"{dtype} {shape} in {size} bytes")
    flat = np.frombuffer(bytearray(file.read()), dtype)  # a bytearray can be written to, as torch wants it
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def read_arrays(path: Path, limit: int, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays in an NPZ, by name and only those of ``names``, or in an NPY, under the name "".

    Raises:
        DataError: they would take more than ``limit`` bytes.
        ValueError, …: out of :data:`DAMAGE`.
    """
    if path.suffix.lower() != ".npz":
        _bounded(path.stat().st_size, limit, path)
        with path.open("rb") as file:
            return {"": read_npy(file, path.stat().st_size)}
    found = {}
    with zipfile.ZipFile(path) as archive:
        _bounded(sum(info.file_size for info in archive.infolist()), limit, path)
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if names is None or name in names:
                with archive.open(info) as member:
                    found[name] = read_npy(member, info.file_size)
    return found


def _bounded(size: int, limit: int, path: Path) -> None:
    if size > limit:
        raise DataError(f"{quoted(path)} unpacks to more than {limit / 2**30:.3g} GiB")
