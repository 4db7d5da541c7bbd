"""Pictures from outside: folders and zips of PNG and JPEG, arrays of images, labelled sets. Never trusted.

Sizes are checked before anything is unpacked, nothing in a file is executed, and what is refused is refused by name.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from selfloop.core.errors import DataError, quoted
from selfloop.data.reading.npy import DAMAGE, read_arrays

LIMIT = 2**33
"""The most pixels' bytes that are read into memory (8 GiB)."""

_LARGEST = 2**24  # pixels of one picture
_FILE = 2**28  # bytes of one picture's file
_CLASSES = 10_000
_ENDINGS = (".png", ".jpg", ".jpeg")


def read_pictures(path: Path) -> Tensor:
    """Read all PNG and JPEG files below a folder, or in a zip, in the order of their names.

    Returns:
        (N, C, H, W) uint8, C = 1 where all are grey and 3 where all are in colour.

    Raises:
        DataError: there is none, one is damaged or too large, or they differ in size or mode; the message names it.
    """
    members = _of_folder(path) if path.is_dir() else _of_zip(path)
    pictures: list[np.ndarray] = []
    total = 0
    for name, content in members:
        picture = decode(content, f"picture {quoted(name)} in {quoted(path)}")
        if pictures and picture.shape != pictures[0].shape:
            raise DataError(
                f"picture {quoted(name)} in {quoted(path)} has shape {picture.shape} (channels, height, width), "
                f"the ones before it {pictures[0].shape}: all must be alike"
            )
        total += picture.nbytes
        if total > LIMIT:
            raise DataError(f"{quoted(path)} holds more than {LIMIT >> 30} GiB of pixels")
        pictures.append(picture)
    if not pictures:
        raise DataError(f"{quoted(path)} holds no {', '.join(_ENDINGS)} file")
    return torch.from_numpy(np.stack(pictures))


Member = tuple[str, bytes]


def _of_folder(path: Path) -> Iterator[Member]:
    files = {str(file.relative_to(path)): file for file in path.rglob("*") if file.suffix.lower() in _ENDINGS}
    for name, file in sorted(files.items()):
        if not file.is_file():
            continue
        if file.stat().st_size > _FILE:
            raise DataError(f"picture {quoted(name)} in {quoted(path)} is larger than {_FILE >> 20} MiB")
        yield name, file.read_bytes()


def _of_zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [i for i in archive.infolist() if Path(i.filename).suffix.lower() in _ENDINGS and not i.is_dir()]
            for info in sorted(infos, key=lambda i: i.filename):
                if info.file_size > _FILE:
                    what = f"picture {quoted(info.filename)} in {quoted(path)}"
                    raise DataError(f"{what} is larger than {_FILE >> 20} MiB")
                yield info.filename, archive.read(info)  # of no more bytes than the directory says
    except DAMAGE as error:
        raise DataError(f"{quoted(path)} is not a zip that can be read: {quoted(error)}") from error


def decode(content: bytes, what: str) -> np.ndarray:
    """Return one picture, (C, H, W) uint8; its header's size is checked before its pixels are unpacked."""
    try:
        with _opened(content) as image:
            if image.width * image.height > _LARGEST:
                raise DataError(f"{what} claims {image.width} × {image.height} pixels, more than {_LARGEST}")
            if image.mode not in ("L", "RGB"):
                raise DataError(f"{what} has mode {image.mode}: only grey (L) and colour (RGB) pictures are read")
            pixels = np.asarray(image)
    except (*DAMAGE, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} is damaged, or neither PNG nor JPEG") from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _opened(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # this module's own limit is lower
        return Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))


def channels_first(x: np.ndarray, what: str) -> Tensor:
    """Return uint8 (N, H, W) or (N, H, W, 1 or 3) images as (N, C, H, W).

    Raises:
        DataError: another shape or number type.
    """
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)) or not len(x):
        raise DataError(
            f"{what} holds {x.dtype} {x.shape}: images are uint8 (N, height, width) or (N, height, width, 3)"
        )
    return torch.from_numpy(np.ascontiguousarray(x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)))


def read_images(path: Path) -> Tensor | None:
    """Return the images of an NPY file, or an NPZ of one array, as (N, C, H, W); None where it holds something else.

    Raises:
        DataError: it holds more than the limit.
    """
    try:
        arrays = read_arrays(path, LIMIT)
    except DAMAGE:
        return None  # the reader of tables says what is wrong with it
    first = next(iter(arrays.values()), np.empty(0))
    if len(arrays) != 1 or first.dtype != np.uint8 or first.ndim < 3:
        return None
    return channels_first(first, quoted(path))


def labelled_images(source: str) -> tuple[Tensor, Tensor]:
    """Return images and their labels: "digits", or an NPZ with ``x`` and ``y``.

    Returns:
        (N, C, H, W) uint8 and (N,) int64 labels from 0.

    Raises:
        DataError: the file cannot be read, or does not hold labelled images.
    """
    if source == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return torch.from_numpy(pixels[:, None].copy()), torch.from_numpy(digits.target.astype(np.int64))
    try:
        if not source.endswith(".npz"):
            raise ValueError("the ending is not .npz")
        arrays = read_arrays(Path(source), LIMIT, ("x", "y"))
    except DAMAGE as error:
        raise DataError(f"{quoted(source)} cannot be read as an NPZ of labelled images") from error
    if missing := {"x", "y"} - set(arrays):
        raise DataError(f"{quoted(source)} has no array {sorted(missing)[0]!r}: x are images, y their labels")
    x, y = arrays["x"], arrays["y"]
    images = channels_first(x, f"x in {quoted(source)}")
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or len(x) < 10 or not 0 <= y.min() <= y.max() < _CLASSES:
        raise DataError(f"{quoted(source)}: y must be {len(x)} whole numbers from 0, for at least 10 images")
    return images, torch.from_numpy(y.astype(np.int64))
