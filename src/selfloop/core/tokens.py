"""Tokenizers: text as whole numbers and back.

Token 0 is the edge of every vocabulary: it ends a row and pads it, and is what a model is given before the first token.
No text is encoded with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Protocol

import numpy as np

from selfloop.core.errors import ConfigError, quoted, to_install

EDGE = 0


class Tokenizer(Protocol):
    """What turns text into tokens and back."""

    @property
    def size(self) -> int:
        """V, how many tokens there are, the edge included."""

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens (k,) int32 of a text, 1 … V − 1.

        Raises:
            ValueError: with what it holds that cannot be encoded, or not be restored.
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

    @cached_property
    def _tokens(self) -> np.ndarray:
        """The token of each code point, the edge where there is none."""
        found = np.zeros(int(self._points.max(initial=0)) + 2, np.int32)
        found[self._points] = np.arange(1, self.size)
        return found

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens (k,) int32 of a text, one a character."""
        tokens: np.ndarray = self._tokens.take(_code_points(text), mode="clip")
        if not tokens.all():
            where = int(np.argmin(tokens))
            raise ValueError(f"character {text[where]!r}, number {where + 1}, for which there is no token")
        return tokens

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


@dataclass(frozen=True)
class Subwords:
    """A token for each of many words and parts of words, by the library ``tokenizers``.

    Its tokens are counted from 1; where they are a model's own, its end-of-text token is the edge instead, and what was
    token 0 has that token's number.

    Attributes:
        json: the tokenizer as the library writes it.
        end: the number of the end-of-text token of a model's own; None where there is no such token.
    """

    json: str
    end: int | None = None
    kind: ClassVar[str] = "subwords"

    @classmethod
    def trained(cls, texts: Iterable[str], size: int) -> Subwords:
        """Return byte-pair encoding (Sennrich et al. 2016) of bytes, trained on texts to ``size`` tokens at most.

        Raises:
            ConfigError: the library is not installed.
        """
        library = _library()
        found = library.Tokenizer(library.models.BPE())
        found.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        found.decoder = library.decoders.ByteLevel()
        alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
        trainer = library.trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False)
        found.train_from_iterator(texts, trainer)
        return cls(found.to_str())

    @cached_property
    def _tokenizer(self) -> Any:
        return _loaded(self.json)

    @cached_property
    def size(self) -> int:
        """V."""
        numbers: list[int] = list(self._tokenizer.get_vocab(with_added_tokens=True).values())
        return max(numbers, default=0) + 1 + (self.end is None)

    def number(self, token: str) -> int | None:
        """Return the number that the library has for a token; None where it has none."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def _renumbered(self, tokens: np.ndarray) -> np.ndarray:
        """Return tokens with the model's end and 0 swapped; twice, they are as they were."""
        return np.where(tokens == self.end, EDGE, np.where(tokens == EDGE, self.end or EDGE, tokens))

    def encode(self, text: str) -> np.ndarray:
        """Return the tokens (k,) int32 of a text."""
        own = np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)
        tokens = own + 1 if self.end is None else self._renumbered(own).astype(np.int32)
        if (tokens == EDGE).any():
            raise ValueError("the tokenizer's own token for the end of a text")
        if (restored := self.decode(tokens)) != text:
            at = next((i for i, (a, b) in enumerate(zip(text, restored, strict=False)) if a != b), len(restored))
            raise ValueError(f"{text[at : at + 10]!r} at character {at + 1}, which the tokenizer does not restore")
        return tokens

    def decode(self, tokens: np.ndarray) -> str:
        """Return the text of tokens (k,)."""
        own = tokens - 1 if self.end is None else self._renumbered(tokens)
        return str(self._tokenizer.decode(own.tolist(), skip_special_tokens=False))

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"kind": self.kind, "json": self.json, "end": self.end}


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ConfigError(to_install("this tokenizer", "tokenizers", "text")) from error
    return tokenizers


@lru_cache(maxsize=4)
def _loaded(written: str) -> Any:
    try:
        found = _library().Tokenizer.from_str(written)
    except ConfigError:
        raise
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"it is no tokenizer that the library reads: {quoted(error, 120)}") from error
    found.no_truncation()
    found.no_padding()
    return found


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
    if written["kind"] == Subwords.kind:
        return Subwords(str(written["json"]), None if written["end"] is None else int(written["end"]))
    raise ValueError(f"tokenizers of kind {written['kind']!r} are not known to this version")
