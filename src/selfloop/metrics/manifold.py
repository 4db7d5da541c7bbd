"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), to the last flag.

All four ask which points of one set lie in which balls of the other: a ball sits on every point and reaches to its
k-th nearest neighbour in its own set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from selfloop.metrics.arrays import ArrayLike, level, pair
from selfloop.metrics.base import METRICS, WORDS, Evidence, Metric, per_arm
from selfloop.metrics.demand import Demand
from selfloop.metrics.neighbours import Array, Distinct, membership, square_radii

Convention = Literal["standard", "reference"]


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of points within the other set's balls.

    Attributes:
        precision: of generated points, within a ball of the real set.
        recall: of real points, within a ball of the generated set.
    """

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """How densely and how widely generated points fill the real set's balls.

    Attributes:
        density: real balls that a generated point lies in, a mean, over k; about 1 for equal distributions.
        coverage: share of real balls with a generated point in them.
    """

    density: float
    coverage: float


@dataclass(frozen=True)
class Balls:
    """How the balls of a set are drawn.

    Attributes:
        k: the ball of a point reaches to its k-th nearest other point.
        closed: whether a point at just that distance is inside.
    """

    k: int
    closed: bool

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"a ball needs a neighbour to reach to, not number {self.k}")

    @classmethod
    def of(cls, k: int, convention: Convention) -> Balls:
        """Return what a convention makes of k.

        "standard" is that of Kynkäänniemi et al.: the k-th nearest *other* point, its distance included (≤).
        "reference" is that of the FLD package, with which the paper was made: k counts the point itself, so that its
        default k = 4 is the third other point, and the distance is excluded (<).

        Raises:
            ValueError: an unknown convention, or a k that leaves no other point.
        """
        if convention not in ("standard", "reference"):
            raise ValueError(f"convention must be 'standard' or 'reference', not {convention!r}")
        others = k if convention == "standard" else k - 1
        if others < 1:
            raise ValueError(f"k = {k} leaves no neighbour in the {convention} convention")
        return cls(others, closed=convention == "standard")


def precision_recall(
    real: ArrayLike, generated: ArrayLike, k: int = 3, convention: Convention = "standard"
) -> PrecisionRecall:
    """Return precision and recall of (N, *event) against (M, *event) features.

    Args:
        real: the reference.
        generated: what is judged.
        k: which neighbour a ball reaches to; see :meth:`Balls.of` for what the conventions count.
        convention: "standard", or "reference" for the FLD package's numbers.

    Raises:
        ValueError: k or the convention make no sense, a set has no k-th neighbour, or an entry is not finite.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import precision_recall
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> found = precision_recall(real, generated, k=3, convention="standard")
        >>> found.precision > found.recall
        True
    """
    found = Manifolds(real, generated, [Balls.of(k, convention)])
    return PrecisionRecall(precision=float(found.inside[0].mean()), recall=float(found.recalled[0].mean()))


def density_coverage(real: ArrayLike, generated: ArrayLike, k: int = 5) -> DensityCoverage:
    """Return density and coverage of (N, *event) against (M, *event) features.

    As in the authors' package prdc the k-th neighbour is another point, and its distance is excluded (<).

    Raises:
        ValueError: as :func:`precision_recall`.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import density_coverage
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> found = density_coverage(real, generated, k=5)
        >>> found.coverage < 0.9 < found.density
        True
    """
    found = Manifolds(real, generated, [Balls(k, closed=False)])
    return DensityCoverage(density=float(found.counts[0].mean()) / k, coverage=float(found.covered[0].mean()))


class Manifolds:
    """The balls of two sets and who lies in them, for several kinds of balls at once.

    Args:
        real: (N, *event) features.
        generated: (M, *event) features.
        balls: the kinds, B of them.

    Attributes:
        inside: (B, M) bool, generated points within a real ball.
        recalled: (B, N) bool, real points within a generated ball.
        counts: (B, M) int64, how many real balls a generated point lies in.
        covered: (B, N) bool, real balls with a generated point in them.

    Raises:
        ValueError: a set has no k-th neighbour, or an entry is not finite.
    """

    def __init__(self, real: ArrayLike, generated: ArrayLike, balls: list[Balls]) -> None:
        (x, y), _ = level(*pair(real, generated))
        a, b = Distinct.of(x), Distinct.of(y)
        ks = [ball.k for ball in balls]
        centre = a.centre()
        radii_a, radii_b = square_radii(a, ks, centre, "real"), square_radii(b, ks, centre, "generated")
        closed = np.array([ball.closed for ball in balls])
        self._of(a, b, *membership(a, b, radii_a, radii_b, closed, centre))

    @classmethod
    def joined(cls, a: Distinct, b: Distinct, spans: Sequence[tuple[Array, Array, Array]]) -> Self:
        """Return what :func:`~selfloop.metrics.neighbours.membership` found of spans of a, which are all of it."""
        counts, covered, recalled = zip(*spans, strict=True)
        self = cls.__new__(cls)
        self._of(a, b, np.sum(counts, axis=0), np.concatenate(covered, axis=1), np.concatenate(recalled, axis=1))
        return self

    def _of(self, a: Distinct, b: Distinct, counts: Array, covered: Array, recalled: Array) -> None:
        self.counts: NDArray[np.int64] = counts[:, b.member]
        self.inside: NDArray[np.bool_] = self.counts > 0
        self.covered: NDArray[np.bool_] = covered[:, a.member]
        self.recalled: NDArray[np.bool_] = recalled[:, a.member]


KINDS = (Balls.of(4, "reference"), Balls(5, closed=False))  # the paper's precision and recall; prdc's density

SHARES: dict[str, Callable[[Manifolds], float]] = {
    "precision": lambda m: float(m.inside[0].mean()),
    "recall": lambda m: float(m.recalled[0].mean()),
    "density": lambda m: float(m.counts[1].mean()) / KINDS[1].k,
    "coverage": lambda m: float(m.covered[1].mean()),
}
"""What metrics make of the balls of ``KINDS``."""

_LEAST = 1 + max(ball.k for ball in KINDS)  # rows of either set: one and its neighbours


def _shared(evidence: Evidence, against: Literal["train", "held_out"]) -> list[Manifolds]:
    def compute() -> list[Manifolds]:
        sets = zip(evidence.featured(against), evidence.featured("generated"), strict=True)
        return [Manifolds(real, generated, list(KINDS)) for real, generated in sets]

    return evidence.shared(("manifolds", against), compute)


def _metrics() -> Iterator[Metric]:
    near = "3rd nearest other row, at less than its distance (k = 4 of the FLD package)"
    definitions = {
        "precision": f"Share of generated features within the balls of {{real}}; each reaches to its {near}.",
        "recall": f"Share of features of {{real}} within the balls of the generated ones; each reaches to its {near}.",
        "density": "Balls of {real}, to the 5th nearest other row, that a generated feature lies in, a mean, over 5.",
        "coverage": "Share of balls of {real}, to the 5th nearest other row, with a generated feature in them.",
    }
    for name, definition in definitions.items():
        for against in ("train", "held_out"):
            yield Metric(
                name=f"{name}_{against}",
                title=f"{name.capitalize()}, {'training' if against == 'train' else 'held-out'} data",
                definition=definition.format(real=WORDS[against]),
                goal=1.0 if name == "density" else "higher",
                version=1,
                unit="ratio" if name == "density" else "share",
                compute=lambda e, against=against, name=name: per_arm(SHARES[name], _shared(e, against)),  # type: ignore[misc]
                floor=against == "held_out",
                demand=lambda sizes, against=against: Demand(rows={against: _LEAST, "generated": _LEAST}),  # type: ignore[misc]
            )


METRICS.register(*_metrics())
