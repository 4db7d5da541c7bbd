"""Toys: reproducible, independent across arms, and drawn from the density their docstring states."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.integrate import quad

from selfloop.core.errors import ConfigError
from selfloop.core.events import Vectors
from selfloop.data import (
    DATA,
    Bernoulli,
    Categorical,
    Checkerboard,
    Circles,
    EightGaussians,
    Exponential,
    Gaussian,
    LinearRegression,
    LogisticRegression,
    Pinwheel,
    Poisson,
    Rings,
    SwissRoll,
    TwoMoons,
    TwoSpirals,
)
from selfloop.data.toy import Toy
from selfloop.experiment import Experiment

BUILT_IN = [name for name in DATA if DATA.origin(name).what == "built-in"]
TOYS: list[Toy] = [DATA[name]() for name in BUILT_IN if issubclass(DATA[name], Toy)]
REPEATING = ("bernoulli", "poisson", "categorical")  # a new row may be equal to an old one
COLUMNS = {"categorical": ("category",), **dict.fromkeys(("bernoulli", "poisson", "exponential"), ("x0",))}
COLUMNS |= dict.fromkeys(("linear_regression", "logistic_regression"), ("x0", "x1", "y"))
each_toy = pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)
PI = math.pi


@each_toy
def test_shapes_and_units(toy: Toy) -> None:
    split = toy.model_copy(update={"n": 5, "held_out": 3}).load((0, 1, 2))
    columns = COLUMNS.get(toy.name, ("x", "y"))
    assert split.train.shape == (3, 5, len(columns))
    assert split.held_out.shape == (3, 3, len(columns))
    assert split.train.dtype == split.held_out.dtype == torch.float64
    assert split.events.columns == columns
    assert isinstance(split.events, Vectors)
    assert split.events.raster is None
    assert torch.equal(split.restore(split.train), split.train)


@each_toy
def test_held_out_defaults_to_n(toy: Toy) -> None:
    assert toy.model_copy(update={"n": 7}).load((0,)).held_out.shape[:2] == (1, 7)


@each_toy
def test_a_seed_fixes_the_bits_and_an_arm_does_not_see_its_neighbours(toy: Toy) -> None:
    stack, alone = toy.load((3, 4, 3)), toy.load((4,))
    assert torch.equal(stack.train[0], stack.train[2])
    assert torch.equal(stack.train[1], alone.train[0])
    assert torch.equal(stack.held_out[1], alone.held_out[0])


@pytest.mark.parametrize("toy", [toy for toy in TOYS if toy.name not in REPEATING], ids=lambda toy: toy.name)
def test_seeds_and_sets_share_no_row(toy: Toy) -> None:
    split = toy.load((0, 1))
    rows = torch.cat([split.train.flatten(0, 1), split.held_out.flatten(0, 1)])
    assert len(torch.unique(rows, dim=0)) == len(rows)


def _moons_moments(shift: float, spread: float) -> tuple[list[float], list[float]]:
    """Mean and variance of 3x − 1: x a half circle or its reflection through (1/2, 1/4), plus noise."""
    x = 0.5 + 0.25
    y = 0.5 - 4 / PI**2 + (2 / PI - 0.25) ** 2
    return [3 * (0.5 + shift) - 1, 3 * (0.25 + shift) - 1], [9 * (x + spread), 9 * (y + spread)]


def _spiral_variance(wave: int) -> float:
    """Second moment of (t·trig(t) + w/2)/3 plus noise, t of density 2t/(3π)² on [0, 3π) and w uniform."""
    trig = (lambda t: -math.cos(t), math.sin)[wave]
    first, second = (quad(lambda t, k=k: (t * trig(t)) ** k * 2 * t / (9 * PI**2), 0, 3 * PI)[0] for k in (1, 2))
    return float((second + first / 2 + 1 / 12) / 9 + 0.1**2)


ROLL = 39 * PI**2 / 8  # half the mean square angle of the swiss roll
_CHANCE = 1 / (1 + math.e)
MOMENTS: list[tuple[Toy, list[float], list[float]]] = [
    (Gaussian(), [0, 0], [1, 1]),
    (Gaussian(dim=5), [0] * 5, [1] * 5),
    (EightGaussians(), [0, 0], [1, 1]),
    (EightGaussians(scale=3.0, std=1.0), [0, 0], [1, 1]),
    (Checkerboard(), [0, 0], [16 / 3, 16 / 3]),
    (Pinwheel(), [0, 0], [2.2, 2.2]),  # 4·(1 + 0.3² + 0.1²)/2, equal by five-fold symmetry
    (Rings(), [0, 0], [9 * 1.875 / 8 + 0.08**2] * 2),
    (Circles(), [0, 0], [9 * ((1 + 0.25) / 4 + 0.08**2)] * 2),
    (TwoSpirals(), [0, 0], [_spiral_variance(0), _spiral_variance(1)]),
    (SwissRoll(), [2 / 5, 2 / (15 * PI)], [(ROLL - 13 / 4) / 25, (ROLL + 5 / 4 - 4 / (9 * PI**2)) / 25]),
    (TwoMoons(), *_moons_moments(0.1, 0.2**2 / 12)),
    (TwoMoons(jitter="normal"), *_moons_moments(0.0, 0.2**2)),
    (Bernoulli(probability=0.2, dim=2), [0.2, 0.2], [0.16, 0.16]),
    (Poisson(rate=3.0), [3], [3]),
    (Exponential(scale=2.0), [2], [4]),
    (Categorical(probabilities=[0.2, 0.0, 0.8]), [1.6], [0.64]),
    (LinearRegression(coefficients=[2.0, -1.0, 0.5], intercept=1.0, noise=3.0), [0, 0, 0, 1], [1, 1, 1, 14.25]),
    (LogisticRegression(coefficients=[0.0], intercept=-1.0), [0, _CHANCE], [1, _CHANCE * (1 - _CHANCE)]),
]


@pytest.mark.parametrize(("toy", "mean", "variance"), MOMENTS, ids=lambda value: getattr(value, "name", ""))
def test_moments_match_the_density(toy: Toy, mean: list[float], variance: list[float]) -> None:
    """Within five standard errors, at a fixed seed."""
    rows = toy.draw(np.random.default_rng(0), 40_000)
    centred = rows - rows.mean(axis=0)
    error = np.sqrt(rows.var(axis=0) / len(rows))
    np.testing.assert_array_less(np.abs(rows.mean(axis=0) - mean), 5 * error)
    error = np.sqrt((centred**4).mean(axis=0) - rows.var(axis=0) ** 2) / math.sqrt(len(rows))
    np.testing.assert_array_less(np.abs(rows.var(axis=0) - variance), 5 * error)


def test_two_moons_jitter_diagonally_as_torchcfm() -> None:
    """Taking the arc back out leaves one uniform on [0, noise) that both coordinates share."""
    rows = (TwoMoons().draw(np.random.default_rng(0), 4000) + 1) / 3
    arcs = (TwoMoons(noise=0.0).draw(np.random.default_rng(0), 4000) + 1) / 3
    shift = rows - arcs
    np.testing.assert_allclose(shift[:, 0], shift[:, 1], atol=1e-14)
    assert shift.min() >= 0
    assert shift.max() < 0.2
    assert abs(shift[:, 0].mean() - 0.1) < 5 * 0.2 / math.sqrt(12 * 4000)


def test_two_moons_without_noise_lie_on_two_half_circles() -> None:
    x, y = TwoMoons(noise=0.0).draw(np.random.default_rng(0), 4000).T
    upper = np.isclose(np.hypot(x + 1, y + 1), 3) & (y >= -1 - 1e-9)
    lower = np.isclose(np.hypot(x - 2, y - 0.5), 3) & (y <= 0.5 + 1e-9)
    assert np.all(upper | lower)
    assert abs(lower.mean() - 0.5) < 5 / math.sqrt(4 * 4000)


def test_eight_gaussians_match_ddpm_torch() -> None:
    """The divisor is the one recorded from the reference, to the last bit."""
    modes, radius = EightGaussians().modes()[0], 2 / 1.4143549766589716
    assert modes.shape == (8, 2)
    assert modes.dtype == torch.float64
    assert modes[0].tolist() == [radius, 0.0]
    torch.testing.assert_close(modes[2], torch.tensor([0.0, radius], dtype=torch.float64))
    torch.testing.assert_close(modes.norm(dim=1), torch.full((8,), radius, dtype=torch.float64))


def test_eight_gaussians_scatter_about_their_modes() -> None:
    toy = EightGaussians()
    rows = torch.from_numpy(toy.draw(np.random.default_rng(0), 8000))
    distance, nearest = torch.cdist(rows, toy.modes()[0], compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    share = torch.bincount(nearest, minlength=8) / len(rows)
    assert (share - 1 / 8).abs().max() < 5 * math.sqrt(7 / 64 / 8000)
    spread = 0.02 / 1.4143549766589716
    assert abs(float((distance**2).mean()) / (2 * spread**2) - 1) < 5 / math.sqrt(8000)


def test_checkerboard_fills_alternate_squares() -> None:
    cells = np.floor((Checkerboard().draw(np.random.default_rng(0), 8000) + 4) / 2).astype(int)
    assert cells.min() == 0
    assert cells.max() == 3
    assert np.all(cells.sum(axis=1) % 2 == 0)
    counts = np.unique(cells, axis=0, return_counts=True)[1]
    assert len(counts) == 8
    assert np.abs(counts / 8000 - 1 / 8).max() < 5 * math.sqrt(7 / 64 / 8000)


def test_rings_and_circles_have_their_radii() -> None:
    radii = np.hypot(*Rings(noise=0.0).draw(np.random.default_rng(0), 400).T)
    np.testing.assert_allclose(np.unique(radii.round(9)), [0.75, 1.5, 2.25, 3.0])
    radii = np.hypot(*Circles(noise=0.0, factor=0.25).draw(np.random.default_rng(0), 400).T)
    np.testing.assert_allclose(np.unique(radii.round(9)), [0.75, 3.0])


def test_swiss_roll_without_noise_is_a_spiral() -> None:
    x, y = 5 * SwissRoll(noise=0.0).draw(np.random.default_rng(0), 400).T
    angle = np.hypot(x, y)
    np.testing.assert_allclose(x, angle * np.cos(angle), atol=1e-9)
    assert angle.min() >= 1.5 * PI
    assert angle.max() < 4.5 * PI


def test_gaussian_in_other_dimensions() -> None:
    split = Gaussian(n=4, dim=3).load((0,))
    assert split.train.shape == (1, 4, 3)
    assert split.events.columns == ("x0", "x1", "x2")
    assert Gaussian(n=4, dim=1).load((0,)).train.shape == (1, 4, 1)


@pytest.mark.parametrize("kind", [type(toy) for toy in TOYS])
def test_a_configuration_selects_a_toy_by_name(kind: type[Toy]) -> None:
    name = kind.model_fields["name"].default
    assert DATA.parse({"name": name, "n": 12}) == kind(n=12)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "two_moons", "n": 1},
        {"name": "two_moons", "held_out": 0},
        {"name": "two_moons", "noise": -0.1},
        {"name": "two_moons", "noise": math.nan},
        {"name": "two_moons", "jitter": "none"},
        {"name": "two_moons", "points": 3},
        {"name": "eight_gaussians", "scale": 0.0},
        {"name": "circles", "factor": 1.5},
        {"name": "gaussian", "dim": 0},
        {"name": "bernoulli", "probability": 1.5},
        {"name": "poisson", "rate": -1.0},
        {"name": "exponential", "scale": 0.0},
        {"name": "categorical", "probabilities": [0.5, 0.4]},
        {"name": "categorical", "probabilities": []},
        {"name": "linear_regression", "coefficients": []},
        {"name": "linear_regression", "noise": -1.0},
        {"name": "breast_cancer", "random_state": 1, "fresh_rows": 5},
        {"name": "diabetes", "random_state": -1},
        {"name": "three_moons"},
        {"n": 10},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    plain = {"name": "x", "generator": {"name": "gaussian"}, "generations": 1}
    with pytest.raises(ConfigError, match="data") as error:
        Experiment.build(plain | {"data": settings})
    assert "\n" not in str(error.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        TwoMoons().n = 3  # type: ignore[misc]


def test_every_data_set_has_its_own_name() -> None:
    names = [DATA[name].model_fields["name"].default for name in BUILT_IN]
    assert names == BUILT_IN
    assert len(set(names)) == len(names)


def test_the_logistic_toy_follows_its_coefficients() -> None:
    """The mean of x y is β times that of the logistic function's slope (Stein's lemma)."""
    x, y = LogisticRegression(coefficients=[2.0]).draw(np.random.default_rng(0), 100_000).T
    slope = quad(lambda u: math.exp(-u * u / 2) / math.sqrt(2 * PI) / (2 + 2 * math.cosh(2 * u)), -10, 10)[0]
    assert abs((x * y).mean() - 2 * slope) < 5 * (x * y).std() / math.sqrt(1e5)
