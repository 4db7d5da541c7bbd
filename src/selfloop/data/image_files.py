"""The user's images: folders and zips of pictures, and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from selfloop.core.config import FilePath
from selfloop.core.errors import DataError, quoted
from selfloop.data.base import DATA, Parts, divide
from selfloop.data.finite import refuse_twice
from selfloop.data.image_set import ImageSet
from selfloop.data.reading.images import read_images, read_pictures


@DATA.register
class ImageFiles(ImageSet):
    """A folder or zip of PNG and JPEG files, an EDM data set among them, or an NPY or NPZ of uint8 images.

    ``key`` names the array of an NPZ that holds several of images; labels beside a single one are passed over.
    ``side`` refuses images of another height or width: FFHQ-64 is ``side: 64``. ``n`` None trains on all that are not
    held out or set aside, ``held_out`` None holds out a tenth. ``held_out_path`` holds out the images there instead,
    all of them or as many as ``held_out``, drawn by the seed.
    """

    name: Literal["image_files"] = "image_files"
    path: FilePath
    key: str | None = None
    side: PositiveInt | None = None
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)
    held_out_path: FilePath | None = None

    @model_validator(mode="after")
    def _two_files(self) -> ImageFiles:
        refuse_twice(self.path, self.held_out_path)
        if self.key is not None and not self.path.lower().endswith(".npz"):
            raise ValueError(f"key names an array in an NPZ, and {quoted(self.path)} is none")
        return self

    def extent(self) -> tuple[tuple[int, ...], int]:
        """Return the shape and the number of the images; those of colour where ``side`` and ``n`` are given."""
        if self.side is not None and self.n is not None:
            return (3, self.side, self.side), self.n
        train = self._sets([0]).train
        channels, height, width = train.shape[2:]
        return (channels, height, width), train.shape[1]

    def _sets(self, seeds: Sequence[int]) -> Parts:
        images, source = _read(self.path, "path", self.key), f"image_files {quoted(self.path)}"
        if self.side is not None and tuple(images.shape[2:]) != (self.side, self.side):
            height, width = images.shape[2:]
            raise DataError(f"{source} holds images of {height} × {width}, not {self.side} × {self.side}")
        apart = None if self.held_out_path is None else _read(self.held_out_path, "held_out_path", self.key)
        if apart is not None and apart.shape[1:] != images.shape[1:]:
            shapes = f"{tuple(apart.shape[1:])}, those to train on {tuple(images.shape[1:])}"
            raise DataError(f"image_files {quoted(self.held_out_path)} holds images {shapes}: they must be alike")
        return divide_images(images, self.n, self.held_out, seeds, source, self.fresh_rows, apart)


def divide_images(
    images: Tensor,
    n: int | None,
    held_out: int | None,
    seeds: Sequence[int],
    source: str,
    fresh_rows: int,
    apart: Tensor | None,
) -> Parts:
    """Divide images (N, C, H, W) as :func:`selfloop.data.base.divide` does; ``held_out`` None holds out a tenth."""
    if apart is None and held_out is None:
        held_out = max(1, round(0.1 * len(images)))
    others = None if apart is None else apart.numpy()
    return divide(images.numpy(), n, held_out, seeds, source, fresh_rows=fresh_rows, apart=others)


def _read(name: str, setting: str, key: str | None) -> Tensor:
    """Return the images (N, C, H, W) in the file or folder that a setting names."""
    path = Path(name)
    if not path.exists():
        raise DataError(f"image_files {quoted(name)} does not exist: set data.{setting} to the file or folder")
    if path.is_dir() or path.suffix.lower() == ".zip":
        return read_pictures(path)
    images = read_images(path, key) if path.suffix.lower() in (".npy", ".npz") else None
    if images is None:
        what = "no folder, zip, NPY or NPZ of uint8 images (N, H, W) or (N, H, W, 3)"
        raise DataError(f"image_files {quoted(name)} is {what}")
    return images
