"""Solvers of flows against closed forms, and the adaptive one copy by copy."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torchdiffeq import odeint

from selfloop.core.streams import Streams
from selfloop.learning.nets.mlp import time_mlp, time_mlp_init
from selfloop.learning.samplers import Velocity, dopri5, euler

pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def wide(t: Tensor) -> Tensor:
    """Return times (R, 1) as (R, 1, 1)."""
    return t.unsqueeze(-1)


# Fields with the state that they take x to at t = 1.
CLOSED_FORMS = {
    "decay": (lambda x, t: -2 * x, lambda x: x * math.exp(-2)),
    "logistic": (lambda x, t: x * (1 - x), lambda x: 1 / (1 + (1 / x - 1) * math.exp(-1))),
    "driven": (lambda x, t: 3 * torch.cos(5 * wide(t)) * x, lambda x: x * math.exp(0.6 * math.sin(5))),
    "rotation": (
        lambda x, t: 2 * math.pi * torch.stack([-x[..., 1], x[..., 0]], -1),
        lambda x: x,
    ),
    "polynomial": (lambda x, t: 5 * wide(t) ** 4 + 0 * x, lambda x: x + 1),
}


def start() -> Tensor:
    return Streams(seeds=(0, 1)).normal("x", (16, 2), dtype=torch.float64).abs() + 0.1


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_euler_has_order_one(name):
    velocity, exact = CLOSED_FORMS[name]
    x = start()
    errors = [float((euler(velocity, x, steps) - exact(x)).abs().max()) for steps in (400, 800, 1600)]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_dopri5_respects_its_tolerance(name):
    velocity, exact = CLOSED_FORMS[name]
    x = start()
    for tolerance in (1e-3, 1e-5, 1e-7, 1e-9):
        error = (dopri5(velocity, x, tolerance, tolerance) - exact(x)).abs()
        # A step's RMS error is held, not the sum of all steps' worst.
        assert float((error / (1 + exact(x).abs())).max()) <= 10 * tolerance


def test_dopri5_is_of_fifth_order():
    """The work grows as tolerance^(−1/5): a hundred thousandth of the tolerance costs ten times the steps."""
    velocity, _ = CLOSED_FORMS["rotation"]
    calls = []
    for tolerance in (1e-6, 1e-11):
        seen = []
        dopri5(lambda x, t, seen=seen: (seen.append(t), velocity(x, t))[1], start()[:1], tolerance, tolerance)
        calls.append(len(seen))
    assert 7 < calls[1] / calls[0] < 13


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_dopri5_ends_at_one_exactly(dtype, tolerance):
    seen = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t.clone())
        return torch.cos(7 * wide(t)) * x

    dopri5(velocity, start().to(dtype), tolerance, tolerance)
    assert float(torch.cat(seen).max()) == 1
    assert (seen[-1] == 1).all()


def network(seeds: tuple[int, ...], scale: Tensor) -> tuple[Velocity, Tensor]:
    """Return an MLP's field, copy r's multiplied by ``scale[r]``, and starting points."""
    streams = Streams(seeds=seeds)
    params = time_mlp_init(streams, 2, 32)
    return lambda x, t: time_mlp(params, x, t) * scale.view(-1, 1, 1), streams.normal("x", (300, 2))


def field(rates: Tensor) -> tuple[Velocity, Tensor]:
    """Return x' = −rate·x·(1 + cos 9t) for every copy, and starting points, the same for all."""
    x = Streams(seeds=(3,)).normal("x", (300, 2)).repeat(len(rates), 1, 1)
    return lambda x, t: -rates.view(-1, 1, 1) * x * (1 + torch.cos(9 * wide(t))), x


@pytest.mark.parametrize("neighbour", [300.0, math.nan, math.inf])
@pytest.mark.parametrize("kind", ["mlp", "closed form"])
def test_dopri5_keeps_copies_apart(kind, neighbour):
    def make(copies: list[int]) -> tuple[Velocity, Tensor]:
        scale = torch.tensor([1.0, neighbour, 2.5])[copies]
        return network(tuple(copies), scale) if kind == "mlp" else field(scale)

    together = dopri5(*make([0, 1, 2]))
    assert torch.isfinite(together[[0, 2]]).all()
    assert torch.isfinite(together[1]).all() == math.isfinite(neighbour)
    for r in range(3):
        assert torch.equal(dopri5(*make([r]))[0].nan_to_num(), together[r].nan_to_num())
        assert torch.equal(dopri5(*make([r]))[0].isnan(), together[r].isnan())


def test_dopri5_a_nan_on_the_way_or_too_many_steps_make_the_copy_nan():
    late = torch.tensor([0.0, 1.0]).view(-1, 1, 1)  # copy 1 breaks after half of the way
    x = torch.ones(2, 4, 2)
    ends = dopri5(lambda x, t: -x + torch.where((late > 0) & (wide(t) > 0.5), torch.nan, 0.0), x)
    torch.testing.assert_close(ends[0], torch.full((4, 2), math.exp(-1)), rtol=1e-4, atol=0)
    assert ends[1].isnan().all()
    velocity, x = field(torch.tensor([1.0, 1e4]))
    ends = dopri5(velocity, x, max_steps=60)
    assert torch.isfinite(ends[0]).all()
    assert ends[1].isnan().all()


@pytest.mark.parametrize("seed", range(3))
def test_dopri5_agrees_with_torchdiffeq(seed):
    params = {k: v.double() for k, v in time_mlp_init(Streams(seeds=(seed,)), 2, 32).items()}
    x = Streams(seeds=(seed,)).normal("x", (1, 64, 2), dtype=torch.float64).squeeze(0)
    # SELU's derivative jumps, which costs both solvers accuracy; a row's error is far above the RMS they control.
    theirs = odeint(
        lambda t, x: time_mlp(params, x, t.view(1, 1)),
        x,
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        rtol=1e-8,
        atol=1e-8,
        method="dopri5",
    )[1]
    ours = dopri5(lambda x, t: time_mlp(params, x, t), x, 1e-8, 1e-8)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
