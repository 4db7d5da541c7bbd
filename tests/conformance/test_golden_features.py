"""The Fréchet distance, precision, recall, density and coverage against FLD, EDM and prdc."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.metrics import density_coverage, frechet, precision_recall
from selfloop.metrics.neighbours import radii

HALF = torch.finfo(torch.float32).eps / 2  # what rounding to float32 changes, relative


@pytest.fixture(scope="module")
def features(golden):
    return golden.record("metrics", "metrics_features")


def each(features) -> Iterator[tuple[str, Tensor, Tensor, dict[str, Any]]]:
    """Return name, real and generated rows, and what the references say of them, of every set."""
    assert features.scalars
    for name, theirs in features.scalars.items():
        yield name, features[f"{name}.real"], features[f"{name}.gen"], theirs


def numbered(theirs: dict[str, Any], pattern: str) -> dict[int, dict[str, float]]:
    """Return the entries whose whole name the pattern matches, by the k in it, at least one."""
    found = {int(match[1]): value for key, value in theirs.items() if (match := re.fullmatch(pattern, key))}
    assert found, f"no entry is called {pattern}"
    return found


@dataclass(frozen=True)
class Inside:
    """Which points (M,) lie in which balls (N,), (N, M) bool.

    Attributes:
        sure: inside, however distances are rounded.
        possible: inside or, to rounding, on the border, where every program has its own answer.
        open: strictly inside, in exact arithmetic.
        closed: inside or on the border, in exact arithmetic.
    """

    sure: np.ndarray
    possible: np.ndarray
    open: np.ndarray
    closed: np.ndarray


def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared distances (N, M) float64 of float32 rows."""
    return np.stack([((row - b.astype(np.float64)) ** 2).sum(1) for row in a.astype(np.float64)])


def exactly(a: np.ndarray, b: np.ndarray) -> Fraction:
    return sum(((Fraction(x) - Fraction(y)) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)), Fraction(0))


@functools.cache
def inside(centres: Tensor, points: Tensor, k: int) -> Inside:
    """Return what lies within the balls that reach to each centre's k-th other one."""
    x, y = centres.flatten(1).numpy(), points.flatten(1).numpy()
    close = 1e-11 * max(float((z.astype(np.float64) ** 2).sum(1).max()) for z in (x, y))
    among, across = squares(x, x), squares(x, y)
    np.fill_diagonal(among, np.inf)
    radii = np.sort(among, axis=1)[:, k - 1, None]
    unclear = np.abs(across - radii) <= close
    found = Inside(across < radii - close, across < radii + close, *(across < radii - close for _ in range(2)))
    for i in np.flatnonzero(unclear.any(1)):
        nearly = np.flatnonzero(np.abs(among[i] - radii[i]) <= close)
        rank = k - 1 - int((among[i] < radii[i] - close).sum())
        radius = sorted(exactly(x[i], x[j]) for j in nearly)[rank]
        for j in np.flatnonzero(unclear[i]):
            square = exactly(x[i], y[j])
            found.open[i, j], found.closed[i, j] = square < radius, square <= radius
    return found


def between(counts: Callable[[np.ndarray], int], balls: Inside, recorded: float, size: int, name: object) -> None:
    """A record may decide as it likes what is on the border, and nothing else."""
    assert counts(balls.sure) <= round(recorded * size) <= counts(balls.possible), name


def points_in(flags: np.ndarray) -> int:
    return int(flags.any(0).sum())


def balls_with(flags: np.ndarray) -> int:
    return int(flags.any(1).sum())


def check_shares(real: Tensor, generated: Tensor, k: int, convention: str, theirs: dict[str, float], name: str) -> None:
    """Ours are exact, and the record is, but for what is on the border."""
    ours = precision_recall(real, generated, k, convention)
    others = k if convention == "standard" else k - 1
    for what, centres, points in (("precision", real, generated), ("recall", generated, real)):
        balls, size = inside(centres, points, others), len(points)
        exact = balls.closed if convention == "standard" else balls.open
        assert round(getattr(ours, what) * size) == points_in(exact), (name, k, convention, what)
        between(points_in, balls, theirs[what], size, (name, k, convention, what))


def test_frechet_distance(features):
    """To 1e-10 of the variance; where N ≤ d the references take roots of noise, of √ε = 1.5e-8 a direction."""
    for name, real, generated, theirs in each(features):
        variance = float(real.double().var(0).sum() + generated.double().var(0).sum())
        singular = min(len(real), len(generated)) <= real.shape[1]
        close = variance * (1.5e-8 if singular else 1e-10)
        ours = frechet(real, generated)
        assert ours == pytest.approx(theirs["edm_fid_formula"], rel=0, abs=close), name
        assert ours == pytest.approx(theirs["exact_fid_eigh"], rel=0, abs=close), name


def test_frechet_distance_of_fld(features):
    """FLD takes its means in float32, which a second moment changes by some 6e-8 of it, however small the distance."""
    for name, real, generated, theirs in each(features):
        second = sum(float(x.double().square().mean(0).sum()) for x in (real, generated))
        assert frechet(real, generated) == pytest.approx(theirs["fld_FID"], rel=0, abs=4 * HALF * second), name


def test_precision_and_recall(features):
    for name, real, generated, theirs in each(features):
        for k, exact in numbered(theirs, r"exact_strict_k(\d+)").items():
            check_shares(real, generated, k, "reference", exact, name)
        for k, exact in numbered(theirs, r"exact_le_k(\d+)").items():
            check_shares(real, generated, k - 1, "standard", exact, name)


def test_precision_and_recall_of_fld(features):
    """But for the k and sets of which the record says that FLD's float32 distances lost them."""
    compared = 0
    for name, real, generated, theirs in each(features):
        for k, equal in numbered(theirs, r"fld_equals_exact_strict_k(\d+)").items():
            if equal:
                check_shares(real, generated, k, "reference", theirs[f"fld_k{k}"], name)
                compared += 1
    assert compared


def test_density_and_coverage(features):
    """The package prdc on float64 features, and a brute force; its precision and recall are strict as well.

    Copies of the k-th neighbour lie on the border of a ball, where prdc's distances are off by rounding.
    """
    for name, real, generated, theirs in each(features):
        for pattern in (r"exact_prdc_k(\d+)", r"prdc_k(\d+)_float64"):
            for k, found in numbered(theirs, pattern).items():
                ours, balls = density_coverage(real, generated, k), inside(real, generated, k)
                size = k * len(generated)
                assert round(ours.density * size) == balls.open.sum(), (name, pattern, k)
                assert round(ours.coverage * len(real)) == balls_with(balls.open), (name, pattern, k)
                between(lambda flags: int(flags.sum()), balls, found["density"], size, (name, pattern, k))
                between(balls_with, balls, found["coverage"], len(real), (name, pattern, k))
                check_shares(real, generated, k + 1, "reference", found, name)


def test_radii(features):
    """The record's k counts the row itself."""
    for name, real, generated, _ in each(features):
        for label, x in (("real", real), ("gen", generated)):
            for k, exact in numbered(features.tensors, rf"{name}\.radii_{label}_k(\d+)").items():
                np.testing.assert_allclose(radii(x, k - 1), exact.numpy(), rtol=1e-12, atol=0, err_msg=name)


def test_what_lies_on_a_border_is_known_exactly():
    """On a line, where it can be said without squares: 0.1 and 0.2 as float32 are on a border and beside one."""
    real = torch.tensor([[0.0], [0.1], [0.3]])
    generated = torch.tensor([[0.1], [0.2], [0.7]])
    balls = inside(real, generated, 1)
    zero, tenth, third = map(Fraction, real[:, 0].tolist())
    for i, (centre, reach) in enumerate(((zero, tenth), (tenth, tenth), (third, third - tenth))):
        for j, point in enumerate(map(Fraction, generated[:, 0].tolist())):
            assert balls.open[i, j] == (abs(point - centre) < reach)
            assert balls.closed[i, j] == (abs(point - centre) <= reach)
    assert not balls.open[0, 0]
    assert balls.closed[0, 0]
    assert balls.possible[0, 0]
    assert not balls.sure[0, 0]
    assert precision_recall(real, generated, 2, "reference").precision == points_in(balls.open) / 3
    assert precision_recall(real, generated, 1, "standard").precision == points_in(balls.closed) / 3
