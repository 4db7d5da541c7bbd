"""The Gaussian copula: margins, latent correlations, and what becomes of them in a loop."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from selfloop.core.columns import Category, Number
from selfloop.core.events import Mixed
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators.copula import Copula
from selfloop.learning.training import Budget

COPULA = Copula()
ONCE = Budget(epochs=1)
MIXED = Mixed(
    (
        Number("age", "float64", -9.0, 9.0),
        Number("income", "float64", -9.0, 9.0, missing=True),
        Category("colour", ("red", "green", "blue")),
        Category("own", ("no", "yes"), missing=True),
    )
)


def normal(arms: int, n: int, rho: float) -> Tensor:
    """Return rows (R, n, 2) of a bivariate normal."""
    z = Streams(tuple(range(arms))).normal("rows", (n, 2), dtype=torch.float64)
    return torch.stack([z[..., 0], rho * z[..., 0] + math.sqrt(1 - rho**2) * z[..., 1]], -1)


def fitted(x: Tensor, categories: tuple[range, ...] = ()) -> tuple[dict[str, Tensor], Streams]:
    streams = Streams(tuple(range(len(x))))
    data = replace(Samples.full(x, 0), categories=categories)
    return COPULA.fit(COPULA.init(x.shape[2:], streams), data, ONCE, streams), streams


def mixed(n: int) -> Tensor:
    """Return rows (1, n, 9) in which age decides much of all else."""
    z = Streams((5,)).normal("mixed", (n, 4), dtype=torch.float64)[0]
    age, other = z[:, 0], 0.8 * z[:, [0]] + 0.6 * z[:, 1:]
    missing = (other[:, 2] > 1).double()
    colour = torch.nn.functional.one_hot((other[:, 1] > -0.5).long() + (other[:, 1] > 1), 3).double()
    own = torch.nn.functional.one_hot((z[:, 3] > 0).long() + (z[:, 3] > 1.5), 3).double()
    return torch.column_stack([age, other[:, 0] * (1 - missing), missing, colour, own])[None]


class TestCorrelation:
    @pytest.mark.parametrize("rho", [-0.9, 0.0, 0.6, 0.99])
    def test_of_a_bivariate_normal(self, rho: float) -> None:
        found = fitted(normal(20, 1000, rho))[0]["correlation"][:, 0, 1]
        assert float(found.mean()) == pytest.approx(rho, abs=4 * (1 - rho**2) / math.sqrt(20_000) + 1e-3)

    def test_margins_of_any_shape_leave_it_as_it_is(self) -> None:
        x = normal(3, 200, 0.5)
        bent = torch.stack([x[..., 0].exp(), x[..., 1] ** 3], -1)
        assert torch.equal(fitted(x)[0]["correlation"], fitted(bent)[0]["correlation"])

    @pytest.mark.parametrize("rho", [-0.5, 0.8])
    def test_of_what_is_cut_into_levels_is_that_before(self, rho: float) -> None:
        """Scores alone would be less correlated: 2 arcsin(ρ)/π where both are halved."""
        x = normal(8, 3000, rho)
        halves, uneven = (x > 0).double(), torch.stack([(x[..., 0] > 1.2).double(), x[..., 1].round()], -1)
        for cut in (halves, uneven):
            found = fitted(cut)[0]["correlation"][:, 0, 1]
            assert float(found.mean()) == pytest.approx(rho, abs=4 * float(found.std()) / math.sqrt(8) + 5e-3)

    def test_of_a_category_is_that_of_one_latent(self) -> None:
        x = mixed(20_000)
        correlation = fitted(x, MIXED.categories)[0]["correlation"][0]
        assert correlation[0, [2, 3]].tolist() == pytest.approx([0.8, 0.8], abs=0.03)
        assert 0.55 < float(correlation[0, 1]) < 0.8  # what is missing goes with age, and leaves it a narrower range
        assert float(correlation[1, 2]) > 0.4
        assert float(correlation[0, 6]) == pytest.approx(0, abs=0.03)
        unused = [4, 5, 7, 8]
        assert torch.equal(correlation[unused], torch.eye(9, dtype=torch.float64)[unused])

    def test_is_positive_where_pairs_alone_are_not(self) -> None:
        x = normal(1, 12, 0.3)[0].repeat(1, 6) + torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
        found = fitted((x > 0.2).double()[None])[0]["correlation"][0]
        assert float(torch.linalg.eigvalsh(found).min()) > -1e-12
        assert found.diagonal().tolist() == pytest.approx([1] * 12)


class TestMargins:
    def test_are_those_of_the_rows(self) -> None:
        x = normal(1, 400, 0.5).round(decimals=1)
        state, streams = fitted(x)
        drawn = COPULA.sample(state, 40_000, streams)
        for j in range(2):
            values, counts = x[0, :, j].unique(return_counts=True)
            found, times = drawn[0, :, j].unique(return_counts=True)
            assert set(found.tolist()) <= set(values.tolist())
            share = torch.zeros(len(values), dtype=torch.float64)
            share[torch.searchsorted(values, found)] = times.double() / 40_000
            expected = counts / 400
            assert float(((share - expected) / (expected * (1 - expected) / 40_000).sqrt()).abs().max()) < 4.5

    def test_of_categories_and_of_what_is_missing(self) -> None:
        x = mixed(2000)
        state, streams = fitted(x, MIXED.categories)
        drawn = COPULA.sample(state, 50_000, streams)
        assert torch.equal(MIXED.snap(drawn[0])[:, 2:], drawn[0, :, 2:])  # there are such rows
        assert drawn.mean(1)[0, 2:].tolist() == pytest.approx(x.mean(1)[0, 2:].tolist(), abs=0.01)
        # That a missing number has 0 in its place makes 0 none of its values.
        assert 0.0 not in drawn[0, drawn[0, :, 2] == 0, 1]

    def test_rows_that_count_differently(self) -> None:
        x = normal(1, 50, 0.5)
        x[0, :25, 0] = 7.0
        weight = torch.cat([torch.full((25,), 3.0), torch.ones(25)]).double()[None]
        streams = Streams((0,))
        data = replace(Samples.full(x, 0), weight=weight)
        drawn = COPULA.sample(COPULA.fit(COPULA.init((2,), streams), data, ONCE, streams), 20_000, streams)
        assert float((drawn[..., 0] == 7).double().mean()) == pytest.approx(0.75, abs=0.015)

    def test_a_column_of_one_value_is_kept(self) -> None:
        x = normal(1, 30, 0.5)
        x[..., 1] = 2.5
        state, streams = fitted(x)
        assert torch.equal(state["correlation"][0], torch.eye(2, dtype=torch.float64))
        assert (COPULA.sample(state, 100, streams)[..., 1] == 2.5).all()


def test_in_a_loop_the_correlation_drifts_as_a_gaussians() -> None:
    """Fisher's artanh ρ is a random walk: of n normal rows that replace all others its variance grows by 1/n."""
    arms, n, generations = 60, 200, 3
    x = normal(arms, n, 0.5)
    for t in range(generations):
        state = fitted(x)[0]
        x = COPULA.sample(state, n, Streams(tuple(range(arms)), t + 1))
    found = torch.atanh(fitted(x)[0]["correlation"][:, 0, 1])
    walked = generations + 1  # of which the first step is that of the real rows
    assert float(found.mean()) == pytest.approx(math.atanh(0.5), abs=4 * math.sqrt(walked / n / arms) + 0.01)
    assert float(found.var()) == pytest.approx(walked / n, rel=0.5)
