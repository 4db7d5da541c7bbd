"""Images as events: uint8 (C, H, W), levels 0 … 255, never turned into floats on the way to a network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import newer
from selfloop.core.events import Images, Kind
from selfloop.data.base import Parts, Split
from selfloop.data.finite import Finite
from selfloop.data.reading.images import Pictures


class ImageSet(Finite):
    """A data set whose events are images."""

    holds: ClassVar[Kind] = "images"
    always: ClassVar[frozenset[Capability]] = frozenset(("pixels",))

    @abstractmethod
    def _sets(self, seeds: Sequence[int]) -> Parts:
        """Return the training and held-out images, (R, n, C, H, W) and (R, m, C, H, W), and those set aside."""

    def load(self, seeds: Sequence[int]) -> Split:
        """Return the images as they are, events (C, H, W) uint8, and their classes where they are labelled."""
        parts = self._sets(seeds)
        events = Images(tuple(parts.train.shape[2:]), parts.classes)
        split = Split(train=parts.train, held_out=parts.held_out, events=events, aside=parts.aside)
        if (labels := parts.labels) is None:
            return split
        return replace(split, train_label=labels.train, held_out_label=labels.held_out, aside_label=labels.aside)


class LabelledImages(ImageSet):
    """A data set whose images may be labelled by their classes.

    Attributes:
        labels: whether they are, for what learns and makes images of classes.
    """

    labels: bool = newer(False)

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What all sets of images do, and labels where they are asked for."""
        return super().offers | ({"labelled"} if self.labels else set())


def labelled(cut: Callable[[Tensor, Tensor | None], Parts], images: Pictures, apart: Pictures | None = None) -> Parts:
    """Return images divided by ``cut``, given all of them and those to hold out, and their labels by the same.

    ``cut`` must divide by how many rows there are alone, as :func:`selfloop.data.base.divide` does.
    """
    parts = cut(images.pixels, None if apart is None else apart.pixels)
    if images.labels is None:
        return parts
    labels = cut(images.labels, None if apart is None else apart.labels)
    classes = max(each.classes for each in (images, apart) if each is not None)
    return parts._replace(labels=labels, classes=classes)
