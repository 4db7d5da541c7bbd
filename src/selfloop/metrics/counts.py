"""How often each value of a set is there: what is known of one part of a set is added to what is known of the others.

Whole numbers are added, so that what is computed from the sum has the bits of one pass over all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Counts:
    """The different values of a set, and how often each is there; merged with ``+``.

    Attributes:
        kinds: (K,) in ascending order.
        times: (K,) int64.
        what: is counted; only counts of the same are added and compared.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import Counts
        >>> both = Counts.of(np.array([3, 1, 3])) + Counts.of(np.array([1, 2]))
        >>> both.kinds.tolist(), both.times.tolist(), both.total
        ([1, 2, 3], [2, 1, 2], 5)
    """

    kinds: NDArray[Any]
    times: NDArray[np.int64]
    what: str = "values"

    @classmethod
    def of(cls, values: NDArray[Any], what: str = "values") -> Counts:
        """Count (N,) values."""
        found, times = np.unique(
            values, return_counts=True
        )  # which sorts; without counts NumPy 2.4 is ten times slower
        return cls(found, times.astype(np.int64), what)

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both sets.

        Raises:
            ValueError: they are of other things.
        """
        self.refuse_other(other.what)
        found, at = np.unique(np.concatenate([self.kinds, other.kinds]), return_inverse=True)
        times = np.zeros(len(found), np.int64)
        np.add.at(times, at, np.concatenate([self.times, other.times]))
        return Counts(found, times, self.what)

    def refuse_other(self, what: str) -> None:
        """Refuse counts of something else.

        Raises:
            ValueError: these are of something else.
        """
        if self.what != what:
            raise ValueError(f"counts of {self.what} stand where those of {what} are wanted")

    @property
    def total(self) -> int:
        """How many values there are, N."""
        return int(self.times.sum())

    def at(self, asked: NDArray[Any]) -> NDArray[np.int64]:
        """Return how often each of (M,) values is there."""
        if not len(self.kinds):
            return np.zeros(asked.shape, np.int64)
        at = np.searchsorted(self.kinds, asked).clip(max=len(self.kinds) - 1)
        return np.where(self.kinds[at] == asked, self.times[at], 0)
