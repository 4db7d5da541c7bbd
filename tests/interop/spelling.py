"""Pickles and archives spelt instruction by instruction, sound by default, so that a case can twist one part."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import torch


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def data(content: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(content)) + content


def plain(value: Any) -> bytes:
    """Return the instructions for a number, text, or tuples, lists and dicts of them."""
    return pickle.dumps(value, 2)[2:-1]


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def mapping(**entries: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def pickled(body: bytes, protocol: int = 4) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


ORDERED = call(name("collections", "OrderedDict"))
MODULE_DICT = name("torch.nn.modules.container", "ModuleDict") + b")\x81"
LOAD_BYTES = name("torch.storage", "_load_from_bytes")
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
FLOATS = name("torch", "FloatStorage")
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def identity(count: Any = 6, kind: bytes = FLOATS, view: bytes = b"N") -> bytes:
    """Return the reference to a storage in torch's older format."""
    return b"(" + text("storage") + kind + text("k") + text("cpu") + plain(count) + view + b"tQ"


def stream(
    content: bytes = bytes(24),
    *,
    held: int = 6,
    value: bytes | None = None,
    heads: Iterable[object] = (0x1950A86A20F9469CFC6C, 1001, MACHINE),
    keys: object = ("k",),
    end: bytes = b"",
) -> bytes:
    """Return torch's older format: the pickles, the length ``held`` of its one storage, the storage's bytes."""
    value = identity() if value is None else value
    start = b"".join(pickle.dumps(head, 2) for head in heads) + pickled(value, 2)
    return start + pickle.dumps(list(keys), 2) + struct.pack("<q", held) + content + end  # type: ignore[call-overload]


def storage(content: bytes | None = None) -> bytes:
    """Return a storage of six zeros, or what an embedded stream makes."""
    return call(LOAD_BYTES, data(stream() if content is None else content))


def tensor(
    offset: Any = 0, size: Any = (2, 3), stride: Any = (3, 1), of: bytes | None = None, rest: bytes = b"\x89" + ORDERED
) -> bytes:
    of = storage() if of is None else of
    return call(REBUILD, of, plain(offset), plain(size), plain(stride), rest)


def module(weight: bytes | None = None, **state: bytes) -> bytes:
    """Return a persistent EDM object with one parameter, whose source raises when it is executed."""
    weight = tensor() if weight is None else weight
    found = {"_parameters": mapping(weight=weight), "_buffers": mapping(), "_modules": mapping()} | state
    meta = {
        "type": text("class"),
        "version": plain(6),
        "module_src": text("raise SystemExit('the source was executed')"),
        "class_name": text("Net"),
        "state": mapping(**found),
    }
    return call(name("torch_utils.persistence", "_reconstruct_persistent_obj"), mapping(**meta))


def snapshot(weight: bytes | None = None, **extra: bytes) -> bytes:
    """Return an EDM snapshot with one parameter; ``extra`` are more of its entries."""
    return pickled(mapping(**({"ema": module(weight)} | extra)))


def checkpoint(**changes: Any) -> dict[str, Any]:
    """Return a checkpoint of ddpm-torch's layout."""
    model = {"w": torch.arange(6.0), "b": torch.arange(4.0)}
    return {"model": model, "optimizer": {"state": {}, "param_groups": []}, "epoch": 1, "loss": 0.5} | changes


def archive(content: object = None, **options: Any) -> bytes:
    """Return what torch.save writes."""
    file = io.BytesIO()
    torch.save(checkpoint() if content is None else content, file, **options)
    return file.getvalue()


def members(content: bytes) -> dict[str, bytes]:
    """Return what an archive holds, by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        return {info.filename: old.read(info) for info in old.infolist()}


def zipped(
    found: Mapping[str, bytes] | None = None, method: int = zipfile.ZIP_STORED, more: Iterable[tuple[str, bytes]] = ()
) -> bytes:
    """Return an archive of members, by default those of a sound one, and ``more``, whose names may be repeated."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice, on purpose
        for filename, held in [*(members(archive()) if found is None else found).items(), *more]:
            new.writestr(filename, held)
    return file.getvalue()


DIRECTORY = {
    "flags": (8, "H"),
    "method": (10, "H"),
    "crc": (16, "I"),
    "packed": (20, "I"),
    "size": (24, "I"),
    "offset": (42, "I"),
}
"""Where in a member's entry of the zip directory a field stands, and its type."""


def patched(content: bytes, member: str, **fields: int) -> bytes:
    """Return a zip archive whose directory claims something else of a member."""
    found = bytearray(content)
    entry = found.rindex(b"/" + member.encode())  # the directory stands at the end
    entry = found.rindex(b"PK\x01\x02", 0, entry)
    for field, value in fields.items():
        place, kind = DIRECTORY[field]
        struct.pack_into(f"<{kind}", found, entry + place, value)
    return bytes(found)
