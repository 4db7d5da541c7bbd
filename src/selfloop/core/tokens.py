"""Tokenizers: text as whole numbers and back.

Token 0 is the edge of every vocabulary: it ends a row and pads it, and is what a model is given before the first token.
No text is encoded with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

EDGE = 0


class Tokenizer(Protocol):
    """What turns text into tokens and back."""

    @property
    def size(self) -> int:
        """V, how many tokens there are, the edge included."""

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens (k,) int32 of a text, 1 … V − 1.

        Raises:
            ValueError: with what it has no token for.
        """

    def decode(self, tokens: np.ndarray) -> str:
        """Return the text of tokens (k,), none of them the edge."""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it, for :func:`read_tokenizer`."""


@dataclass(frozen=True)
class Characters:
    """A token for every character: the k-th of the alphabet is token k, counted from 1.

    Attributes:
        alphabet: the characters, sorted by their code points.
    """

    alphabet: str
    kind: ClassVar[str] = "characters"

    @classmethod
    def of(cls, texts: list[str]) -> Characters:
        """Return the tokenizer of the characters of some texts."""
        return cls("".join(sorted(set().union(*texts))))

    @property
    def size(self) -> int:
        """V."""
        return len(self.alphabet) + 1

    @cached_property
    def _points(self) -> np.ndarray:
        return _code_points(self.alphabet)

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens (k,) int32 of a text, one a character."""
        points, known = _code_points(text), self._points
        at = np.searchsorted(known, points)
        strange = points != np.append(known, -1)[at]
        if strange.any():
            where = int(np.argmax(strange))
            raise ValueError(f"character {text[where]!r}, number {where + 1}")
        return (at + 1).astype(np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        """Return the text of tokens (k,)."""
        points = self._points[tokens.astype(np.int64) - 1]
        return points.astype("<u4").tobytes().decode("utf-32-le")

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"kind": self.kind, "alphabet": self.alphabet}


@dataclass(frozen=True)
class Bytes:
    """A token for every byte of a text in UTF-8: byte b is token b + 1. Bytes that are no UTF-8 are read as U+FFFD."""

    kind: ClassVar[str] = "bytes"
    size: ClassVar[int] = 257

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens (k,) int32 of a text, one a byte."""
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32) + 1

    def decode(self, tokens: np.ndarray) -> str:
        """Return the text of tokens (k,)."""
        return (tokens - 1).astype(np.uint8).tobytes().decode(errors="replace")

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"kind": self.kind}


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)


def read_tokenizer(written: Mapping[str, Any]) -> Tokenizer:
    """Return what :meth:`Tokenizer.plain` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    if written["kind"] == Characters.kind:
        return Characters(str(written["alphabet"]))
    if written["kind"] == Bytes.kind:
        return Bytes()
    raise ValueError(f"tokenizers of kind {written['kind']!r} are not known to this version")
