"""Augmentations: identities, exact mirror images, known maps of smooth images, what labels mean, and probabilities."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfloop.core.streams import Streams
from selfloop.learning.augmentation import (
    _H,
    LABELS,
    NORMALS,
    UNIFORMS,
    Augmentation,
    Multiples,
    _resample,
    apply,
    draw,
)

pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def none(b: int) -> Augmentation:
    return Augmentation(*[torch.zeros(b) for _ in range(6)], shift=torch.zeros(b, 2))


def done(b: int = 1, **what: float | list[float]) -> Augmentation:
    """Return the augmentation that does the same to all images."""
    return replace(none(b), **{name: torch.tensor([value] * b) for name, value in what.items()})


def random(b: int, p: float, seed: int = 0) -> Augmentation:
    streams = Streams(seeds=(seed,))
    return draw(streams.uniform("u", (b, UNIFORMS))[0], streams.normal("n", (b, NORMALS))[0], p)


def images(b: int = 4, height: int = 16, width: int = 16) -> Tensor:
    return 2 * Streams(seeds=(5,)).uniform("images", (b, 3, height, width))[0] - 1


def smooth(x: Tensor, y: Tensor) -> Tensor:
    """Return a smooth function of places in the plane, in pixels."""
    return torch.exp(-((x - 2) ** 2 + 2 * (y + 3) ** 2 + x * y) / 60)


def places(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return x and y of the pixels, from the centre, (H, W)."""
    x = torch.arange(width) - (width - 1) / 2
    y = torch.arange(height) - (height - 1) / 2
    return x.expand(height, width), y.unsqueeze(1).expand(height, width)


def test_the_filter_is_an_orthogonal_wavelets():
    h = torch.tensor(_H, dtype=torch.float64)
    assert float(h.sum()) == pytest.approx(math.sqrt(2), abs=1e-10)
    for shift in range(0, 12, 2):
        assert float((h[shift:] * h[: 12 - shift]).sum()) == pytest.approx(float(shift == 0), abs=1e-10)
    # Six vanishing moments of the high-pass filter (−1)^k h_{11−k}.
    k = torch.arange(12, dtype=torch.float64)
    for power in range(6):
        assert float(((-1) ** k * h.flip(0) * (k - 5.5) ** power).sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 32), (7, 5)])
def test_nothing_done_returns_the_images_exactly(height, width):
    x = images(3, height, width)
    for nothing in (none(3), done(3, axis=2.0)):  # along which nothing is stretched
        assert torch.equal(apply(x, nothing), x)
        assert torch.equal(nothing.labels, torch.zeros(3, LABELS))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 32), (7, 5)])
def test_resampling_in_place_returns_the_images(height, width):
    """Also between the filters, which is how EDM treats images that it leaves in place; in float64 to ten digits."""
    x = images(2, height, width)
    eye = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    torch.testing.assert_close(_resample(x, eye), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(_resample(x.double(), eye), x.double(), rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 3), st.integers(0, 2**31))
def test_mirror_images_are_exact(way, seed):
    xflip, yflip = way % 2, way // 2
    x = Streams(seeds=(seed,)).normal("x", (2, 1, 6, 8))[0]
    expected = x.flip(3) if xflip else x
    expected = expected.flip(2) if yflip else expected
    assert torch.equal(apply(x, done(2, xflip=float(xflip), yflip=float(yflip))), expected)


# The filter is not symmetric: samples lie a little beside where they are taken to be, which a turn does not undo.
SMOOTH = 1e-2


@pytest.mark.parametrize(
    ("what", "came_from"),
    [
        ({"shift": [0.5, -0.8]}, lambda x, y, w, h: (x - 0.5 * w / 8, y + 0.8 * h / 8)),
        ({"scale": 1.5}, lambda x, y, w, h: (x / 2**0.3, y / 2**0.3)),
        ({"scale": -0.7}, lambda x, y, w, h: (x * 2**0.14, y * 2**0.14)),
        (
            {"angle": 0.6},
            lambda x, y, w, h: (x * math.cos(0.6) - y * math.sin(0.6), x * math.sin(0.6) + y * math.cos(0.6)),
        ),
        ({"stretch": 1.2}, lambda x, y, w, h: (x / 2**0.24, y * 2**0.24)),
        ({"stretch": 1.2, "axis": math.pi / 2}, lambda x, y, w, h: (x * 2**0.24, y / 2**0.24)),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_maps_of_a_smooth_image(what, came_from, height, width):
    x, y = places(height, width)
    ours = apply(smooth(x, y).view(1, 1, height, width), done(**what))[0, 0]
    expected = smooth(*came_from(x, y, width, height))
    inside = (x.abs() < width / 2 - 8) & (y.abs() < height / 2 - 6)  # what comes from beyond the edges is reflected
    torch.testing.assert_close(ours[inside], expected[inside], rtol=0, atol=SMOOTH)


def test_order_of_the_maps():
    """A pixel comes from where the shift is undone first, then the stretch, the turn, and the scale."""
    x, y = places(40, 40)
    a = {"scale": 0.5, "angle": 0.4, "stretch": 0.8, "axis": 0.3, "shift": [0.2, -0.3]}
    ours = apply(smooth(x, y).view(1, 1, 40, 40), done(**a))[0, 0]
    z = torch.complex(x - 0.2 * 5, y + 0.3 * 5)
    turned = z * complex(math.cos(0.3), math.sin(0.3))
    turned = torch.complex(turned.real / 2**0.16, turned.imag * 2**0.16) * complex(math.cos(0.3), -math.sin(0.3))
    turned = turned * complex(math.cos(0.4), math.sin(0.4)) / 2**0.1
    inside = (x.abs() < 11) & (y.abs() < 11)
    torch.testing.assert_close(ours[inside], smooth(turned.real, turned.imag)[inside], rtol=0, atol=SMOOTH)


def test_beyond_the_edges_is_the_reflection():
    x = images(1, 16, 16)
    ours = apply(x, done(shift=[4.0, 0.0]))  # by 8 pixels
    torch.testing.assert_close(ours[..., 8:], x[..., :8], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours[..., :8], x[..., 1:9].flip(3), rtol=0, atol=1e-5)


def test_a_quarter_turn_moves_pixels():
    x = images(1, 12, 12)
    ours = apply(x, done(angle=math.pi / 2))
    torch.testing.assert_close(ours, torch.rot90(x, 1, (2, 3)), rtol=0, atol=0.35)  # the filter is not symmetric
    x, y = places(12, 12)
    picture = smooth(x, y).view(1, 1, 12, 12)
    torch.testing.assert_close(
        apply(picture, done(angle=math.pi / 2)), torch.rot90(picture, 1, (2, 3)), rtol=0, atol=0.02
    )


def test_labels():
    a = done(xflip=1.0, yflip=0.0, scale=0.3, angle=0.6, stretch=-0.7, axis=2.0, shift=[0.1, 0.2])
    expected = [1, 0, 0.3, math.cos(0.6) - 1, math.sin(0.6), -0.7 * math.cos(2), -0.7 * math.sin(2), 0.1, 0.2]
    torch.testing.assert_close(a.labels, torch.tensor([expected]))


def test_probabilities():
    n, p = 200_000, 0.12
    a = random(n, p)
    expected = {"xflip": 0.5, "yflip": p / 2, "scale": p, "angle": p, "stretch": p, "axis": 0.5}
    for name, share in expected.items():
        seen = float((getattr(a, name) != 0).float().mean())
        assert seen == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / n)), name
    assert torch.equal(a.shift[:, 0] != 0, a.shift[:, 1] != 0)
    assert float((a.shift[:, 0] != 0).float().mean()) == pytest.approx(p, abs=0.004)
    for name in ("scale", "stretch"):
        w = getattr(a, name)[getattr(a, name) != 0]
        assert abs(float(w.mean())) < 0.05
        assert float(w.std()) == pytest.approx(1, abs=0.03)
    for name in ("angle", "axis"):
        w = getattr(a, name)[getattr(a, name) != 0]
        assert float(w.std()) == pytest.approx(math.pi / math.sqrt(3), abs=0.03)
        assert float(w.abs().max()) <= math.pi


def test_nothing_is_done_with_probability_zero():
    a = random(1000, 0.0)
    assert torch.equal(a.labels, torch.zeros(1000, LABELS))


def test_multiples():
    streams = Streams(seeds=(0,))
    numbers = streams.uniform("u", (1000, UNIFORMS))[0], streams.normal("n", (1000, NORMALS))[0]
    still = draw(*numbers, 0.5, Multiples(xflip=0, yflip=0, scale=0, rotate_frac=0, aniso=0, translate_frac=0))
    assert torch.equal(still.labels, torch.zeros(1000, LABELS))
    only = draw(*numbers, 0.5, Multiples(xflip=0, yflip=0, scale=2, rotate_frac=0, aniso=0, translate_frac=0))
    assert (only.scale != 0).all()
    assert torch.equal(only.labels[:, 2], only.scale)


@pytest.mark.parametrize("p", [0.12, 1.0])
def test_an_image_does_not_depend_on_its_batch(p):
    x, a = images(12), random(12, p)
    x[3] = torch.nan
    whole = apply(x, a)
    for i in (0, 5, 11):
        one = Augmentation(**{f.name: getattr(a, f.name)[i : i + 1] for f in fields(a)})
        assert torch.equal(apply(x[i : i + 1], one)[0], whole[i])


def test_images_are_left_as_they_were():
    x, a = images(12), random(12, 1.0)
    before = x.clone()
    assert apply(x, a).shape == x.shape
    assert torch.equal(x, before)
