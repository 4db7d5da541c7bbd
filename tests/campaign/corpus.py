"""Small sound files of every kind that selfloop reads, made by code: what fuzzing begins with, and attacks twist."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "interop"))  # where checkpoints are spelt instruction by instruction


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of members by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def twice(name: str, content: bytes) -> bytes:
    """Return a zip that has two members of one name."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr(name, content)
    return found.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    """Return a tar of members by name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    """Return an array as NumPy writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(text: str, content: bytes = b"") -> bytes:
    """Return what begins as an NPY with a header of one's own."""
    held = text.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(held)) + held + content


def arrays() -> list[bytes]:
    """Return NPY and NPZ files."""
    pixels = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    return [
        npy(np.arange(12.0).reshape(6, 2)),
        npy(np.asfortranarray(np.arange(12, dtype=np.int32).reshape(6, 2))),
        npy(pixels),
        zipped({"x.npy": npy(np.arange(12.0).reshape(6, 2))}),
        zipped({"x.npy": npy(pixels), "y.npy": npy(np.arange(2))}, zipfile.ZIP_DEFLATED),
    ]


def columns(n: int = 12) -> dict[str, list[Any]]:
    """Return a table with numbers, words, times and gaps."""
    return {
        "age": [20 + (7 * i) % 40 for i in range(n)],
        "wage": [round(1.25 * i % 7, 2) for i in range(n)],
        "town": ["Paris", "Rome", "Oslo"] * (n // 3),
        "seen": [f"2024-01-{1 + i:02d}" for i in range(n)],
        "note": [None if i % 4 == 0 else "yes" for i in range(n)],
    }


def texts_of_tables() -> list[bytes]:
    """Return separated text with several marks and line ends."""
    found = columns()
    rows = [list(found), *([*row[:-1], row[-1] or ""] for row in zip(*found.values(), strict=True))]
    plain = "\n".join(",".join(map(str, row)) for row in rows)
    return [
        plain.encode(),
        "\ufeff".encode() + plain.replace(",", ";").replace("\n", "\r\n").encode(),
        plain.replace(",", "\t").encode(),
        b'a,b\n1,"x, ""y"""\n2,z\n3,\n1,z\n',
        b"a b\n1 2,5\n3 4,5\n5 1,5\n",
        b"t\n01/02/2024\n13/02/2024\n14/03/2024\n",
    ]


def column_files() -> list[bytes]:
    """Return Parquet and Feather files."""
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet as pq

    table = pa.table(columns())
    typed = table.set_column(2, "town", table.column("town").dictionary_encode())
    found = []
    for each in (table, typed):
        for write in (pq.write_table, pyarrow.feather.write_feather):
            file = io.BytesIO()
            write(each, file)
            found.append(file.getvalue())
    return found


def database(*statements: str) -> bytes:
    """Return a SQLite database that statements make, or a sound one of one table."""
    with closing(sqlite3.connect(":memory:")) as made:
        if not statements:
            made.execute("CREATE TABLE t (age INTEGER, wage REAL, town TEXT)")
            found = columns()
            rows = zip(found["age"], found["wage"], found["town"], strict=True)
            made.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        for statement in statements:
            made.execute(statement)
        made.commit()
        return made.serialize()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int = 8, height: int = 8, rows: bytes | None = None, more: bytes = b"", colour: int = 0) -> bytes:
    """Return a PNG, grey or (``colour`` 2) in colour, by default of what its header says; ``more`` are chunks."""
    depth = {0: 1, 2: 3}[colour]
    held = bytes((1 + depth * width) * height) if rows is None else rows
    header = struct.pack(">2I5B", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + more
        + chunk(b"IDAT", zlib.compress(held, 9))
        + chunk(b"IEND", b"")
    )


def picture(kind: str, **options: Any) -> bytes:
    """Return a picture as Pillow writes it."""
    from PIL import Image

    levels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, kind, **options)
    return file.getvalue()


def pictures() -> list[bytes]:
    """Return PNG and JPEG files, and zips of them with and without labels."""
    from PIL import Image

    turned = Image.Exif()
    turned[0x0112] = 6
    labels = json.dumps({"labels": [["a.png", 0], ["b.png", 1]]}).encode()
    return [
        png(),
        picture("PNG"),
        picture("JPEG", exif=turned),
        picture("JPEG", progressive=True),
        zipped({"a.png": png(), "b.png": png(), "dataset.json": labels}),
        zipped({"x/a.png": png(), "y/b.png": png()}, zipfile.ZIP_DEFLATED),
    ]


def batch(n: int = 2) -> bytes:
    """Return a batch of CIFAR-10 as its authors pickled it."""
    import pickle

    levels = np.arange(n * 3072, dtype=np.int64).astype(np.uint8).reshape(n, 3072)
    return pickle.dumps({"data": levels, "labels": list(range(n)), "batch_label": "x"}, 2)


def batches() -> dict[str, bytes]:
    """Return the batches of a small CIFAR-10 by name."""
    return {
        f"cifar-10-batches-py/{name}": batch() for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    }


def checkpoints() -> list[bytes]:
    """Return checkpoints of EDM and ddpm-torch, of torch's three formats."""
    from spelling import archive, snapshot

    return [snapshot(), archive(), archive(_use_new_zipfile_serialization=False)]


def safetensors(header: bytes | Mapping[str, Any], content: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with a header of one's own, which may lie about its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def weights() -> list[bytes]:
    """Return files of named tensors."""
    import torch
    from safetensors.torch import save
    from spelling import archive

    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(4, dtype=torch.float16)}
    return [save(tensors), save(tensors, {"format": "pt"}), archive(tensors)]


def corpora() -> list[bytes]:
    """Return text, and JSON Lines, which begin with a brace or a quote."""
    return [
        "a line\nand another, of é and 你\n".encode(),
        b'{"text": "one"}\n{"text": "two", "id": 3}\n',
        b'"one"\n"two"\n',
        "\ufeffa\r\nb".encode(),
    ]


def experiments() -> list[bytes]:
    """Return experiments in YAML: some recipes that ship with the package, and what they do not have."""
    from selfloop.core.recipes import read_recipe, recipes

    written = sorted((read_recipe(name).encode() for name in recipes()), key=len)[:12]
    other = b"""
name: x
data: {name: mixture, n: 64, held_out: 64}
generator: gaussian
mixing: {name: parts, parts: [{source: real}, {source: previous, share: 0.5}]}
update: {name: average, weight: 0.5}
alarm: {statistics: [variance_ratio], action: note}
grid: {mixing.lam: [0, 1e-1, inf], generator: [gaussian, {name: copula}]}
seeds: [0, 0x10, 1_000]
base: &b {a: 1}
d: {<<: *b, "\\u00e9": !!str 1}
"""
    return [*written, other]
