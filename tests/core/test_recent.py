"""What was made of arrays lately is not made anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selfloop.core.recent import Recent


@dataclass(frozen=True)
class Sum:
    value: float
    nbytes: int


def test_it_is_made_once_as_long_as_there_is_room() -> None:
    recent, made = Recent[Sum](10), list[float]()

    def asked(x: np.ndarray, settings: object = None, size: int = 4) -> float:
        def make() -> Sum:
            made.append(float(x.sum()))
            return Sum(made[-1], size)

        return recent.get([x], settings, make).value

    a, b, c = (np.full(3, float(k)) for k in range(3))
    assert [asked(each) for each in (a, b, a, b, a.copy())] == [0, 3, 0, 3, 0]
    assert made == [0, 3]
    assert asked(a[None]) == 0  # another shape is another array
    assert asked(a, "other") == 0
    assert made == [0, 3, 0, 0]
    assert asked(c, size=100) == asked(c) == 6  # alone, whatever it takes
    assert asked(b) == 3
    assert made == [0, 3, 0, 0, 6, 3]
