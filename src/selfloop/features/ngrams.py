"""How often words of one and two tokens are in a text, hashed to so many numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.errors import DataError
from selfloop.core.sequences import lengths
from selfloop.core.tokens import EDGE
from selfloop.features.base import FEATURES, Features, Progress

_WIDTH = 64  # of each of the two halves
_FIRST, _SECOND, _SHIFT = 0x9E3779B1, 0x85EBCA77, 26  # odd multipliers, and 32 − log₂ of the width
_ROWS = 4096  # that are hashed at once


@FEATURES.register
class Ngrams(Features):
    """Relative frequencies of hashed tokens and of hashed pairs of tokens, 64 of each, for text.

    Tokens count up to and including the first edge, and pairs from the edge before the first token on. Hashes are
    multiplicative (Knuth 1998, 6.4; Weinberger et al. 2009), so that what shares a number is by chance and always the
    same; each half of a row sums to 1.
    """

    name: Literal["ngrams"] = "ngrams"
    needs: ClassVar[frozenset[Capability]] = frozenset(("text",))
    label: ClassVar[str] = "n-grams"

    def key(self) -> str:
        """Return what the features depend on besides the rows."""
        return "ngrams 1"

    def __call__(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Return the features (N, 128) float32 of rows of tokens (N, L).

        Raises:
            DataError: x are no rows of tokens.
        """
        if x.ndim != 2 or x.is_floating_point():
            raise DataError(f"features ngrams: needs rows of tokens (N, L), not {x.dtype} {tuple(x.shape)}")
        parts = [_frequencies(rows.long()) for rows in torch.split(x, _ROWS)]
        return torch.cat(parts) if parts else torch.zeros(0, 2 * _WIDTH)


def _frequencies(x: Tensor) -> Tensor:
    before = torch.nn.functional.pad(x[:, :-1], (1, 0), value=EDGE)
    counted = (torch.arange(x.shape[1]) <= lengths(x)[:, None]).float()
    halves = []
    for words in (_hashed(x * _FIRST), _hashed(before * _SECOND + x * _FIRST)):
        counts = torch.zeros(len(x), _WIDTH).scatter_add_(1, words, counted)
        halves.append(counts / counted.sum(1, keepdim=True))
    return torch.cat(halves, 1)


def _hashed(x: Tensor) -> Tensor:
    """Return the upper bits of whole numbers modulo 2³²."""
    return (x & 0xFFFFFFFF) >> _SHIFT
