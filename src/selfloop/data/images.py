"""Pictures from outside: folders and zips of PNG and JPEG, arrays of images, labelled sets. Never trusted.

Sizes are checked before anything is unpacked, nothing in a file is executed, and what is refused is refused by name.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from selfloop.data.base import quoted
from selfloop.errors import DataError

LIMIT = 2**33
"""The most pixels' bytes that are read into memory (8 GiB)."""

_LARGEST = 2**24  # pixels of one picture
_FILE = 2**28  # bytes of one picture's file
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
    for name, read in members:
        picture = _decode(read(), f"picture {quoted(name)} in {quoted(path)}")
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


Member = tuple[str, Callable[[], bytes]]


def _of_folder(path: Path) -> Iterator[Member]:
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in _ENDINGS and p.is_file()):
        if file.stat().st_size > _FILE:
            raise DataError(f"picture {quoted(file)} has more than {_FILE >> 20} MiB")
        yield str(file.relative_to(path)), file.read_bytes


def _of_zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [i for i in archive.infolist() if Path(i.filename).suffix.lower() in _ENDINGS and not i.is_dir()]
            for info in sorted(infos, key=lambda i: i.filename):
                if info.file_size > _FILE:
                    raise DataError(
                        f"picture {quoted(info.filename)} in {quoted(path)} is larger than {_FILE >> 20} MiB"
                    )

                def read(info: zipfile.ZipInfo = info) -> bytes:
                    with archive.open(info) as member:
                        return member.read(_FILE + 1)

                yield info.filename, read
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        raise DataError(f"{quoted(path)} is not a zip that can be read: {quoted(error)}") from error


def _decode(content: bytes, what: str) -> np.ndarray:
    """Return one picture, (C, H, W) uint8; its header's size is checked before its pixels are unpacked."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > _LARGEST:
                raise DataError(f"{what} claims {image.width} × {image.height} pixels, more than {_LARGEST}")
            if image.mode not in ("L", "RGB"):
                raise DataError(f"{what} has mode {image.mode}: only grey (L) and colour (RGB) pictures are read")
            pixels = np.asarray(image)
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(f"{what} is damaged, or neither PNG nor JPEG") from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


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
        with zipfile.ZipFile(source) as archive:
            if sum(info.file_size for info in archive.infolist()) > LIMIT:
                raise DataError(f"{quoted(source)} unpacks to more than {LIMIT >> 30} GiB")
        with np.load(source, allow_pickle=False) as arrays:
            missing = {"x", "y"} - set(arrays.files)
            if missing:
                raise DataError(f"{quoted(source)} has no array {sorted(missing)[0]!r}: x are images, y their labels")
            x, y = arrays["x"], arrays["y"]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(f"{quoted(source)} cannot be read as an NPZ of labelled images") from error
    images = channels_first(x, f"x in {quoted(source)}")
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0 or len(x) < 10:
        raise DataError(f"{quoted(source)}: y must be {len(x)} whole numbers from 0, for at least 10 images")
    return images, torch.from_numpy(y.astype(np.int64))
