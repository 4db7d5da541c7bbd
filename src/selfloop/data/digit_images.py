"""The handwritten digits of scikit-learn as images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor

from selfloop.data.base import DATA, Parts, divide
from selfloop.data.image_set import LabelledImages, labelled
from selfloop.data.reading.images import Pictures, labelled_images


@DATA.register
class DigitImages(LabelledImages):
    """The 1,797 handwritten digits of scikit-learn, (1, 8, 8), their 0 … 16 as 0 … 255.

    ``n`` None trains on all that are not held out. Labels are which digit it is.
    """

    name: Literal["digit_images"] = "digit_images"
    n: int | None = Field(default=None, ge=2)
    held_out: int = Field(default=360, ge=1)

    def extent(self) -> tuple[tuple[int, ...], int]:
        """Return (1, 8, 8) and how many are neither held out nor set aside."""
        return (1, 8, 8), self.n or 1797 - self.held_out - self.fresh_rows

    def _sets(self, seeds: Sequence[int]) -> Parts:
        images, labels = labelled_images("digits")

        def cut(rows: Tensor, apart: Tensor | None) -> Parts:
            return divide(rows.numpy(), self.n, self.held_out, seeds, "digit_images", fresh_rows=self.fresh_rows)

        return labelled(cut, Pictures(images, labels if self.labels else None, tuple("0123456789")))
