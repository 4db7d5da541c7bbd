"""Events: units, pictures, what is alike, and what survives being written."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfloop.core.events import Images, Raster, Vectors, read_events

SCALED = Vectors(
    ("height", "mass"),
    torch.tensor([170.0, 1e-3], dtype=torch.float64),
    torch.tensor([10.0, 0.1], dtype=torch.float64),
)
RASTER = Raster(height=2, width=3, black=-1.0, white=1.0)
GREY = Vectors.unscaled(tuple("abcdef"), RASTER)


def test_vectors_are_restored_to_the_users_units() -> None:
    x = torch.tensor([[[0.0, 1.0]], [[-2.0, 0.5]]])  # float32 and part of a graph, as a model gives it
    restored = SCALED.restore(x.requires_grad_())
    assert restored.dtype == torch.float64
    assert not restored.requires_grad
    assert restored.flatten().tolist() == pytest.approx([170.0, 0.101, 150.0, 0.051], rel=1e-15)
    assert torch.equal(Vectors.unscaled(("a", "b")).restore(x), x.detach().double())


def test_vectors_say_their_shape_and_take_the_models_number_type() -> None:
    assert (SCALED.shape, SCALED.columns, SCALED.kind) == ((2,), ("height", "mass"), "vectors")
    x = torch.zeros(3, 2, dtype=torch.float64)
    assert SCALED.typed(x, torch.float32).dtype == torch.float32
    assert SCALED.typed(x, torch.float64) is x


def test_vectors_that_are_no_pictures_have_no_pixels() -> None:
    assert SCALED.pixels(torch.zeros(3, 2)) is None


def test_pixels_go_from_black_to_white_and_are_clipped() -> None:
    x = torch.tensor([[-1.0, 1.0, 0.0, -5.0, 5.0, -0.998]])
    pixels = GREY.pixels(x)
    assert pixels is not None
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (1, 1, 2, 3))
    assert pixels.flatten().tolist() == [0, 255, 128, 0, 255, 0]


def test_black_may_be_above_white() -> None:
    negative = Vectors.unscaled(tuple("abcdef"), Raster(height=2, width=3, black=16.0, white=0.0))
    pixels = negative.pixels(torch.tensor([[16.0, 0.0, 8.0, 12.0, 4.0, 20.0]]))
    assert pixels is not None
    assert pixels.flatten().tolist() == [0, 255, 128, 64, 191, 0]


def test_images_are_their_own_levels() -> None:
    images, x = Images((3, 2, 2)), torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    assert (images.shape, images.columns, images.kind) == ((3, 2, 2), (), "images")
    assert images.typed(x, torch.float32) is x
    assert images.pixels(x) is x
    assert images.restore(x).dtype == torch.float64
    assert torch.equal(images.restore(x), x.double())


@pytest.mark.parametrize("events", [SCALED, GREY, Images((3, 2, 2))])
def test_alike_are_those_whose_rows_mean_the_same(events: Vectors | Images) -> None:
    others = [
        SCALED,
        GREY,
        Vectors.unscaled(("mass", "height")),
        Vectors.unscaled(tuple("abcdef")),
        Vectors.unscaled(tuple("abcdef"), Raster(height=3, width=2, black=-1.0, white=1.0)),
        Images((3, 2, 2)),
        Images((1, 2, 2)),
    ]
    assert [other for other in others if events.alike(other)] == [events]
    assert all(events.alike(other) == other.alike(events) for other in others)


def test_units_do_not_tell_vectors_apart() -> None:
    """Two splits of one table have the same columns, and moments of their own."""
    assert SCALED.alike(Vectors.unscaled(SCALED.columns))


@given(st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(1e-300, 1e300)), min_size=1, max_size=5))
def test_units_keep_all_their_digits(moments: list[tuple[float, float]]) -> None:
    shift, scale = torch.tensor(moments, dtype=torch.float64).T
    events = Vectors(tuple(f"x{i}" for i in range(len(moments))), shift, scale)
    again = read_events(json.loads(json.dumps(events.plain(), allow_nan=False)))
    assert isinstance(again, Vectors)
    assert again.columns == events.columns
    assert torch.equal(again.shift, shift)
    assert torch.equal(again.scale, scale)


@pytest.mark.parametrize("events", [SCALED, GREY, Images((1, 8, 8))])
def test_what_is_written_is_read_back(events: Vectors | Images) -> None:
    again = read_events(json.loads(json.dumps(events.plain())))
    assert type(again) is type(events)
    assert again.alike(events)
    assert again.plain() == events.plain()
    assert again.shape == events.shape


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"kind": "sequences"},
        {"kind": "images"},
        {"kind": "images", "shape": ["a"]},
        {"kind": "vectors", "columns": ["a"], "shift": [0.0], "scale": [1.0]},
        {"kind": "vectors", "columns": ["a"], "shift": ["x"], "scale": [1.0], "raster": None},
        {"kind": "vectors", "columns": ["a"], "shift": [0.0], "scale": [1.0], "raster": {"height": 1}},
    ],
)
def test_what_is_something_else_is_refused(plain: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_events(plain)
