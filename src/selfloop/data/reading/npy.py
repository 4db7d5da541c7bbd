"""NumPy's files from outside: sizes are held against headers before memory is taken, and nothing is unpickled."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Container
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from selfloop.core.errors import DataError, quoted
from selfloop.data.reading.unpacked import refuse_bomb

try:
    from lzma import LZMAError
except ImportError:  # of a Python that was built without it, whose zipfile raises RuntimeError
    LZMAError = RuntimeError  # type: ignore[assignment, misc]

DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, LZMAError)
"""What reading raises on files that are damaged or of another kind; NotImplementedError is a RuntimeError."""


_MAPPED = 2**28  # bytes of an NPY from which on it is mapped
_LONGEST = 10_000  # bytes of a header, as many as NumPy itself trusts


class UnknownVersion(ValueError):
    """The version of NumPy's format is not one that plain arrays have; its only argument is that version."""


class Header(NamedTuple):
    """What an array's file says of it."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def read_header(file: IO[bytes]) -> Header:
    """Read the shape, whether it is in Fortran's order, and the dtype; the file stands at its beginning.

    Raises:
        UnknownVersion: it is neither 1.0 nor 2.0; 3.0 has named fields.
        ValueError: there is no such header, or one of an absurd length or shape.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise UnknownVersion(version)
    width = 2 if version == (1, 0) else 4
    length = file.read(width)
    if len(length) < width or (count := int.from_bytes(length, "little")) > _LONGEST:
        raise ValueError("there is no header, or one too long")
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers written by Python 2
            found = Header(*parse(io.BytesIO(length + file.read(count))))
    except Exception as error:  # NumPy lets what Python's own parser stumbles over through
        raise ValueError("the header is damaged") from error
    if any(isinstance(side, bool) or side < 0 for side in found.shape):
        raise ValueError(f"a side of {found.shape} is negative")
    return found


def read_npy(file: IO[bytes], size: int, mapped: Path | None = None) -> np.ndarray:
    """Read one array, of no Python objects, from a file of ``size`` bytes that stands at its beginning.

    Of the file ``mapped`` it is mapped: what is not looked at takes no memory, and what is written stays here.

    Raises:
        ValueError, …: out of :data:`DAMAGE`; its header promises another size, or objects.
    """
    shape, fortran, dtype = read_header(file)
    count = math.prod(shape)
    if dtype.hasobject or count * dtype.itemsize != size - file.tell():
        raise ValueError(f"{dtype} {shape} in {size} bytes")
    if mapped is not None:
        return np.memmap(mapped, dtype, "c", file.tell(), shape, "F" if fortran else "C")
    flat = np.frombuffer(bytearray(file.read()), dtype)  # a bytearray can be written to, as torch wants it
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def read_headers(path: Path) -> dict[str, Header]:
    """Read the headers of the arrays in an NPZ, by name, or of that in an NPY, under the name "".

    Raises:
        ValueError, …: out of :data:`DAMAGE`.
    """
    if path.suffix.lower() != ".npz":
        with path.open("rb") as file:
            return {"": read_header(file)}
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name, info in _members(archive).items():
            with archive.open(info) as member:
                found[name] = read_header(member)
    return found


def read_arrays(path: Path, limit: int, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Read the arrays in an NPZ, by name and only those of ``names``, or in an NPY, under the name "".

    Raises:
        DataError: they would take more than ``limit`` bytes; a large NPY takes none, as it is mapped.
        ValueError, …: out of :data:`DAMAGE`.
    """
    if path.suffix.lower() != ".npz":
        size = path.stat().st_size
        with path.open("rb") as file:
            return {"": read_npy(file, size, path if size > _MAPPED else None)}
    found = {}
    with zipfile.ZipFile(path) as archive:
        wanted = {name: info for name, info in _members(archive).items() if names is None or name in names}
        size = sum(info.file_size for info in wanted.values())
        _bounded(size, limit, path)
        refuse_bomb(size, path.stat().st_size, quoted(path))
        for name, info in wanted.items():
            with archive.open(info) as member:
                found[name] = read_npy(member, info.file_size)
    return found


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if found.setdefault(name, info) is not info:
            raise ValueError(f"array {name!r} is there twice")
    return found


def _bounded(size: int, limit: int, path: Path) -> None:
    if size > limit:
        raise DataError(f"{quoted(path)} unpacks to more than {limit / 2**30:.3g} GiB")
