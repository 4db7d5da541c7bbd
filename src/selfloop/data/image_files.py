"""The user's images: folders and zips of pictures, and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from selfloop.core.config import FilePath
from selfloop.core.errors import DataError, quoted
from selfloop.data.base import DATA, split_rows
from selfloop.data.image_set import ImageSet
from selfloop.data.reading.images import read_images, read_pictures


@DATA.register
class ImageFiles(ImageSet):
    """A folder or zip of PNG and JPEG files, an EDM data set among them, or an NPY or NPZ of uint8 images.

    ``side`` refuses images of another height or width: FFHQ-64 is ``side: 64``. ``n`` None trains on all that are not
    held out, ``held_out`` None holds out a tenth.
    """

    name: Literal["image_files"] = "image_files"
    path: FilePath
    side: PositiveInt | None = None
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)

    def extent(self) -> tuple[tuple[int, int, int], int]:
        """Return the shape and the number of the images; those of colour where ``side`` and ``n`` are given."""
        if self.side is not None and self.n is not None:
            return (3, self.side, self.side), self.n
        train, _ = self._sets([0])
        channels, height, width = train.shape[2:]
        return (channels, height, width), train.shape[1]

    def _sets(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        images, source = self._read(), f"image_files {quoted(self.path)}"
        if self.side is not None and tuple(images.shape[2:]) != (self.side, self.side):
            height, width = images.shape[2:]
            raise DataError(f"{source} holds images of {height} × {width}, not {self.side} × {self.side}")
        m = max(1, round(0.1 * len(images))) if self.held_out is None else self.held_out
        return split_rows(images.numpy(), self.n, m, seeds, source)

    def _read(self) -> Tensor:
        path = Path(self.path)
        if not path.exists():
            raise DataError(f"image_files {quoted(self.path)} does not exist: set data.path to the file or folder")
        if path.is_dir() or path.suffix.lower() == ".zip":
            return read_pictures(path)
        images = read_images(path) if path.suffix.lower() in (".npy", ".npz") else None
        if images is None:
            what = "no folder, zip, NPY or NPZ of uint8 images (N, H, W) or (N, H, W, 3)"
            raise DataError(f"image_files {quoted(self.path)} is {what}")
        return images
