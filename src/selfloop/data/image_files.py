"""The user's images: folders and zips of pictures, and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from selfloop.core.config import DataPath
from selfloop.core.errors import DataError, quoted
from selfloop.core.urls import fetched
from selfloop.data.base import DATA, Parts, divide
from selfloop.data.finite import refuse_twice
from selfloop.data.image_set import LabelledImages, labelled
from selfloop.data.reading.images import (
    Pictures,
    read_images,
    read_labelled_array,
    read_labelled_pictures,
    read_pictures,
)


@DATA.register
class ImageFiles(LabelledImages):
    """A folder or zip of PNG and JPEG files, an EDM data set among them, or an NPY or NPZ of uint8 images.

    ``key`` names the array of an NPZ that holds several of images; what is beside a single one is passed over.
    ``labels`` takes the classes from ``dataset.json`` as EDM has it, else from the folders in which pictures lie, and
    of an NPZ from the array of whole numbers beside the images.
    ``side`` refuses images of another height or width: FFHQ-64 is ``side: 64``. ``n`` None trains on all that are not
    held out or set aside, ``held_out`` None holds out a tenth. ``held_out_path`` holds out the images there instead,
    all of them or as many as ``held_out``, drawn by the seed.
    """

    name: Literal["image_files"] = "image_files"
    path: DataPath
    key: str | None = None
    side: PositiveInt | None = None
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)
    held_out_path: DataPath | None = None

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
        images, source = self._read(self.path, "path"), f"image_files {quoted(self.path)}"
        if self.side is not None and tuple(images.pixels.shape[2:]) != (self.side, self.side):
            height, width = images.pixels.shape[2:]
            raise DataError(f"{source} holds images of {height} × {width}, not {self.side} × {self.side}")
        apart = None if self.held_out_path is None else self._read(self.held_out_path, "held_out_path")
        if apart is not None and apart.pixels.shape[1:] != images.pixels.shape[1:]:
            shapes = f"{tuple(apart.pixels.shape[1:])}, those to train on {tuple(images.pixels.shape[1:])}"
            raise DataError(f"image_files {quoted(self.held_out_path)} holds images {shapes}: they must be alike")
        if apart is not None and apart.names != images.names:
            other = min(set(apart.names) ^ set(images.names))
            raise DataError(
                f"image_files {quoted(self.held_out_path)} and {quoted(self.path)} must have folders of the same "
                f"classes, and {quoted(other)} is in one of them alone"
            )

        def cut(rows: Tensor, others: Tensor | None) -> Parts:
            return divide_images(rows, self.n, self.held_out, seeds, source, self.fresh_rows, others)

        return labelled(cut, images, apart)

    def _read(self, name: str, setting: str) -> Pictures:
        """Return the images, and their classes where they are labelled, in the file or folder that a setting names."""
        path = Path(fetched(name))
        if not path.exists():
            raise DataError(f"image_files {quoted(name)} does not exist: set data.{setting} to the file or folder")
        if path.is_dir() or path.suffix.lower() == ".zip":
            return read_labelled_pictures(path) if self.labels else Pictures(read_pictures(path))
        if path.suffix.lower() in (".npy", ".npz"):
            if self.labels and (found := read_labelled_array(path, self.key)) is not None:
                return found
            if not self.labels and (images := read_images(path, self.key)) is not None:
                return Pictures(images)
        what = "no folder, zip, NPY or NPZ of uint8 images (N, H, W) or (N, H, W, 3)"
        raise DataError(f"image_files {quoted(name)} is {what}")


def divide_images(
    images: Tensor,
    n: int | None,
    held_out: int | None,
    seeds: Sequence[int],
    source: str,
    fresh_rows: int,
    apart: Tensor | None,
) -> Parts:
    """Divide images (N, …) as :func:`selfloop.data.base.divide` does; ``held_out`` None holds out a tenth."""
    if apart is None and held_out is None:
        held_out = max(1, round(0.1 * len(images)))
    others = None if apart is None else apart.numpy()
    return divide(images.numpy(), n, held_out, seeds, source, fresh_rows=fresh_rows, apart=others)
