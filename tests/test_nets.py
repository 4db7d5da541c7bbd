"""Stacked networks against plain PyTorch modules, and copy by copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfloop.core.streams import Streams
from selfloop.learning.nets.mlp import (
    Params,
    decoder,
    decoder_init,
    decoder_shift,
    sinusoidal_embedding,
    time_mlp,
    time_mlp_init,
)

SEEDS = (0, 5, 9)
LAYERS = 3


pytestmark = pytest.mark.usefixtures("as_in_a_worker")


class PlainMLP(nn.Module):
    """torchcfm's MLP."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim + 1, width),
            nn.SELU(),
            nn.Linear(width, width),
            nn.SELU(),
            nn.Linear(width, width),
            nn.SELU(),
            nn.Linear(width, dim),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([x, t.unsqueeze(-1)], -1))


class TemporalLayer(nn.Module):
    """ddpm-torch's residual layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.enc = nn.Linear(width, width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out = self.fc1(F.leaky_relu(self.norm1(x), 0.02)) + self.enc(embedding)
        return x + self.fc2(F.leaky_relu(self.norm2(out), 0.02))


class PlainDecoder(nn.Module):
    """ddpm-torch's toy decoder, its temporal layer shared."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.in_fc = nn.Linear(dim, width, bias=False)
        self.temp_fc = nn.ModuleList([TemporalLayer(width)])
        self.out_norm, self.out_fc = nn.LayerNorm(width), nn.Linear(width, dim)
        self.t_proj = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.02))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.width // 2
        frequency = torch.tensor([10_000 ** (-i / (half - 1)) for i in range(half)], dtype=torch.float64)
        angle = t.double().unsqueeze(-1) * frequency
        embedding = self.t_proj(torch.cat([angle.sin(), angle.cos()], -1).to(x.dtype))
        h = self.in_fc(x)
        for _ in range(LAYERS):
            h = self.temp_fc[0](h, embedding)
        return self.out_fc(self.out_norm(h))


@dataclass(frozen=True)
class Case:
    init: Callable[[Streams, int, int], Params]
    apply: Callable[[Params, Tensor, Tensor], Tensor]
    plain: type[PlainMLP] | type[PlainDecoder]
    times: Callable[[Streams, int], Tensor]


CASES = {
    "time_mlp": Case(time_mlp_init, time_mlp, PlainMLP, lambda s, n: s.uniform("t", (n,))),
    "decoder": Case(
        decoder_init,
        lambda p, x, t: decoder(p, x, decoder_shift(p, t), LAYERS),
        PlainDecoder,
        lambda s, n: s.integers("t", 100, (n,)),
    ),
}


def perturbed(params: Params, streams: Streams) -> Params:
    """Move every leaf, so that no bias is 0 and no norm's weight 1."""
    return {k: v + 0.1 * streams.normal(f"move/{k}", v.shape[1:]) for k, v in params.items()}


def make(case: Case, seeds: tuple[int, ...], dim: int = 2, width: int = 32, n: int = 50):
    streams = Streams(seeds=seeds)
    params = perturbed(case.init(streams, dim, width), streams)
    return params, streams.normal("x", (n, dim)), case.times(streams, n)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dim", "width", "n"), [(2, 32, 50), (1, 4, 1), (64, 16, 7)])
def test_shapes_and_names(name, dim, width, n):
    case = CASES[name]
    params, x, t = make(case, SEEDS, dim, width, n)
    plain = case.plain(dim, width).state_dict()
    assert {k: tuple(v.shape) for k, v in params.items()} == {k: (len(SEEDS), *v.shape) for k, v in plain.items()}
    out = case.apply(params, x, t)
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    ("name", "dtype"), [("time_mlp", torch.float32), ("time_mlp", torch.float64), ("decoder", torch.float32)]
)
def test_a_copy_is_the_plain_module(name, dtype):
    case = CASES[name]
    params, x, t = make(case, SEEDS)
    params, x = {k: v.to(dtype) for k, v in params.items()}, x.to(dtype)
    if name == "time_mlp":
        t = t.to(dtype)
    out = case.apply(params, x, t)
    for r in range(len(SEEDS)):
        plain = case.plain(2, 32).to(dtype)
        plain.load_state_dict({k: v[r] for k, v in params.items()})
        scale = 1e-5 if dtype == torch.float32 else 1e-12
        expected = plain(x[r], t[r]).detach()
        torch.testing.assert_close(out[r], expected, rtol=0, atol=scale * float(expected.abs().max()))


def gradients(case: Case, params: Params, x: Tensor, t: Tensor) -> dict[str, Tensor]:
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    loss = case.apply(leaves, x, t).square().mean((1, 2)).sum()
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [1, 50, 1000])
def test_a_stack_gives_the_bits_of_its_copies(name, n):
    case = CASES[name]
    params, x, t = make(case, SEEDS, n=n)
    out, slopes = case.apply(params, x, t), gradients(case, params, x, t)
    for r, seed in enumerate(SEEDS):
        alone = make(case, (seed,), n=n)
        assert all(torch.equal(alone[0][k][0], v[r]) for k, v in params.items())
        assert torch.equal(case.apply(*alone)[0], out[r])
        for k, slope in gradients(case, *alone).items():
            assert torch.equal(slope[0], slopes[k][r]), k


@pytest.mark.parametrize("name", CASES)
def test_a_nan_stays_in_its_copy(name):
    case = CASES[name]
    params, x, t = make(case, SEEDS)
    out = case.apply(params, x, t)
    spoilt = {k: torch.cat([v[:1], torch.full_like(v[1:2], torch.nan), v[2:]]) for k, v in params.items()}
    ill = case.apply(spoilt, x, t)
    assert torch.equal(ill[[0, 2]], out[[0, 2]])
    assert ill[1].isnan().all()


def test_times_broadcast():
    params, x, _ = make(CASES["time_mlp"], SEEDS)
    t = torch.tensor([0.1, 0.5, 0.9])
    full = time_mlp(params, x, t.view(-1, 1).repeat(1, x.shape[1]))
    assert torch.equal(time_mlp(params, x, t.view(-1, 1)), full)
    assert torch.equal(time_mlp(params, x, torch.tensor(0.5))[1], full[1])


def test_initial_weights_have_the_stated_spread():
    mlp = time_mlp_init(Streams(seeds=SEEDS), 2, 256)
    for name, weight in mlp.items():
        bound = 1 / math.sqrt(mlp[f"{name.rsplit('.', 1)[0]}.weight"].shape[2])
        assert float(weight.abs().max()) <= bound
    assert float(mlp["net.2.weight"].std() * 16 * math.sqrt(3)) == pytest.approx(1, rel=0.01)
    dec = decoder_init(Streams(seeds=SEEDS), 2, 256)
    bound = math.sqrt(6 / 512)
    assert float(dec["temp_fc.0.fc1.weight"].abs().max()) == pytest.approx(bound, rel=0.01)
    assert all((v == 0).all() for k, v in dec.items() if k.endswith("bias"))
    assert all((v == 1).all() for k, v in dec.items() if "norm" in k and k.endswith("weight"))


@pytest.mark.parametrize("width", [4, 7, 32])
def test_sinusoidal_embedding(width):
    half = width // 2
    embedding = sinusoidal_embedding(torch.tensor([[0, 3, 99]]), width)
    assert embedding.shape == (1, 3, width)
    assert torch.equal(embedding[0, 0], torch.tensor([0.0] * half + [1.0] * half + [0.0] * (width % 2)))
    for i in range(half):
        angle = 3 * 10_000 ** (-i / (half - 1))
        assert float(embedding[0, 1, i]) == pytest.approx(math.sin(angle), abs=1e-6)
        assert float(embedding[0, 1, half + i]) == pytest.approx(math.cos(angle), abs=1e-6)
