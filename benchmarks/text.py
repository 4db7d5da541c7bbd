"""A small GPT: training steps beside plain code and transformers' GPT-2, and sampling beside ``generate``.

The plain code is written as nanoGPT is: modules, whole blocks, logits at every place, torch's fused AdamW. transformers
is a peer where it is installed (extra ``lm``), with its GPT-2 of the same size in a loop as short as that.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import Row, compare
from selfloop.core.samples import Samples
from selfloop.core.sequences import before, ended, scored
from selfloop.core.streams import Streams
from selfloop.generators import GPT
from selfloop.learning.training import Budget

STREAMS = Streams((0,))


@dataclass(frozen=True)
class Case:
    """What is trained: rows of ``length`` tokens out of ``vocabulary``, ``ends`` of which end a row."""

    words: str
    length: int
    vocabulary: int
    ends: float
    layers: int
    width: int
    batch: int
    steps: int  # in a call

    def rows(self, n: int = 2000) -> Tensor:
        """Return rows (n, L)."""
        rng = torch.Generator().manual_seed(0)
        x = torch.randint(1, self.vocabulary, (n, self.length), generator=rng)
        edges = torch.rand(x.shape, generator=rng) < self.ends
        return ended(x.masked_fill(edges, 0)).to(torch.int32)

    def generator(self) -> GPT:
        """Return a GPT of this size."""
        return GPT(layers=self.layers, width=self.width, heads=4, batch_size=self.batch)


CASES = (
    Case("blocks of 128 characters", 128, 97, 0.0, 4, 128, 32, 3),
    Case("names of 7 of 16 places", 16, 30, 0.14, 4, 64, 128, 10),
)


class Block(nn.Module):
    """One block of nanoGPT's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.wide, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to as much."""
        b, t, w = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(w, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).contiguous().view(b, t, w))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class Plain(nn.Module):
    """The whole network."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.token = nn.Embedding(case.vocabulary, case.width)
        self.position = nn.Embedding(case.length, case.width)
        self.blocks = nn.Sequential(*(Block(case.width, 4) for _ in range(case.layers)))
        self.norm = nn.LayerNorm(case.width, bias=False)
        self.head = nn.Linear(case.width, case.vocabulary, bias=False)
        self.head.weight = self.token.weight

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, T, V) of tokens (B, T)."""
        h = self.token(x) + self.position(torch.arange(x.shape[1]))
        out: Tensor = self.head(self.norm(self.blocks(h)))
        return out


def ours(case: Case) -> Callable[[], object]:
    """Return a call that takes steps as the loop does."""
    model, data = case.generator(), Samples.full(case.rows().unsqueeze(0), born=0)
    state = model.init((case.length, case.vocabulary), STREAMS)
    return lambda: model.fit(state, data, Budget(steps=case.steps), STREAMS)


def theirs(case: Case, network: nn.Module, logits: Callable[[Any], Tensor]) -> Callable[[], None]:
    """Return a call that takes as many steps of plain code."""
    x = case.rows().long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    network.train()

    def run() -> None:
        for _ in range(case.steps):
            rows = x[torch.randint(len(x), (case.batch,))]
            target = rows.masked_fill(~scored(rows), -1)
            out = logits(network(before(rows)))
            loss = F.cross_entropy(out.view(-1, out.shape[-1]), target.view(-1), ignore_index=-1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return run


def gpt2(case: Case) -> Any:
    """Return transformers' GPT-2 of this size."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=case.vocabulary,
        n_positions=case.length + 1,
        n_embd=case.width,
        n_layer=case.layers,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def rows() -> Iterator[Row]:
    """Yield the comparisons."""
    there = importlib.util.find_spec("transformers") is not None
    for case in CASES:
        size = f"{case.layers} × {case.width}, batch {case.batch}, V = {case.vocabulary}"
        tokens = case.batch * case.length * case.steps
        peers: dict[str, Callable[[], None]] = {"plain modules, fused AdamW": theirs(case, Plain(case), lambda y: y)}
        if there:
            peers["transformers' GPT-2 in the same loop"] = theirs(case, gpt2(case), lambda y: y.logits)
        for name, peer in peers.items():
            yield compare(
                f"GPT step, a place of a row: {case.words}, {size}", ours(case), name, peer, per=tokens, peer_per=tokens
            )
        if there:
            yield sampling(case, size)


def sampling(case: Case, size: str) -> Row:
    """Return how long 64 rows take, a row."""
    n, model, peer = 64, case.generator(), gpt2(case).eval()
    state, begin = model.init((case.length, case.vocabulary), STREAMS), torch.zeros(n, 1, dtype=torch.int64)
    mask = torch.ones_like(begin)

    def generate() -> None:
        with torch.inference_mode():
            peer.generate(begin, attention_mask=mask, max_new_tokens=case.length, do_sample=True, top_k=0)

    return compare(
        f"64 samples, a sample: {case.words}, {size}",
        lambda: model.sample(state, n, STREAMS),
        "transformers' generate, with cache",
        generate,
        per=n,
        peer_per=n,
        rounds=5,
    )
