"""What all features share: they map events to rows of numbers, and those of a real set are kept in a cache.

Those of images take uint8 (N, C, H, W) on the CPU and return (N, k) float32; what they need from outside (weights) is
read from a file whose SHA-256 is part of what a number means, and is never fetched: the error says what to fetch and
where to put it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Protocol

import torch
from pydantic import PrivateAttr
from safetensors.torch import load_file
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import EXECUTION, Frozen
from selfloop.core.errors import DataError
from selfloop.core.events import DATA_UNITS
from selfloop.core.files import save_tensors
from selfloop.core.paths import cache
from selfloop.core.registry import Absent, Family

FEATURE_UNITS = "feature units"

Progress = Callable[[int, int], None]  # images done, images in all
Call = Callable[[Tensor], Tensor]

_COLOURS = {1: "grey", 3: "colour"}  # by channels


class Extractor(Protocol):
    """What maps events to rows of numbers."""

    @property
    def needs(self) -> frozenset[Capability]:
        """What data must offer: a form as "pixels" for networks of images, "text", "numbers"."""

    def key(self) -> str:
        """Return what the features depend on besides the events."""

    def __call__(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Return the features (N, k) of events (N, *event), uint8 (N, C, H, W) where pixels are needed."""


class Features(Frozen, ABC):
    """Settings that name what metrics look at; concrete classes fix ``name``, by which a configuration selects them.

    Attributes:
        needs: what data must offer: a form as "pixels" for networks of images, "text", "numbers".
        offers: what they have besides: the "naming" of classes, by ``named``, which maps features (N, k) to the classes
            (N,) int64 that they show, out of as many as ``names``.
        unit: of what they return.
        label: what is added to the names of distances, so that nobody takes them for those of other features.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset()
    offers: ClassVar[frozenset[Capability]] = frozenset()
    unit: ClassVar[str] = FEATURE_UNITS
    label: ClassVar[str] = ""

    @abstractmethod
    def key(self) -> str:
        """Return what the features depend on besides the events."""

    @abstractmethod
    def __call__(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Return the features (N, k) of events (N, *event)."""


class Network(Features):
    """What extractors of images share: batches, a device, RGB.

    Attributes:
        device: where it runs.
    """

    name: str
    needs: ClassVar[frozenset[Capability]] = frozenset(("pixels",))
    device: Annotated[str, EXECUTION] = "cpu"
    _call: Call | None = PrivateAttr(default=None)

    def channels(self) -> tuple[int, ...]:
        """Return how many channels pictures may have: 1 is grey, 3 are RGB."""
        return (1, 3)

    def batch(self) -> int:
        """Return how many pictures are looked at together."""
        return 128

    def check(self, x: Tensor) -> None:
        """Refuse what it cannot look at, without loading it.

        Raises:
            DataError: x are not uint8 (N, C, H, W), or of another C than it takes.
        """
        if x.ndim != 4 or x.dtype != torch.uint8 or x.shape[1] not in _COLOURS:
            raise DataError(
                f"features {self.name}: needs uint8 images (N, 1 or 3, height, width), not {x.dtype} {tuple(x.shape)}"
            )
        if x.shape[1] not in (takes := self.channels()):
            known, given = _COLOURS[takes[0]], _COLOURS[x.shape[1]]
            raise DataError(
                f"features {self.name}: it learns from {known} pictures, and these are {given} ones {tuple(x.shape)}: "
                f"let features.labelled name {given} pictures and their labels, or use other features"
            )

    @abstractmethod
    def _load(self) -> Call:
        """Return what maps a batch of uint8 images on the device to features."""

    def __call__(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Return the features (N, k) of uint8 images (N, C, H, W).

        Raises:
            DataError: weights are missing or not what they should be, or x are no such images.
        """
        self.check(x)
        call, done, parts = self._loaded(), 0, []
        with torch.no_grad():
            for batch in torch.split(x, self.batch()):
                try:
                    parts.append(call(batch.to(self.device)).flatten(1).float().cpu())
                except RuntimeError as error:
                    why = " ".join(str(error).split())[:200]
                    raise DataError(f"features {self.name}: it refuses images {tuple(x.shape)}: {why}") from error
                done += len(batch)
                if progress is not None:
                    progress(done, len(x))
        return torch.cat(parts)

    def _loaded(self) -> Call:
        if self._call is None:
            try:
                self._call = self._load()
            except (RuntimeError, AssertionError) as error:  # torch's words for a device that is not there
                why = " ".join(str(error).split())[:200]
                raise DataError(f"features {self.name}: it cannot run on device {self.device!r}: {why}") from error
        return self._call


def keep(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a file of the cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, tensors)


_LARGE = 1 << 20  # features of fewer bytes than this are computed again rather than kept


def unit(features: Extractor | Absent, data: str) -> str:
    """Return the unit of features of events whose own is ``data``; a class that says none has one of its own."""
    own = FEATURE_UNITS if isinstance(features, Absent) else getattr(features, "unit", FEATURE_UNITS)
    return data if own == DATA_UNITS else own


def label(features: Extractor | Absent) -> str:
    """Return by what the names of distances say that they are of these features; "" where they need not."""
    return "" if isinstance(features, Absent) else getattr(features, "label", "")


@lru_cache(maxsize=4)
def _kept(path: Path) -> Tensor:
    return load_file(path)["features"]


def cached(extractor: Extractor, x: Tensor, progress: Progress | None = None) -> Tensor:
    """Return the features of a real set, from the cache directory where they are there.

    They are kept under the SHA-256 of the images' bytes and the extractor's key; small sets and rows as they are, which
    cost nothing, are not.
    """
    if "pixels" not in extractor.needs:
        return extractor(x, progress)
    digest = hashlib.sha256(f"{extractor.key()} {x.dtype} {tuple(x.shape)}".encode())
    digest.update(x.contiguous().numpy().tobytes())
    path = cache() / f"features-{digest.hexdigest()}.safetensors"
    if path.is_file():
        return _kept(path)
    features = extractor(x, progress)
    if features.nbytes >= _LARGE:
        keep(path, {"features": features})
    return features


FEATURES: Family[type[Extractor]] = Family("features", "selfloop.features", {"key": 0, "__call__": 1})
