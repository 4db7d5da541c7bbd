"""Labelled images from wherever there are some."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from selfloop.core.errors import DataError, quoted
from selfloop.data.reading.cifar import read_cifar10
from selfloop.data.reading.images import labelled_images, read_labelled_pictures


def read_labelled(source: str) -> tuple[Tensor, Tensor]:
    """Return images and their labels.

    Args:
        source: "digits"; an NPZ with ``x`` and ``y``; CIFAR-10 as :func:`read_cifar10` takes it, of which the images to
            train on are returned; a folder or zip of pictures whose classes are in ``dataset.json`` or are the folders.

    Returns:
        (N, C, H, W) uint8 and (N,) int64 labels from 0.

    Raises:
        DataError: they cannot be read, a label is missing or none, or there are fewer than 10.
    """
    path = Path(source)
    if source == "digits" or source.lower().endswith(".npz"):
        return labelled_images(source)
    if not path.exists():
        raise DataError(f"{quoted(source)} does not exist: labelled is digits, an NPZ, CIFAR-10's folder or archive")
    if path.suffix.lower() == ".zip" or (path.is_dir() and not _is_cifar10(path)):
        found = read_labelled_pictures(path)
    else:
        found, _ = read_cifar10(path, labels=True)
    if found.labels is None or len(found.pixels) < 10:
        raise DataError(f"{quoted(source)} holds {len(found.pixels)} labelled images: at least 10 are needed")
    return found.pixels, found.labels


def _is_cifar10(folder: Path) -> bool:
    """Whether a folder holds batches or Parquet files, or the folder that does."""
    inner = [folder / name for name in ("cifar-10-batches-py", "plain_text")]
    return any(each.is_dir() for each in inner) or any(
        file.suffix == ".parquet" or file.name.startswith("data_batch_") for file in folder.iterdir()
    )
