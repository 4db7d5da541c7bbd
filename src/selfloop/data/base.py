"""What a data set hands to the loop: training and held-out rows per arm, and the way back to user units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from selfloop.core.config import Frozen
from selfloop.core.errors import DataError
from selfloop.core.streams import Streams


@dataclass(frozen=True, kw_only=True)
class Split:
    """Real data of R arms in model units; user units are ``x * scale + shift``.

    Images are uint8 (C, H, W), their levels 0 … 255 both units; all else is float64.

    Attributes:
        train: (R, n, *event).
        held_out: (R, m, *event), rows that no model trains on.
        shift: float64, broadcasts against an event.
        scale: float64, broadcasts against an event, positive.
        columns: names of the coordinates, in order.
        image_shape: (height, width) where an event is an image or a flattened one.
        image_range: the user units of black and white.
        modes: centres (K, *event) of the distribution and their standard deviation, where they are known.
    """

    train: Tensor
    held_out: Tensor
    shift: Tensor
    scale: Tensor
    columns: tuple[str, ...]
    image_shape: tuple[int, int] | None = None
    image_range: tuple[float, float] = (0.0, 255.0)
    modes: tuple[Tensor, float] | None = None

    def restore(self, x: Tensor) -> Tensor:
        """Return (..., *event) rows in user units, float64 on the CPU whatever the model computes in."""
        return x.detach().to("cpu", torch.float64) * self.scale + self.shift

    def pixels(self, x: Tensor) -> Tensor:
        """Return images as they are, and rows of flattened ones as uint8 (N, 1, height, width), rounded and clipped."""
        assert self.image_shape is not None
        if x.dtype == torch.uint8:
            return x
        black, white = self.image_range
        levels = (self.restore(x) - black) * (255 / (white - black))
        return levels.round().clamp(0, 255).to(torch.uint8).view(len(x), 1, *self.image_shape)


class Dataset(Frozen, ABC):
    """Settings that name a data set; concrete classes add ``name``, by which a configuration selects them.

    Attributes:
        events: what it holds, vectors (d,) or uint8 images (C, H, W).
        images: whether its events are images, be they flattened.
    """

    events: ClassVar[Literal["vectors", "images"]] = "vectors"
    images: ClassVar[bool] = False

    @abstractmethod
    def load(self, seeds: Sequence[int]) -> Split:
        """Return one training and one held-out set per seed; equal seeds give equal bits.

        Raises:
            DataError: the data cannot be read, or has too few rows for the split asked for.
        """

    def modes(self) -> tuple[Tensor, float] | None:
        """Return the centres (K, d) of equally likely normal modes and their standard deviation, if it has such."""
        return None


def split_rows(
    rows: np.ndarray, n: int | None, held_out: int, seeds: Sequence[int], source: str
) -> tuple[Tensor, Tensor]:
    """Split fixed rows (N, *event) by one permutation per seed into (R, n, *event) and (R, held_out, *event).

    The permutation's first n rows train and the next ``held_out`` are held out; n None trains on the rest.
    ``source`` names the data in messages.

    Raises:
        DataError: fewer than 2 rows to train on or 1 to hold out, or more asked for than there are.
    """
    total = len(rows)
    if held_out < 1:
        raise DataError(f"{source}: held_out is {held_out}, but at least 1 row must be held out")
    if n is not None and n < 2:
        raise DataError(f"{source}: n is {n}, but at least 2 rows are needed to train on")
    n = max(total - held_out, 2) if n is None else n
    if n + held_out > total:
        raise DataError(
            f"{source} has {total} rows, fewer than n + held_out = {n} + {held_out} = {n + held_out}: "
            "lower n or held_out"
        )
    orders = Streams(seeds=tuple(seeds)).permutations("data", [total] * len(seeds))
    return _taken(rows, [order[:n] for order in orders]), _taken(rows, [order[n : n + held_out] for order in orders])


def _taken(rows: np.ndarray, orders: list[np.ndarray]) -> Tensor:
    """Return rows in each order, (R, n, *event); one order costs one copy."""
    taken = [rows[order] for order in orders]
    return torch.from_numpy(taken[0][None] if len(taken) == 1 else np.stack(taken))
