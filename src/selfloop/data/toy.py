"""Two-dimensional toys and the standard normal: fresh, independent rows for every seed.

Geometry and constants follow the code of FFJORD (Grathwohl et al. 2018, arXiv:1810.01367, ``toy_data.py``)
except where a class names another source. Those programs place some points on a regular grid of angles, in
equal counts per component; here every row is an independent draw, as the theory of the loop assumes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.errors import DataError
from selfloop.core.events import Vectors
from selfloop.core.streams import Streams
from selfloop.data.base import DATA, Dataset, Split, refuse_rows

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Toy(Dataset):
    """A density to sample: ``n`` training rows and ``held_out`` others (None: as many), separate streams."""

    n: int = Field(default=1000, ge=2)
    held_out: int | None = Field(default=None, ge=1)
    offers: ClassVar[frozenset[Capability]] = frozenset(("fresh",))

    @property
    def columns(self) -> int:
        """How many numbers a row has at least."""
        return 2

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return n independent rows, (n, d) float64."""

    def names(self, d: int) -> tuple[str, ...]:
        """Return what d columns are called."""
        return ("x", "y") if d == 2 else tuple(f"x{i}" for i in range(d))

    def load(self, seeds: Sequence[int]) -> Split:
        """Draw both sets of every seed; model units are user units."""
        streams = Streams(seeds=tuple(seeds))
        m = self.n if self.held_out is None else self.held_out
        refuse_rows(len(seeds) * (self.n + m), self.columns, f"data {DATA.name_of(self)}")
        train = np.stack([self._rows(rng, self.n) for rng in streams.numpy("data")])
        held_out = np.stack([self._rows(rng, m) for rng in streams.numpy("held_out")])
        return Split(
            train=torch.from_numpy(train),
            held_out=torch.from_numpy(held_out),
            events=Vectors.unscaled(self.names(train.shape[-1])),
        )

    def fresh(self, seed: int, generation: int, k: int) -> Tensor:
        """Draw k rows (k, d) from a stream of the seed and the generation; there is no end to them."""
        (rng,) = Streams((seed,), generation).numpy("fresh")
        return torch.from_numpy(self._rows(rng, k))

    def _rows(self, rng: np.random.Generator, n: int) -> np.ndarray:
        rows = self.draw(rng, n)
        if not isinstance(rows, np.ndarray) or rows.ndim != 2 or len(rows) != n:
            what = rows.shape if isinstance(rows, np.ndarray) else type(rows).__name__
            raise DataError(f"data {DATA.name_of(self)!r} drew {what}, and must draw an array ({n}, d)")
        return rows


@DATA.register
class Gaussian(Toy):
    """N(0, I) in ``dim`` dimensions, the data of Proposition 1 of Bertrand et al. 2024."""

    name: Literal["gaussian"] = "gaussian"
    dim: int = Field(default=2, ge=1, le=10**9)

    @property
    def columns(self) -> int:
        """How many dimensions there are."""
        return self.dim

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, dim) rows."""
        return rng.standard_normal((n, self.dim))


@DATA.register
class TwoMoons(Toy):
    """Two interleaved half circles of radius 3, as ``sample_moons`` of torchcfm.

    ``jitter`` "diagonal" is what torchcfm does: both coordinates of a row shift by one uniform draw from
    [0, noise). "normal" adds N(0, noise² I), as ``make_moons`` of scikit-learn does. ``noise`` counts before
    the final 3x − 1.
    """

    name: Literal["two_moons"] = "two_moons"
    noise: NonNegative = 0.2
    jitter: Literal["diagonal", "normal"] = "diagonal"

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        lower = rng.integers(2, size=(n, 1)) == 1
        arc = _polar(np.ones(n), math.pi * rng.random(n))
        x = np.where(lower, np.array([1.0, 0.5]) - arc, arc)
        x += self.noise * (rng.random((n, 1)) if self.jitter == "diagonal" else rng.standard_normal((n, 2)))
        return 3 * x - 1


@DATA.register
class EightGaussians(Toy):
    """Eight equally likely N(centre, std² I) on a circle of radius ``scale``, standardised.

    As ``Gaussian8`` of ddpm-torch: rows are divided by the exact √(scale²/2 + std²), which leaves each
    coordinate variance 1.
    """

    name: Literal["eight_gaussians"] = "eight_gaussians"
    offers: ClassVar[frozenset[Capability]] = frozenset(("fresh", "modes"))
    scale: Positive = 2.0
    std: NonNegative = 0.02

    def modes(self) -> tuple[Tensor, float]:
        """Return the centres in the units of the rows, (8, 2) float64, anticlockwise from (+, 0), and their std."""
        centres = torch.from_numpy(_polar(np.full(8, self.scale), np.arange(8) * math.pi / 4) / self._divisor())
        return centres, self.std / self._divisor()

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        centres, std = self.modes()
        return np.asarray(centres.numpy()[rng.integers(8, size=n)] + std * rng.standard_normal((n, 2)))

    def _divisor(self) -> float:
        return math.sqrt(self.std**2 + self.scale**2 / 2)


@DATA.register
class Checkerboard(Toy):
    """Uniform on the eight squares of side 2 that touch only at corners in [−4, 4]²."""

    name: Literal["checkerboard"] = "checkerboard"

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        column, pair = rng.integers(4, size=n), rng.integers(2, size=n)
        corner = np.stack([column, 2 * pair + column % 2], axis=1)
        return 2 * (corner + rng.random((n, 2))) - 4


@DATA.register
class Pinwheel(Toy):
    """Five blades, N(1, radial²) along, N(0, tangential²) across, turned by −rate·exp(along) and doubled."""

    name: Literal["pinwheel"] = "pinwheel"
    radial: NonNegative = 0.3
    tangential: NonNegative = 0.1
    rate: float = Field(default=0.25, allow_inf_nan=False)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        along = 1 + self.radial * rng.standard_normal(n)
        across = self.tangential * rng.standard_normal(n)
        turn = 2 * math.pi / 5 * rng.integers(5, size=n) - self.rate * np.exp(along)
        return np.asarray(2 * (_polar(along, turn) + _polar(across, turn + math.pi / 2)))


@DATA.register
class TwoSpirals(Toy):
    """Two opposite spirals r = angle/3 of 1½ turns, widened by uniforms on [0, 1/6)², plus N(0, noise² I)."""

    name: Literal["two_spirals"] = "two_spirals"
    noise: NonNegative = 0.1

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        angle = 3 * math.pi * np.sqrt(rng.random(n))
        arm = (_polar(angle, math.pi - angle) + 0.5 * rng.random((n, 2))) / 3
        sign = 1 - 2 * rng.integers(2, size=(n, 1))
        return np.asarray(sign * arm + self.noise * rng.standard_normal((n, 2)))


@DATA.register
class Rings(Toy):
    """Four equally likely concentric circles of radius 0.75, 1.5, 2.25 and 3, plus N(0, noise²)."""

    name: Literal["rings"] = "rings"
    noise: NonNegative = 0.08

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        radius = 0.75 * rng.integers(1, 5, size=n)
        return _polar(radius, 2 * math.pi * rng.random(n)) + self.noise * rng.standard_normal((n, 2))


@DATA.register
class Circles(Toy):
    """Two equally likely circles of radius 1 and ``factor``, plus N(0, noise²), then tripled."""

    name: Literal["circles"] = "circles"
    factor: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    noise: NonNegative = 0.08

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        radius = np.where(rng.integers(2, size=n) == 1, self.factor, 1.0)
        return 3 * (_polar(radius, 2 * math.pi * rng.random(n)) + self.noise * rng.standard_normal((n, 2)))


@DATA.register
class SwissRoll(Toy):
    """The spiral r = angle for angles uniform on [1.5π, 4.5π), plus N(0, noise²), divided by 5."""

    name: Literal["swiss_roll"] = "swiss_roll"
    noise: NonNegative = 1.0

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return (n, 2) rows."""
        angle = 1.5 * math.pi * (1 + 2 * rng.random(n))
        return (_polar(angle, angle) + self.noise * rng.standard_normal((n, 2))) / 5


def _polar(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return the points (n, 2) at polar coordinates (n,) and (n,)."""
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
