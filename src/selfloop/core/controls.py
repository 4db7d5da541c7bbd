"""Which setting is another one's control."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def of_mixing(key: str) -> bool:
    """Whether a key of the grid is one of the regime."""
    return key.split(".")[0] == "mixing"


def controls(
    settings: Sequence[Mapping[str, Any]], chosen: Sequence[bool], free: Sequence[str] = ()
) -> list[int | None]:
    """Return of every setting the place of its control, None where it has none; a control is its own.

    Args:
        settings: the grid's keys and values.
        chosen: whether it may be a control: it is that of the settings which differ from it in their regimes alone, and
            in what ``free`` names; of two that are, the first.
        free: other keys.
    """
    keys = [
        json.dumps({k: v for k, v in s.items() if not of_mixing(k) and k not in free}, sort_keys=True, default=str)
        for s in settings
    ]
    found: dict[str, int] = {}
    for place, (key, is_one) in enumerate(zip(keys, chosen, strict=True)):
        if is_one:
            found.setdefault(key, place)
    return [found.get(key) for key in keys]
