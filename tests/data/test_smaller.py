"""CIFAR-10 at smaller sides."""

from __future__ import annotations

import pytest
import torch

from selfloop import Experiment
from selfloop.core.errors import ConfigError
from selfloop.core.streams import Streams
from selfloop.data.cifar10 import smaller


@pytest.mark.parametrize("side", [32, 16, 8, 4])
def test_levels_are_means_over_squares_and_a_half_is_rounded_up(side: int) -> None:
    images = Streams((0,)).integers("levels", 256, (5, 3, 32, 32))[0].to(torch.uint8)
    images[0] = torch.tensor([2, 3]).repeat(16)  # whose means are 2.5
    means = torch.nn.functional.avg_pool2d(images.double(), 32 // side)
    found = smaller(images, side)
    assert found.dtype == torch.uint8
    assert torch.equal(found, (means + 0.5).floor().to(torch.uint8))
    assert side == 32 or found[0].unique().tolist() == [3]


def test_a_side_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.side"):
        Experiment.load("cifar10-edm").override("data.side=20")
