"""Colours that everybody can tell apart and read: computed, for the eyes of those who see fewer."""

from __future__ import annotations

import math
import re
from importlib import resources
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from selfloop.analysis.curves import Setting
from selfloop.report.style import MOST, Style, ladder, styles

Floats = NDArray[np.float64]

SEEN: dict[str, Floats] = {
    "all colours": np.eye(3),
    # Machado, Oliveira and Fernandes 2009, of severity 1, on linear RGB.
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TOLD_APART = 12.0
"""CIELAB distance at which two colours are told apart without being side by side; a just noticeable one is 2.3."""

NORMAL, LARGE = 4.5, 3.0
"""Contrasts that WCAG 2.2 asks for of text, and of what is drawn."""


def linear(colour: str) -> Floats:
    """Return #rrggbb as linear RGB."""
    x = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def lab(rgb: Floats) -> Floats:
    """Return linear RGB in CIELAB, of white D65."""
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
    )
    t = to_xyz @ np.clip(rgb, 0, 1) / to_xyz.sum(1)
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def luminance(colour: str) -> float:
    return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def apart(one: str, other: str) -> float:
    """Return how far two colours are apart for those who see the least of it."""
    return min(float(np.linalg.norm(lab(eye @ linear(one)) - lab(eye @ linear(other)))) for eye in SEEN.values())


def css() -> str:
    return resources.files("selfloop.report").joinpath("page.css").read_text()


def variables(scheme: str) -> dict[str, str]:
    """Return the colours of a scheme by name, those of :root and those of the columns."""
    light, dark, printed = re.split(r"@media screen and \(prefers-color-scheme: dark\) \{\n  :root|@media print", css())
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light.partition("}")[0]))
    if scheme == "dark":
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark.partition("}")[0]))
    if scheme == "print":
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", printed.partition("}")[0]))
    plus = re.findall(r"#columns \{[^}]*--plus: (#[0-9a-f]{6}); --minus: (#[0-9a-f]{6})", css())
    found["plus"], found["minus"] = plus[scheme == "dark"]
    return found


def of(*lams: float) -> list[Style]:
    return styles([Setting(label="", arms=(i,), ratio=lam, settings={}) for i, lam in enumerate(lams)])


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_has_contrast(scheme: str) -> None:
    v = variables(scheme)
    grounds = (v["page"], v["card"])
    for text in ("ink", "soft", "accent", "plus", "minus"):
        for ground in grounds:
            assert contrast(v[text], ground) >= NORMAL, (text, ground)
    for name in ("good", "warn", "bad"):
        assert contrast(v[name], v[f"{name}-back"]) >= NORMAL, name
    assert contrast(v["ink"], v["edge"]) >= NORMAL  # a verdict that cannot tell yet
    for picture in ("plus", "minus", "ink"):
        assert contrast(v[picture], v["card"]) >= LARGE


@pytest.mark.parametrize("lams", [(0, 0.5, 1, math.inf), (0, 0.25, 0.5, 1, 2, 4, math.inf), (math.nan,) * 8, (1, 2, 3)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_a_few_settings_are_told_apart(lams: tuple[float, ...], scheme: str) -> None:
    colours = [getattr(style, scheme) for style in of(*lams)]
    for one, other in combinations(colours, 2):
        assert apart(one, other) >= TOLD_APART, (one, other)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_regimes_are_told_apart(scheme: str) -> None:
    names = ("replace", "accumulate", "window", "fresh", "contaminated", "verified", "curated")
    regimes: list[Any] = [*names, {"name": "augment", "lam": 1}]
    settings = [
        Setting(label="", arms=(i,), ratio=1 + i / 10, settings={"mixing": name}) for i, name in enumerate(regimes)
    ]
    for one, other in combinations([getattr(style, scheme) for style in styles(settings)], 2):
        assert apart(one, other) >= TOLD_APART, (one, other)


@pytest.mark.parametrize("lams", [(*range(MOST - 1), math.inf), (math.nan,) * MOST, (math.inf,) * MOST])
def test_no_setting_has_the_line_and_marker_of_another(lams: tuple[float, ...]) -> None:
    looks = [(style.dash, style.marker) for style in of(*lams)]
    assert len(set(looks)) == MOST


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_stand_out_from_the_page(scheme: str) -> None:
    v = variables(scheme)
    shown = [*of(0, math.inf), *of(*[math.nan] * 8), *(ladder(i, n) for n in range(1, 9) for i in range(n))]
    for style in shown:
        assert contrast(getattr(style, scheme), v["card"]) >= LARGE, style


def test_an_order_is_one_of_lightness() -> None:
    for scheme in ("light", "dark"):
        lightness = [luminance(getattr(style, scheme)) for style in of(0.1, 0.5, 1, 2, 8)]
        assert lightness == sorted(lightness)
