"""Samples as small pictures: a grid of images, a density in two dimensions, a histogram in one."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from selfloop.core.events import Events, Mixed, Text
from selfloop.data.real import Real

Array = NDArray[np.float64]

PIXELS = 96
"""Bins a side of a density; image grids take about twice as many pixels."""

_ROWS = 20_000
"""Rows that a picture shows at most."""

_PALETTE = 256
"""Colours that all pictures but photographs have at most."""

_TILES = 64
"""Images that a picture shows at most."""

_CLASSES = 10
"""Classes that a picture shows at most, and images of each."""


def pictured(events: Events) -> bool:
    """Whether rows are drawn as one picture: text is read, and columns of several kinds are drawn one by one."""
    return not isinstance(events, Mixed | Text)


@dataclass(frozen=True)
class Picture:
    """Pixels, (height, width, 3) uint8, and the share of rows outside the frame or not finite."""

    pixels: NDArray[np.uint8]
    outside: float


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """One frame for every picture of a setting, fixed by its real training rows, in user units.

    Attributes:
        events: what the rows are.
        kind: "images", "density" of the first two coordinates, or "histogram" of the only one.
        low, high: the frame, (1 or 2,) per coordinate; (0,) for images.
        peak: the density that is drawn at full colour or height, unless a picture has a higher one.
    """

    events: Events
    kind: Literal["images", "density", "histogram"]
    low: Array
    high: Array
    peak: float

    @classmethod
    def of(cls, real: Real) -> Canvas:
        """Frame the real rows: their range and 15 % more on each side."""
        events = real.events
        if events.pixels(real.rows[:1]) is not None:
            return cls(events=events, kind="images", low=np.empty(0), high=np.empty(0), peak=1.0)
        rows = _rows(events, real.rows)
        shown = rows[:, :2]
        low, high = shown.min(0), shown.max(0)
        margin = np.where(high > low, 0.15 * (high - low), 0.5)
        kind: Literal["density", "histogram"] = "density" if shown.shape[1] == 2 else "histogram"
        blank = cls(events=events, kind=kind, low=low - margin, high=high + margin, peak=1.0)
        density, _ = blank._density(rows)
        peak = _peak(density) if kind == "density" else 1.4 * float(density.max())
        return cls(events=events, kind=kind, low=low - margin, high=high + margin, peak=peak)

    def draw(self, x: Tensor, labels: Tensor | None = None) -> Picture:
        """Draw (N, *event) rows given in model units; pictures of classes (N,) with a line of each class."""
        if self.kind == "images" and labels is not None:
            tiles = self.events.pixels(x)
            assert tiles is not None
            return Picture(_by_class(tiles, labels, self.events.classes), 0.0)
        if self.kind == "images":
            sound = x if x.dtype == torch.uint8 else x[torch.isfinite(x).flatten(1).all(1)]
            tiles = self.events.pixels(sound[:_TILES])
            assert tiles is not None
            return Picture(_square(tiles), 1 - len(sound) / max(len(x), 1))
        rows = _rows(self.events, x)
        finite = rows[np.isfinite(rows).all(1)]
        density, inside = self._density(finite)
        outside = 1 - inside / max(len(rows), 1)
        if self.kind == "histogram":
            return Picture(_bars(density / self.peak), outside)
        # A collapsed arm is brighter than real data everywhere: its own peak keeps its shape visible. The square
        # root does the same for what is faint.
        peak = max(self.peak, _peak(density))
        colour = colormaps["viridis"](np.sqrt(np.clip(density.T[::-1] / peak, 0, 1)))
        return Picture((colour[..., :3] * 255).round().astype(np.uint8), outside)

    def _density(self, rows: Array) -> tuple[Array, int]:
        """Return the smoothed share of rows per bin and the number of rows inside the frame."""
        d = len(self.low)
        ranges = list(zip(self.low.tolist(), self.high.tolist(), strict=True))
        counts, _ = np.histogramdd(rows[:, :d], bins=[PIXELS if d == 2 else PIXELS // 2] * d, range=ranges)
        width = 1.2 if d == 2 else 0.0
        smooth = gaussian_filter(counts, width) if width else counts
        return smooth / max(len(rows), 1), int(counts.sum())

    def frame(self) -> str:
        """Return the axes in words, "" for images."""
        if self.kind == "images":
            return ""
        parts = zip(self.events.columns, self.low, self.high, strict=False)
        return ", ".join(f"{name} from {low:.3g} to {high:.3g}" for name, low, high in parts)


def _square(images: Tensor) -> NDArray[np.uint8]:
    """Tile (N, 1 or 3, height, width) images, as many as fit about 200 pixels square."""
    side = max(2, min(8, 200 // max(images.shape[2:])))
    return _grid(images, side, side)


def _grid(images: Tensor, lines: int, across: int) -> NDArray[np.uint8]:
    """Tile (N, 1 or 3, height, width) images, one grey pixel apart."""
    height, width = images.shape[2:]
    tiles = np.full((lines, height + 1, across, width + 1, 3), 128, dtype=np.uint8)
    for k, image in enumerate(images[: lines * across].permute(0, 2, 3, 1).numpy()):
        tiles[k // across, :height, k % across, :width] = image
    return tiles.reshape(lines * (height + 1), across * (width + 1), 3)[:-1, :-1]


def _by_class(images: Tensor, labels: Tensor, classes: int) -> NDArray[np.uint8]:
    """Tile (N, 1 or 3, height, width) images with a line of each of the first classes, black where one has no more."""
    side = max(2, min(_CLASSES, 200 // max(images.shape[2:])))
    tiles = images.new_zeros(min(classes, _CLASSES), side, *images.shape[1:])
    for k, line in enumerate(tiles):
        some = images[labels == k][:side]
        line[: len(some)] = some
    return _grid(tiles.flatten(0, 1), len(tiles), side)


def _rows(events: Events, x: Tensor) -> Array:
    rows: Array = events.restore(x[:_ROWS]).flatten(1).numpy()
    return rows


def _peak(density: Array) -> float:
    """Return the density that all but the brightest hundredth of what is not empty stay below."""
    lit = density[density > 1e-3 * density.max()] if density.any() else np.ones(1)
    return float(np.quantile(lit, 0.99))


def _bars(heights: Array) -> NDArray[np.uint8]:
    """Draw bars, white below and black above their heights in 0 … 1, two pixels wide."""
    filled = np.arange(PIXELS)[::-1, None] < PIXELS * np.repeat(np.clip(heights, 0, 1), 2)[None]
    colour = np.array([[68, 1, 84], [94, 201, 98]], dtype=np.uint8)
    return np.asarray(colour[filled.astype(int)])


def png(pixels: NDArray[np.uint8], colours: int = 64) -> bytes:
    """Return a PNG, of all but photographs with a palette: a third of the size counts."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    colour = pixels.reshape(-1, 3).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    if len(np.unique(colour)) <= _PALETTE:
        image = image.quantize(colours, dither=Image.Dither.NONE)
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes, mime: str) -> str:
    """Return content as a data: address."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
