"""CIFAR-10 as its authors serve it, in Python batches, of which nothing is run, and as the Hugging Face hub does."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from selfloop.core.errors import DataError, quoted
from selfloop.data.reading.images import decode
from selfloop.interop.limits import Budget, Refusal
from selfloop.interop.pickles import Class, Function, Record, Vocabulary, load
from selfloop.interop.tensors import number_type

_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_ROW = 3 * 32 * 32
_LARGEST = 2**26
"""Bytes of the largest batch read; one has 31 million."""

_UNPACKED = 2**30
"""Bytes that an archive or a Parquet file may unpack to."""

_MEMBERS = 1000
"""Files of an archive that are looked at; there are eight."""

_MOST = 2**17
"""Images that are read from one Parquet file."""

_ARRAY = "numpy.ndarray"
_NAMES: Vocabulary = {
    ("numpy", "ndarray"): Class(_ARRAY),
    ("numpy", "dtype"): Function(number_type),
    ("numpy.core.multiarray", "_reconstruct"): Function(lambda budget, arguments: Record(_ARRAY)),
    ("numpy._core.multiarray", "_reconstruct"): Function(lambda budget, arguments: Record(_ARRAY)),
}


def read_cifar10(path: Path) -> tuple[Tensor, Tensor]:
    """Return the training and the test images, (N, 3, 32, 32) uint8, in the order of the files.

    Args:
        path: ``cifar-10-python.tar.gz``, its folder ``cifar-10-batches-py`` or the one above it, or a folder of Parquet
            files whose names begin with ``train`` and ``test`` (the hub's ``plain_text``) or the one above it.

    Raises:
        DataError: there is nothing of the kind, or a part is missing or damaged; the message names it.
    """
    source = f"cifar10 {quoted(path)}"
    try:
        return _read(path, source)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error


def _read(path: Path, source: str) -> tuple[Tensor, Tensor]:
    if path.suffix == ".parquet":
        raise DataError(f"{source}: set data.path to the folder that holds both train-*.parquet and test-*.parquet")
    if path.is_file():
        return _of_batches(_archived(path, source), source)
    if not path.is_dir():
        raise DataError(f"{source} does not exist: set data.path to cifar-10-python.tar.gz or its folder")
    inner = [path / name for name in ("cifar-10-batches-py", "plain_text") if (path / name).is_dir()]
    folder = inner[0] if inner else path
    files = {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}
    if any(file.suffix == ".parquet" for file in files.values()):
        return _of_parquet(list(files.values()), source)
    wanted = {name for names in _BATCHES.values() for name in names}
    return _of_batches({name: _bounded(file, source) for name, file in files.items() if name in wanted}, source)


def _bounded(file: Path, source: str) -> bytes:
    if file.stat().st_size > _LARGEST:
        raise DataError(f"{source}: {file.name} is larger than a batch of CIFAR-10")
    return file.read_bytes()


class _Bounded:
    """A file that ends in an error where tarfile asks for more than CIFAR-10 takes, at once or in all."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.tell, self.close = file, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes."""
        if not 0 <= size <= _LARGEST:
            raise ValueError("it has a member or header larger than a batch of CIFAR-10")
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        """Go, and where the file is packed unpack, to ``offset``."""
        if not 0 <= offset <= _UNPACKED:
            raise ValueError("it unpacks to more than CIFAR-10")
        return self._file.seek(offset)


def _opened(path: Path) -> IO[bytes]:
    """Open an archive, packed by gzip or not packed; the methods that tarfile needs to read it are there."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    opened = cast("IO[bytes]", gzip.GzipFile(path)) if packed else path.open("rb")
    return cast("IO[bytes]", _Bounded(opened))


def _archived(path: Path, source: str) -> dict[str, bytes]:
    """Return the batches in an archive by name; members are read in memory, and nothing is written anywhere."""
    wanted, found = {name for names in _BATCHES.values() for name in names}, {}
    try:
        with contextlib.closing(_opened(path)) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for count, member in enumerate(archive):
                if member.size < 0 or count == _MEMBERS:  # tarfile would go back and read the same for ever
                    raise ValueError("it has a member of negative size, or too many")
                name = member.name.rsplit("/", 1)[-1]
                if name not in wanted or not member.isfile():
                    continue
                if name in found or member.size > _LARGEST:
                    raise DataError(f"{source}: {name} is there twice, or larger than a batch of CIFAR-10")
                file = archive.extractfile(member)
                found[name] = file.read() if file is not None else b""
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise DataError(f"{source} is not a tar archive that can be read: {quoted(error)}") from error
    return found


def _of_batches(batches: dict[str, bytes], source: str) -> tuple[Tensor, Tensor]:
    def images(which: str) -> Tensor:
        for name in _BATCHES[which]:
            if name not in batches:
                raise DataError(f"{source} has no batch {name}: download it again")
        return torch.cat([_batch(batches[name], f"{source}: batch {name}") for name in _BATCHES[which]])

    return images("train"), images("test")


def _batch(content: bytes, source: str) -> Tensor:
    """Return the images in one pickled batch, of which no instruction is run by Python's unpickler."""
    try:
        batch = load(io.BytesIO(content), _NAMES, Budget(len(content)))
    except Refusal as refusal:
        raise DataError(f"{source} {refusal}") from refusal
    array = batch.get("data") if isinstance(batch, dict) else None
    match array.state.get("state") if isinstance(array, Record) else None:
        case (1, (int() as rows, 3072), kind, False, (str() | bytes()) as raw) if getattr(kind, "code", "") == "B":
            levels = raw.encode("latin-1") if isinstance(raw, str) else raw
            if len(levels) == rows * _ROW:
                return torch.frombuffer(bytearray(levels), dtype=torch.uint8).view(rows, 3, 32, 32)
    raise DataError(f"{source} does not hold images as rows of 3072 levels: download it again")


def _of_parquet(files: list[Path], source: str) -> tuple[Tensor, Tensor]:
    def images(which: str) -> Tensor:
        parts = [file for file in files if file.suffix == ".parquet" and file.name.startswith(which)]
        if not parts:
            raise DataError(f"{source} has no Parquet file whose name begins with {which}")
        return torch.stack([picture for part in parts for picture in _pictures(part, source)])

    return images("train"), images("test")


def _pictures(file: Path, source: str) -> Iterator[Tensor]:
    """Yield the pictures of a Parquet file, a column ``img`` or ``image`` of encoded bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        groups = range(parquet.metadata.num_row_groups)
        if sum(parquet.metadata.row_group(i).total_byte_size for i in groups) > _UNPACKED:
            raise DataError(f"{source}: {file.name} unpacks to more than {_UNPACKED >> 20} MiB")
        column: Any = next((name for name in ("img", "image") if name in parquet.schema_arrow.names), None)
        if column is None:
            raise DataError(f"{source}: {file.name} has no column img")
        row = 0
        for batch in parquet.iter_batches(batch_size=1024, columns=[column]):
            for entry in batch.column(0).to_pylist():
                encoded = entry.get("bytes") if isinstance(entry, dict) else entry
                what = f"{source}: picture {row} in {file.name}"
                if not isinstance(encoded, bytes):
                    raise DataError(f"{what} is not there")
                if row == _MOST:
                    raise DataError(f"{source}: {file.name} holds more images than CIFAR-10")
                picture = torch.from_numpy(decode(encoded, what))
                if tuple(picture.shape) != (3, 32, 32):
                    raise DataError(f"{what} has shape {tuple(picture.shape)}, not (3, 32, 32)")
                yield picture
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source}: {file.name} is damaged or no Parquet file: {quoted(error, 120)}") from error
