"""A memory of what was made of arrays lately."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray


class Sized(Protocol):
    """What says how many bytes it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes."""


Made = TypeVar("Made", bound=Sized)


class Recent(Generic[Made]):
    """What was made of arrays lately, by what is in them, so that it is not made anew.

    Args:
        most: bytes that all of it may take; what was asked for last is kept whatever it takes.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held, self._kept = most, 0, OrderedDict[bytes, Made]()

    def get(self, arrays: Iterable[NDArray[Any]], settings: object, make: Callable[[], Made]) -> Made:
        """Return what is made of arrays by settings, whose representation tells them apart."""
        digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
        for each in arrays:
            digest.update(f"{each.dtype.str}{each.shape}".encode())
            digest.update(np.ascontiguousarray(each).data)
        key = digest.digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = self._kept[key] = make()
        self._held += made.nbytes
        while self._held > self._most and len(self._kept) > 1:
            self._held -= self._kept.popitem(last=False)[1].nbytes
        return made
