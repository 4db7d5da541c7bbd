"""The small GPT: a law whose probabilities sum to 1, rows that are drawn from it, whatever is drawn beside them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from selfloop.core.samples import Samples, State
from selfloop.core.sequences import before, ended
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS
from selfloop.generators.gpt import GPT
from selfloop.learning.nets import gpt as nets
from selfloop.learning.training import Budget, averaged

STREAMS = Streams((0,))
SPACE = (4, 4)


def model(**settings: Any) -> GPT:
    return GENERATORS.parse({"name": "gpt", "layers": 2, "width": 16, "heads": 2, "batch_size": 16} | settings)  # type: ignore[no-any-return]


def untrained(generator: GPT, space: tuple[int, int] = SPACE) -> State:
    """Return a state of large weights, so that its laws are far from uniform."""
    state = generator.init(space, STREAMS)
    return {
        k: 8 * v if k in averaged(state) and not k.endswith(("norm", "norm1", "norm2")) else v for k, v in state.items()
    }


def all_rows(length: int = SPACE[0], v: int = SPACE[1]) -> Tensor:
    return torch.unique(ended(torch.tensor(list(itertools.product(range(v), repeat=length)), dtype=torch.int32)), dim=0)


def laws(generator: GPT, state: State, rows: Tensor) -> Tensor:
    """Return the logits (B, L, V) of every token of rows, by the network alone and at once."""
    size = generator.architecture(SPACE)
    copy = {k: v.squeeze(0) for k, v in averaged(state).items()}
    h = nets._hidden(copy, size, before(rows.long()))
    return (h @ copy["token"].T).view(*rows.shape, -1)


class TestGPT:
    def test_probabilities_of_all_rows_sum_to_1_and_are_those_of_the_whole_network(self) -> None:
        generator, rows = model(), all_rows()
        state = untrained(generator)
        found = generator.log_prob(state, rows.unsqueeze(0))[0]
        assert float(found.exp().sum()) == pytest.approx(1, abs=1e-5)
        each = laws(generator, state, rows).log_softmax(-1).gather(-1, rows.long().unsqueeze(-1)).squeeze(-1)
        for row, value, want in zip(rows.tolist(), found.tolist(), each, strict=True):
            last = row.index(0) + 1 if 0 in row else len(row)
            assert value == pytest.approx(float(want[:last].sum()), abs=1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("settings", "temperature"),
        [({}, 1.0), ({}, 0.6), ({"top_k": 2}, 1.0), ({"top_p": 0.7}, 1.3), ({"min_p": 0.4}, 1.0), ({"prompt": 2}, 1.0)],
    )
    def test_samples_are_of_the_law_that_is_asked_for(self, settings: dict[str, Any], temperature: float) -> None:
        generator, rows, n = model(**settings, sample_batch=4096), all_rows(), 12_000
        state = untrained(generator)
        p = (laws(generator, state, rows).double() / temperature).softmax(-1)
        greatest = p.sort(-1, descending=True).values
        if "top_k" in settings:
            p = p * (p >= greatest[..., 1:2])
        if "top_p" in settings:
            enough = (greatest.cumsum(-1) >= settings["top_p"]).int().argmax(-1, keepdim=True)
            p = p * (p >= greatest.gather(-1, enough))
        if "min_p" in settings:
            p = p * (p >= settings["min_p"] * greatest[..., :1])
        p = p / p.sum(-1, keepdim=True)
        begin = 0
        if "prompt" in settings:
            begin = 2
            state |= {"rows.prompt": torch.tensor([[[2, 1]]], dtype=torch.int32), "rows.count": torch.tensor([1])}
        law = {}
        for row, each in zip(rows.tolist(), p, strict=True):
            last = row.index(0) + 1 if 0 in row else len(row)
            if begin and row[:2] != [2, 1]:
                continue
            law[tuple(row)] = math.prod(float(each[i, row[i]]) for i in range(begin, last))
        assert sum(law.values()) == pytest.approx(1, abs=1e-5)
        drawn = Counter(map(tuple, generator.sample(state, n, STREAMS, temperature=temperature)[0].tolist()))
        assert all(law[row] > 0 for row in drawn)
        cells = [(drawn[row], n * q) for row, q in law.items() if n * q > 5]
        assert sum((k - m) ** 2 / m for k, m in cells) < len(cells) + 5 * math.sqrt(2 * len(cells))

    def test_a_row_has_a_stream_of_its_own(self) -> None:
        generator = model()
        state = untrained(generator, (12, 9))
        x = generator.sample(state, 40, STREAMS)
        assert torch.equal(generator.sample(state, 7, STREAMS), x[:, :7])
        assert torch.equal(model(sample_batch=3).sample(state, 40, STREAMS), x)
        assert torch.equal(ended(x), x)

    def test_it_learns(self) -> None:
        x = torch.tensor([[1, 2, 3, 1], [3, 3, 0, 0]], dtype=torch.int32).repeat(1, 20, 1)
        generator = model(optimizer={"learning_rate": 0.01})
        state = generator.fit(generator.init(SPACE, STREAMS), Samples.full(x, born=0), Budget(steps=150), STREAMS)
        assert generator.log_prob(state, x)[0, :2].tolist() == pytest.approx([math.log(0.5)] * 2, abs=0.1)
        assert float(state["loss"][0]) == pytest.approx(math.log(2) / 4, rel=0.2)
        drawn = {tuple(row) for row in generator.sample(state, 50, STREAMS)[0].tolist()}
        assert {(1, 2, 3, 1), (3, 3, 0, 0)} <= drawn

    def test_prompts_are_the_beginnings_of_training_rows_in_turn(self) -> None:
        x = torch.tensor([[[1, 2, 3, 1], [3, 0, 0, 0], [2, 2, 1, 0]]], dtype=torch.int32)
        generator = model(prompt=2)
        state = generator.fit(generator.init(SPACE, STREAMS), Samples.full(x, born=0), Budget(steps=1), STREAMS)
        drawn = generator.sample(state, 7, STREAMS)[0]
        assert torch.equal(drawn[:, :2], x[0, [0, 1, 2, 0, 1, 2, 0], :2])
        assert not drawn[1, 1:].any()  # that one ended with its prompt

    def test_what_ends_costs_and_counts_nothing_more(self) -> None:
        generator, x = model(), torch.tensor([[[1, 0, 0, 0], [2, 3, 1, 0]]], dtype=torch.int32)
        state, junk = untrained(generator), x.clone()
        junk[0, 0, 2:] = 3
        torch.testing.assert_close(generator.log_prob(state, junk), generator.log_prob(state, x))

    def test_heads_share_the_width(self) -> None:
        with pytest.raises(ValueError, match="width 30 cannot be split into 4 heads of one size"):
            GENERATORS.parse({"name": "gpt", "width": 30})
