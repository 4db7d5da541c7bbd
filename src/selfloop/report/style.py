"""Which settings are drawn, and how each looks in every chart.

That is as in the paper's Figures 2 and 8 where settings differ in λ alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from matplotlib import colormaps
from matplotlib.colors import to_hex

from selfloop.analysis.curves import Curves, Setting


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colours on a light and on a dark page, and line and marker in matplotlib's words ("" for no marker)."""

    light: str
    dark: str
    dash: Literal["solid", "dashed"] = "solid"
    marker: Literal["", "o", "^"] = ""


_NONE = Style(light="#111111", dark="#f2f2f2", dash="dashed", marker="o")
_ALL = Style(light="#d62728", dark="#ff6b6b", dash="dashed", marker="^")


MOST = 16
"""Settings that are drawn at most: more cannot be told apart, and take minutes."""


def legible(curves: Curves) -> Curves:
    """Return the curves of the settings that are drawn: all, or as many as can be told apart, with both ends."""
    return replace(curves, settings=tuple(curves.settings[i] for i in spaced(range(len(curves.settings)), MOST)))


def spaced(candidates: Sequence[int], most: int) -> list[int]:
    """Choose at most ``most`` values, evenly and with both ends."""
    if len(candidates) <= most:
        return list(candidates)
    step = (len(candidates) - 1) / max(most - 1, 1)
    return [candidates[math.floor(i * step + 0.5)] for i in range(most)]


def styles(settings: Sequence[Setting]) -> list[Style]:
    """Return one style per setting: λ = 0 black dashed with circles, λ = ∞ red dashed with triangles."""
    lams = [setting.ratio for setting in settings]
    paper = len(set(lams)) == len(lams) and not any(map(math.isnan, lams))
    special = {0.0: _NONE, math.inf: _ALL} if paper else {}
    ordinary = sorted((lam for lam in lams if lam not in special), key=lambda lam: lam) if paper else lams
    out: list[Style] = []
    for i, lam in enumerate(lams):
        place = ordinary.index(lam) if paper and lam not in special else i
        out.append(special.get(lam) or ladder(place, len(ordinary)))
    return out


def ladder(i: int, n: int) -> Style:
    """Return the look of the i-th of n, from dark to light."""
    at = i / (n - 1) if n > 1 else 0.5
    viridis = colormaps["viridis"]
    return Style(light=to_hex(viridis(0.2 + 0.6 * at)), dark=to_hex(viridis(0.45 + 0.5 * at)))
