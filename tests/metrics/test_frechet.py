"""The Fréchet distance against closed forms, SciPy's matrix root and singular values; its moments against NumPy's."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import operator
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop.core.streams import Streams, generator
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators.gaussian import Gaussian
from selfloop.metrics import Moments, bootstrap_error, frechet, frechet_infinity
from selfloop.metrics.base import METRICS, Evidence

module = importlib.import_module("selfloop.metrics.frechet")  # the name in the package is the function

Distance = Callable[[torch.Tensor, torch.Tensor], float]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute as the engines do: for small matrices waiting for threads takes longer than the work."""
    with as_in_a_worker():
        yield


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


def correlated(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Return rows about a mean that is not 0, with a condition of the covariance of about d²."""
    return cloud(n, d, seed) @ (torch.eye(d) + cloud(d, d, seed + 1) / d**0.5).double() + cloud(1, d, seed + 2)


def rotation(d: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(cloud(d, d, seed))[0]


def fitted(mean: list[float], root: torch.Tensor, n: int = 40, seed: int = 0) -> torch.Tensor:
    """Return rows whose mean and unbiased covariance are ``mean`` and ``root rootᵀ`` to the last digits."""
    x = cloud(n, len(mean), seed)
    x = x - x.mean(0)
    low = torch.linalg.cholesky(x.T @ x / (n - 1))
    white = torch.linalg.solve_triangular(low, x.T, upper=False).T
    return white @ root.T + torch.tensor(mean, dtype=torch.float64)


def spread(*sets: torch.Tensor) -> float:
    """Return the sum of all variances: what rounding is measured against."""
    return sum(float(x.double().var(0).sum()) for x in sets)


def by_singular_values(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the distance by the singular values of the centred rows' products, exact whatever the ranks."""
    x, y = a.double().numpy(), b.double().numpy()
    between = np.square(x.mean(0) - y.mean(0)).sum()
    x, y = ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y))
    nuclear = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(between + np.square(x).sum() + np.square(y).sum() - 2 * nuclear)


def by_moments(a: torch.Tensor, b: torch.Tensor) -> float:
    return frechet(Moments.of(a), Moments.of(b))


class TestMoments:
    @given(st.integers(2, 60), st.integers(1, 6), st.integers(0, 2**32), st.data())
    @settings(max_examples=60, deadline=None)
    def test_batches_and_sums_equal_the_whole(self, n: int, d: int, seed: int, data: st.DataObject) -> None:
        x = correlated(n, d, seed)
        cuts = sorted(data.draw(st.sets(st.integers(1, n - 1)), label="cuts"))
        parts = torch.tensor_split(x, cuts)
        summed = functools.reduce(operator.add, map(Moments.of, parts))
        covariance = np.cov(x.numpy(), rowvar=False).reshape(d, d)
        for found in (Moments.of(x), Moments.of(parts), Moments.of(part.numpy() for part in parts), summed):
            assert found.n == n
            np.testing.assert_allclose(found.mean, x.mean(0).numpy(), rtol=0, atol=1e-13)
            np.testing.assert_allclose(found.covariance, covariance, rtol=0, atol=1e-13 * max(1, spread(x)))

    def test_more_rows_than_one_block(self) -> None:
        x = correlated(2 * module._BATCH + 100, 3)
        found = Moments.of(x)
        np.testing.assert_allclose(found.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-12)
        np.testing.assert_allclose(found.mean, x.mean(0).numpy(), rtol=1e-12)

    def test_rows_far_from_the_origin_lose_no_digits(self) -> None:
        x = (cloud(200, 3) * 2**20).round() / 2**20
        far = x + 1e6  # without rounding, for x is on a grid
        assert torch.equal(far - 1e6, x)
        expected = np.cov(x.numpy(), rowvar=False)
        summed = Moments.of(far[:77]) + Moments.of(far[77:])
        for found in (Moments.of(far), Moments.of(far.split(13)), summed):
            np.testing.assert_allclose(found.covariance, expected, rtol=0, atol=1e-14 * spread(x))

    def test_equal_rows_have_no_variance(self) -> None:
        assert np.abs(Moments.of(torch.full((50, 3), 0.1)).covariance).max() < 1e-30

    def test_covariance_is_symmetric(self) -> None:
        covariance = (Moments.of(cloud(20, 5)) + Moments.of(cloud(30, 5, seed=1))).covariance
        assert np.array_equal(covariance, covariance.T)

    def test_events_are_flattened(self) -> None:
        x = cloud(20, 12)
        assert np.array_equal(Moments.of(x.reshape(20, 3, 2, 2)).covariance, Moments.of(x).covariance)

    def test_nothing_is_added_by_no_rows(self) -> None:
        found = Moments.of(cloud(9, 2))
        for summed in (found + Moments(2), Moments(2) + found):
            assert summed.n == 9
            assert np.array_equal(summed.covariance, found.covariance)

    @pytest.mark.parametrize("first", [True, False])
    def test_a_sum_that_goes_on_leaves_its_parts_as_they_were(self, first: bool) -> None:
        part, empty = Moments.of(cloud(9, 2)), Moments(2)
        before = part.covariance
        summed = part + empty if first else empty + part
        summed.update(cloud(5, 2, seed=1))
        assert part.n == 9
        assert np.array_equal(part.covariance, before)

    def test_a_covariance_needs_two_rows(self) -> None:
        for moments, n in ((Moments(3), 0), (Moments.of(cloud(1, 3)), 1)):
            with pytest.raises(ValueError, match=f"at least 2 rows, not {n}"):
                _ = moments.covariance

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_refuses_what_is_not_finite(self, value: float) -> None:
        bad = cloud(10, 2)
        bad[3, 1] = value
        with pytest.raises(ValueError, match="features has entries that are not finite"):
            Moments.of([cloud(10, 2), bad])

    def test_refuses_no_rows(self) -> None:
        with pytest.raises(ValueError, match="no features"):
            Moments.of([])
        with pytest.raises(ValueError, match="N at least 1"):
            Moments.of(torch.zeros(0, 3))

    @pytest.mark.parametrize("width", [1, 2, 4])
    def test_refuses_batches_of_other_widths(self, width: int) -> None:
        with pytest.raises(ValueError):
            Moments.of([cloud(10, 3), cloud(10, width)])

    @pytest.mark.parametrize("width", [1, 2, 4])
    def test_refuses_sums_of_other_widths(self, width: int) -> None:
        with pytest.raises(ValueError):
            Moments.of(cloud(10, 3)) + Moments.of(cloud(10, width))


@pytest.mark.parametrize("distance", [frechet, by_moments])
class TestClosedForms:
    @pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (3.0, 1.0), (0.0, 0.25), (-2.0, 5.0), (1e3, 1e-3)])
    def test_on_the_line(self, distance: Distance, mean: float, deviation: float) -> None:
        a = fitted([1.0], torch.tensor([[2.0]]).double())
        b = fitted([mean], torch.tensor([[deviation]]).double(), n=70, seed=1)
        assert distance(a, b) == pytest.approx((mean - 1) ** 2 + (deviation - 2) ** 2, rel=1e-12)

    def test_of_equal_covariances_is_the_squared_shift(self, distance: Distance) -> None:
        root = cloud(6, 6)
        a = fitted([0.0] * 6, root)
        b = fitted([3.0, 0.0, 0.0, -4.0, 0.0, 0.0], root, n=90, seed=1)
        assert distance(a, b) == pytest.approx(25, abs=1e-11 * spread(a, b))

    def test_of_covariances_that_commute(self, distance: Distance) -> None:
        """Σ (√a − √b)² over the variances in their common basis."""
        u, v = torch.tensor([1.0, 2.0, 0.1, 3.0]).double(), torch.tensor([4.0, 2.0, 0.5, 0.01]).double()
        basis = rotation(4)
        a, b = fitted([0.0] * 4, basis * u), fitted([1.0] * 4, basis * v, n=55, seed=1)
        assert distance(a, b) == pytest.approx(4 + float((u - v).square().sum()), rel=1e-11)

    def test_of_a_scaled_set(self, distance: Distance) -> None:
        """(s − 1)² times the second moment."""
        x = correlated(50, 5)
        second = float(x.mean(0).square().sum()) + spread(x)
        assert distance(x, 3 * x) == pytest.approx(4 * second, rel=1e-11)

    @pytest.mark.parametrize("n", [30, 5])
    def test_to_one_point(self, distance: Distance, n: int) -> None:
        """What is left is the squared distance of the means and the variance of the other set."""
        x, point = correlated(n, 8), cloud(1, 8, seed=9)
        expected = float((x.mean(0) - point).square().sum()) + spread(x)
        assert distance(x, point.repeat(20, 1)) == pytest.approx(expected, rel=1e-12)
        assert distance(point.repeat(3, 1), x) == pytest.approx(expected, rel=1e-12)

    def test_between_two_points(self, distance: Distance) -> None:
        a, b = torch.zeros(9, 3), torch.tensor([[1.0, 2.0, 2.0]]).repeat(5, 1)
        assert distance(a, b) == pytest.approx(9, rel=1e-12)
        assert distance(b, b[:4]) == 0

    @pytest.mark.parametrize("n", [30, 6])
    def test_to_a_set_on_a_line(self, distance: Distance, n: int) -> None:
        """With C₂ = s² v vᵀ the root's trace is s √(vᵀ C₁ v)."""
        x, v, t = correlated(n, 8), rotation(8, seed=3)[0], cloud(25, 1, seed=4)
        line = 1 + t * v
        s, along = float(t.std()), float((x @ v).var())
        expected = float((x.mean(0) - line.mean(0)).square().sum()) + spread(x) + s**2 - 2 * s * along**0.5
        assert distance(x, line) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("distance", [frechet, by_moments])
@pytest.mark.parametrize("d", [1, 2, 8, 40])
def test_equals_scipys_matrix_root(distance: Distance, d: int) -> None:
    a, b = correlated(400, d), 1.3 * correlated(300, d, seed=5)
    c, e = (np.cov(x.numpy(), rowvar=False).reshape(d, d) for x in (a, b))
    root = np.trace(scipy.linalg.sqrtm(c @ e)).real
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(c) + np.trace(e) - 2 * root
    assert distance(a, b) == pytest.approx(expected, abs=1e-11 * spread(a, b))


def of_rank(n: int, d: int, rank: int, seed: int) -> torch.Tensor:
    return cloud(n, rank, seed) @ cloud(rank, d, seed + 1) + cloud(1, d, seed + 2)


@pytest.mark.parametrize("distance", [frechet, by_moments])
class TestSingularCovariances:
    @pytest.mark.parametrize(("n", "m"), [(20, 30), (64, 65), (10, 200), (200, 2)])
    def test_of_fewer_rows_than_features(self, distance: Distance, n: int, m: int) -> None:
        a, b = correlated(n, 64), correlated(m, 64, seed=5)
        assert distance(a, b) == pytest.approx(by_singular_values(a, b), abs=1e-10 * spread(a, b))

    @given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([5, 13, 60]), st.integers(0, 2**32))
    @settings(max_examples=60, deadline=None)
    def test_of_sets_within_a_plane(self, distance: Distance, r: int, s: int, n: int, seed: int) -> None:
        """Some of them are nearly within a smaller one, where a covariance keeps fewer digits than its rows do."""
        a, b = of_rank(n, 12, r, seed), of_rank(40, 12, s, seed + 10)
        assert distance(a, b) == pytest.approx(by_singular_values(a, b), abs=1e-7 * spread(a, b))

    @pytest.mark.parametrize("noise", [1e-3, 1e-5, 1e-7, 1e-9])
    def test_of_a_set_nearly_within_a_plane(self, distance: Distance, noise: float) -> None:
        """A covariance holds variances down to d ε of the greatest; of deviations √(64 ε) = 1e-7 may be lost."""
        a, b = correlated(300, 64), of_rank(300, 64, 4, seed=5) + noise * cloud(300, 64, seed=8)
        assert distance(a, b) == pytest.approx(by_singular_values(a, b), abs=1e-7 * spread(a, b))

    def test_of_a_set_with_constant_features(self, distance: Distance) -> None:
        a, b = correlated(60, 10), correlated(50, 10, seed=5)
        a[:, :4], b[:, 2:6] = 1.5, -0.5
        assert distance(a, b) == pytest.approx(by_singular_values(a, b), abs=1e-10 * spread(a, b))

    @pytest.mark.parametrize("d", [10, 64])
    def test_of_copies_of_a_few_rows(self, distance: Distance, d: int) -> None:
        """Many singular values are 0, and are not to be taken as roots of what rounding left."""
        a, b = correlated(50, d), correlated(4, d, seed=5).repeat(12, 1)
        assert distance(a, b) == pytest.approx(by_singular_values(a, b), abs=1e-10 * spread(a, b))


@pytest.mark.parametrize("distance", [frechet, by_moments])
@pytest.mark.parametrize(("n", "d"), [(50, 3), (200, 64), (20, 64), (64, 64)])
class TestInvariances:
    def test_a_set_is_at_no_distance_from_itself(self, distance: Distance, n: int, d: int) -> None:
        x = correlated(n, d)
        assert 0 <= distance(x, x.flip(0)) <= 1e-10 * spread(x)

    def test_symmetry(self, distance: Distance, n: int, d: int) -> None:
        a, b = correlated(n, d), correlated(n + 7, d, seed=5)
        assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-10 * spread(a, b))

    def test_rotation_order_and_shift(self, distance: Distance, n: int, d: int) -> None:
        a, b = correlated(n, d), correlated(n + 7, d, seed=5)
        expected, close = distance(a, b), 1e-10 * spread(a, b)
        q, shift = rotation(d, seed=3), 100 * cloud(1, d, seed=4)
        features = torch.from_numpy(generator(0, "order").permutation(d))
        assert distance(a @ q, b @ q) == pytest.approx(expected, abs=close)
        assert distance(a.flip(0), b.roll(3, 0)) == pytest.approx(expected, abs=close)
        assert distance(a[:, features], b[:, features]) == pytest.approx(expected, abs=close)
        assert distance(a + shift, b + shift) == pytest.approx(expected, abs=close)

    @pytest.mark.parametrize("scale", [2.0**-100, 1e-6, 0.3, 7e5, 2.0**100])
    def test_scales_by_the_square(self, distance: Distance, n: int, d: int, scale: float) -> None:
        a, b = correlated(n, d), correlated(n + 7, d, seed=5)
        assert distance(scale * a, scale * b) / scale**2 == pytest.approx(distance(a, b), abs=1e-10 * spread(a, b))

    def test_moments_and_rows_give_the_same(self, distance: Distance, n: int, d: int) -> None:
        a, b = correlated(n, d), correlated(n + 7, d, seed=5)
        mixed = frechet(a, Moments.of(b.split(9)))
        assert distance(a, b) == pytest.approx(mixed, abs=1e-10 * spread(a, b))

    def test_float32_events_of_numpy_are_summed_in_float64(self, distance: Distance, n: int, d: int) -> None:
        a, b = correlated(n, d).float() + 100, correlated(n + 7, d, seed=5).float() + 100
        expected = by_singular_values(a, b)
        assert distance(a, b) == pytest.approx(expected, abs=1e-10 * spread(a, b))
        assert frechet(a.reshape(n, 1, d).numpy(), b.reshape(n + 7, 1, d).numpy()) == pytest.approx(
            expected, abs=1e-10 * spread(a, b)
        )


class TestRefusals:
    @pytest.mark.parametrize("one", [cloud(1, 3), cloud(1, 3).numpy()])
    def test_one_row(self, one: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"real has shape \(1, 3\).*at least 2"):
            frechet(one, cloud(9, 3))
        with pytest.raises(ValueError, match=r"generated has shape \(1, 3\).*at least 2"):
            frechet(cloud(9, 3), one)
        with pytest.raises(ValueError, match="at least 2 rows, not 1"):
            frechet(cloud(9, 3), Moments.of(one))

    def test_rows_without_an_event_axis(self) -> None:
        with pytest.raises(ValueError, match=r"real has shape \(9,\)"):
            frechet(torch.zeros(9), cloud(9, 3))

    def test_events_of_different_sizes(self) -> None:
        for a, b in ((cloud(9, 3), cloud(9, 1)), (Moments.of(cloud(9, 3)), Moments.of(cloud(9, 1)))):
            with pytest.raises(ValueError, match=r"real has 3 values an event.* and generated( has)? 1"):
                frechet(a, b)

    def test_what_is_not_finite(self) -> None:
        bad = cloud(9, 3)
        bad[2, 2] = math.nan
        with pytest.raises(ValueError, match="generated has entries that are not finite"):
            frechet(cloud(9, 3), bad)
        with pytest.raises(ValueError, match="real has entries that are not finite"):
            frechet(bad, cloud(9, 3))

    def test_moments_of_what_is_not_finite(self) -> None:
        moments = Moments.of(cloud(9, 3))
        with pytest.raises(ValueError, match="not finite"):  # noqa: PT012, either of the two may refuse
            moments.update(torch.full((2, 3), math.nan))
            frechet(moments, cloud(9, 3))

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    @pytest.mark.parametrize("distance", [frechet, by_moments])
    @pytest.mark.parametrize("scale", [1e80, 1e160, 1e200])
    def test_rows_whose_squares_overflow_are_not_called_equal(self, distance: Distance, scale: float) -> None:
        """They are refused, or at an infinite distance, or a right one."""
        with contextlib.suppress(ValueError):
            assert distance(scale * cloud(50, 3), cloud(50, 3, seed=1)) > scale


def evidence(real: torch.Tensor, generated: torch.Tensor) -> Evidence:
    sets = {"train": real[None], "held_out": real[None], "generated": generated[None]}
    return Evidence(generator=Gaussian(), state={}, first={}, untrained={}, **sets)


class TestInfinity:
    def test_the_bias_of_few_rows_is_removed(self) -> None:
        """Of two samples of one Gaussian FID is only bias, 0.05 here; FID∞ is spread about 0 with a deviation of 0.016.

        So the mean of 20 has a standard error of 0.0036, and a quarter of the bias is 3.5 of them: other seeds would
        fail once in 2000.
        """
        real = Moments.of(cloud(40_000, 8, seed=99))
        samples = [cloud(500, 8, seed) for seed in range(20)]
        finite = np.array([frechet(real, x) for x in samples])
        infinite = np.array([frechet_infinity(real, x).value for x in samples])
        assert abs(infinite.mean()) < finite.mean() / 4
        assert np.abs(infinite).mean() < finite.mean() / 2

    def test_a_true_distance_is_kept(self) -> None:
        """At a distance of 4 the means' errors rule: 2 · 2 / √2000 = 0.09 is one standard error, and 4 are allowed."""
        real = Moments.of(cloud(40_000, 8, seed=99))
        shifted = cloud(2000, 8)
        shifted[:, 0] += 2
        assert frechet_infinity(real, shifted).value == pytest.approx(4, abs=0.36)

    @pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.5)])
    def test_gaussians_of_known_distance(self, shift: float, scale: float) -> None:
        """d (shift² + (scale − 1)²) is the distance; the metric comes nearer to it than the plain one, in the mean."""
        d, n = 8, 400
        true = d * (shift**2 + (scale - 1) ** 2)
        real = cloud(20_000, d, seed=99)
        samples = [scale * cloud(n, d, seed) + shift for seed in range(12)]
        finite, infinite = (
            np.array([METRICS[name].compute(evidence(real, x)).item() for x in samples])
            for name in ("frechet_train", "frechet_infinity_train")
        )
        assert abs(infinite.mean() - true) < abs(finite.mean() - true) + infinite.std() / 12**0.5
        assert infinite.mean() == pytest.approx(true, abs=3 * infinite.std() / 12**0.5)
        assert finite.mean() > infinite.mean()

    @pytest.mark.parametrize("scale", [1e-150, 1e150])
    def test_units_lose_no_digit(self, scale: float) -> None:
        real, x = cloud(80, 3, seed=1), cloud(60, 3)
        expected = frechet_infinity(real, x).value * scale**2
        assert frechet_infinity(scale * real, scale * x).value == pytest.approx(expected, rel=1e-9)

    def test_what_the_line_was_read_from(self) -> None:
        real, x = cloud(80, 3, seed=1), 2 * cloud(100, 3)
        found = frechet_infinity(real, x, points=5, repeats=2)
        assert found.sizes == (50, 57, 67, 80, 100)
        assert found.distances[-1] == pytest.approx(frechet(real, x), rel=1e-12)
        slope, value = np.polyfit(1 / np.array(found.sizes), found.distances, 1)
        assert (found.value, found.slope) == (pytest.approx(value), pytest.approx(slope))

    def test_the_seed_decides(self) -> None:
        real, x = cloud(80, 3, seed=1), cloud(60, 3)
        assert frechet_infinity(real, x, seed=4) == frechet_infinity(real, x, seed=4)
        assert frechet_infinity(real, x, seed=4) != frechet_infinity(real, x, seed=5)

    def test_rows_and_moments_of_the_reference_give_the_same(self) -> None:
        real, x = cloud(80, 3, seed=1), cloud(60, 3)
        by_rows, by_sums = frechet_infinity(real, x), frechet_infinity(Moments.of(real), x)
        assert by_rows.value == pytest.approx(by_sums.value, abs=1e-9)

    def test_refuses_few_rows(self) -> None:
        with pytest.raises(ValueError, match=r"generated has shape \(19, 3\).*at least 20"):
            frechet_infinity(cloud(80, 3), cloud(19, 3))

    def test_refuses_events_of_different_sizes(self) -> None:
        with pytest.raises(ValueError, match=r"3 values|\b4\b"):
            frechet_infinity(cloud(80, 3), cloud(30, 4))


class TestBootstrap:
    def test_equals_the_spread_over_independent_repetitions(self) -> None:
        """Two standard deviations of 200 draws each agree within 7 %, and a sample's own adds 4 %.

        So 35 % are over 4 standard errors: other seeds would fail less than once in 10,000. The shift of 2 makes the
        means' errors rule, whose share of the standard error has a closed form, 2 · 2 / √400 = 0.2.
        """
        real = cloud(4000, 2, seed=999)
        samples = [cloud(400, 2, seed) + torch.tensor([2.0, 0.0]).double() for seed in range(200)]
        apart = float(np.std([frechet(real, x) for x in samples], ddof=1))
        found = bootstrap_error(real, samples[0], resamples=200)
        assert found == pytest.approx(apart, rel=0.35)
        assert found == pytest.approx(0.2, rel=0.35)

    def test_errors_of_both_sets_add_in_squares(self) -> None:
        """Each of the three has an error of 5 %; 25 % are over 3 of their joint standard errors."""
        real, x = cloud(200, 2, seed=1), cloud(400, 2) + 2
        parts = [bootstrap_error(real, x, resamples=200, sets=[name]) for name in ("real", "generated")]
        both = bootstrap_error(real, x, resamples=200, sets=["real", "generated"])
        assert both == pytest.approx(math.hypot(*parts), rel=0.25)
        assert parts[0] / parts[1] == pytest.approx(math.sqrt(2), rel=0.25)

    def test_a_set_of_one_point_has_no_error(self) -> None:
        assert bootstrap_error(cloud(30, 2), torch.ones(20, 2), resamples=5) == pytest.approx(0, abs=1e-12)

    def test_the_seed_decides(self) -> None:
        a, b = cloud(30, 2), cloud(20, 2, seed=1)
        assert bootstrap_error(a, b, resamples=3, seed=4) == bootstrap_error(a, b, resamples=3, seed=4)
        assert bootstrap_error(a, b, resamples=3, seed=4) != bootstrap_error(a, b, resamples=3, seed=5)

    @pytest.mark.parametrize("options", [{"resamples": 1}, {"sets": []}, {"sets": ["held out"]}])
    def test_refuses_what_makes_no_sense(self, options: dict) -> None:
        with pytest.raises(ValueError, match="at least twice"):
            bootstrap_error(cloud(30, 2), cloud(20, 2), **options)

    def test_refuses_one_row(self) -> None:
        with pytest.raises(ValueError, match="generated has shape"):
            bootstrap_error(cloud(30, 2), cloud(1, 2))


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.5, 3.0])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_quick_way_is_as_good_as_it_says(monkeypatch: pytest.MonkeyPatch, decay: float, shift: float) -> None:
    """By eigenvalues, where they are trusted, the distance is that of singular values to 1e-9."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, 41) ** -decay
    x, y = (torch.from_numpy(rng.standard_normal((300, 40)) * scale + at) for at in (0.0, shift))
    exact = frechet(x, y)
    monkeypatch.setattr(module, "_LARGE", 1)
    assert frechet(x, y) == pytest.approx(exact, rel=1e-9)
