"""Networks of numbers on rows with categories: what their head says, and what becomes of samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.data.arrays import array
from selfloop.experiment import Experiment
from selfloop.generators import DDPM, OTCFM
from selfloop.generators.base import Generator
from selfloop.generators.ensemble import Ensemble
from selfloop.learning.head import Head
from selfloop.learning.training import CATEGORY, Budget
from selfloop.runner import run

CATEGORIES = (range(1, 2), range(2, 5), range(5, 8), range(9, 11))
D = 12
NUMBERS = [0, 8, 11]
STREAMS = Streams((3, 1, 4))
NETWORKS = [
    OTCFM(batch_size=64),
    OTCFM(batch_size=64, solver="euler", solver_steps=20),
    DDPM(batch_size=64, width=64, timesteps=20),
]


def rows(n: int = 200, streams: Streams = STREAMS) -> Samples:
    """Return (R, n, 12) rows: three numbers, one of them rarely missing, and three categories."""
    z = streams.normal("rows", (n, 4), dtype=torch.float64).float()
    first = (z[..., 0] > 0).long() + (z[..., 0] > 1.5).long()
    second = (first + (z[..., 1] > 1).long()) % 3
    x = torch.cat(
        [
            z[..., :1],
            (z[..., 3:] > 1.5).float(),
            F.one_hot(first, 3).float(),
            F.one_hot(second, 3).float(),
            z[..., 1:2],
            F.one_hot((z[..., 2] > 0).long(), 2).float(),
            z[..., 2:3] + 3 * (first == 2).float().unsqueeze(2),
        ],
        2,
    )
    return replace(Samples.full(x, 0), categories=CATEGORIES)


def drawn(generator: Generator, n: int, steps: int, data: Samples | None = None) -> Tensor:
    state = generator.init((D,), STREAMS)
    return generator.sample(
        generator.fit(state, rows() if data is None else data, Budget(steps=steps), STREAMS), n, STREAMS
    )


class TestHead:
    head = Head(CATEGORIES, D)

    def test_probabilities_are_those_of_softmax_and_numbers_stay(self) -> None:
        outputs = STREAMS.normal("outputs", (7, D))
        found = self.head.mean(outputs)
        assert torch.equal(found[..., NUMBERS], outputs[..., NUMBERS])
        assert torch.allclose(found[..., 1], outputs[..., 1].sigmoid())
        for category in CATEGORIES[1:]:
            assert torch.allclose(found[..., list(category)], outputs[..., list(category)].softmax(-1))
        assert self.head.numbers.nonzero().flatten().tolist() == NUMBERS

    def test_losses_are_torchs(self) -> None:
        outputs, target = (STREAMS.normal(name, (7, D)) for name in ("outputs", "target"))
        x = rows(7).x
        found = self.head.loss(outputs, target, x)
        assert torch.equal(found[..., NUMBERS], (outputs - target).square()[..., NUMBERS])
        assert torch.allclose(
            found[..., 1], F.binary_cross_entropy_with_logits(outputs[..., 1], x[..., 1], reduction="none")
        )
        for category in CATEGORIES[1:]:
            at = list(category)
            loss = F.cross_entropy(outputs[..., at].flatten(0, 1), x[..., at].flatten(0, 1), reduction="none")
            assert torch.allclose(found[..., at].sum(-1).flatten(), loss, atol=1e-6)

    def test_far_logits_have_finite_losses_and_gradients(self) -> None:
        outputs = (100 * STREAMS.normal("outputs", (7, D))).requires_grad_()
        loss = self.head.loss(outputs, torch.zeros_like(outputs), rows(7).x)
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert torch.isfinite(outputs.grad).all()  # type: ignore[arg-type]

    def test_levels_are_drawn_by_their_probabilities(self) -> None:
        p = self.head.mean(STREAMS.normal("outputs", (1, D))).expand(3, 20_000, D)
        x = self.head.drawn(p, STREAMS.uniform("levels", (20_000, len(CATEGORIES))))
        assert torch.equal(x[..., NUMBERS], p[..., NUMBERS])
        assert ((x == 0) | (x == 1))[..., 1:8].all()
        assert all((x[..., list(category)].sum(-1) == 1).all() for category in CATEGORIES[1:])
        assert torch.allclose(x.mean(1), p[:, 0], atol=0.015)

    def test_levels_of_probability_0_are_never_drawn(self) -> None:
        p = torch.zeros(1, 5, D)
        p[..., [3, 7, 9]] = 1
        for u in (0.0, 0.5, 1 - 2**-24):
            assert torch.equal(self.head.drawn(p, torch.full((1, 5, len(CATEGORIES)), u)), p)

    def test_what_is_not_finite_is_not_drawn_away(self) -> None:
        assert torch.isnan(self.head.drawn(torch.full((1, 2, D), torch.nan), torch.zeros(1, 2, 4))).all()

    def test_without_categories_it_is_the_squared_error(self) -> None:
        outputs, target = (STREAMS.normal(name, (7, D)) for name in ("outputs", "target"))
        head = Head((), D)
        assert torch.equal(head.loss(outputs, target, target), (outputs - target).square())
        assert head.mean(outputs) is outputs
        assert head.numbers.all()

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=6), st.integers(0, 3))
    def test_any_order_of_columns_is_read_by_the_column(self, columns: list[tuple[int, int]], last: int) -> None:
        categories, at = [], 0
        for numbers, levels in columns:
            categories.append(range(at + numbers, at + numbers + levels))
            at = categories[-1].stop
        if at + last == 0:
            return
        head, outputs = Head(tuple(categories), at + last), Streams((1,)).normal("outputs", (3, at + last))
        found, numbers = head.mean(outputs), torch.ones(at + last, dtype=torch.bool)
        for category in categories:
            own = outputs[..., list(category)]
            expected = own.sigmoid() if len(category) == 1 else own.softmax(-1)
            assert torch.allclose(found[..., list(category)], expected)
            numbers[list(category)] = False
        assert torch.equal(head.numbers, numbers)
        assert torch.equal(found[..., numbers], outputs[..., numbers])


@pytest.mark.parametrize("generator", NETWORKS, ids=lambda g: f"{g.name}-{getattr(g, 'solver', '')}")
@pytest.mark.usefixtures("as_in_a_worker")
class TestNetworks:
    @pytest.mark.slow
    def test_shares_and_dependence_are_those_of_the_rows(self, generator: Generator) -> None:
        real, x = rows().x, drawn(generator, 300, 200)
        assert torch.isfinite(x).all()
        for category in CATEGORIES[1:]:
            at = list(category)
            shares = F.one_hot(x[..., at].argmax(-1), len(at)).float().mean((0, 1))
            assert (shares - real[..., at].mean((0, 1))).abs().sum() / 2 < 0.12
        third = x[..., 2:5].argmax(-1) == 2
        assert x[..., 11][third].mean() - x[..., 11][~third].mean() > 1.5  # 3 in the rows
        assert torch.equal(Head(CATEGORIES, D).drawn(x, torch.full((3, 300, 4), 0.5)), x)  # levels are drawn already
        if isinstance(generator, OTCFM):
            assert abs(x[..., 1].mean() - real[..., 1].mean()) < 0.03  # a rare one

    def test_rows_of_numbers_have_the_bits_that_they_had(self, generator: Generator) -> None:
        data = replace(rows(), categories=())
        one_hot = generator.model_copy(update={"categories": "one-hot"})  # type: ignore[attr-defined]
        assert torch.equal(drawn(generator, 9, 5, data), drawn(one_hot, 9, 5, data))
        assert torch.equal(drawn(one_hot, 9, 5, data), drawn(one_hot, 9, 5))
        assert not torch.equal(drawn(generator, 9, 5), drawn(one_hot, 9, 5))

    def test_arms_do_not_see_their_neighbours(self, generator: Generator) -> None:
        state = generator.fit(generator.init((D,), STREAMS), rows(), Budget(steps=9), STREAMS)
        x = generator.sample(state, 33, STREAMS)
        for r, seed in enumerate(STREAMS.seeds):
            own = Streams((seed,))
            alone = generator.fit(generator.init((D,), own), rows(streams=own), Budget(steps=9), own)
            assert all(torch.equal(leaf, state[name][r : r + 1]) for name, leaf in alone.items())
            assert torch.equal(generator.sample(alone, 33, own), x[r : r + 1])

    def test_the_state_tells_of_categories_where_there_is_a_head(self, generator: Generator) -> None:
        start = generator.init((D,), STREAMS)
        assert generator.fit(start, rows(), Budget(steps=0), STREAMS)[CATEGORY].shape == (3, D)
        assert CATEGORY not in generator.fit(start, replace(rows(), categories=()), Budget(steps=1), STREAMS)


class TestDensity:
    def test_there_is_none_to_levels(self) -> None:
        generator = OTCFM()
        state = generator.fit(generator.init((D,), STREAMS), rows(), Budget(steps=1), STREAMS)
        with pytest.raises(ConfigError, match=r"otcfm has no log_prob .* let its categories be one-hot"):
            generator.log_prob(state, rows().x)
        one_hot = OTCFM(categories="one-hot")
        state = one_hot.fit(one_hot.init((D,), STREAMS), rows(), Budget(steps=1), STREAMS)
        assert one_hot.log_prob(state, rows(3).x).shape == (3, 3)

    @pytest.mark.parametrize(
        "more", [{"metrics": ["nll"]}, {"mixing": {"name": "curated", "reward": "likelihood", "k": 2}}]
    )
    @pytest.mark.parametrize("generator", [OTCFM(), Ensemble(of=OTCFM())], ids=["alone", "ensemble"])
    def test_what_needs_it_is_refused_before_a_fit(self, generator: Generator, more: Any, tmp_path: Path) -> None:
        table = {"x": np.random.default_rng(0).normal(size=60), "word": np.array(["ab"[i % 2] for i in range(60)])}
        plain = {"name": "t", "generations": 1, "budget": {"steps": 1}, "metrics": ["mean_error"]} | more
        words = array(pd.DataFrame(table))
        with pytest.raises(ConfigError, match=r"needs log_prob, which generator \w+ does not have on .* one-hot$"):
            next(run(Experiment.build(plain | {"data": words, "generator": generator}), tmp_path / "out"))
        assert not (tmp_path / "out").exists()
        numbers = array(np.random.default_rng(0).normal(size=(60, 3)))
        next(run(Experiment.build(plain | {"data": numbers, "generator": generator}), tmp_path / "out"))
