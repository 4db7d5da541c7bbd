"""A checkpoint file's content as plain values: torch's zip archive, torch's older format, or one pickle.

torch stores the members of its archives uncompressed: ``NAME/data.pkl`` is the object, ``NAME/data/KEY`` the bytes
of a storage. So nothing is unpacked here, no member can be larger than its place in the file, and no two may
overlap. Nothing is written to disk.

Source: ``_save`` in ``torch/serialization.py``, and the layout of the zip directory that ``zipfile`` documents.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

from selfloop.core.errors import quoted
from selfloop.interop.limits import STORED, Budget, Refusal, damaged, unsafe
from selfloop.interop.pickles import load
from selfloop.interop.streams import CHECKPOINTS, read_object
from selfloop.interop.tensors import Storage, StorageType, filled

DIRECTORY = 2**23
"""Bytes of the largest zip directory read; a member takes about a hundred, a training state has two thousand."""

_HEADER = 30
"""Bytes of a zip member before its name."""

_DAMAGE = (zipfile.BadZipFile, ValueError, EOFError, RuntimeError, OverflowError, struct.error)
"""What ``zipfile`` raises on bytes that are no archive, or a kind it does not read."""


def read_file(path: Path) -> tuple[object, Budget]:
    """Return what a file holds, as plain values, tensors and inert records, and what is left of its budget.

    Raises:
        Refusal: it is too large, damaged or unsafe.
        OSError: it cannot be read.
    """
    with _Bounded(path.open("rb", buffering=0)) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not 0 < size <= STORED:
            why = f"has {size:,} bytes; the limit is {STORED:,}" if size else "is empty; save or download it again"
            raise Refusal(why)
        budget = Budget(size)
        if file.peek(4).startswith(b"PK"):
            return _read_archive(file, budget), budget
        return read_object(file.read(size), CHECKPOINTS, budget), budget


class _Bounded(io.BufferedReader):
    """A file that will not read more at once than ``limit``, for ``zipfile`` believes what a directory claims."""

    limit = STORED

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.limit:
            raise damaged(f"its zip directory claims {size:,} bytes; the limit is {self.limit:,}")
        return super().read(size)


def _read_archive(file: _Bounded, budget: Budget) -> object:
    try:
        file.limit = DIRECTORY
        with zipfile.ZipFile(file) as archive:
            file.limit = budget.size
            return _Archive(archive, budget.size).value(budget)
    except _DAMAGE as error:
        raise damaged(quoted(error, 160)) from error


class _Archive:
    """The members of one archive, and the storages read so far."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._members = _checked(archive.infolist(), size)
        roots = [name.removesuffix("data.pkl") for name in self._members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise damaged(f"it is a zip archive with {len(roots)} members data.pkl, not torch's")
        self._root = roots[0]
        self._storages: dict[str, Storage] = {}

    def value(self, budget: Budget) -> object:
        """Return the object of ``data.pkl``."""
        if f"{self._root}byteorder" in self._members and self._read("byteorder") != b"little":
            raise Refusal("was saved on a big-endian machine; load and save it again on another")
        stream = io.BytesIO(self._read("data.pkl"))
        value = load(stream, CHECKPOINTS, budget, self._storage)
        if stream.read(1):
            raise damaged("bytes follow the end of its data.pkl")
        return value

    def _read(self, name: str) -> bytes:
        """Read a member to its end, where ``zipfile`` compares its checksum."""
        member = self._members.get(f"{self._root}{name}")
        if member is None:
            raise damaged(f"its member {quoted(name[:60])} is missing")
        return self._archive.read(member)

    def _storage(self, identity: object) -> Storage:
        """Return the storage of ("storage", type, key, device, length)."""
        match identity:
            case ("storage", StorageType(dtype=dtype), str() as name, str(), int() as length):
                pass
            case _:
                raise unsafe("refers to something else than a storage")
        if name not in self._storages:
            content = self._read(f"data/{name}")
            if len(content) % dtype.itemsize:
                raise damaged(f"storage {quoted(name[:60])} is cut short")
            self._storages[name] = Storage(filled(content, dtype))
        data = self._storages[name].data
        if (data.dtype, len(data)) != (dtype, length):
            held = f"{len(data)} numbers of {data.dtype}"
            raise damaged(f"storage {quoted(name[:60])} holds {held}, not {quoted(length)} of {dtype}")
        return self._storages[name]


def _checked(members: list[zipfile.ZipInfo], size: int) -> dict[str, Any]:
    """Return the members by name, each stored plain, in a place of its own inside the file."""
    found: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        name = member.filename
        if name in found or name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise unsafe(f"has a member {quoted(name[:60])}, repeated or outside of its folder")
        if member.flag_bits & 1:
            raise unsafe(f"has an encrypted member {quoted(name[:60])}")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise unsafe(f"has a compressed member {quoted(name[:60])}")
        if member.header_offset < end:
            raise unsafe(f"has a member {quoted(name[:60])} that overlaps another")
        end = member.header_offset + _HEADER + member.file_size
        found[name] = member
    if end > size:
        raise damaged("a member is cut short")
    return found
