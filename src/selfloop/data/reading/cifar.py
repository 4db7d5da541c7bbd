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
from selfloop.data.reading.images import Pictures, decode
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

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""What CIFAR-10's labels mean, in their order."""

_AT_ONCE = 64  # pictures that are unpacked together

_MOST = 2**17
"""Images that are read from one Parquet file."""

_ARRAY = "numpy.ndarray"
_NAMES: Vocabulary = {
    ("numpy", "ndarray"): Class(_ARRAY),
    ("numpy", "dtype"): Function(number_type),
    ("numpy.core.multiarray", "_reconstruct"): Function(lambda budget, arguments: Record(_ARRAY)),
    ("numpy._core.multiarray", "_reconstruct"): Function(lambda budget, arguments: Record(_ARRAY)),
}


def read_cifar10(path: Path, labels: bool = False) -> tuple[Pictures, Pictures]:
    """Return the training and the test images, (N, 3, 32, 32) uint8, in the order of the files.

    Args:
        path: ``cifar-10-python.tar.gz``, its folder ``cifar-10-batches-py`` or the one above it, or a folder of Parquet
            files whose names begin with ``train`` and ``test`` (the hub's ``plain_text``) or the one above it.
        labels: whether their classes are read, 0 … 9.

    Raises:
        DataError: there is nothing of the kind, or a part is missing or damaged, or a class; the message names it.
    """
    source = f"cifar10 {quoted(path)}"
    try:
        return _read(path, source, labels)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error


def _read(path: Path, source: str, labels: bool) -> tuple[Pictures, Pictures]:
    if path.suffix == ".parquet":
        raise DataError(f"{source}: set data.path to the folder that holds both train-*.parquet and test-*.parquet")
    if path.is_file():
        return _of_batches(_archived(path, source), source, labels)
    if not path.is_dir():
        raise DataError(f"{source} does not exist: set data.path to cifar-10-python.tar.gz or its folder")
    inner = [path / name for name in ("cifar-10-batches-py", "plain_text") if (path / name).is_dir()]
    folder = inner[0] if inner else path
    files = {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}
    if any(file.suffix == ".parquet" for file in files.values()):
        return _of_parquet(list(files.values()), source, labels)
    wanted = {name for names in _BATCHES.values() for name in names}
    return _of_batches({name: _bounded(file, source) for name, file in files.items() if name in wanted}, source, labels)


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
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError, zlib.error) as error:
        raise DataError(f"{source} is not a tar archive that can be read: {quoted(error)}") from error
    return found


def _of_batches(batches: dict[str, bytes], source: str, labels: bool) -> tuple[Pictures, Pictures]:
    def pictures(which: str) -> Pictures:
        for name in _BATCHES[which]:
            if name not in batches:
                raise DataError(f"{source} has no batch {name}: download it again")
        return _joined([_batch(batches[name], f"{source}: batch {name}", labels) for name in _BATCHES[which]])

    return pictures("train"), pictures("test")


def _joined(parts: list[Pictures]) -> Pictures:
    labels = [part.labels for part in parts if part.labels is not None]
    return Pictures(torch.cat([part.pixels for part in parts]), torch.cat(labels) if labels else None, CLASSES)


def _batch(content: bytes, source: str, labels: bool) -> Pictures:
    """Return the images in one pickled batch, of which no instruction is run by Python's unpickler."""
    try:
        batch = load(io.BytesIO(content), _NAMES, Budget(len(content)))
    except Refusal as refusal:
        raise DataError(f"{source} {refusal}") from refusal
    found: dict[Any, Any] = batch if isinstance(batch, dict) else {}
    array = found.get("data")
    match array.state.get("state") if isinstance(array, Record) else None:
        case (1, (int() as rows, 3072), kind, False, (str() | bytes()) as raw) if getattr(kind, "code", "") == "B":
            levels = raw.encode("latin-1") if isinstance(raw, str) else raw
            if len(levels) == rows * _ROW:
                pixels = torch.frombuffer(bytearray(levels), dtype=torch.uint8).view(rows, 3, 32, 32)
                return Pictures(pixels, _classes(found.get("labels"), rows, source) if labels else None)
    raise DataError(f"{source} does not hold images as rows of 3072 levels: download it again")


def _classes(given: Any, rows: int, source: str) -> Tensor:
    """Return the classes of so many images, (rows,) int64.

    Raises:
        DataError: there are none, not as many, or some that are none of CIFAR-10's.
    """
    if not isinstance(given, list) or len(given) != rows:
        found = f"{len(given)} labels" if isinstance(given, list) else "no labels"
        raise DataError(f"{source} has {found} for {rows} images: get all of it again, or set data.labels to false")
    for row, each in enumerate(given):
        if not isinstance(each, int) or isinstance(each, bool) or not 0 <= each < len(CLASSES):
            raise DataError(
                f"{source}: the label of image {row} is {quoted(each, 40)}, and must be 0 to {len(CLASSES) - 1}"
            )
    return torch.tensor(given, dtype=torch.int64)


def _of_parquet(files: list[Path], source: str, labels: bool) -> tuple[Pictures, Pictures]:
    def pictures(which: str) -> Pictures:
        parts = [file for file in files if file.suffix == ".parquet" and file.name.startswith(which)]
        if not parts:
            raise DataError(f"{source} has no Parquet file whose name begins with {which}")
        classes = [_label_column(part, source) for part in parts] if labels else []
        found = [picture for part in parts for picture in _pictures(part, source)]
        if not found:
            raise DataError(f"{source}: {', '.join(part.name for part in parts)} holds no pictures: download it again")
        label = torch.cat(classes) if labels else None
        if label is not None and len(label) != len(found):
            raise DataError(f"{source} has {len(label)} labels for {len(found)} images: download it again")
        return Pictures(torch.stack(found), label, CLASSES)

    return pictures("train"), pictures("test")


def _label_column(file: Path, source: str) -> Tensor:
    """Return the classes in a Parquet file, a column ``label`` of whole numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    what = f"{source}: {file.name}"
    try:
        parquet = pq.ParquetFile(file)
        if "label" not in parquet.schema_arrow.names:
            raise DataError(f"{what} has no column label: set data.labels to false to do without")
        if parquet.metadata.num_rows > _MOST:
            raise DataError(f"{what} holds more images than CIFAR-10")
        values = parquet.read(columns=["label"]).column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{what} is damaged or no Parquet file: {quoted(error, 120)}") from error
    return _classes(values, len(values), what)


def _pictures(file: Path, source: str) -> Iterator[Tensor]:
    """Yield the pictures of a Parquet file, a column ``img`` or ``image`` of encoded bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row, begun = 0, False
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)  # where its writer noted checksums
        groups = range(parquet.metadata.num_row_groups)
        if sum(parquet.metadata.row_group(i).total_byte_size for i in groups) > _UNPACKED:
            raise DataError(f"{source}: {file.name} unpacks to more than {_UNPACKED >> 20} MiB")
        column: Any = next((name for name in ("img", "image") if name in parquet.schema_arrow.names), None)
        if column is None:
            raise DataError(f"{source}: {file.name} has no column img")
        begun = True
        for batch in parquet.iter_batches(batch_size=_AT_ONCE, columns=[column]):
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
        what = f"is damaged at picture {row} or after it" if begun else "is damaged or no Parquet file"
        raise DataError(f"{source}: {file.name} {what}: {quoted(error, 120)}") from error
