"""Images as events: uint8 (C, H, W), levels 0 … 255, never turned into floats on the way to a network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from selfloop.core.errors import DataError, quoted
from selfloop.core.streams import Streams
from selfloop.data.base import Dataset, Split, split_rows
from selfloop.data.cifar import read_cifar10
from selfloop.data.images import labelled_images, read_images, read_pictures


class ImageSet(Dataset):
    """A data set whose events are images."""

    events: ClassVar[Literal["vectors", "images"]] = "images"
    images: ClassVar[bool] = True

    @abstractmethod
    def extent(self) -> tuple[tuple[int, int, int], int]:
        """Return an event's shape and how many images there are to train on, from the settings if they tell.

        Raises:
            DataError: they do not, and the files cannot be read.
        """

    @abstractmethod
    def _sets(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the training and held-out images, (R, n, C, H, W) and (R, m, C, H, W)."""

    def load(self, seeds: Sequence[int]) -> Split:
        """Return the images as they are, events (C, H, W) uint8."""
        train, held_out = self._sets(seeds)
        height, width = train.shape[3:]
        return Split(
            train=train,
            held_out=held_out,
            shift=torch.zeros((), dtype=torch.float64),
            scale=torch.ones((), dtype=torch.float64),
            columns=(),
            image_shape=(height, width),
        )


class DigitImages(ImageSet):
    """The 1,797 handwritten digits of scikit-learn, (1, 8, 8), their 0 … 16 as 0 … 255.

    ``n`` None trains on all that are not held out.
    """

    name: Literal["digit_images"] = "digit_images"
    n: int | None = Field(default=None, ge=2)
    held_out: int = Field(default=360, ge=1)

    def extent(self) -> tuple[tuple[int, int, int], int]:
        """Return (1, 8, 8) and how many are not held out."""
        return (1, 8, 8), self.n or 1797 - self.held_out

    def _sets(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        return split_rows(labelled_images("digits")[0].numpy(), self.n, self.held_out, seeds, "digit_images")


class CIFAR10(ImageSet):
    """CIFAR-10, (3, 32, 32): the 50,000 training images to train on, the 10,000 test images held out.

    ``path`` is the archive of Python batches (``cifar-10-python.tar.gz``) or its folder, or a folder of Parquet files
    ``train-*`` and ``test-*`` as the Hugging Face hub serves them. ``n`` and ``held_out`` take as many of each, drawn
    by the seed; None takes all, in the order of the files.
    """

    name: Literal["cifar10"] = "cifar10"
    path: str
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)

    def extent(self) -> tuple[tuple[int, int, int], int]:
        """Return (3, 32, 32) and 50,000, or n."""
        return (3, 32, 32), self.n or 50_000

    def _sets(self, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        train, test = read_cifar10(Path(self.path))
        return _drawn(train, self.n, "train", seeds, self.path), _drawn(test, self.held_out, "test", seeds, self.path)


class ImageFiles(ImageSet):
    """A folder or zip of PNG and JPEG files, an EDM data set among them, or an NPY or NPZ of uint8 images.

    ``side`` refuses images of another height or width: FFHQ-64 is ``side: 64``. ``n`` None trains on all that are not
    held out, ``held_out`` None holds out a tenth.
    """

    name: Literal["image_files"] = "image_files"
    path: str
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


def _drawn(images: Tensor, count: int | None, which: str, seeds: Sequence[int], path: str) -> Tensor:
    """Return ``count`` of the images for each seed, (R, count, C, H, W); all of them are shared, not copied."""
    if count is None:
        return images.expand(len(seeds), *images.shape)
    if count > len(images):
        raise DataError(f"cifar10 {quoted(path)} has {len(images)} images to {which}, fewer than {count}")
    orders = Streams(seeds=tuple(seeds)).permutations(f"data/{which}", [len(images)] * len(seeds))
    return torch.stack([images[torch.from_numpy(order[:count])] for order in orders])
