"""How many rows of a set of unknown provenance look generated, and what that share does to the next generation.

A classifier is trained to tell known real rows from known generated ones (a classifier two-sample test; Lopez-Paz &
Oquab 2017) and scores all rows, each by a model that has seen no row of the same content. The scores are one function s
of a row, so that for a set U that is (1 − π) P₀ + π P₁

    E_U s = (1 − π) E₀ s + π E₁ s

holds whatever s is: a poor classifier makes the interval of π wide, and not wrong. The interval is the set of π that
the three means of scores do not contradict (Fieller 1954).

Legend: P₀ real, P₁ generated, U unknown; s score, in [0, 1]; a, b, u its means over the three; π the share; λ
generated rows per real one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from selfloop.analysis.alignment import align
from selfloop.analysis.bearable import Bearable, lam, share
from selfloop.analysis.sources import EventSet
from selfloop.core.errors import DataError, counted
from selfloop.core.frames import frame
from selfloop.features.base import Extractor
from selfloop.metrics.arrays import pair
from selfloop.theory.bounds import times, total_error

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Word = Literal["generated rows found", "none found", "cannot tell", "no mixture of the two"]

FEWEST = 50
"""Rows that each of the three sets must have."""

MOST = 20_000
"""Rows of a set that are looked at, chosen at random."""

LEVEL = 0.95
POWER = 0.8

_FOLDS = 5
_COMPONENTS = 64  # principal components that are looked at of longer rows
_BASIS = 100  # functions of the kernel machine
_BINS = 10
_SHARES = 201  # among which the mixture is looked for that fits best
_STRANGE = 1e-3  # level at which a set is said to be no mixture

LIMITS = """\
What this cannot know: rows of other generators than the one that was given count as whatever they resemble more;
generated rows that are like real ones count as real; and real rows that have changed since the known ones were
collected may count as generated."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The share of generated rows in a set, and what it does.

    Attributes:
        word: whether any are found at 95 %; "cannot tell" where the classifier does not tell real from generated rows,
            and "no mixture of the two" where the scores are not those of any mixture.
        share: π, within [0, 1]; NaN where it cannot be told.
        low: lower end of its interval at 95 %.
        high: upper end.
        detectable: the smallest share that would be found in 4 of 5 such sets; inf where none would.
        separation: probability that a generated row scores higher than a real one (AUC), on rows not trained on.
        clean: rows of the three sets that were looked at.
        generated: of these known generated ones,
        unknown: and of unknown ones,
        copies: of which so many equal a known generated row, and so many a known real one.
        borne: how much a loop of the generator bears, where that was given.
    """

    word: Word
    share: float
    low: float
    high: float
    detectable: float
    separation: float
    clean: int
    generated: int
    unknown: int
    copies: tuple[int, int]
    borne: Bearable | None = None

    @property
    def ratio(self) -> tuple[float, float, float]:
        """λ = π/(1 − π), and its interval."""
        value, low, high = (math.inf if x == 1 else x / (1 - x) for x in (self.share, self.low, self.high))
        return value, low, high

    def __str__(self) -> str:
        return "\n".join(sentences(self))

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(line)}</p>" for line in sentences(self))

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers as a pandas frame of one row.

        Raises:
            ConfigError: pandas is not installed.
        """
        return frame([self.plain()])

    def plain(self) -> dict[str, Any]:
        """Return the word and the numbers by name."""
        value, low, high = self.ratio
        return {
            "word": self.word,
            "share": self.share,
            "low": self.low,
            "high": self.high,
            "ratio": value,
            "ratio_low": low,
            "ratio_high": high,
            "detectable": self.detectable,
            "separation": self.separation,
            "clean": self.clean,
            "generated": self.generated,
            "unknown": self.unknown,
        }


def of_sets(
    clean: EventSet,
    generated: Sequence[EventSet],
    unknown: EventSet,
    *,
    features: Extractor | None = None,
    borne: Bearable | None = None,
) -> Provenance:
    """Return the share of a set that was read (:func:`selfloop.analysis.sources.read_events`), as :func:`provenance`.

    Raises:
        DataError: the sets have other columns or sizes than the clean one, or too few rows.
    """
    resized = features is not None and "pixels" in features.needs
    aligned = [align(clean, each, resized=resized) for each in (*generated, unknown)]
    *made, last = (each.generated for each in aligned)
    looks = (aligned[0].real, *made, last)
    real, *made, last = looks if features is None else [features(x) for x in looks]
    return provenance(real, torch.cat(made), last, borne=borne)


def provenance(clean: Any, generated: Any, unknown: Any, *, borne: Bearable | None = None) -> Provenance:
    """Estimate the share of rows that look generated.

    Args:
        clean: (N, *event) rows known to be real, arrays, tensors or data frames.
        generated: (M, *event) rows of the model, or of its earlier generations.
        unknown: (U, *event) rows.
        borne: what a loop of the generator bears (:mod:`selfloop.analysis.stability`), to hold the share against.

    Raises:
        DataError: the sets do not go together, have too few rows, or entries that are not finite.
    """
    return replace(Classifier.of(clean, generated).share(unknown), borne=borne)


@dataclass(frozen=True, eq=False)
class Classifier:
    """Tells generated rows from real ones, by five models, each of four parts of the known rows.

    Attributes:
        clean: known real rows as they were given, with whose events unknown ones must agree.
        known: (N, d) real and (M, d) generated rows that are looked at.
        axes: the principal components that rows were brought to; None for rows as they are.
        drawn: whether rows are parted by chance; else by their content.
        models: of all parts but the k-th.
        scores: of the known rows, each by the model that has not seen it.
    """

    clean: Any
    known: tuple[Array, Array]
    axes: Any
    drawn: bool
    models: tuple[Any, ...]
    scores: tuple[Array, Array]

    @classmethod
    def of(cls, clean: Any, generated: Any) -> Classifier:
        """Train it on real (N, *event) and generated (M, *event) rows.

        Raises:
            DataError: as :func:`provenance`.
        """
        p0, p1 = _alike(clean, generated, _NAMES[:2])
        axes = None
        if p0.shape[1] > _COMPONENTS:
            from sklearn.decomposition import PCA

            both = np.concatenate([p0, p1])
            axes = PCA(min(_COMPONENTS, len(both) - 1), random_state=0).fit(both)
            p0, p1 = axes.transform(p0), axes.transform(p1)
        keys = _keys(p0) + _keys(p1)
        drawn = len(set(keys)) < len(keys) / 2
        x, y, part = np.concatenate([p0, p1]), np.repeat([0, 1], [len(p0), len(p1)]), _parts(keys, drawn)
        models = tuple(_model(int((part != k).sum())).fit(x[part != k], y[part != k]) for k in range(_FOLDS))
        scores = _scores(models, x, part)
        return cls(clean, (p0, p1), axes, drawn, models, (scores[: len(p0)], scores[len(p0) :]))

    def share(self, unknown: Any) -> Provenance:
        """Estimate the share of generated rows in a set (U, *event).

        Raises:
            DataError: as :func:`provenance`.
        """
        _, u = _alike(self.clean, unknown, (_NAMES[0], _NAMES[2]))
        u = u if self.axes is None else self.axes.transform(u)
        keys = _keys(u)
        (s0, s1), su = self.scores, _scores(self.models, u, _parts(keys, self.drawn))
        real, made = (set(_keys(x)) for x in self.known)
        a, b = float(s0.mean()), float(s1.mean())
        low, high = _interval(s0, s1, su, 0.5 + LEVEL / 2)
        apart = low <= high
        value = (float(su.mean()) - a) / (b - a) if apart else math.nan
        hidden = math.sqrt(s0.var() / len(su) + s0.var() / len(s0))
        detectable = float(norm.ppf(0.5 + LEVEL / 2) + norm.ppf(POWER)) * hidden / (b - a) if b > a else math.inf
        return Provenance(
            word=_word(s0, s1, su, low) if apart else "cannot tell",
            share=min(max(value, 0.0), 1.0) if apart else math.nan,
            low=min(max(low, 0.0), 1.0) if apart else 0.0,
            high=min(max(high, 0.0), 1.0) if apart else 1.0,
            detectable=detectable if detectable < 1 else math.inf,
            separation=_auc(s0, s1),
            clean=len(s0),
            generated=len(s1),
            unknown=len(su),
            copies=(sum(key in made for key in keys), sum(key in real for key in keys)),
        )


_NAMES = ("the real set", "the generated set", "the unknown set")


def _alike(a: Any, b: Any, names: tuple[str, str]) -> tuple[Array, Array]:
    """Return two sets as rows that are looked at.

    Raises:
        DataError: they do not go together, or one has too few rows.
    """
    try:
        both = pair(a, b, names)
    except ValueError as error:
        raise DataError(f"the sets cannot be compared: {error}") from error
    found = []
    for name, x in zip(names, both, strict=True):
        if len(x) < FEWEST:
            raise DataError(f"{name} has {len(x)} rows of the {FEWEST} that it takes: give more")
        some = np.random.default_rng(0).permutation(len(x))[:MOST] if len(x) > MOST else slice(None)
        found.append(x.double().numpy()[some])
    return found[0], found[1]


def _keys(x: Array) -> list[bytes]:
    # Adding 0 makes −0 and 0 the same bytes.
    return [blake2b((row + 0.0).tobytes(), digest_size=16).digest() for row in x]


def _parts(keys: Sequence[bytes], drawn: bool) -> NDArray[np.int64]:
    """Return in which part of five each row is: by its content, so that no model scores a row that it has seen.

    Where rows repeat themselves, as those of categories do, one that has been seen gives nothing away, and a model must
    have seen the like: the parts are then drawn.
    """
    if drawn:
        return np.random.default_rng(len(keys)).integers(_FOLDS, size=len(keys))
    return np.array([int.from_bytes(key[:8], "little") % _FOLDS for key in keys], dtype=np.int64)


def _scores(models: Sequence[Any], x: Array, part: NDArray[np.int64]) -> Array:
    """Return the scores of rows, each by the model of the other parts."""
    scores = np.empty(len(x))
    for k, model in enumerate(models):
        if (part == k).any():
            scores[part == k] = model.predict_proba(x[part == k])[:, 1]
    return scores


def _model(rows: int) -> Any:
    """Return trees, which see rounding and bounds of columns, and a smooth kernel machine, which sees shapes."""
    from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    trees = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, early_stopping=False, random_state=0)
    kernel = make_pipeline(
        StandardScaler(), Nystroem(n_components=min(_BASIS, rows), random_state=0), LogisticRegression(max_iter=500)
    )
    return VotingClassifier([("trees", trees), ("kernel", kernel)], voting="soft")


def _interval(s0: Array, s1: Array, su: Array, quantile: float) -> tuple[float, float]:
    """Return the set of π that means of scores do not contradict, (inf, −inf) where real and generated are not told."""
    z2 = float(norm.ppf(quantile)) ** 2
    v0, v1, vu = (x.var(ddof=1) / len(x) for x in (s0, s1, su))
    d, gap = float(s1.mean() - s0.mean()), float(su.mean() - s0.mean())
    # (gap − πd)² ≤ z² (v_u + (1 − π)² v₀ + π² v₁)
    square, middle, free = d * d - z2 * (v0 + v1), gap * d - z2 * v0, gap * gap - z2 * (vu + v0)
    if d <= 0 or square <= 0:
        return math.inf, -math.inf
    wide = math.sqrt(max(middle * middle - square * free, 0.0))
    return (middle - wide) / square, (middle + wide) / square


def _word(s0: Array, s1: Array, su: Array, low: float) -> Word:
    far_low, far_high = _interval(s0, s1, su, 1 - _STRANGE / 2)
    beyond = far_low <= far_high and (far_low > 1 or far_high < 0)
    if beyond or _misfit(s0, s1, su) < _STRANGE:
        return "no mixture of the two"
    return "generated rows found" if low > 0 else "none found"


def _misfit(s0: Array, s1: Array, su: Array) -> float:
    """Return the p-value of a χ² test that the scores of U are distributed as those of some mixture."""
    edges = np.unique(np.quantile(np.concatenate([s0, s1]), np.arange(1, _BINS) / _BINS))
    f0, f1, fu = (np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) / len(x) for x in (s0, s1, su))
    shares = np.linspace(0, 1, _SHARES)[:, None]
    expected = (1 - shares) * f0 + shares * f1
    # Classes in which fewer than five rows are expected have no χ²: they count as if five were.
    variance = np.maximum(expected, 5 / len(su)) / len(su) + (1 - shares) ** 2 * f0 / len(s0) + shares**2 * f1 / len(s1)
    least = (np.square(fu - expected) / variance).sum(1).min()
    return float(chi2.sf(least, max(len(fu) - 2, 1)))


def _auc(s0: Array, s1: Array) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.repeat([0, 1], [len(s0), len(s1)]), np.concatenate([s0, s1])))


def sentences(found: Provenance) -> list[str]:
    """Return what there is to say."""
    told = f"real and generated rows are told apart with an AUC of {found.separation:.2f}"
    if found.word == "cannot tell":
        return [f"Cannot tell how many rows are generated: {told}, which is no better than chance.", _words(LIMITS)]
    least = "no share" if math.isinf(found.detectable) else share(found.detectable)
    span = f"{share(found.share)} (95 % interval {share(found.low)} to {share(found.high)})"
    copies = f"{counted(found.copies[0], 'row')} equal a known generated row, {found.copies[1]} a known real one."
    equal = [copies] if sum(found.copies) else []
    if found.word == "no mixture of the two":
        return [
            "These rows are no mixture of the known real and the known generated ones: something else is in them, such "
            f"as rows of another generator, or real rows that have changed. As a mixture {span} would be generated.",
            *equal,
            _words(LIMITS),
        ]
    if found.word == "none found" and found.copies[0] > found.copies[1]:
        return [
            f"Known generated rows are in it, {found.copies[0]} of {found.unknown}, though its rows do not look more "
            f"generated than real ones: as a mixture {span} would be. {told[0].upper()}{told[1:]}.",
            *equal,
            _words(LIMITS),
        ]
    first = "Generated rows found" if found.word == "generated rows found" else "No generated rows found"
    lines = [f"{first}: {span} of the rows look generated; {least} would be found in 4 of 5 such sets, and {told}."]
    return [*lines, *equal, *_next_generation(found), _words(LIMITS)]


def _next_generation(found: Provenance) -> list[str]:
    """Return what theory says of a generation that is trained on the set, and of those after it."""
    value, low, high = found.ratio
    settled, least, most = (times(total_error(x)) for x in (value, low, high))
    lines = [
        f"Trained on them alone, the next generation sees λ = {_ratio(value)} ({_ratio(low)} to {_ratio(high)}) "
        "generated rows per real one. If every generation does, the error of a well-specified likelihood settles at "
        f"{settled} that of its real rows alone ({least} to {most}), and ρ = π = {found.share:.2f} of an error is left "
        "after each."
    ]
    if found.borne is None or found.borne.ratio is None:
        return lines
    bears = f"the loop is shown to bear λ = {lam(found.borne.ratio)}"
    if high <= found.borne.ratio:
        return [*lines, f"That is within what was measured: {bears}."]
    if found.borne.worse is not None and low >= found.borne.worse:
        return [*lines, f"That is too much: {bears}, and is worse from λ = {lam(found.borne.worse)} on."]
    return [*lines, f"Whether that is too much is not told: {bears}, and the interval of λ goes beyond it."]


def _ratio(x: float) -> str:
    return "∞" if math.isinf(x) else f"{x:.2g}"


def _words(text: str) -> str:
    return text.replace("\n", " ")
