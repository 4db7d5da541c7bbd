"""A table of how often each category was seen: the Wright–Fisher model of drift, where what is lost is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.events import Kind
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.generators.kernel_density import drawn_by_weight
from selfloop.learning.training import ROWS, Budget

_CATEGORIES, _COUNT, _PROBABILITY = (f"{ROWS}{name}" for name in ("x", "count", "probability"))


@GENERATORS.register
class Categorical(Sampler):
    """As often as each category is among the training rows: Σ_i w_i 1[x_i = k] / Σ_i w_i for rows that count w_i.

    A category is a row: rows are of one category where they agree in all columns, whatever numbers stand for them. A
    column of whole numbers, or several, is the usual case; a table's standardised columns are as good, and so are rows
    of tokens. Of rows that all differ it is the bootstrap.

    State: ``rows.x`` (R, K, d) the categories, in ascending order and padded with zeros to the most that an arm has,
    ``rows.count`` (R,) how many there are, and ``rows.probability`` (R, K), float64. None of these is a parameter whose
    distance means something: their shapes change as categories are lost.
    """

    name: Literal["categorical"] = "categorical"
    makes: ClassVar[frozenset[Kind]] = frozenset(("vectors", "text"))
    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "exponential", "temperature"))
    dtype: ClassVar[torch.dtype] = torch.float64
    # Alone, an arm's state is as long as its own table.
    stack: ClassVar[int] = 1

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return empty tables, which sample NaN."""
        r = len(streams.seeds)
        return {
            _CATEGORIES: torch.zeros(r, 0, *event, dtype=self.dtype),
            _COUNT: torch.zeros(r, dtype=torch.int64),
            _PROBABILITY: torch.zeros(r, 0, dtype=self.dtype),
        }

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the table of the training rows; neither ``state`` nor ``budget`` plays a part."""
        tables = [_table(*data.rows(r, self.dtype)) for r in range(len(data.count))]
        return {
            _CATEGORIES: torch.nn.utils.rnn.pad_sequence([x for x, _ in tables], batch_first=True),
            _COUNT: torch.tensor([len(x) for x, _ in tables]),
            _PROBABILITY: torch.nn.utils.rnn.pad_sequence([p for _, p in tables], batch_first=True),
        }

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw n independent categories of each arm; NaN where a table is empty or holds NaN.

        At a temperature τ a category has the probability p^(1/τ) / Σ p^(1/τ).
        """
        drawn = []
        for r, rng in enumerate(streams.numpy("latents")):
            x, probability = _of(state, r)
            if temperature != 1:
                probability = (probability / probability.max()) ** (1 / temperature) if len(x) else probability
            drawn.append(drawn_by_weight(x, probability, n, rng))
        return torch.stack(drawn)

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log probability of each row's category; −∞ of those that are not in the table."""
        values = torch.full(x.shape[:2], -math.inf, dtype=self.dtype)
        for r, rows in enumerate(x.to(self.dtype)):
            table, probability = _of(state, r)
            both, which = torch.unique(torch.cat([table, rows]), dim=0, return_inverse=True)
            known = torch.zeros(len(both), dtype=self.dtype)
            known[which[: len(table)]] = probability
            values[r] = known[which[len(table) :]].log()
        return values


def _table(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the categories (K, d) among rows (n, d) that count ``weight`` (n,), and their probabilities (K,)."""
    if not torch.isfinite(x).all():
        return torch.full_like(x[:1], math.nan), torch.ones(1, dtype=x.dtype)
    categories, which = torch.unique(x, dim=0, return_inverse=True)
    counts = torch.zeros(len(categories), dtype=x.dtype).index_add_(0, which, weight)
    return categories, counts / weight.sum()


def _of(state: State, r: int) -> tuple[Tensor, Tensor]:
    """Return one arm's categories (K, d) and their probabilities (K,), without padding."""
    k = int(state[_COUNT][r])
    return state[_CATEGORIES][r, :k], state[_PROBABILITY][r, :k]
