"""Which settings are drawn, and how each looks in every chart.

That is as in the paper's Figures 2 and 8 where settings differ in λ alone. Colours are told apart by people who see no
red, no green or no blue, stand out from a light and from a dark page, and never stand alone: no two settings of a chart
have the same marker and dash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from matplotlib import colormaps
from matplotlib.colors import to_hex

from selfloop.analysis.curves import Curves, Setting

Dash = Literal["solid", "dashed", "dotted", "dashdot"]
Marker = Literal["", "o", "^", "s", "D", "v", "P", "*", "h"]


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colours on a light and on a dark page, and line and marker in matplotlib's words ("" for no marker)."""

    light: str
    dark: str
    dash: Dash = "solid"
    marker: Marker = ""


_NONE = Style(light="#111111", dark="#f2f2f2", dash="dashed", marker="o")
_ALL = Style(light="#d62728", dark="#e83a3a", dash="dashed", marker="^")

PALETTE = tuple(
    Style(light=light, dark=dark)
    for light, dark in (
        ("#3d90f2", "#56b4e9"),
        ("#f26b00", "#d55e00"),
        ("#007354", "#009e73"),
        ("#bf60a6", "#cc79a7"),
        ("#111111", "#f2f2f2"),
        ("#594300", "#f0e442"),
        ("#163559", "#0072b2"),
        ("#a68c53", "#e69f00"),
    )
)
"""Of settings that have no order: the hues of Okabe and Ito 2008; half of theirs are too pale for a light page."""

_MARKERS: tuple[Marker, ...] = ("", "s", "D", "v", "P", "*", "h")

DASHES: tuple[Dash, ...] = ("solid", "dashed", "dashdot", "dotted")
"""In the order in which they are taken."""

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
    """Return one style per setting: λ = 0 black dashed with circles, λ = ∞ red dashed with triangles.

    Between them colours rise with λ. Of settings that λ does not tell apart, and of regimes without one, they are those
    of :data:`PALETTE`.
    """
    lams = [setting.ratio for setting in settings]
    paper = len(set(lams)) == len(lams) and not any(map(math.isnan, lams)) and all(map(_is_lambda, settings))
    special = {0.0: _NONE, math.inf: _ALL} if paper else {}
    ordinary = sorted(lam for lam in lams if lam not in special) if paper else lams
    out: list[Style] = []
    for i, lam in enumerate(lams):
        place = ordinary.index(lam) if paper and lam not in special else i
        colours = ladder(place, len(ordinary)) if paper else PALETTE[i % len(PALETTE)]
        out.append(special.get(lam) or _marked(colours, place))
    return out


def _is_lambda(setting: Setting) -> bool:
    """Whether a setting is told by its λ, and no regime of another kind, whose ratio is only what came of it."""
    mixing = setting.settings.get("mixing")
    name = mixing.get("name", "augment") if isinstance(mixing, Mapping) else mixing
    return name in (None, "augment") and setting.settings.get("mixing.name", "augment") == "augment"


def _marked(colours: Style, i: int) -> Style:
    """Return the i-th look: another marker each, and another line where markers begin again."""
    return replace(colours, marker=_MARKERS[i % len(_MARKERS)], dash=DASHES[i // len(_MARKERS) % len(DASHES)])


def ladder(i: int, n: int) -> Style:
    """Return the colours of the i-th of n that have an order, from dark to light."""
    at = i / (n - 1) if n > 1 else 0.5
    viridis = colormaps["viridis"]
    return Style(light=to_hex(viridis(0.58 * at)), dark=to_hex(viridis(0.4 + 0.6 * at)))
