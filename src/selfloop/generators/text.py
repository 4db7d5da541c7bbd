"""What networks that write text have in common: their loss, and how they draw token after token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.events import Kind
from selfloop.core.samples import Samples, State
from selfloop.core.sequences import scored
from selfloop.core.streams import Streams, generator
from selfloop.core.tokens import EDGE
from selfloop.engines.device import HERE, Device
from selfloop.generators.network import Draws, Net, NetworkModel
from selfloop.learning.training import EVENT, ROWS, Budget, averaged

_PROMPT = f"{ROWS}prompt"
_COUNT = f"{ROWS}count"

Writer = Callable[[Tensor], Tensor]
"""Maps the next tokens (B, T) of B rows to the logits (B, V) of the one after them."""


class TextModel(NetworkModel):
    """A generator of text, token by token.

    At a temperature τ a token has the probability p^(1/τ) / Σ p^(1/τ) given those before it; what ``top_k``, ``top_p``
    and ``min_p`` leave of that law, in this order and each of what the one before left, is normalised again.

    Attributes:
        top_k: how many tokens may follow, the most probable ones.
        top_p: how much probability they must have together: the fewest that do (Holtzman et al. 2020); 1 leaves all.
        min_p: the least probability of each, as a part of the greatest (Nguyen et al. 2025); 0 leaves all.
        prompt: with how many tokens of a training row a sample begins: the i-th sample with those of the i-th row.
    """

    top_k: PositiveInt | None = None
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    prompt: NonNegativeInt = 0

    makes: ClassVar[frozenset[Kind]] = frozenset(("text",))
    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "parameters", "devices", "temperature"))
    dtype: ClassVar[torch.dtype] = torch.int32

    @abstractmethod
    def write(self, net: Net, rows: int) -> tuple[Writer, Callable[[Tensor], None]]:
        """Return what writes ``rows`` rows, and what leaves some of them, (B,) bool, to be gone on with."""

    def refuse(self, x: Tensor) -> None:
        """Refuse rows that a prompt fills: nothing of them would be written.

        Raises:
            ValueError: so it is.
        """
        if self.prompt >= x.shape[1]:
            raise ValueError(f"rows of more than prompt = {self.prompt} tokens, of which these have {x.shape[1]}")

    def shape(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of a row of text, (L,)."""
        return tuple(space[:1])

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return untrained networks, which have no prompts."""
        return super().init(event, streams) | _prompts([torch.zeros(0, self.prompt)] * len(streams.seeds))

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Minimise the loss over each arm's rows, and keep their beginnings."""
        kept = [data.x[r, data.counting(r)[0], : self.prompt] for r in range(len(data.count))]
        return super().fit(state, data, budget, streams, device) | _prompts(kept)

    def prepare(self, events: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        """Return the rows (1, B, L)."""
        return (events,)

    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        """Return −log p of each row in nats, over the L places of a row: every token counts alike, wherever it is."""
        x = batch[0].to(net.device, non_blocking=True)
        return -net(x) / x.shape[-1]

    @torch.no_grad()
    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log probability of each row: the sum over its tokens up to the first edge, that one included.

        It is of the model itself, at temperature 1 and with all tokens, in float32.
        """
        found = torch.empty(x.shape[:2], dtype=torch.float64)
        for r, rows in enumerate(x):
            one = {name: leaf[r : r + 1] for name, leaf in averaged(state).items()}
            net = self.model_copy(update={"precision": "float32"}).network(one, tuple(state[EVENT][r].tolist()))
            order = scored(rows).sum(1).argsort()  # rows of one length together: a short one is as dear as the longest
            for some in torch.split(order, self.sample_batch):
                found[r, some] = net(rows[some].unsqueeze(0))[0].double()
        return found

    def draw(self, net: Net, streams: Streams, rows: range, state: State, temperature: float) -> Tensor:
        """Return rows (1, B, L), each by uniform numbers of its own stream, float64."""
        (seed,), length = streams.seeds, int(state[EVENT][0, 0])
        u = np.stack([generator(seed, streams.generation, "latents", row).random(length) for row in rows])
        numbers = torch.from_numpy(u).to(net.device)
        x = torch.full((len(rows), length), EDGE, dtype=torch.int64, device=net.device)
        begun = torch.full((len(rows), 1), EDGE, dtype=torch.int64, device=net.device)
        if prompts := int(state[_COUNT][0]) if self.prompt else 0:
            x[:, : self.prompt] = state[_PROMPT][0, torch.tensor(rows) % prompts].to(x)
            begun = torch.cat([begun, x[:, : self.prompt]], 1)
        start = begun.shape[1] - 1
        live = torch.arange(len(rows), device=net.device)[(x[:, :start] != EDGE).all(1)]
        write, keep = self.write(net, len(live))
        following, on = begun[live], torch.ones(len(live), dtype=torch.bool, device=net.device)
        sound, going = torch.ones((), dtype=torch.bool, device=net.device), len(live)
        for i in range(start, length):
            if not going:
                break
            logits = write(following)
            sound &= torch.isfinite(logits).all()
            token = self._chosen(logits.double(), numbers[live, i], temperature).masked_fill(~on, EDGE)
            x[live, i], on = token, token != EDGE
            going = int(on.sum())
            if going < 0.75 * len(on):  # to leave rows that have ended costs a copy of all that the others hold
                keep(on)
                live, token, on = live[on], token[on], on[on]
            following = token.unsqueeze(1)
        return x.double().masked_fill(~sound, torch.nan).unsqueeze(0)

    def _chosen(self, logits: Tensor, u: Tensor, temperature: float) -> Tensor:
        """Return tokens (B,) drawn from the laws of logits (B, V) by uniform numbers (B,)."""
        p = (logits / temperature).softmax(1)
        if self.top_k is not None and self.top_k < p.shape[1]:
            p = torch.where(p >= p.topk(self.top_k).values[:, -1:], p, 0.0)
        if self.top_p < 1:
            p = p / p.sum(1, keepdim=True)
            sorted_p, order = p.sort(dim=1, descending=True, stable=True)
            more = sorted_p.cumsum(1) - sorted_p >= self.top_p  # what comes before is enough
            p = p.masked_fill(torch.zeros_like(more).scatter_(1, order, more), 0.0)
        if self.min_p > 0:
            p = torch.where(p >= self.min_p * p.amax(1, keepdim=True), p, 0.0)
        edges = p.cumsum(1)
        at = torch.searchsorted(edges, u.unsqueeze(1) * edges[:, -1:], right=True).squeeze(1)
        return at.clamp_max(logits.shape[1] - 1)

    def finish(self, x: Tensor) -> Tensor:
        """Return tokens as int32."""
        return x.to(self.dtype)


def _prompts(rows: Sequence[Tensor]) -> State:
    """Return the leaves of the beginnings of each arm's rows, (n, prompt)."""
    if not rows[0].shape[1]:
        return {}
    padded = torch.nn.utils.rnn.pad_sequence([each.to(torch.int32) for each in rows], batch_first=True)
    return {_PROMPT: padded, _COUNT: torch.tensor([len(each) for each in rows])}
