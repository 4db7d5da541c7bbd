"""Neighbours, precision, recall, density and coverage against a float64 brute force, flag by flag."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from selfloop.core.streams import Streams, generator
from selfloop.engines.threads import as_in_a_worker
from selfloop.metrics import density_coverage, neighbours, precision_recall
from selfloop.metrics.manifold import Balls, Convention, Manifolds
from selfloop.metrics.neighbours import radii

Doubles = NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute as the engines do: for small matrices waiting for threads takes longer than the work."""
    with as_in_a_worker():
        yield


def cloud(n: int, d: int, seed: int = 0) -> Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


def whole(n: int, d: int, high: int, seed: int = 0) -> Tensor:
    return Streams((seed,)).integers("whole", high, (n, d))[0].double()


def squares(a: Tensor, b: Tensor) -> Doubles:
    """Return all squared distances by float64 differences, (N, M)."""
    x, y = a.double().numpy(), b.double().numpy()
    return np.stack([np.square(row - y).sum(1) for row in x])


def square_reach(x: Tensor, k: int) -> Doubles:
    """Return every row's squared distance to its k-th nearest other row, (N,)."""
    apart = squares(x, x)
    np.fill_diagonal(apart, np.inf)
    return np.sort(apart, axis=1)[:, k - 1]


@dataclass(frozen=True)
class Brute:
    """What ``Manifolds`` answers, for one kind of ball, from the whole matrix of distances."""

    inside: NDArray[np.bool_]
    recalled: NDArray[np.bool_]
    counts: NDArray[np.int64]
    covered: NDArray[np.bool_]

    @classmethod
    def of(cls, real: Tensor, generated: Tensor, kind: Balls) -> Brute:
        apart = squares(real, generated)
        within = np.less_equal if kind.closed else np.less
        in_real = within(apart, square_reach(real, kind.k)[:, None])
        in_generated = within(apart, square_reach(generated, kind.k))
        return cls(in_real.any(0), in_generated.any(1), in_real.sum(0), in_real.any(1))


FLAGS = ("inside", "recalled", "counts", "covered")
KINDS = [Balls(k, closed) for k in (5, 1, 3) for closed in (False, True)]


def check(real: Tensor, generated: Tensor, kinds: list[Balls] = KINDS) -> None:
    """Compare every flag of either set against the other."""
    for a, b in ((real, generated), (generated, real)):
        found = Manifolds(a, b, kinds)
        for i, kind in enumerate(kinds):
            expected = Brute.of(a, b, kind)
            for flag in FLAGS:
                np.testing.assert_array_equal(getattr(found, flag)[i], getattr(expected, flag), f"{flag}, {kind}")


def picked(x: Tensor, n: int, seed: int = 0) -> Tensor:
    """Draw rows with replacement."""
    return x[torch.from_numpy(generator(seed, "picked").integers(len(x), size=n))]


def clusters(n: int, d: int, centres: int, width: float, seed: int = 0) -> Tensor:
    """Return rows about centres 10 apart on the axes, far from all of which the mean lies."""
    return width * cloud(n, d, seed) + 10 * torch.eye(d).double()[torch.arange(n) % centres]


def shaken(x: Tensor, seed: int) -> Tensor:
    """Move float32 rows by a few units of their last place."""
    return x * (1 + 1e-7 * cloud(*x.shape, seed=seed).float())


def pairs() -> dict[str, tuple[Tensor, Tensor]]:
    """Return the families of sets: real and generated rows, about 130 and 90 of them."""
    found = {}
    for d, n, m in ((1, 130, 90), (2, 130, 90), (33, 130, 90), (64, 130, 90), (2048, 50, 40)):
        a, b = cloud(n, d), 0.9 * cloud(m, d, seed=1) + 0.1
        found |= {f"normal, {d}": (a, b), f"normal, {d}, float32": (a.float(), b.float())}
    for d in (3, 64):
        a, b = cloud(130, d), cloud(90, d, seed=1)
        few = torch.cat([a[:7], cloud(5, d, seed=2)])
        point, other = torch.full((40, d), 0.1), torch.full((30, d), -0.7)
        base = 1000 + cloud(26, d).float()
        signs = torch.tensor([-1.0, -0.0, 0.0, 1.0])
        found |= {
            f"one float32, {d}": (a.float(), b),
            f"clusters and fewer of them, {d}": (clusters(130, d, 3, 0.3), clusters(90, d, 2, 0.3, seed=1)),
            f"copies, {d}": (picked(a[:50], 130), torch.cat([a[:45], b[:45]])),
            f"copies of a few rows, {d}": (picked(few, 130), picked(few[4:], 90, seed=1).flip(0)),
            f"one point, {d}": (point, point[:30]),
            f"two points, {d}": (point, other),
            f"one point of the real set, {d}": (a, a[5].repeat(40, 1)),
            f"one point and another row, {d}": (torch.cat([point, other[:1]]), torch.cat([other, point[:6]])),
            f"near copies, float32, {d}": (shaken(base.repeat(5, 1), 3), shaken(base.repeat(3, 1), 4)),
            f"tight clusters, {d}": (clusters(130, d, 3, 1e-4), clusters(90, d, 3, 1e-4, seed=1)),
            f"very tight clusters, {d}": (clusters(130, d, 3, 1e-9), clusters(90, d, 3, 1e-9, seed=1)),
            f"lattice, {d}": (whole(130, d, 2), whole(90, d, 2, seed=1)),
            f"lattice, float32, {d}": (whole(130, d, 4).float(), whole(90, d, 4, seed=1).float()),
            f"signed zeros, {d}": (signs[whole(130, d, 4).long()], signs[whole(90, d, 4, seed=1).long()]),
            f"zeros of either sign, {d}": (torch.zeros(20, d), -torch.zeros(30, d)),
        }
    return found


PAIRS = pairs()


@pytest.fixture(params=[2048, 16], ids="blocks of {}".format)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("family", PAIRS)
class TestAgainstBruteForce:
    @pytest.mark.slow
    def test_every_flag(self, family: str) -> None:
        check(*PAIRS[family])

    def test_radii(self, family: str) -> None:
        for x in PAIRS[family]:
            for k in (1, 4, len(x) - 1):
                np.testing.assert_allclose(radii(x, k), np.sqrt(square_reach(x, k)), rtol=1e-13, atol=0)


@pytest.mark.parametrize("family", PAIRS)
def test_shares_are_those_of_the_flags(family: str) -> None:
    real, generated = PAIRS[family]
    for k in (2, 3):
        standard, strict = (Brute.of(real, generated, Balls(k, closed)) for closed in (True, False))
        found = precision_recall(real, generated, k)
        assert (found.precision, found.recall) == (standard.inside.mean(), standard.recalled.mean())
        found = precision_recall(real, generated, k + 1, "reference")
        assert (found.precision, found.recall) == (strict.inside.mean(), strict.recalled.mean())
        filled = density_coverage(real, generated, k)
        assert (filled.density, filled.coverage) == (strict.counts.mean() / k, strict.covered.mean())


def test_equal_rows_are_one_whatever_the_sign_of_their_zeros() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-0.0, 1.0], [0.0, 1.0]])
    found = neighbours.Distinct.of(x)
    assert found.points.tolist() == [[0, 1], [2, 0]]
    assert (found.times.tolist(), found.member.tolist()) == ([3, 1], [0, 1, 0, 0])


def test_families_hold_what_they_are_named_for() -> None:
    """Ties on which < and ≤ part, rows that occur twice, in one set and in both, and zeros of either sign."""
    real, generated = PAIRS["lattice, 64"]
    strict, closed = (Brute.of(real, generated, Balls(3, closed)).counts.sum() for closed in (False, True))
    assert strict < closed
    real, generated = PAIRS["copies, 64"]
    assert len(torch.unique(real, dim=0)) < len(real)
    assert (squares(real, generated) == 0).any()
    for d in (3, 64):
        real = PAIRS[f"near copies, float32, {d}"][0]
        assert 0 < square_reach(real, 1).max() < (1e-6 * float(real[0].norm())) ** 2
    assert (torch.signbit(PAIRS["signed zeros, 64"][0]) & (PAIRS["signed zeros, 64"][0] == 0)).any()


def test_more_kept_neighbours_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With none to spare, rounding leaves many rows open, and they are settled by the slower means."""
    for family in ("copies, 64", "near copies, float32, 64", "very tight clusters, 64", "lattice, 64"):
        for spare in (0, 1, 200):
            monkeypatch.setattr(neighbours, "_SPARE", spare)
            check(*PAIRS[family])


@pytest.mark.parametrize("d", [3, 64])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [-100, -75, -50, 50, 75, 100])
def test_the_unit_of_the_features_does_not_matter(d: int, kind: torch.dtype, power: int) -> None:
    """Powers of two round nothing, in either number type."""
    check(*(2.0**power * x.to(kind) for x in (cloud(60, d), 0.9 * cloud(40, d, seed=1))))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-3, 1e-10, 1e-20, 1e-25])
def test_a_cluster_at_the_centre_of_a_wide_set(kind: torch.dtype, scale: float) -> None:
    """Products of two of its rows may be too small for float32, however large those of others are."""
    axes, x, y = torch.cat([torch.eye(64), -torch.eye(64)]).double(), scale * cloud(20, 64), scale * cloud(15, 64, 1)
    real, generated = (torch.cat([axes, z, -z]).to(kind) for z in (x, 0.9 * y))
    check(real, generated)
    np.testing.assert_allclose(radii(real, 3), np.sqrt(square_reach(real, 3)), rtol=1e-13, atol=0)


@pytest.mark.parametrize("d", [2, 33])
def test_a_set_with_outliers(d: int) -> None:
    real, generated = cloud(60, d), cloud(40, d, seed=1)
    real[3], real[7], generated[5] = 1e9, -1e9, 1e9
    check(real, generated)


def test_radii_equal_scikit_learns() -> None:
    for family in ("normal, 2", "normal, 64, float32", "copies, 3", "clusters and fewer of them, 64", "lattice, 3"):
        x = PAIRS[family][0]
        near = NearestNeighbors(n_neighbors=7, algorithm="kd_tree").fit(x.double().numpy()).kneighbors()[0]
        for k in (1, 2, 7):
            np.testing.assert_allclose(radii(x, k), near[:, k - 1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("family", ["normal, 2", "normal, 64", "clusters and fewer of them, 3"])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_package_prdc(family: str, k: int) -> None:
    prdc = pytest.importorskip("prdc")
    real, generated = PAIRS[family]
    theirs = prdc.compute_prdc(real.numpy(), generated.numpy(), k)
    shares, filled = precision_recall(real, generated, k + 1, "reference"), density_coverage(real, generated, k)
    assert shares.precision == pytest.approx(theirs["precision"], rel=1e-12)
    assert shares.recall == pytest.approx(theirs["recall"], rel=1e-12)
    assert filled.density == pytest.approx(theirs["density"], rel=1e-12)
    assert filled.coverage == pytest.approx(theirs["coverage"], rel=1e-12)


class TestByHand:
    """Real rows 0 and 1, whose balls reach to 1; generated rows 2 and 10, whose balls reach to 8."""

    real, generated = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [10.0]])

    @pytest.mark.parametrize(("convention", "k", "precision"), [("standard", 1, 0.5), ("reference", 2, 0)])
    def test_a_point_at_just_the_radius(self, convention: Convention, k: int, precision: float) -> None:
        found = precision_recall(self.real, self.generated, k, convention)
        assert (found.precision, found.recall) == (precision, 1)

    def test_density_and_coverage_exclude_it(self) -> None:
        found = density_coverage(self.real, self.generated, 1)
        assert (found.density, found.coverage) == (0, 0)
        found = density_coverage(self.real, self.generated - 1.5, 1)  # 0.5 is in both balls
        assert (found.density, found.coverage) == (1, 1)

    def test_radii(self) -> None:
        x = torch.tensor([[0.0], [3.0], [3.0], [7.0]])
        assert [radii(x, k).tolist() for k in (1, 2, 3)] == [[3, 0, 0, 4], [3, 3, 3, 4], [7, 4, 4, 7]]


class TestProperties:
    def test_equal_sets(self) -> None:
        """Without ties a ball holds its centre and k − 1 others."""
        x = cloud(80, 40)
        for convention in ("standard", "reference"):
            found = precision_recall(x, x.flip(0), 4, convention)
            assert (found.precision, found.recall) == (1, 1)
        filled = density_coverage(x, x.flip(0))
        assert (filled.density, filled.coverage) == (1, 1)

    @pytest.mark.parametrize("d", [2, 40])
    def test_sets_far_apart(self, d: int) -> None:
        found, filled = (
            measure(cloud(50, d), cloud(60, d, seed=1) + 1e3) for measure in (precision_recall, density_coverage)
        )
        assert (found.precision, found.recall, filled.density, filled.coverage) == (0, 0, 0, 0)

    def test_one_point_is_where_the_conventions_part(self) -> None:
        """All radii are 0: the point is within ≤ of itself and not within <."""
        x = torch.full((30, 5), 0.3)
        found = [precision_recall(x, x[:20], 4, convention) for convention in ("standard", "reference")]
        assert [(f.precision, f.recall) for f in found] == [(1, 1), (0, 0)]

    def test_several_kinds_of_balls_are_as_one_at_a_time(self) -> None:
        real, generated = PAIRS["lattice, 64"]
        together = Manifolds(real, generated, KINDS)
        for i, kind in enumerate(KINDS):
            alone = Manifolds(real, generated, [kind])
            for flag in FLAGS:
                np.testing.assert_array_equal(getattr(together, flag)[i], getattr(alone, flag)[0])

    def test_events_of_numpy_are_flattened(self) -> None:
        real, generated = PAIRS["normal, 64, float32"]
        flat = precision_recall(real, generated)
        assert precision_recall(real.reshape(-1, 4, 4, 4).numpy(), generated.reshape(-1, 4, 4, 4)) == flat
        np.testing.assert_array_equal(radii(real.reshape(-1, 4, 4, 4).numpy(), 3), radii(real, 3))


def lattice(least: int = 2) -> st.SearchStrategy[Doubles]:
    """Return strategies for rows with copies and ties, zeros of either sign among them."""
    shape = st.tuples(st.integers(least, 14), st.just(3))
    return arrays(np.float64, shape, elements=st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0]))


@given(lattice(), lattice(), st.integers(1, 13), st.sampled_from([1, 20]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_ties_and_copies_equal_brute_force(a: Doubles, b: Doubles, k: int, repeats: int, single: bool) -> None:
    """Features repeated 20 times scale all squared distances, and take the way of many dimensions."""
    real, generated = (torch.from_numpy(np.tile(x, (1, repeats))) for x in (a, b))
    if single:
        real, generated = real.float(), generated.float()
    k = min(k, len(a) - 1, len(b) - 1)
    check(real, generated, [Balls(k, False), Balls(k, True)])
    np.testing.assert_allclose(radii(real, k), np.sqrt(square_reach(real, k)), rtol=1e-14, atol=0)


@given(lattice(), lattice(), st.sampled_from([1, 20]), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_order_and_reflections_change_nothing(a: Doubles, b: Doubles, repeats: int, seed: int) -> None:
    """Rows permuted carry their flags along; permuted features with other signs leave all distances."""
    a, b = (np.tile(x, (1, repeats)) for x in (a, b))
    rng = generator(seed, "order")
    rows_a, rows_b, features = (rng.permutation(n) for n in (len(a), len(b), a.shape[1]))
    signs = rng.choice([-1.0, 1.0], size=a.shape[1])
    kinds = [Balls(1, False), Balls(1, True)]
    found = Manifolds(a, b, kinds)
    moved = Manifolds((a * signs)[:, features][rows_a], (b * signs)[:, features][rows_b], kinds)
    np.testing.assert_array_equal(moved.inside, found.inside[:, rows_b])
    np.testing.assert_array_equal(moved.counts, found.counts[:, rows_b])
    np.testing.assert_array_equal(moved.recalled, found.recalled[:, rows_a])
    np.testing.assert_array_equal(moved.covered, found.covered[:, rows_a])


@given(lattice(), st.sampled_from([1, 20]))
@settings(max_examples=40, deadline=None)
def test_equal_sets_are_within_closed_balls(a: Doubles, repeats: int) -> None:
    x = np.tile(a, (1, repeats))
    found = precision_recall(x, x, 1)
    assert (found.precision, found.recall) == (1, 1)


class TestRefusals:
    @pytest.mark.parametrize(("k", "convention"), [(0, "standard"), (-1, "standard"), (1, "reference")])
    def test_a_k_that_leaves_no_neighbour(self, k: int, convention: Convention) -> None:
        with pytest.raises(ValueError, match=f"k = {k} leaves no neighbour in the {convention} convention"):
            precision_recall(cloud(9, 2), cloud(9, 2), k, convention)

    @pytest.mark.parametrize("k", [0, -1])
    def test_the_same_of_density_and_radii(self, k: int) -> None:
        with pytest.raises(ValueError, match="neighbour"):
            density_coverage(cloud(9, 2), cloud(9, 2), k)
        with pytest.raises(ValueError, match="neighbour"):
            radii(cloud(9, 2), k)

    def test_another_convention(self) -> None:
        with pytest.raises(ValueError, match="must be 'standard' or 'reference', not 'strict'"):
            precision_recall(cloud(9, 2), cloud(9, 2), 3, "strict")

    @pytest.mark.parametrize("k", [5, 6])
    def test_fewer_rows_than_neighbours(self, k: int) -> None:
        few, many = torch.ones(5, 2), cloud(9, 2)
        message = f"has 5 rows, so none has a neighbour number {k}"
        with pytest.raises(ValueError, match=f"real {message}"):
            precision_recall(few, many, k)
        with pytest.raises(ValueError, match=f"generated {message}"):
            density_coverage(many, few, k)
        with pytest.raises(ValueError, match=f"x {message}"):
            radii(few, k)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_not_finite(self, value: float) -> None:
        bad = cloud(9, 2)
        bad[3, 1] = value
        for measure in (precision_recall, density_coverage):
            with pytest.raises(ValueError, match="real has entries that are not finite"):
                measure(bad, cloud(9, 2))
            with pytest.raises(ValueError, match="generated has entries that are not finite"):
                measure(cloud(9, 2), bad)
        with pytest.raises(ValueError, match="x has entries that are not finite"):
            radii(bad, 1)

    def test_events_of_different_sizes(self) -> None:
        with pytest.raises(ValueError, match=r"real has 2 values an event.* and generated has 3"):
            precision_recall(cloud(9, 2), cloud(9, 3))

    def test_rows_without_an_event_axis(self) -> None:
        with pytest.raises(ValueError, match=r"generated has shape \(9,\)"):
            density_coverage(cloud(9, 1), torch.zeros(9))
