"""NPY and NPZ: objects, headers that are programs, lies about lengths and shapes, bombs."""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator

import numpy as np

from tests.campaign import corpus
from tests.campaign.attacks import Attack, Content, file
from tests.campaign.attacks.checkpoints import CANARY


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {CANARY}",)


def attacks() -> Iterator[Attack]:
    """Yield them: as a table, and as images."""
    for name, content in _npys().items():
        yield from _read("NPY", name, "x.npy", content)
    for name, content in _npzs().items():
        yield from _read("NPZ", name, "x.npz", content)


def _read(kind: str, name: str, path: str, content: Content) -> Iterator[Attack]:
    harm = "an array runs a program, or takes memory that its file does not have"
    call = ("selfloop.analysis.sources:read_events", path)
    codes = (0, 2) if name.startswith("names") else (2,)  # nobody looks at what an array in an NPZ is called
    yield Attack(kind, name, file(path, content), ("metrics", path, path), harm, codes, call, callable(content))
    labelled = f"{{name: image_files, path: {path}, labels: true}}"
    command = ("run", "fig4-small", "--set", f"data={labelled}", "--workers", "0", "--out", "run")
    yield Attack(kind, f"{name}, as images", file(path, content), command, harm, heavy=callable(content))


def _npys() -> dict[str, Content]:
    def head(descr: str = "'<f8'", order: str = "False", shape: str = "(2, 2)", more: str = "") -> str:
        return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}"

    ok, data = corpus.npy_header, bytes(32)
    objects = np.array([[_Trap()] * 2] * 4)
    return {
        "objects": functools.partial(_objects, objects),
        "objects in a record": ok(head("[('a', '|O'), ('b', '<f8')]", shape="(2,)"), data),
        "header that calls": ok("__import__('os').system('touch ../canary')"),
        "header whose shape calls": ok(head(shape="(__import__('os').system('touch ../canary'),)"), data),
        "header of a comprehension": ok("[x for x in ().__class__.__base__.__subclasses__()]"),
        "header 10⁴ deep": ok("(" * 9000 + ")" * 9000),
        "header of unary signs": ok("-" * 9000 + "1"),
        "header of 9,000 digits": ok(head(shape="(" + "9" * 8000 + ", 2)"), data),
        "header of bytes that are no text": ok("\x00\xff\xfe{"),
        "header of a dict twice": ok(head() + head()),
        "header with more keys": ok(head(more="'x': 1"), data),
        "dtype of 10⁹ bytes": ok(head("'V1000000000'"), data),
        "dtype of text of 2³¹": ok(head("'<U500000000'"), data),
        "dtype 1,000 deep": ok(head("[('a', " * 1000 + "'<f8'" + ")]" * 1000), data),
        "dtype with a title twice": ok(head("[(('a', 'a'), '<f8')]", shape="(4,)"), data),
        "dtype of subarrays": ok(head("('<f8', (1000000, 1000000))"), data),
        "dtype that there is not": ok(head("'<q9'"), data),
        "shape of 2⁴⁰ × 2⁴⁰": ok(head(shape=f"({2**40}, {2**40})"), data),
        "shape of 2⁶²": ok(head(shape=f"({2**62}, 1)"), data),
        "shape that overflows": ok(head(shape=f"({2**61}, 8)"), data),
        "shape of −1": ok(head(shape="(-1, 2)"), data),
        "shape of −2 × −2": ok(head(shape="(-2, -2)"), data),
        "shape of truth values": ok(head(shape="(True, True)"), data),
        "shape of floats": ok(head(shape="(2.0, 2.0)"), data),
        "shape of 65 axes": ok(head(shape="(" + "1, " * 65 + ")"), data),
        "shape of nothing": ok(head(shape="(0, 4000000000)"), b""),
        "order of text": ok(head(order="'x'"), data),
        "length of 65,535": b"\x93NUMPY\x01\x00\xff\xff{'descr': '<f8'",
        "length of 4 GiB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr': '<f8'",
        "length of 0": b"\x93NUMPY\x01\x00\x00\x00",
        "version 3": b"\x93NUMPY\x03\x00" + struct.pack("<I", 10) + b" " * 10,
        "version 255": b"\x93NUMPY\xff\xff\x10\x00" + b" " * 16,
        "magic alone": b"\x93NUMPY",
        "empty": b"",
        "one byte short": corpus.npy(np.arange(12.0).reshape(6, 2))[:-1],
        "one byte more": corpus.npy(np.arange(12.0).reshape(6, 2)) + b"x",
        "a pickle": pickle.dumps(_Trap(), 2),
        "not finite": corpus.npy(np.array([[np.nan, 1], [np.inf, 2], [3, 4]])),
        "whole numbers beyond 2⁵³": corpus.npy(np.array([[2**62, 1], [3, 2], [5, 4]])),
        "times": corpus.npy(np.zeros((4, 2), "M8[s]")),
        "complex": corpus.npy(np.zeros((4, 2), complex)),
    }


def _objects(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def _npzs() -> dict[str, Content]:
    rows = corpus.npy(np.arange(12.0).reshape(6, 2))
    pixels = corpus.npy(np.zeros((2, 4, 4, 3), np.uint8))
    head = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }"
    return {
        "objects": functools.partial(lambda: corpus.zipped({"x.npy": _objects(np.array([[_Trap()] * 2] * 4))})),
        "bomb of 4 GB": functools.partial(bomb, 4 * 10**9, head % "2000000000, 2"),
        "bomb of 1.6 GB": functools.partial(bomb, 16 * 10**8, head % "800000000, 2"),
        "bomb of 1.6 GB, as pictures": functools.partial(bomb, 16 * 10**8, head % "400, 1000, 1000, 4"),
        "bomb of pictures": functools.partial(bomb, 3 * 10**9, head % "1000, 1000, 1000, 3"),
        "header of a shape that is not there": corpus.zipped({"x.npy": corpus.npy_header(head % "4000000, 1000")}),
        "nested zips": corpus.zipped({"x.npy": corpus.zipped({"x.npy": rows})}),
        "names outside": corpus.zipped({"../../canary.npy": rows}),
        "names at the root of the disk": corpus.zipped({"/tmp/selfloop-canary.npy": rows + b"x"}),
        "two of a name": functools.partial(corpus.twice, "x.npy", pixels),
        "no array": corpus.zipped({}),
        "text": corpus.zipped({"x.npy": b"hello"}),
        "a pickle": pickle.dumps(_Trap(), 2),
        "labels of objects": corpus.zipped({"x.npy": pixels, "y.npy": _objects(np.array([_Trap(), 1]))}),
        "labels below 0": corpus.zipped({"x.npy": pixels, "y.npy": corpus.npy(np.array([-1, 2**62]))}),
        "directory cut short": corpus.zipped({"x.npy": rows})[:-30],
        "member with another size": functools.partial(_lying, rows, 2**31),
        "encrypted": functools.partial(_flagged, rows),
        "packed by LZMA": corpus.zipped({"x.npy": rows}, zipfile.ZIP_LZMA),
        "10⁵ members": functools.partial(lambda: corpus.zipped({f"{i}.npy": b"" for i in range(10**5)})),
    }


def bomb(size: int, header: str) -> bytes:
    """Return an NPZ of zeros that unpacks to so many bytes."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(corpus.npy_header(header))
        block = bytes(2**24)
        for _ in range(size // len(block)):
            member.write(block)
        member.write(bytes(size % len(block)))
    return content.getvalue()


def _lying(content: bytes, size: int) -> bytes:
    from spelling import patched

    return patched(corpus.zipped({"a/x.npy": content}), "x.npy", size=size, packed=size)


def _flagged(content: bytes) -> bytes:
    from spelling import patched

    return patched(corpus.zipped({"a/x.npy": content}), "x.npy", flags=1)
