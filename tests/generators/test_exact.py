"""Generators whose loop has a closed form: the Gaussian, bits, counts, waiting times, categories, kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from replaced_loops import agrees, fit, repeated, replaced, weighed
from scipy import stats
from scipy.special import polygamma, psi
from sklearn.neighbors import KernelDensity as Kernels

from selfloop.core.samples import Samples, stack
from selfloop.core.streams import Streams
from selfloop.generators import Bernoulli, Categorical, Exponential, Gaussian, KernelDensity, Poisson
from selfloop.metrics import categories_kept, heterozygosity

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

INDEPENDENT = [Bernoulli(), Poisson(), Exponential()]
R = 1000


def rows(n: int, d: int = 1, r: int = 1) -> torch.Tensor:
    return Streams(tuple(range(r))).normal("rows", (n, d), dtype=torch.float64)


def whole(n: int) -> torch.Tensor:
    return Streams((7,)).integers("weights", 4, (n,))[0].double()


# The Gaussian


def test_the_covariance_of_maximum_likelihood_is_numpys():
    x, weight = rows(40, 3)[0], Streams((2,)).uniform("w", (40,))[0].double()
    found = fit(Gaussian(covariance="mle"), weighed(x, weight))
    np.testing.assert_allclose(found["mean"][0], np.average(x, axis=0, weights=weight), rtol=1e-13)
    np.testing.assert_allclose(found["covariance"][0], np.cov(x.T, aweights=weight, ddof=0), rtol=1e-12, atol=1e-14)
    one = fit(Gaussian(covariance="mle"), Samples.full(x[:1, None], 0))
    assert torch.equal(one["covariance"], torch.zeros(1, 3, 3, dtype=torch.float64))


def test_whole_weights_are_repeated_rows_to_maximum_likelihood():
    x, times = rows(40, 2)[0], whole(40)
    found, again = (fit(Gaussian(covariance="mle"), data) for data in (weighed(x, times), repeated(x, times)))
    for name in found:
        torch.testing.assert_close(found[name], again[name], rtol=1e-12, atol=1e-14)


def test_both_covariances_differ_by_their_divisor():
    x = Samples.full(rows(25, 2, 3), 0)
    unbiased, mle = (fit(Gaussian(covariance=which), x)["covariance"] for which in ("unbiased", "mle"))
    torch.testing.assert_close(mle, unbiased * 24 / 25, rtol=1e-13, atol=0)
    assert torch.equal(fit(Gaussian(), x)["covariance"], unbiased)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", ["unbiased", "mle"])
def test_the_variance_of_a_replaced_gaussian(covariance):
    """Its mean stays without a bias, and falls by 1 − 1/n a fit by maximum likelihood."""
    n, t = 10, 10
    *_, last = replaced(Gaussian(covariance=covariance), rows(n, r=R), t)
    agrees(last["covariance"].flatten(), 1.0 if covariance == "unbiased" else (1 - 1 / n) ** (t + 1))


# Bits, counts, waiting times


@pytest.mark.parametrize("generator", INDEPENDENT, ids=lambda g: g.name)
def test_the_parameter_is_the_weighted_mean(generator):
    x, weight = whole(40).reshape(20, 2), Streams((3,)).uniform("w", (20,))[0].double()
    x = x.clamp_max(1) if generator.name == "bernoulli" else x
    found = fit(generator, weighed(x, weight))[generator.parameter]
    np.testing.assert_allclose(found[0], np.average(x, axis=0, weights=weight), rtol=1e-14)


@pytest.mark.parametrize(
    ("generator", "reference", "x"),
    [
        (Bernoulli(), lambda p: stats.bernoulli(p).logpmf, [0.0, 1.0, 0.5, -1.0]),
        (Poisson(), lambda p: stats.poisson(p).logpmf, [0.0, 1.0, 7.0, 0.5, -1.0]),
        (Exponential(), lambda p: stats.expon(scale=p).logpdf, [0.0, 1.0, 7.5, -1.0]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("parameter", [0.25, 1.0])
def test_the_likelihood_is_scipys(generator, reference, x, parameter):
    state = {generator.parameter: torch.tensor([[parameter]], dtype=torch.float64)}
    found = generator.log_prob(state, torch.tensor(x, dtype=torch.float64).reshape(1, -1, 1))
    np.testing.assert_allclose(found[0], reference(parameter)(x), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("generator", INDEPENDENT, ids=lambda g: g.name)
def test_a_parameter_that_the_family_does_not_have_samples_nan_in_its_column_alone(generator):
    parameter = torch.tensor([[0.5, -1.0], [0.5, math.nan]], dtype=torch.float64)
    x = generator.sample({generator.parameter: parameter}, 5, Streams((1, 2)))
    assert torch.isfinite(x[:, :, 0]).all()
    assert x[:, :, 1].isnan().all()


@pytest.mark.slow
def test_a_bit_is_fixed_as_probably_as_it_is_frequent():
    x = (torch.arange(5) < 2).double().reshape(1, 5, 1).expand(R, 5, 1)
    *_, last = replaced(Bernoulli(), x, 25)
    share = last["probability"].flatten()
    assert ((share == 0) | (share == 1)).double().mean() > 0.99
    agrees(share, 0.4)


def test_counts_die_out_as_a_branching_process_does():
    """A count of S is dead after t generations with the probability q_t^S, q_{t+1} = e^(q_t − 1)."""
    n, t, q = 10, 10, 0.0
    for _ in range(t):
        q = math.exp(q - 1)
    *_, last = replaced(Poisson(), torch.ones(R, n, 1, dtype=torch.float64), t)
    agrees((last["rate"].flatten() == 0).double(), q**n)
    assert 1 - q**n == pytest.approx(0.8214, abs=5e-5)  # of Suresh et al. 2024, arXiv:2412.17646


def test_the_logarithm_of_a_scale_walks():
    n, t = 10, 8
    *_, last = replaced(Exponential(), torch.ones(R, n, 1, dtype=torch.float64), t)
    log_scale = last["scale"].flatten().log()
    agrees(log_scale, t * (psi(n) - math.log(n)))
    agrees((log_scale - log_scale.mean()).square() * R / (R - 1), t * polygamma(1, n))


# Categories


def test_the_table_is_of_the_rows_that_there_are():
    x = torch.tensor([[2.0, 0.0], [1.0, 5.0], [2.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    state = fit(Categorical(), weighed(x, torch.tensor([1.0, 2.0, 1.0, 4.0])))
    assert state["rows.x"].tolist() == [[[1, 5], [2, 0], [2, 1]]]
    assert state["rows.probability"].tolist() == [[0.25, 0.25, 0.5]]
    seen = torch.tensor([[[2.0, 0.0], [2.0, 1.0], [1.0, 0.0], [9.0, 9.0]]], dtype=torch.float64)
    assert Categorical().log_prob(state, seen)[0].exp().tolist() == pytest.approx([0.25, 0.5, 0, 0])


def test_categories_are_drawn_as_often_as_they_count():
    x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    state = fit(Categorical(), weighed(x, torch.tensor([1.0, 0.0, 3.0])))
    drawn = Categorical().sample(state, 20_000, Streams((1,))).flatten()
    assert set(drawn.tolist()) == {0, 2}
    agrees((drawn == 0).double(), 0.25)


def test_arms_with_tables_of_different_sizes_share_a_stack():
    parts = [Samples.full(torch.arange(k, dtype=torch.float64).reshape(1, k, 1), 0) for k in (2, 5)]
    state = fit(Categorical(), stack(parts))
    assert state["rows.count"].tolist() == [2, 5]
    drawn = Categorical().sample(state, 500, Streams((0, 1)))
    assert [set(x.flatten().tolist()) for x in drawn] == [{0, 1}, {0, 1, 2, 3, 4}]


@pytest.mark.slow
def test_heterozygosity_falls_by_a_share_of_one_over_n():
    n, t = 20, 10
    x = (torch.arange(n) % 5).double().reshape(1, n, 1).expand(R, n, 1)
    *_, last = replaced(Categorical(), x, t)
    agrees(1 - last["rows.probability"].square().sum(1), (1 - 1 / 5) * (1 - 1 / n) ** t)


def test_what_metrics_say_of_categories():
    x = torch.tensor([[0.0], [0.0], [1.0], [2.0]])
    assert heterozygosity(x) == pytest.approx(1 - (0.25 + 2 / 16))
    assert heterozygosity(x[:2]) == 0
    assert categories_kept(x, torch.tensor([[0.0], [0.0], [3.0]])) == pytest.approx(1 / 3)


# Kernels


@pytest.mark.parametrize("d", [1, 2, 30])
def test_the_density_is_scikit_learns(d):
    x, weight = rows(50, d)[0], Streams((4,)).uniform("w", (50,))[0].double()
    points = 2 * Streams((5,)).normal("points", (20, d), dtype=torch.float64)
    for h in (0.05, 0.7):
        state = fit(KernelDensity(bandwidth=h), weighed(x, weight))
        reference = Kernels(bandwidth=h).fit(x.numpy(), sample_weight=weight.numpy())
        found = KernelDensity(bandwidth=h).log_prob(state, points)[0]
        np.testing.assert_allclose(found, reference.score_samples(points[0].numpy()), rtol=1e-9)


def test_a_sample_is_a_row_moved_by_the_bandwidth():
    x = torch.tensor([[[0.0, 100.0], [50.0, -100.0], [0.0, 0.0]]], dtype=torch.float64)
    generator = KernelDensity(bandwidth=0.5)
    state = fit(generator, Samples.full(x, 0).weighed(torch.tensor([1.0, 3.0, 0.0])))
    drawn = generator.sample(state, 20_000, Streams((1,)))[0]
    first = drawn[:, 1] > 0
    agrees(first.double(), 0.25)
    agrees((drawn[first] - x[0, 0]).square().flatten(), 0.25)
    agrees((drawn[~first] - x[0, 1]).square().flatten(), 0.25)


@pytest.mark.slow
def test_the_variance_of_a_replaced_kernel_density():
    """That of the density follows v' = (1 − 1/n) v + h², from generation 0's own on."""
    n, t, h, v = 20, 12, 0.3, (1 - 1 / 20) + 0.3**2
    for _ in range(t):
        v = (1 - 1 / n) * v + h**2
    *_, last = replaced(KernelDensity(bandwidth=h), rows(n, r=R), t)
    agrees(last["rows.x"].var(1, correction=0).flatten() + h**2, v)
