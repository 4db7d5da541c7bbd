"""The VAE: its bound is a bound, and tight where it can be."""

from __future__ import annotations

import math

import pytest
import torch

from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.generators import VAE, Density
from selfloop.learning.nets.mlp import mlp
from selfloop.learning.training import Budget

STREAMS = Streams((0,))
LINE = VAE(latent=1, width=16, batch_size=128)


@pytest.fixture(scope="module")
def fitted() -> State:
    """A model of a line with noise in the plane, whose likelihood is that of a Gaussian."""
    z, noise = STREAMS.normal("z", (1000, 1)), STREAMS.normal("off", (1000, 2))
    x = z * torch.tensor([1.0, 0.5]) + 0.3 * noise
    return LINE.fit(LINE.init((2,), STREAMS), Samples.full(x, 0), Budget(steps=600), STREAMS)


def importance(state: State, x: torch.Tensor, draws: int = 4000) -> torch.Tensor:
    """Return log p(x) of (N, 2) points: p(x|z) averaged over the quantiles of a one-dimensional prior."""
    probs = torch.linspace(0.5 / draws, 1 - 0.5 / draws, draws, dtype=torch.float64)
    z = torch.special.ndtri(probs).float().view(1, -1, 1)
    mean = mlp({k: v for k, v in state.items() if k.startswith("decoder")}, ("decoder.0", "decoder.2", "decoder.4"), z)
    scale = state["log_scale"][0].exp()
    log = -0.5 * ((x[:, None] - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
    return log.sum(-1).double().logsumexp(1) - math.log(draws)


@pytest.mark.slow
def test_the_bound_is_below_the_likelihood_and_near(fitted: State) -> None:
    """Per row the estimate's error over 400 draws is below 0.1; on average over 60 rows it is below 0.01."""
    x = LINE.sample(fitted, 60, STREAMS)
    bound, truth = LINE.elbo(fitted, x, STREAMS, draws=400)[0].double(), importance(fitted, x[0])
    assert float((bound - truth).max()) < 0.15
    assert -0.3 < float((bound - truth).mean()) < 0.01


def test_learns_mean_and_covariance(fitted: State) -> None:
    """Of 20,000 samples, to what 600 steps on 1000 rows leave."""
    x = LINE.sample(fitted, 20_000, STREAMS)[0]
    truth = torch.tensor([[1.09, 0.5], [0.5, 0.34]])
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=0.12, rtol=0)
    torch.testing.assert_close(x.T.cov(), truth, atol=0.25, rtol=0)


def test_has_no_likelihood() -> None:
    assert not isinstance(LINE, Density)
