"""The gradient loop: budgets, minibatches, and Adam, EMA and clipping against plain PyTorch, copy by copy."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from selfloop.core.errors import ConfigError, RunError
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import Checkpoint
from selfloop.generators import DDPM, OTCFM
from selfloop.learning.nets.mlp import time_mlp, time_mlp_init
from selfloop.learning.optimizer import Adam, Optimizer, Ramp
from selfloop.learning.training import EMA, Batches, Blocks, Budget, averaged, fresh, parameters, reset_optimizer, train

SEEDS = (0, 5, 9)
STEPS = 12


pytestmark = pytest.mark.usefixtures("as_in_a_worker")


# Budget


@pytest.mark.parametrize(
    "given",
    [{}, {"samples": 1, "steps": 1}, {"samples": 1, "epochs": 1.0, "steps": 1}]
    + [{key: value} for key in ("samples", "epochs") for value in (0, -1)]
    + [{"steps": -1}],
)
def test_a_budget_is_exactly_one_positive_number(given):
    with pytest.raises(ValidationError):
        Budget(**given)


@pytest.mark.parametrize(
    ("budget", "batch", "steps"),
    [
        (Budget(steps=7), 256, 7),
        (Budget(samples=1), 256, 1),
        (Budget(samples=256), 256, 1),
        (Budget(samples=257), 256, 2),
        (Budget(epochs=150), 256, 586),  # 150 · 1000 / 256 = 585.9
        (Budget(epochs=0.5), 100, 5),
        (Budget(epochs=1e-9), 100, 1),
    ],
)
def test_count(budget, batch, steps):
    assert budget.resolve(1000).count(batch) == steps


def test_epochs_are_of_the_real_set():
    assert Budget(epochs=3).resolve(50) == Budget(samples=150)
    for budget in (Budget(samples=9), Budget(steps=9)):
        assert budget.resolve(50) == budget
    with pytest.raises(ConfigError, match="resolve"):
        Budget(epochs=3).count(10)


# Blocks and Batches


def recorded() -> tuple[Callable[[tuple[int, ...], int], Tensor], list[int]]:
    streams, calls = Streams(seeds=SEEDS), []

    def draw(shape: tuple[int, ...], index: int) -> Tensor:
        calls.append(index)
        return streams.normal("noise", shape, index)

    return draw, calls


@pytest.mark.parametrize("shape", [(256, 2), (300, 40), (50_000, 2), (100_000,)])
def test_blocks_depend_on_the_step_alone(shape):
    draw, calls = recorded()
    blocks = Blocks(draw, shape)
    steps = [0, 1, 2, 5, 127, 128, 129, 300]
    forward = [blocks[step].clone() for step in steps]
    assert len(calls) == len(set(calls))  # each block is drawn once
    assert all(value.shape == (len(SEEDS), *shape) for value in forward)
    for a in range(len(steps)):
        assert not any(torch.equal(forward[a], forward[b]) for b in range(a))
    for step, value in reversed(list(zip(steps, forward, strict=True))):
        assert torch.equal(blocks[step], value)
        assert torch.equal(Blocks(recorded()[0], shape)[step], value)


def numbered(counts: list[int]) -> Samples:
    """Return arms whose row n of arm r is 1000 r + n, and whose padding is −1."""
    x = torch.full((len(counts), max(counts), 1), -1.0)
    for r, count in enumerate(counts):
        x[r, :count, 0] = 1000 * r + torch.arange(count)
    born = torch.zeros(x.shape[:2], dtype=torch.int16)
    return Samples(x=x, born=born, count=torch.tensor(counts))


COUNTS = [23, 7, 3]


@pytest.mark.parametrize("batch", [1, 4, 7, 10, 50])
def test_each_epoch_is_a_permutation(batch):
    batches = Batches(numbered(COUNTS), batch, Streams(seeds=SEEDS))
    seen = torch.cat([batches[step] for step in range(math.ceil(230 / batch))], dim=1).squeeze(-1)
    for r, count in enumerate(COUNTS):
        epochs = seen[r, : 210 // count * count].view(-1, count)
        rows = 1000.0 * r + torch.arange(count)
        assert (epochs.sort(1).values == rows).all()
        assert len(epochs.unique(dim=0)) > 1  # the order is fresh


@pytest.mark.parametrize("batch", [4, 50])
def test_batches_in_any_order(batch):
    data, streams = numbered(COUNTS), Streams(seeds=SEEDS)
    forward = [Batches(data, batch, streams)[step] for step in range(40)]
    walker = Batches(data, batch, streams)
    assert all(torch.equal(walker[step], forward[step]) for step in range(40))
    for step in [39, 0, 17, 16, 38, 17, 2]:
        assert torch.equal(walker[step], forward[step])
    assert forward[0].shape == (3, batch, 1)


def test_batches_of_an_arm_do_not_depend_on_its_neighbours():
    data = numbered(COUNTS)
    together = Batches(data, 5, Streams(seeds=SEEDS))
    for r in range(3):
        alone = Batches(data.select([r]), 5, Streams(seeds=(SEEDS[r],)))
        assert all(torch.equal(alone[step][0], together[step][r]) for step in range(20))


def test_generations_and_seeds_shuffle_differently():
    data = numbered([50, 50])
    orders = [Batches(data, 50, Streams(seeds=(0, 1), generation=t))[0].squeeze(-1) % 1000 for t in (0, 1)]
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0][0], orders[0][1])


# train


def problem(
    seeds: tuple[int, ...], dtype: torch.dtype = torch.float32, ema: bool = False
) -> tuple[State, Callable[[State, int], Tensor]]:
    """Return a regression of an MLP on fresh noise at every step, a loss per copy."""
    streams = Streams(seeds=seeds)
    params = {k: v.to(dtype) for k, v in time_mlp_init(streams, 2, 16).items()}

    def loss(params: State, step: int) -> Tensor:
        x, y = (streams.normal(name, (20, 2), step, dtype=dtype) for name in ("x", "y"))
        return (time_mlp(params, x, x[..., 0]) - 5 * y).square().mean((1, 2))

    return fresh(params, ema=ema), loss


def average(decay: float | None) -> EMA | None:
    return None if decay is None else EMA(decay=decay, growing=True)


def plain(seed: int, dtype: torch.dtype, adam: Adam, ema_decay: float | None = None) -> dict[str, Tensor]:
    """Run the textbook loop on one copy: torch.optim.Adam (not fused), clip_grad_norm_, an average by hand."""
    state, loss = problem((seed,), dtype)
    params = {k: v.clone().requires_grad_() for k, v in parameters(state).items()}
    optimizer = torch.optim.Adam(
        params.values(),
        lr=adam.learning_rate,
        betas=(adam.beta1, adam.beta2),
        eps=adam.epsilon,
        fused=False,
        foreach=False,
    )
    average, losses = {k: v.detach().clone() for k, v in params.items()}, []
    for step in range(STEPS):
        optimizer.zero_grad()
        value = loss(params, step)[0]
        value.backward()
        if adam.clip is not None:
            torch.nn.utils.clip_grad_norm_(params.values(), adam.clip)
        optimizer.step()
        losses.append(value.detach())
        if ema_decay is not None:
            decay = min(ema_decay, (1 + step) / (10 + step))
            average = {k: decay * v + (1 - decay) * params[k].detach() for k, v in average.items()}
    out = {k: v.detach() for k, v in params.items()}
    out |= {f"optimizer.{m}.{k}": optimizer.state[v][m] for k, v in params.items() for m in ("exp_avg", "exp_avg_sq")}
    out |= {f"ema.{k}": v for k, v in average.items()} if ema_decay is not None else {}
    out |= {"failed": torch.tensor([-1])}
    return out | {"optimizer.step": torch.tensor([float(STEPS)]), "loss": torch.stack(losses[-(STEPS // 5) :]).mean(0)}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("adam", "ema_decay"),
    [
        (Adam(), None),
        (Adam(learning_rate=0.02, beta1=0.5, beta2=0.99, epsilon=1e-6), None),
        (Adam(learning_rate=0.02), 0.9999),
        (Adam(learning_rate=0.02), 0.3),  # below the ramp after three steps
        (Adam(learning_rate=0.02, clip=1.0), None),
        (Adam(learning_rate=0.02, clip=7.0), 0.99),  # clips some steps of some copies only
        (Adam(clip=1e6), None),
    ],
)
def test_train_is_the_textbook_loop_on_every_copy(dtype, tolerance, adam, ema_decay):
    state, loss = problem(SEEDS, dtype, ema=ema_decay is not None)
    trained = train(state, loss, steps=STEPS, adam=adam, ema=average(ema_decay))
    for r, seed in enumerate(SEEDS):
        expected = plain(seed, dtype, adam, ema_decay)
        assert trained.keys() == expected.keys()
        for name, value in expected.items():
            ours = trained[name][r].double()
            # The step and the loss are kept in float32.
            bound = (1e-5 if trained[name].dtype == torch.float32 else tolerance) * max(1.0, float(value.abs().max()))
            torch.testing.assert_close(ours, value.double().reshape(ours.shape), rtol=0, atol=bound)


def test_the_clipping_above_clips_some_steps_of_some_copies():
    state, loss = problem(SEEDS)
    leaves = {k: v.requires_grad_() for k, v in parameters(state).items()}
    norms = []
    for step in range(STEPS):
        gradients = torch.autograd.grad(loss(leaves, step).sum(), list(leaves.values()))
        norms.append(torch.cat([g.flatten(1) for g in gradients], 1).norm(dim=1))
    clipped = torch.stack(norms) > 7
    assert clipped.any()
    assert not clipped.all()
    assert (clipped.any(1) & ~clipped.all(1)).any()


def test_ema_ramps_over_all_steps_ever_taken():
    state, loss = problem(SEEDS, torch.float64, ema=True)
    first = train(state, loss, steps=3, adam=Adam(), ema=average(0.9999))
    second = train(first, lambda p, step: loss(p, step + 3), steps=1, adam=Adam(), ema=average(0.9999))
    for name in parameters(state):
        expected = (4 / 13) * first[f"ema.{name}"] + (9 / 13) * second[name]
        torch.testing.assert_close(second[f"ema.{name}"], expected, rtol=1e-12, atol=1e-14)
        assert torch.equal(averaged(second)[name], second[f"ema.{name}"])


@pytest.mark.parametrize("ema_decay", [None, 0.99])
def test_two_fits_are_one(ema_decay):
    state, loss = problem(SEEDS, ema=ema_decay is not None)
    adam = Adam(learning_rate=0.02, clip=7.0)
    whole = train(state, loss, steps=STEPS, adam=adam, ema=average(ema_decay))
    half = train(state, loss, steps=5, adam=adam, ema=average(ema_decay))
    rest = train(half, lambda p, step: loss(p, step + 5), steps=STEPS - 5, adam=adam, ema=average(ema_decay))
    assert all(torch.equal(whole[name], rest[name]) for name in whole if name != "loss")
    # A state that comes back from a file has its leaves in another order.
    shuffled = train(dict(reversed(state.items())), loss, steps=STEPS, adam=adam, ema=average(ema_decay))
    assert all(torch.equal(whole[name], shuffled[name]) for name in whole)


def test_no_step_changes_nothing():
    state, loss = problem(SEEDS, ema=True)
    state = train(state, loss, steps=2, adam=Adam(), ema=average(0.9))
    same = train(state, loss, steps=0, adam=Adam(), ema=average(0.9))
    assert same.keys() == state.keys()
    assert all(torch.equal(same[name], state[name]) for name in state)


def test_the_given_state_is_left_as_it_was():
    state, loss = problem(SEEDS, ema=True)
    state = train(state, loss, steps=2, adam=Adam(), ema=average(0.9))
    before = {name: value.clone() for name, value in state.items()}
    trained = train(state, loss, steps=3, adam=Adam(clip=1.0), ema=average(0.9))
    assert all(torch.equal(state[name], before[name]) for name in state)
    assert not any(value.requires_grad for value in (state | trained).values())
    memory = {value.data_ptr() for value in state.values()}
    assert not any(value.data_ptr() in memory for value in trained.values())


def test_reset_optimizer():
    state, loss = problem(SEEDS, ema=True)
    trained = train(state, loss, steps=3, adam=Adam(), ema=average(0.9))
    again = reset_optimizer(trained)
    for name in trained:
        kept = torch.zeros_like(trained[name]) if name.startswith("optimizer.") else trained[name]
        assert torch.equal(again[name], kept)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_nan_stays_in_its_copy(clip):
    state, loss = problem(SEEDS, ema=True)

    def ill(params: State, step: int) -> Tensor:
        return loss(params, step) * torch.tensor([1.0, torch.nan if step == 4 else 1.0, 1.0])

    sound, spoilt = (
        train(state, f, steps=STEPS, adam=Adam(learning_rate=0.02, clip=clip), ema=average(0.9)) for f in (loss, ill)
    )
    for name in sound:
        assert torch.equal(sound[name][[0, 2]], spoilt[name][[0, 2]])
        assert name in ("optimizer.step", "failed") or spoilt[name][1].isnan().all()
    assert spoilt["failed"].tolist() == [-1, 4, -1]


# Whole fits

GENERATORS = {
    "otcfm": OTCFM(),
    "otcfm with noise, EMA and clipping": OTCFM(sigma=0.1, ema=average(0.99), optimizer=Adam(clip=0.5), batch_size=100),
    "ddpm": DDPM(),
    "ddpm with EMA and clipping": DDPM(ema=average(0.99), optimizer=Adam(clip=0.5), batch_size=100, layers=1, width=32),
}


def arms(d: int) -> Samples:
    """Return three arms of 300, 120 and 7 rows."""
    x, counts = Streams(seeds=SEEDS).normal("data", (300, d)), torch.tensor([300, 120, 7])
    x = x * (torch.arange(300) < counts.unsqueeze(1)).unsqueeze(-1)
    return Samples(x=x, born=torch.zeros(3, 300, dtype=torch.int16), count=counts)


def check_stack(generator: OTCFM | DDPM, d: int) -> None:
    data, streams, budget = arms(d), Streams(seeds=SEEDS), Budget(steps=8)
    start = generator.init((d,), streams)
    stacked = generator.fit(start, data, budget, streams)
    assert all(float((stacked[k] - start[k]).abs().max()) > 0 for k in parameters(start))
    assert torch.isfinite(stacked["loss"]).all()
    for r, seed in enumerate(SEEDS):
        alone = Streams(seeds=(seed,))
        single = generator.fit(generator.init((d,), alone), data.select([r]), budget, alone)
        assert single.keys() == stacked.keys()
        for k, value in single.items():
            assert torch.equal(value[0], stacked[k][r]), k


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("d", [2, 64])
def test_a_stacked_fit_gives_the_bits_of_single_ones(name, d):
    check_stack(GENERATORS[name], d)


@pytest.mark.parametrize(
    ("generator", "d"),
    [
        (OTCFM(), 1),
        (DDPM(batch_size=100), 1),
        (OTCFM(width=16, batch_size=7), 2),
        (OTCFM(width=100, batch_size=100), 2),
        (DDPM(width=17, batch_size=100), 2),
    ],
)
def test_a_stacked_fit_of_odd_sizes_gives_the_bits_of_single_ones(generator, d):
    check_stack(generator, d)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_fit_of_a_diverged_copy_leaves_the_others(name):
    generator, data, streams, budget = GENERATORS[name], arms(2), Streams(seeds=SEEDS), Budget(steps=4)
    start = generator.init((2,), streams)
    ill = {k: v.clone() for k, v in start.items()}
    for k in parameters(ill):
        ill[k][1] = torch.nan
    sound, spoilt = (generator.fit(state, data, budget, streams) for state in (start, ill))
    for k in sound:
        assert torch.equal(sound[k][[0, 2]], spoilt[k][[0, 2]]), k
    assert spoilt["loss"][1].isnan()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["otcfm", "ddpm"])
def test_a_fit_lowers_the_loss(name):
    generator, data, streams = GENERATORS[name].model_copy(update={"batch_size": 100}), arms(2), Streams(seeds=SEEDS)
    first = generator.fit(generator.init((2,), streams), data, Budget(steps=1), streams)
    last = generator.fit(generator.init((2,), streams), data, Budget(steps=100), streams)
    assert (last["loss"] < first["loss"]).all()


# Rises, windows, parts, lost copies, fits under way


def test_rises_of_the_rate():
    """The rates that the update lines of EDM and ddpm-torch use on batches of 4: the first steps of both."""
    edm = Adam(learning_rate=1e-3, ramp=Ramp(samples=10, first="nothing", restart=True))
    assert [edm.rate(taken=50 + step, step=step, batch_size=4) for step in range(4)] == [0.0, 4e-4, 8e-4, 1e-3]
    ddpm = Adam(learning_rate=2e-4, ramp=Ramp(samples=8 * 4))
    assert [ddpm.rate(taken=3 + step, step=step, batch_size=4) for step in range(6)] == pytest.approx(
        [1e-4, 1.25e-4, 1.5e-4, 1.75e-4, 2e-4, 2e-4], rel=1e-15
    )
    assert Adam(learning_rate=0.1).rate(7, 3, 4) == 0.1


def test_windows_of_the_average():
    """EDM's half-life of 20 images in batches of 4, with and without growth, and a constant decay."""
    assert EMA(half_life=20).keeps(3, 4) == pytest.approx(0.8705505632961241, rel=1e-15)
    growing = EMA(half_life=20, growing=True)
    assert [growing.keeps(taken, 4) for taken in range(3)] == [0.0, 2.0**-20, 2.0**-10]
    assert growing.keeps(10**6, 4) == EMA(half_life=20).keeps(0, 4)
    assert EMA(decay=0.9999).keeps(0, 128) == 0.9999
    assert EMA(decay=0.9999, growing=True).keeps(0, 128) == 0.1
    for neither in ({}, {"decay": 0.9, "half_life": 5.0}):
        with pytest.raises(ValidationError, match="exactly one"):
            EMA(**neither)


def test_parts_of_a_batch_make_one_step():
    """Three parts are a step of their mean loss, and ``span`` and ``Batches`` give them the rows of the whole."""
    state, loss = problem(SEEDS, torch.float64)

    def whole(params: State, step: int) -> Tensor:
        return (loss(params, 3 * step) + loss(params, 3 * step + 1) + loss(params, 3 * step + 2)) / 3

    once = train(state, whole, steps=4, adam=Adam(learning_rate=0.02))
    split = train(state, loss, steps=4, adam=Adam(learning_rate=0.02), parts=3)
    for name in once:
        torch.testing.assert_close(split[name], once[name], rtol=1e-12, atol=1e-14)
    data = Samples.full(torch.arange(2 * 20.0).view(2, 20, 1), born=0)
    large, small = (Batches(data, size, Streams((1, 2))) for size in (12, 4))
    for step in range(5):
        assert torch.equal(large[step], torch.cat([small[3 * step + part] for part in range(3)], 1))
    draws = Blocks(lambda shape, i: Streams((1, 2)).normal("noise", shape, i), (3,), size=21)
    assert torch.equal(draws.span(3, 31), torch.stack([draws[step] for step in range(3, 31)], 1))


def test_a_fit_ends_once_every_copy_is_lost():
    state, loss = problem(SEEDS)
    calls = []

    def ill(params: State, step: int) -> Tensor:
        calls.append(step)
        return loss(params, min(step, STEPS - 1)) * (torch.nan if step >= 30 else 1.0)

    lost = train(state, ill, steps=1000, adam=Adam())
    assert len(calls) == 101
    assert lost["failed"].tolist() == [30, 30, 30]
    assert lost["loss"].isnan().all()
    again = train(state, loss, steps=1, adam=Adam())
    assert again["failed"].tolist() == [-1, -1, -1]


def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path):
    state, loss = problem(SEEDS, ema=True)
    settings = {"steps": STEPS, "adam": Adam(learning_rate=0.02), "ema": average(0.9)}
    whole = train(state, loss, **settings)
    file = tmp_path / "fit.safetensors"
    for kill in range(1, STEPS):

        def dies(params: State, step: int, kill: int = kill) -> Tensor:
            if step == kill:
                raise KeyboardInterrupt
            return loss(params, step)

        with pytest.raises(KeyboardInterrupt):
            train(state, dies, **settings, checkpoint=Checkpoint(file, every=0))
        begun: list[int] = []

        def goes_on(params: State, step: int, begun: list[int] = begun) -> Tensor:
            begun.append(step)
            return loss(params, step)

        resumed = train(state, goes_on, **settings, checkpoint=Checkpoint(file, every=1e9))
        assert begun[0] == kill
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
        file.unlink()
    assert train(state, loss, **settings, checkpoint=Checkpoint(file, every=1e9)).keys() == whole.keys()
    assert not file.exists()


def test_a_damaged_fit_is_refused(tmp_path):
    file = tmp_path / "fit.safetensors"
    Checkpoint(file, 0).write({"a": torch.arange(5.0), "b": torch.tensor(3)})
    found = Checkpoint(file, 0).read()
    assert found is not None
    assert torch.equal(found["a"], torch.arange(5.0))
    sound = file.read_bytes()
    for damage in (sound[:-1], sound[:40], b"", sound[:-3] + b"\x01" + sound[-2:], sound.replace(b"sha256", b"sha257")):
        file.write_bytes(damage)
        with pytest.raises(RunError, match=r"'[^']*fit.safetensors' is damaged: move it elsewhere"):
            Checkpoint(file, 0).read()


def test_a_scaled_loss_takes_the_same_steps_and_leaves_out_those_that_overflow():
    state, loss = problem((5,))
    plainly = train(state, loss, steps=STEPS, adam=Adam(clip=0.1))
    scaled = train(state, loss, steps=STEPS, adam=Adam(clip=0.1), scaled=True)
    assert all(torch.equal(plainly[name], scaled[name]) for name in plainly)  # a power of two loses no digit
    assert scaled["optimizer.scale"].tolist() == [[2.0**16, STEPS]]

    def overflows(params: State, step: int) -> Tensor:
        return loss(params, step) * (2.0**120 if step == 2 else 1.0)  # finite, but not 2¹⁶ times it

    left_out = train(state, overflows, steps=STEPS, adam=Adam(), scaled=True)
    assert left_out["optimizer.scale"].tolist() == [[2.0**15, STEPS - 3]]
    assert left_out["failed"].tolist() == [-1]
    assert all(torch.isfinite(leaf).all() for leaf in parameters(left_out).values())
    with pytest.raises(ValueError, match="one copy"):
        train(*problem(SEEDS), steps=1, adam=Adam(), scaled=True)


def test_torchs_kernel_for_other_devices_takes_the_same_steps(monkeypatch):
    state, loss = problem(SEEDS, torch.float64)
    adam = Adam(learning_rate=0.02, clip=1.0, ramp=Ramp(samples=5))
    ours = train(train(state, loss, steps=3, adam=adam), loss, steps=4, adam=adam)
    start = Optimizer.__init__

    def elsewhere(self, *args):
        start(self, *args)
        self._pieces = []

    monkeypatch.setattr(Optimizer, "__init__", elsewhere)
    theirs = train(train(state, loss, steps=3, adam=adam), loss, steps=4, adam=adam)
    for name in ours:
        torch.testing.assert_close(theirs[name], ours[name], rtol=1e-11, atol=1e-13)


def test_threads_step_large_leaves_to_the_same_bits(monkeypatch):
    streams = Streams((1,))
    params = [streams.normal(f"leaf/{i}", shape) for i, shape in enumerate([(700,), (3, 50), (1,)])]
    gradients = [streams.normal(f"gradient/{i}", tuple(p.shape[1:])) for i, p in enumerate(params)]
    found = []
    for piece, threads in ((1 << 20, 1), (64, 3)):
        monkeypatch.setattr("selfloop.learning.optimizer._PIECE", piece)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        own = [p.clone() for p in params]
        moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in own]
        optimizer = Optimizer(Adam(), own, moments)
        for taken in range(3):
            optimizer.step([g.clone() for g in gradients], taken, 1e-3)
        found.append([*own, *(m for pair in moments for m in pair)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
