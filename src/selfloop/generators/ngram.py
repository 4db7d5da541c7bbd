"""n-grams: how often each token followed the few before it, the exact small model of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.events import Kind
from selfloop.core.recent import Recent
from selfloop.core.samples import Samples, State
from selfloop.core.sequences import scored
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.learning.ngrams import Grams, Law, counted
from selfloop.learning.training import EVENT, ROWS, Budget

_LAWS: Recent[Law] = Recent(2**28)  # a generation asks for its own several times, and for that of generation 0
_TOKENS, _WEIGHT, _COUNT = (f"{ROWS}{name}" for name in ("x", "weight", "count"))


@GENERATORS.register
class NGram(Sampler):
    """Text in which a token depends on the ``order`` − 1 before it, by counts of the training rows.

    State: ``rows.x`` (R, K, N) int32 the strings of N tokens that were seen, in order and padded with zeros to the most
    that an arm has, ``rows.weight`` (R, K) float64 what each counts, ``rows.count`` (R,) how many there are, and
    ``event`` (R, 2) the length of rows and the size of the vocabulary. It has no parameters.

    Attributes:
        order: N; at 1, tokens are independent.
        smoothing: "kneser-ney", interpolated (Kneser & Ney 1995; Chen & Goodman 1999), or "additive".
        discount: of Kneser-Ney, what is taken off every count, and given to what was not seen.
        pseudocount: of additive smoothing, what is added to the count of every token; at 0 the model is the
            frequencies alone, and what is lost is lost. After tokens that were not seen, any is as likely.
    """

    name: Literal["ngram"] = "ngram"
    order: int = Field(default=3, ge=1, le=16)
    smoothing: Literal["kneser-ney", "additive"] = "kneser-ney"
    discount: float = Field(default=0.75, gt=0, lt=1)
    pseudocount: NonNegativeFloat = 0.01
    makes: ClassVar[frozenset[Kind]] = frozenset(("text",))
    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "temperature"))
    dtype: ClassVar[torch.dtype] = torch.int32
    # Alone, an arm's state is as long as its own table.
    stack: ClassVar[int] = 1

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return models of rows of L of V tokens, ``event``, that have seen none: any token is as likely."""
        r = len(streams.seeds)
        return {
            _TOKENS: torch.zeros(r, 0, self.order, dtype=torch.int32),
            _WEIGHT: torch.zeros(r, 0, dtype=torch.float64),
            _COUNT: torch.zeros(r, dtype=torch.int64),
            EVENT: torch.tensor([tuple(event)] * r),
        }

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Count the training rows, by their weights of mean 1; of ``state`` only the event plays a part."""
        tokens, weights = [], []
        for r, (_, v) in enumerate(state[EVENT].tolist()):
            rows, weight = data.counting(r)
            x = data.x[r, rows]
            own = None if data.weight is None else weight.numpy()
            grams = counted(x.numpy(), scored(x).numpy(), own, self.order, v)
            tokens.append(torch.from_numpy(grams.tokens))
            weights.append(torch.from_numpy(grams.count))
        return {
            _TOKENS: torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True),
            _WEIGHT: torch.nn.utils.rnn.pad_sequence(weights, batch_first=True),
            _COUNT: torch.tensor([len(each) for each in tokens]),
            EVENT: state[EVENT],
        }

    def law(self, state: State, r: int) -> Law:
        """Return one arm's law of the next token."""
        k, v = int(state[_COUNT][r]), int(state[EVENT][r, 1])
        grams = Grams(state[_TOKENS][r, :k].numpy(), state[_WEIGHT][r, :k].numpy())
        pseudocount = self.pseudocount if self.smoothing == "additive" else None
        settings = v, pseudocount, self.discount
        return _LAWS.get((grams.tokens, grams.count), settings, lambda: Law(grams, *settings))

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw n independent rows of each arm.

        At a temperature τ a token has the probability p^(1/τ) / Σ p^(1/τ) given those before it.
        """
        length = int(state[EVENT][0, 0])
        drawn = [
            self.law(state, r).sample(n, length, rng, temperature) for r, rng in enumerate(streams.numpy("latents"))
        ]
        return torch.from_numpy(np.stack(drawn))

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log probability of each row: the sum over its tokens up to the first edge, that one included."""
        found = [self.law(state, r).log_prob(rows.numpy(), scored(rows).numpy()) for r, rows in enumerate(x)]
        return torch.from_numpy(np.stack(found))
