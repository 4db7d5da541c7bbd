"""What the units of a text are, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from selfloop.data.reading.texts import Unit, read_texts

_TOP = 8  # characters that are named


@dataclass(frozen=True)
class TextSummary:
    """A text.

    Attributes:
        unit: "document" or "line".
        units: how many.
        distinct: how many different ones.
        characters: in all of them.
        bytes: that these are in UTF-8.
        lengths: the least, the median and the greatest number of characters of a unit.
        alphabet: how many different characters.
        frequent: the most frequent of them and how often each is there.
        rare: the characters that are there once.
    """

    unit: Unit
    units: int
    distinct: int
    characters: int
    bytes: int
    lengths: tuple[int, int, int]
    alphabet: int
    frequent: dict[str, int]
    rare: str

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What there is to show, by what it is."""
        least, median, most = self.lengths
        top = ", ".join(f"{character!r} {count:,}" for character, count in self.frequent.items())
        more = " …" if self.alphabet > len(self.frequent) else ""
        return [
            (f"{self.unit}s", f"{self.units:,}, {self.distinct:,} of them different"),
            ("characters", f"{self.characters:,}, in UTF-8 {self.bytes:,} bytes"),
            (f"characters of a {self.unit}", f"{least:,} to {most:,}, median {median:,}"),
            (
                "different characters",
                f"{self.alphabet:,}: {top}{more}",
            ),
            ("characters that are there once", f"{len(self.rare):,}" + (f": {self.rare[:40]!r}" if self.rare else "")),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def text_summary(path: str, column: str | None, unit: Unit) -> TextSummary:
    """Say what a text holds.

    Raises:
        DataError: as :func:`selfloop.data.reading.texts.read_texts`.
    """
    texts = [each.text for each in read_texts(path, column, unit).pieces]
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    sizes = np.array([len(text) for text in texts])
    return TextSummary(
        unit=unit,
        units=len(texts),
        distinct=len(set(texts)),
        characters=int(sizes.sum()),
        bytes=sum(len(text.encode()) for text in texts),
        lengths=(int(sizes.min()), int(np.median(sizes)), int(sizes.max())),
        alphabet=len(counts),
        frequent=dict(counts.most_common(_TOP)),
        rare="".join(sorted(character for character, count in counts.items() if count == 1)),
    )
