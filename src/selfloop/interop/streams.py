"""torch's older format, in which EDM's snapshots hold each storage: five pickles, then the numbers.

The pickles are a magic number, the protocol, facts on the machine, the object, and the keys of its storages. Then
each storage follows as its length, 8 bytes, and its numbers.

Source: ``_legacy_save`` in ``torch/serialization.py``.
"""

from __future__ import annotations

import io
from typing import Any

import torch

from selfloop.core.errors import quoted
from selfloop.interop.limits import Budget, damaged, unsafe
from selfloop.interop.pickles import Function, Record, Vocabulary, load, size_of
from selfloop.interop.tensors import STORAGES, TENSORS, Storage, StorageType, filled

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of the older format."""


class _Storages:
    """The storages that the object names, empty until their numbers follow it."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._made: dict[str, Storage] = {}

    def make(self, identity: object) -> Storage:
        """Return the storage of ("storage", type, key, device, length, None); all together fit into ``room`` bytes."""
        match identity:
            case ("storage", StorageType(dtype=dtype), str() as name, str(), int() as length, None) if length >= 0:
                pass
            case _:
                raise unsafe("refers to something else than a storage")
        if name not in self._made:
            self._room -= length * dtype.itemsize
            if self._room < 0:
                raise damaged(f"a storage claims {quoted(length, 24)} numbers, more than there is room for")
            self._made[name] = Storage(torch.zeros(length, dtype=dtype))
        data = self._made[name].data
        if (data.dtype, len(data)) != (dtype, length):
            raise damaged("two claims on one storage differ")
        return self._made[name]

    def fill(self, stream: io.BytesIO, names: object) -> None:
        """Read the numbers of every storage, in the order of ``names``."""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise damaged("the names of its storages are no list of text")
        if len(names) != len(self._made) or set(names) != self._made.keys():
            raise damaged("the storages it holds are not those it uses")
        for name in names:
            data = self._made[name].data
            length = int.from_bytes(stream.read(8), "little")
            content = stream.read(data.nbytes)
            if length != len(data) or len(content) != data.nbytes:
                raise damaged("a storage is cut short")
            data.copy_(filled(content, data.dtype))


def read_object(content: bytes, vocabulary: Vocabulary, budget: Budget) -> object:
    """Read one pickle, or what ``torch.save`` wrote in the older format.

    Raises:
        Refusal: it is damaged, unsafe or from a big-endian machine.
    """
    stream = io.BytesIO(content)
    value = load(stream, vocabulary, budget)
    if type(value) is int and value == MAGIC:
        value = _read_rest(stream, vocabulary, budget)
    if stream.read(1):
        raise damaged("bytes follow its end")
    return value


def _read_rest(stream: io.BytesIO, vocabulary: Vocabulary, budget: Budget) -> object:
    """Read the older format from behind its magic number."""
    protocol, machine = load(stream, {}, budget), load(stream, {}, budget)
    if protocol != 1001 or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise damaged("it is not of the protocol 1001 of a little-endian machine")
    storages = _Storages(size_of(stream))
    value = load(stream, vocabulary, budget, storages.make)
    storages.fill(stream, load(stream, {}, budget))
    return value


def _embedded(budget: Budget, arguments: tuple[Any, ...]) -> Storage:
    """Return what ``torch.storage._load_from_bytes`` makes of bytes: a storage, and here nothing else."""
    match arguments:
        case (bytes() as content,):
            budget.embed(len(content))
            value = read_object(content, STORAGES, budget)
            if isinstance(value, Storage):
                return value
    raise unsafe("has embedded bytes that are no storage")


def _persistent_object(budget: Budget, arguments: tuple[Any, ...]) -> Record:
    """Return the attributes of an object of EDM's ``torch_utils.persistence``, whose source text stays unread."""
    match arguments:
        case ({"type": "class", "class_name": str() as name, "state": dict() as state},):
            return Record(name, state)
    raise unsafe("has a persistent object of unusual make")


CHECKPOINTS: Vocabulary = {
    **TENSORS,
    ("torch.storage", "_load_from_bytes"): Function(_embedded),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Function(_persistent_object),
}
"""What a checkpoint's pickle may name."""
