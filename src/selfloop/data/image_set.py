"""Images as events: uint8 (C, H, W), levels 0 … 255, never turned into floats on the way to a network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from selfloop.core.capabilities import Capability
from selfloop.core.events import Images, Kind
from selfloop.data.base import Parts, Split
from selfloop.data.finite import Finite


class ImageSet(Finite):
    """A data set whose events are images."""

    holds: ClassVar[Kind] = "images"
    always: ClassVar[frozenset[Capability]] = frozenset(("pixels",))

    @abstractmethod
    def _sets(self, seeds: Sequence[int]) -> Parts:
        """Return the training and held-out images, (R, n, C, H, W) and (R, m, C, H, W), and those set aside."""

    def load(self, seeds: Sequence[int]) -> Split:
        """Return the images as they are, events (C, H, W) uint8."""
        parts = self._sets(seeds)
        events = Images(tuple(parts.train.shape[2:]))
        return Split(train=parts.train, held_out=parts.held_out, events=events, aside=parts.aside)
