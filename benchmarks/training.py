"""Training steps of the two-dimensional flow: the network alone on both cores, and the whole OT-CFM step."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

import numpy as np
import ot
import torch
from sklearn.datasets import make_moons
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.timing import Row, compare
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.engines.threads import as_in_a_worker
from selfloop.engines.local import Workers, cores
from selfloop.generators import OTCFM
from selfloop.learning.nets.mlp import time_mlp, time_mlp_init
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import Budget, State, fresh, train

BATCH, WIDTH, STEPS, REPLICAS = 256, 64, 100, 50
# Multiplications and additions of the products of a step: three of each layer's, but the first needs none for x.
_LAYERS = [(3, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, 2)]
FLOPS = 2 * BATCH * (3 * sum(a * b for a, b in _LAYERS) - 3 * WIDTH)


class Plain(nn.Module):
    """The same network as a user writes it."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in _LAYERS:
            layers += [nn.Linear(a, b), nn.SELU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return velocities of (B, 3) points and times."""
        out: Tensor = self.net(x)
        return out


def batch(seeds: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return points, times and targets of one minibatch, stacked."""
    streams = Streams(seeds)
    points, targets = (streams.normal(name, (BATCH, 2)) for name in ("points", "targets"))
    return points, streams.uniform("times", (BATCH,)), targets


def fit_stack(replicas: int, stack: int) -> None:
    """Train a stack of networks for STEPS steps: forwards, backwards, Adam."""
    seeds = tuple(range(1000 * stack, 1000 * stack + replicas))
    x, t, u = batch(seeds)

    def loss(params: State, step: int) -> Tensor:
        return (time_mlp(params, x, t) - u).square().mean((1, 2))

    train(fresh(time_mlp_init(Streams(seeds), 2, WIDTH), ema=False), loss, steps=STEPS, adam=Adam())


def in_workers(pool: Workers, work: Callable[[int], None], stacks: int) -> None:
    """Run the stacks in the pool and wait."""
    list(pool.map(work, range(stacks)))


def eager(replicas: int) -> Callable[[], None]:
    """Return a call that trains plain modules one after the other for STEPS steps each."""
    models = [Plain() for _ in range(replicas)]
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3) for model in models]
    x, t, u = batch(tuple(range(replicas)))
    inputs = torch.cat([x, t.unsqueeze(-1)], -1)

    def run() -> None:
        for r, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            for _ in range(STEPS):
                optimizer.zero_grad()
                (model(inputs[r]) - u[r]).square().mean().backward()
                optimizer.step()

    return run


def stacked(replicas: int) -> Callable[[], None]:
    """Return a call that trains a stack by torch.vmap's batched products and the fused Adam."""
    models = [Plain() for _ in range(replicas)]
    params, _ = torch.func.stack_module_state(models)
    optimizer = torch.optim.Adam(params.values(), lr=1e-3, fused=True)
    x, t, u = batch(tuple(range(replicas)))
    inputs = torch.cat([x, t.unsqueeze(-1)], -1)
    velocity = torch.vmap(functools.partial(torch.func.functional_call, models[0]))

    def run() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (velocity(params, inputs) - u).square().mean((1, 2)).sum().backward()
            optimizer.step()

    return run


def peak(_: int) -> float:
    """Return this core's FLOP/s in a large float32 product, the best of a few."""
    a = torch.randn(1536, 1536)
    best = 0.0
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * 1536**3 / (time.perf_counter() - start))
    return best


def moons(seed: int) -> np.ndarray:
    """Return the training set of the paper's toy experiments, (1000, 2) float32."""
    return make_moons(1000, noise=0.05, random_state=seed)[0].astype(np.float32)


def ours_whole(replicas: int) -> Callable[[], None]:
    """Return a call that fits OT-CFM to a stack for STEPS steps, as the loop does."""
    streams, generator = Streams(tuple(range(replicas))), OTCFM()
    data = Samples.full(torch.from_numpy(np.stack([moons(seed) for seed in range(replicas)])), born=0)
    state = generator.init((2,), streams)
    return lambda: generator.fit(state, data, Budget(steps=STEPS), streams) and None


def theirs_whole() -> Callable[[], None]:
    """Return a call that takes STEPS steps with a DataLoader, POT's plan and plain modules."""
    model, rng = Plain(), np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(torch.from_numpy(moons(0))), batch_size=BATCH, shuffle=True, drop_last=True)
    weights = ot.unif(BATCH)

    def run() -> None:
        taken = 0
        while taken < STEPS:
            for (x1,) in loader:
                x0 = torch.randn_like(x1)
                plan = ot.emd(weights, weights, torch.cdist(x0, x1).square().numpy()).ravel()
                i, j = np.divmod(rng.choice(len(plan), size=BATCH, p=plan / plan.sum()), BATCH)
                x0, x1, t = x0[i], x1[j], torch.rand(BATCH, 1)
                optimizer.zero_grad()
                velocity = model(torch.cat([(1 - t) * x0 + t * x1, t], 1))
                (velocity - (x1 - x0)).square().mean().backward()
                optimizer.step()
                taken += 1

    return run


def rows() -> Iterator[Row]:
    """Yield the comparisons."""
    workers = cores()
    pool = Workers(workers)
    try:
        top = sum(pool.map(peak, range(workers)))
        stacks = -(-REPLICAS // 8)
        stacks += -stacks % workers  # as many for each worker
        work = functools.partial(fit_stack, -(-REPLICAS // stacks))
        trained = stacks * -(-REPLICAS // stacks)
        with as_in_a_worker():
            row = compare(
                f"network step, batch {BATCH}, width {WIDTH}, R = {trained}, {workers} workers",
                lambda: in_workers(pool, work, stacks),
                "nn.Module and Adam, one replica after the other, one thread",
                eager(4),
                per=trained * STEPS,
                peer_per=4 * STEPS,
            )
        speed = FLOPS / row.ours_s
        note = f"{speed / 1e9:.0f} GFLOP/s in products, {speed / top:.0%} of the measured {top / 1e9:.0f}"
        yield dataclasses.replace(row, note=f"{note}. {row.note}".strip())
        yield compare(
            row.work,
            lambda: in_workers(pool, work, stacks),
            f"torch.vmap over 8, fused Adam, {torch.get_num_threads()} threads",
            stacked(8),
            per=trained * STEPS,
            peer_per=8 * STEPS,
        )
    finally:
        pool.close()
    with as_in_a_worker():
        yield compare(
            "OT-CFM step, everything, a stack of 8, one thread",
            ours_whole(8),
            "DataLoader, POT emd, nn.Module, Adam",
            theirs_whole(),
            per=8 * STEPS,
            peer_per=STEPS,
        )
