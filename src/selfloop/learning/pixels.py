"""Between the uint8 levels of images and the interval [−1, 1] on which networks see them.

Each original rounds in a way of its own, so that the same network's images differ by up to one level. What is not
finite has no level: look for it before.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_interval(levels: Tensor) -> Tensor:
    """Return uint8 levels 0 … 255 as float32 on [−1, 1]."""
    return levels.to(torch.float32) / 127.5 - 1


def truncated_levels(x: Tensor) -> Tensor:
    """Return levels as EDM's ``generate.py`` and torchcfm's ``compute_fid.py`` do: ⌊127.5 x + 128⌋, kept in range."""
    return (x * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def rounded_levels(x: Tensor) -> Tensor:
    """Return levels as ddpm-torch does: 127.5 x + 127.5 rounded, halves to even, and kept in range."""
    return (x * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def saved_levels(x: Tensor) -> Tensor:
    """Return levels as torchcfm's training does: clipped to [−1, 1], then as torchvision's ``save_image`` writes them.

    ⌊255 (x/2 + ½) + ½⌋ is :func:`truncated_levels` but for rounding: x on the border between two levels may fall on
    either side.
    """
    return ((x.clamp(-1, 1) / 2 + 0.5) * 255 + 0.5).clamp(0, 255).to(torch.uint8)
