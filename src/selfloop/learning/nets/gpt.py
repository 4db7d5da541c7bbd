"""A decoder-only transformer (Radford et al. 2019): each token of a row is predicted from those before it.

Norms come before what they are for, the matrix that reads tokens also writes them (Press & Wolf 2017), and there are no
biases. Positions are learned: rows are short, begin where a unit does and are never longer than in training, so that
there is nothing to extrapolate, and a position costs one addition where a rotation costs one of every query and key.

Parameters are a flat dict whose leaves lead with R = 1. Legend: B rows, T tokens of each, V tokens that there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selfloop.core.samples import State
from selfloop.core.sequences import before, scored
from selfloop.core.streams import Streams


@dataclass(frozen=True)
class GPT:
    """The size of a network.

    Attributes:
        length: of rows, L.
        vocabulary: V.
        layers: blocks, each of attention and a perceptron of one hidden layer, four times as wide.
        width: of what tokens are within the network.
        heads: of attention, which share the width.
        dropout: probability that a number which a block adds is dropped in training.
    """

    length: int
    vocabulary: int
    layers: int
    width: int
    heads: int
    dropout: float = 0.0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter of one copy, by name."""
        w = self.width
        found: dict[str, tuple[int, ...]] = {"token": (self.vocabulary, w), "position": (self.length, w)}
        for i in range(self.layers):
            found |= {f"{i}.norm1": (w,), f"{i}.qkv": (3 * w, w), f"{i}.out": (w, w)}
            found |= {f"{i}.norm2": (w,), f"{i}.wide": (4 * w, w), f"{i}.narrow": (w, 4 * w)}
        return found | {"norm": (w,)}


def init(streams: Streams, gpt: GPT) -> State:
    """Draw R copies as GPT-2 does: norms of ones, normals of 0.02, and what blocks add by √(2 layers) smaller."""
    params = {}
    for name, shape in gpt.shapes.items():
        if len(shape) == 1:
            params[name] = torch.ones(len(streams.seeds), *shape)
        else:
            added = name.endswith((".out", ".narrow"))
            deviation = 0.02 / math.sqrt(2 * gpt.layers) if added else 0.02
            params[name] = deviation * streams.normal(f"init/{name}", shape)
    return params


class Cache:
    """Keys and values of the tokens that B rows have so far.

    Args:
        gpt: the network's size.
        rows: B.
        like: a parameter, of whose device they are.
        dtype: in which the network computes; None is the parameter's.
    """

    def __init__(self, gpt: GPT, rows: int, like: Tensor, dtype: torch.dtype | None = None) -> None:
        self.taken = 0
        shape = (gpt.layers, 2, rows, gpt.heads, gpt.length, gpt.width // gpt.heads)
        self._held = torch.empty(shape, dtype=dtype or like.dtype, device=like.device)

    def add(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add those of the T tokens that follow, (B, heads, T, d), and return all, (B, heads, taken + T, d)."""
        held, end = self._held[layer], self.taken + k.shape[2]
        held[0, :, :, self.taken : end], held[1, :, :, self.taken : end] = k, v
        return held[0, :, :, :end], held[1, :, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Keep some of the rows, (B,) bool."""
        self._held = self._held[:, :, rows]


def _hidden(copy: Mapping[str, Tensor], gpt: GPT, x: Tensor, used: Tensor | None = None, **told: Any) -> Tensor:
    """Return what the network makes of tokens x (B, T), (B T, width), or of those alone that are used, (B, T) bool.

    It may be told of ``dropout``, a generator, and of a ``cache``, of whose rows they are the next tokens.
    """
    dropout, cache = told.get("dropout"), told.get("cache")
    (b, t), start = x.shape, 0 if cache is None else cache.taken
    at = None if used is None or bool(used.all()) else torch.nonzero(used.flatten()).squeeze(1)

    def picked(y: Tensor) -> Tensor:
        return y if at is None else y[at]

    def spread(y: Tensor) -> Tensor:
        return y if at is None else y.new_zeros(b * t, y.shape[1]).index_copy(0, at, y)

    def dropped(y: Tensor) -> Tensor:
        kept = 1 - gpt.dropout
        return y if dropout is None else y * torch.empty_like(y).bernoulli_(kept, generator=dropout).div_(kept)

    def norm(y: Tensor, name: str) -> Tensor:
        return F.layer_norm(y, (gpt.width,), copy[name])

    places = torch.arange(start, start + t, device=x.device).repeat(b)
    h = dropped(F.embedding(picked(x.flatten()), copy["token"]) + F.embedding(picked(places), copy["position"]))
    for i in range(gpt.layers):
        qkv = spread(F.linear(norm(h, f"{i}.norm1"), copy[f"{i}.qkv"]))
        q, k, v = qkv.view(b, t, 3, gpt.heads, gpt.width // gpt.heads).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.add(i, k, v)
        # Tokens after the first part of a row come one by one, and so see all that there are.
        y = F.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
        h = h + dropped(F.linear(picked(y.transpose(1, 2).reshape(b * t, gpt.width)), copy[f"{i}.out"]))
        wide = F.gelu(F.linear(norm(h, f"{i}.norm2"), copy[f"{i}.wide"]))
        h = h + dropped(F.linear(wide, copy[f"{i}.narrow"]))
    if cache is not None:
        cache.taken += t
    return norm(h, "norm")


def log_prob(params: State, gpt: GPT, x: Tensor, dropout: Sequence[torch.Generator] | None = None) -> Tensor:
    """Return the log probabilities of rows x (1, B, L) in nats, (1, B); places after all first edges cost nothing."""
    copy = {name: leaf.squeeze(0) for name, leaf in params.items()}
    used = scored(x[0])
    rows = x[0, :, : int(used.sum(1).max())].long()
    used = used[:, : rows.shape[1]]
    logits = F.linear(_hidden(copy, gpt, before(rows), used, dropout=dropout[0] if dropout else None), copy["token"])
    each = -F.cross_entropy(logits.float(), rows[used], reduction="none")
    return torch.zeros(used.shape, device=x.device).masked_scatter(used, each).sum(1).unsqueeze(0)


def following(params: State, gpt: GPT, x: Tensor, cache: Cache, dropout: object = None) -> Tensor:
    """Return the logits (1, B, V) of the token after the next ones x (1, B, T) of rows in a cache."""
    copy = {name: leaf.squeeze(0) for name, leaf in params.items()}
    h = _hidden(copy, gpt, x[0], cache=cache).view(*x.shape[1:], gpt.width)
    return F.linear(h[:, -1], copy["token"]).unsqueeze(0)
