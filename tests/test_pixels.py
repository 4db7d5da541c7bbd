"""Levels of images, there and back."""

from __future__ import annotations

import pytest
import torch

from selfloop.learning.pixels import rounded_levels, saved_levels, to_interval, truncated_levels

WAYS = [truncated_levels, rounded_levels, saved_levels]


@pytest.mark.parametrize("levels", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_level_comes_back(levels, dtype):
    every = torch.arange(256, dtype=torch.uint8)
    x = to_interval(every)
    assert (x.dtype, float(x[0]), float(x[-1])) == (torch.float32, -1, 1)
    assert torch.equal(levels(x.to(dtype)), every)


@pytest.mark.parametrize("levels", WAYS)
def test_what_is_out_of_range_is_black_or_white(levels):
    assert levels(torch.tensor([-torch.inf, -1e9, -1.01, 1.01, 1e9, torch.inf])).tolist() == [0, 0, 0, 255, 255, 255]


@pytest.mark.parametrize("levels", WAYS)
def test_the_nearest_level_is_taken(levels):
    x = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    assert float((levels(x).double() / 127.5 - 1 - x).abs().max()) <= 0.5 / 127.5 + 1e-9


def test_halves_differ():
    """127.5 x + 127.5 = 100.5 and 101.5: EDM rounds both up, ddpm-torch to the even one."""
    x = (torch.tensor([100.5, 101.5], dtype=torch.float64) - 127.5) / 127.5
    assert truncated_levels(x).tolist() == [101, 102]
    assert rounded_levels(x).tolist() == [100, 102]
