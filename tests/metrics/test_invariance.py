"""Metrics under other units and origins: what a number means must not depend on them, nor its digits."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from selfloop.core.streams import Streams
from selfloop.generators.gaussian import Gaussian
from selfloop.metrics import bootstrap_error, max_sliced_wasserstein, mmd, sliced_wasserstein
from selfloop.metrics.arrays import level
from selfloop.metrics.base import METRICS, Evidence

NEEDING_MORE = ("parameter_distance", "parameter_distance_random", "nll", "mode_coverage", "mode_quality", "reverse_kl")
POWERS = {"feature units": 1, "data units": 1, "feature units²": 2, "data units²": 2}
LOOSE = dict.fromkeys(("max_sliced_w2_train", "max_sliced_w2_held_out"), 1e-4)  # an ascent amplifies rounding


def cloud(n: int, d: int, seed: int = 0) -> Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


def value(name: str, change: Callable[[Tensor], Tensor], d: int) -> float:
    train, held_out, generated = cloud(80, d), cloud(60, d, 1), 1.2 * cloud(70, d, 2) + 0.3
    train, held_out, generated = (change(x)[None] for x in (train, held_out, generated))
    evidence = Evidence(
        generator=Gaussian(), state={}, first={}, untrained={}, train=train, held_out=held_out, generated=generated
    )
    return float(METRICS[name].compute(evidence))


NAMES = [
    name
    for name, metric in METRICS.items()
    if name not in NEEDING_MORE
    and not name.startswith("kid")
    and not metric.needs & {"prediction", "linear", "classes", "labels", "columns", "text"}
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [2, 40])
def test_another_unit_changes_the_unit_alone(name: str, d: int) -> None:
    metric, expected = METRICS[name], value(name, lambda x: x, d)
    for scale in (1e-100, 1e-12, 1e12, 1e100):
        found = value(name, lambda x, s=scale: s * x, d) / scale ** POWERS.get(metric.unit, 0)
        assert found == pytest.approx(expected, rel=LOOSE.get(name, 1e-9))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [2, 40])
def test_another_origin_changes_nothing(name: str, d: int) -> None:
    origin = 1e9 * torch.arange(1, d + 1)
    expected = value(name, lambda x: (x + origin) - origin, d)  # with the digits that are left there
    found = value(name, lambda x: x + origin, d)
    assert found == pytest.approx(expected, rel=LOOSE.get(name, 1e-9))


@pytest.mark.parametrize(("scale", "origin"), [(1, 0), (1e-12, 0), (1e12, 0), (1, 1e3), (1, 1e9), (1e-3, -1e9)])
@pytest.mark.parametrize("d", [2, 40])
def test_kid_is_that_of_fractions(d: int, scale: float, origin: float) -> None:
    """It depends on unit and origin by its definition; its digits do not."""
    x, y = scale * cloud(8, d) + origin, scale * (1.3 * cloud(7, d, 1) + 0.2) + origin

    def kernel(a: list[Fraction], b: list[Fraction]) -> Fraction:
        return (sum(i * j for i, j in zip(a, b, strict=True)) / d + 1) ** 3

    def within(rows: list[list[Fraction]]) -> Fraction:
        n = len(rows)
        return sum(kernel(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    u, v = ([[Fraction(number) for number in row] for row in rows.tolist()] for rows in (x, y))
    across = sum(kernel(a, b) for a in u for b in v) / (len(u) * len(v))
    assert mmd(x, y) == pytest.approx(float(within(u) + within(v) - 2 * across), rel=1e-8, abs=0)


def test_rows_that_are_not_very_far_from_the_origin_are_left_alone() -> None:
    x, y = cloud(50, 5) + 100, torch.full((4, 5), 7.0)
    (u, v), scale = level(x, y)
    assert u is x
    assert v is y
    assert scale == 1
    assert level(torch.zeros(3, 2))[0][0].eq(0).all()


@pytest.mark.parametrize("size", [1e-320, 1e-30, 1.0, 1e308])
@pytest.mark.parametrize("origin", [0.0, 1e9, 3.0])
def test_no_difference_loses_a_digit(size: float, origin: float) -> None:
    x = size * (cloud(50, 5).clamp(-1, 1) + origin if size < 1e300 else cloud(50, 5).clamp(-1, 1))
    (u,), scale = level(x)
    assert torch.equal(scale * (u - u[0]), x - x[0])


def test_errors_move_with_the_unit() -> None:
    x, y = cloud(50, 3), cloud(40, 3, 1)
    assert bootstrap_error(1e100 * x, 1e100 * y) == pytest.approx(1e200 * bootstrap_error(x, y), rel=1e-9)
    assert sliced_wasserstein(1e100 * x, 1e100 * y).error == pytest.approx(1e100 * sliced_wasserstein(x, y).error)
    for scale in (2.0**-400, 2.0**-40, 2.0**40, 2.0**400):
        assert max_sliced_wasserstein(scale * x, scale * y) == pytest.approx(
            scale * max_sliced_wasserstein(x, y), rel=1e-12, abs=0
        )
