"""CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.config import DataPath
from selfloop.core.errors import DataError, quoted
from selfloop.core.streams import Streams
from selfloop.core.urls import fetched
from selfloop.data.base import DATA, Parts
from selfloop.data.image_set import LabelledImages, labelled
from selfloop.data.reading.cifar import read_cifar10


@DATA.register
class CIFAR10(LabelledImages):
    """CIFAR-10, (3, 32, 32): the 50,000 training images to train on, the 10,000 test images held out.

    ``path`` is the archive of Python batches (``cifar-10-python.tar.gz``) or its folder, or a folder of Parquet files
    ``train-*`` and ``test-*`` as the Hugging Face hub serves them. ``n`` and ``held_out`` take as many of each, drawn
    by the seed; None takes all, in the order of the files unless some are set aside. ``side`` makes them smaller:
    a level is the mean of the square of levels that it stands for, a half rounded up. Labels are of ten classes.
    """

    name: Literal["cifar10"] = "cifar10"
    path: DataPath
    side: Literal[32, 16, 8, 4] = 32
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)

    def extent(self) -> tuple[tuple[int, ...], int]:
        """Return (3, side, side) and n, or how many of the 50,000 are not set aside."""
        return (3, self.side, self.side), self.n or 50_000 - self.fresh_rows

    def _sets(self, seeds: Sequence[int]) -> Parts:
        train, test = (
            each._replace(pixels=smaller(each.pixels, self.side))
            for each in read_cifar10(Path(fetched(self.path)), labels=self.labels)
        )
        return labelled(lambda rows, apart: self._cut(rows, apart, seeds), train, test)

    def _cut(self, train: Tensor, test: Tensor | None, seeds: Sequence[int]) -> Parts:
        """Draw those to train on, to hold out and to set aside of rows (N, …) and (M, …)."""
        assert test is not None
        held_out = _drawn(test, self.held_out, "test", seeds, self.path)
        if not self.fresh_rows:
            return Parts(_drawn(train, self.n, "train", seeds, self.path), held_out)
        n = max(len(train) - self.fresh_rows, 2) if self.n is None else self.n
        drawn = _drawn(train, n + self.fresh_rows, "train", seeds, self.path)
        return Parts(drawn[:, :n], held_out, drawn[:, n:])


def smaller(images: Tensor, side: int) -> Tensor:
    """Return uint8 images (N, C, H, H) as (N, C, side, side): exact means over squares, a half rounded up."""
    factor = images.shape[-1] // side
    if factor == 1:
        return images
    squares = images.reshape(*images.shape[:2], side, factor, side, factor)
    sums = squares.sum((-3, -1), dtype=torch.int32)
    return ((2 * sums + factor**2) // (2 * factor**2)).to(torch.uint8)


def _drawn(images: Tensor, count: int | None, which: str, seeds: Sequence[int], path: str) -> Tensor:
    """Return ``count`` of the rows (N, …) for each seed, (R, count, …); all of them are shared, not copied."""
    if count is None:
        return images.expand(len(seeds), *images.shape)
    if count > len(images):
        raise DataError(f"cifar10 {quoted(path)} has {len(images)} images to {which}, fewer than {count}")
    orders = Streams(seeds=tuple(seeds)).permutations(f"data/{which}", [len(images)] * len(seeds))
    return torch.stack([images[torch.from_numpy(order[:count])] for order in orders])
