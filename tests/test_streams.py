"""Random streams: keyed, independent of each other and of how draws are batched; budgets and batches built on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams, generator
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import EMA, Batches, Blocks, Budget, fresh, train
from selfloop.mixing.augment import Augment
from selfloop.mixing.base import Pool


def test_equal_keys_give_equal_numbers_and_any_other_key_does_not() -> None:
    base = Streams((1, 2), 3).normal("noise", (50,), 4)
    assert torch.equal(base, Streams((1, 2), 3).normal("noise", (50,), 4))
    for other in (
        Streams((1, 2), 4).normal("noise", (50,), 4),
        Streams((1, 2), 3).normal("noises", (50,), 4),
        Streams((1, 2), 3).normal("noise", (50,), 5),
        Streams((5, 6), 3).normal("noise", (50,), 4),
    ):
        assert not (base == other).any()
    assert not (base[0] == base[1]).any()


def test_keys_do_not_run_into_each_other() -> None:
    assert generator(1, 23, "a").random() != generator(12, 3, "a").random()


def test_an_arm_draws_the_same_alone_and_in_a_stack() -> None:
    stack, alone = Streams((4, 9), 2), Streams((9,), 2)
    assert torch.equal(stack.normal("a", (7, 2))[1:], alone.normal("a", (7, 2)))
    assert torch.equal(stack.uniform("a", (7,))[1:], alone.uniform("a", (7,)))
    assert torch.equal(stack.integers("a", 10, (7,))[1:], alone.integers("a", 10, (7,)))
    assert np.array_equal(stack.permutations("a", [5, 6])[1], alone.permutations("a", [6])[0])


def test_moments() -> None:
    """Mean, variance and range of 400,000 numbers within 5 standard errors: 6e-7 each, were the seeds not fixed."""
    n = 400_000
    x, u = Streams((0,)).normal("m", (n,)).double(), Streams((0,)).uniform("m", (n,)).double()
    assert abs(float(x.mean())) < 5 / math.sqrt(n)
    assert abs(float(x.var()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float(u.mean()) - 0.5) < 5 / math.sqrt(12 * n)
    assert float(u.min()) >= 0
    assert float(u.max()) < 1


@given(st.decimals(0, 20, places=3), st.integers(1, 10_000))
def test_floor_of_lambda_n_takes_lambda_as_it_is_written(lam: object, n: int) -> None:
    thousandths = int(lam * 1000)  # type: ignore[operator]
    assert Augment(lam=float(lam)).synthetic(n) == thousandths * n // 1000  # type: ignore[arg-type]


def test_twenty_nine_percent_of_a_hundred() -> None:
    assert Augment(lam=0.29).synthetic(100) == 29
    assert Augment(lam=math.inf).synthetic(100) == 100


def test_too_few_synthetic_rows() -> None:
    rows = Samples.full(torch.zeros(1, 4, 2), 0)
    with pytest.raises(ConfigError, match="asks for 8 samples of generation 0, which has 4"):
        Augment(lam=2)(1, Pool(1, rows, Streams((0,), 1), lambda t: rows))


class TestBudget:
    def test_exactly_one(self) -> None:
        for settings in ({}, {"samples": 3, "steps": 2}, {"samples": 1, "epochs": 1.0, "steps": 1}):
            with pytest.raises(ValueError, match="exactly one"):
                Budget(**settings)

    def test_an_epoch_is_one_of_the_real_set(self) -> None:
        assert Budget(epochs=150).resolve(1000).count(256) == 586
        assert Budget(samples=1_000_000).resolve(50_000).count(128) == 7813
        assert Budget(steps=5).resolve(1000).count(256) == 5
        with pytest.raises(ConfigError, match="resolve"):
            Budget(epochs=1).count(10)


class TestBatches:
    def data(self) -> Samples:
        x = torch.arange(40.0).reshape(2, 20, 1)
        return Samples(x=x, born=torch.zeros(2, 20, dtype=torch.int16), count=torch.tensor([20, 12]))

    def test_every_epoch_sees_every_row_once(self) -> None:
        batches = Batches(self.data(), 8, Streams((3, 4)))
        seen = torch.cat([batches[step] for step in range(15)], 1)[..., 0]  # 120 rows: 6 and 10 epochs
        for r, (count, first) in enumerate([(20, 0), (12, 20)]):
            for epoch in seen[r].reshape(-1, count):
                assert sorted(epoch.tolist()) == list(range(first, first + count))

    def test_any_step_can_be_asked_for_first(self) -> None:
        forward = Batches(self.data(), 8, Streams((3, 4)))
        steps = [forward[step] for step in range(9)]
        assert torch.equal(Batches(self.data(), 8, Streams((3, 4)))[8], steps[8])

    def test_a_batch_may_be_larger_than_the_data(self) -> None:
        assert Batches(self.data(), 50, Streams((3, 4)))[0].shape == (2, 50, 1)


def test_blocks_do_not_depend_on_the_order_of_asking() -> None:
    streams = Streams((0, 1))
    forward = Blocks(lambda shape, i: streams.normal("b", shape, i), (300, 100))
    steps = [forward[s] for s in range(6)]
    assert torch.equal(Blocks(lambda shape, i: streams.normal("b", shape, i), (300, 100))[5], steps[5])
    assert not torch.equal(steps[0], steps[1])


class TestTrain:
    """One copy against plain PyTorch; a quadratic bowl whose gradient is known."""

    target = torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64)

    def bowl(self, params: dict[str, torch.Tensor], step: int) -> torch.Tensor:
        return ((params["w"] - self.target) ** 2).sum(1) * (1 + step % 3)

    def start(self, ema: bool = False) -> dict[str, torch.Tensor]:
        return fresh({"w": torch.zeros(2, 2, dtype=torch.float64)}, ema)

    @pytest.mark.parametrize("clip", [None, 0.7])
    def test_equals_adam_on_each_copy_alone(self, clip: float | None) -> None:
        ours = train(self.start(), self.bowl, steps=25, adam=Adam(learning_rate=0.05, beta1=0.5, clip=clip))
        for r in range(2):
            w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
            optimizer = torch.optim.Adam([w], lr=0.05, betas=(0.5, 0.999))
            for step in range(25):
                optimizer.zero_grad()
                (((w - self.target[r]) ** 2).sum() * (1 + step % 3)).backward()
                if clip is not None:
                    torch.nn.utils.clip_grad_norm_([w], clip)
                optimizer.step()
            assert torch.allclose(ours["w"][r], w.detach(), rtol=1e-12, atol=1e-15)

    def test_two_fits_are_one(self) -> None:
        adam = Adam(learning_rate=0.05)
        plain = lambda params, step: ((params["w"] - self.target) ** 2).sum(1)  # noqa: E731
        whole = train(self.start(), plain, steps=10, adam=adam)
        half = train(train(self.start(), plain, steps=4, adam=adam), plain, steps=6, adam=adam)
        assert torch.equal(whole["w"], half["w"])
        assert half["optimizer.step"].tolist() == [10, 10]

    def test_the_average_ramps_up_over_all_steps_ever_taken(self) -> None:
        adam, decay = Adam(learning_rate=0.05), 0.9
        state, w, shadow = self.start(ema=True), [], torch.zeros(2, 2, dtype=torch.float64)
        for step in range(8):
            state = train(state, self.bowl, steps=1, adam=adam, ema=EMA(decay=decay, growing=True))
            w.append(state["w"])
            keep = min(decay, (1 + step) / (10 + step))
            shadow = keep * shadow + (1 - keep) * state["w"]
            assert torch.allclose(state["ema.w"], shadow, rtol=1e-12)

    def test_a_nan_stays_in_its_copy(self) -> None:
        def sick(params: dict[str, torch.Tensor], step: int) -> torch.Tensor:
            return self.bowl(params, step) * torch.tensor([1.0, math.nan if step == 2 else 1.0])

        adam = Adam(learning_rate=0.05, clip=0.5)
        well, ill = (train(self.start(), f, steps=5, adam=adam) for f in (self.bowl, sick))
        assert torch.equal(well["w"][0], ill["w"][0])
        assert torch.isnan(ill["w"][1]).all()

    def test_no_steps_change_nothing(self) -> None:
        state = self.start()
        after = train(state, self.bowl, steps=0, adam=Adam())
        assert all(torch.equal(state[k], after[k]) for k in state)
