"""Two sets of events compared by the metrics that runs use, every number with what it means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from selfloop.core.columns import Category
from selfloop.core.errors import ConfigError, listed_near, nearest, quoted
from selfloop.core.events import DATA_UNITS, Events, Mixed, Text, Vectors
from selfloop.features.base import FEATURES, Extractor, Progress, cached, label
from selfloop.features.base import unit as unit_of
from selfloop.generators.gaussian import Gaussian
from selfloop.measures import obstacle, usual, width
from selfloop.metrics.arrays import alike, pair
from selfloop.metrics.base import METRICS, WORDS, Evidence, Metric
from selfloop.metrics.demand import Sizes
from selfloop.metrics.frechet import bootstrap_error
from selfloop.metrics.tables import columns_of

_QUICK = 64  # features up to which a bootstrap of the Fréchet distance costs little

_OF_A_RUN = frozenset(("labels", "density"))  # what sets of rows alone do not have
_APART = "perplexity_judge_ratio"  # whose real rows must be others than those its judge learns


def _of_sets(metric: Metric) -> bool:
    """Whether a metric says something of a set and a reference."""
    if metric.needs & _OF_A_RUN or metric.name == _APART:
        return False
    if "text" in metric.needs or "columns" in metric.needs:
        return not metric.name.endswith("_held_out")
    others = ("vendi_ratio", "neighbour_entropy", "leading_variance_ratio", "authenticity")
    return metric.name.endswith("_train") or metric.name in others


SCORES = {metric.name.removesuffix("_train"): metric for metric in METRICS.values() if _of_sets(metric)}
"""By name; the reference takes the place of the training set, and of the held-out one."""

DEFAULT = ("frechet", "kid", "precision", "recall", "density", "coverage", "sliced_w2", "vendi_ratio", "authenticity")


def default(events: Events, target: str | None = None) -> tuple[str, ...]:
    """Return the scores of sets where none are named."""
    names = (name.removesuffix("_held_out") for name in usual(DEFAULT, events, target))
    return tuple(name for name in names if name in SCORES)


_SETS = {"train": "real events", "generated": "generated events"}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number.

    Attributes:
        name: of the metric.
        title: what it is called, with the features that it is of.
        value: what it came to.
        unit: of the value.
        error: its bootstrap standard error over the generated set, where that was computed.
        direction: what better means.
        definition: in one sentence.
        version: of the metric.
        reference: where the real set came from.
        real: events in it.
        generated: events judged.
        scaling: by what the events were scaled before.
        features: what was looked at.
    """

    name: str
    title: str
    value: float
    unit: str
    error: float | None
    direction: str
    definition: str
    version: int
    reference: str
    real: int
    generated: int
    scaling: str
    features: str


def scores(
    real: Tensor,
    generated: Tensor,
    *,
    reference: str = "real",
    unit: str = DATA_UNITS,
    scaling: str = "events as they are",
    features: Extractor | None = None,
    names: Sequence[str] = DEFAULT,
    progress: Progress | None = None,
    events: Events | None = None,
    target: str | None = None,
) -> list[Score]:
    """Compare generated events with real ones.

    Args:
        real: (N, *event) reference events; uint8 (N, C, H, W) where the features are of images.
        generated: (M, *event) events, of other sizes only where the features are of images.
        reference: what the real set is called.
        unit: of the events.
        scaling: what was done to them before, in words.
        features: what the metrics look at; None is the events as they are.
        names: out of :data:`SCORES`.
        progress: told of images whose features are computed.
        events: what the rows are, for scores of columns.
        target: the column that models predict, for scores of that: they train on the generated rows, and are tested
            on the real ones.

    Raises:
        ConfigError: a name is not known, or is of columns, text or a target that there are not.
        DataError: the features cannot be computed.
        ValueError: the sets cannot be compared.
    """
    if unknown := [name for name in names if name not in SCORES]:
        raise _no_score(unknown[0])
    _refuse_lacking(names, events, target)
    extractor = features or FEATURES.parse("identity")
    if "pixels" not in extractor.needs:
        alike(real, generated)
    sizes = _sizes(real, generated, extractor)
    for name in names:
        if (words := obstacle(SCORES[name], sizes, _SETS)) is not None:
            raise ConfigError(f"score {name} {words.removesuffix('_train')}")
    a, b = cached(extractor, real, progress), extractor(generated, progress)
    a, b = pair(a, b, least=2)
    rows = (real, generated) if isinstance(events, Text) else (a, b)  # metrics of text look at tokens themselves
    # The rest of a metric's evidence has no meaning here, and the metrics in SCORES do not look at it.
    evidence = Evidence(
        generator=Gaussian(),
        state={},
        first={},
        untrained={},
        train=rows[0][None],
        held_out=rows[0][None],
        generated=rows[1][None],
        features=lambda _, of_real: a if of_real else b,
        events=events,
        target=target,
    )
    found = []
    for name in names:
        metric = SCORES[name].measured(unit, unit_of(extractor, unit), label(extractor))
        error = bootstrap_error(a, b) if name == "frechet" and a.shape[1] <= _QUICK else None
        found.append(
            Score(
                name=name,
                title=metric.title.removesuffix(" to training data"),
                value=float(metric.compute(evidence)[0]),
                unit=metric.unit,
                error=error,
                direction=metric.direction,
                definition=_of_reference(metric.definition),
                version=metric.version,
                reference=reference,
                real=len(a),
                generated=len(b),
                scaling=scaling,
                features=extractor.key(),
            )
        )
    return found


def _no_score(name: str) -> ConfigError:
    """Return the refusal of a name that no score has."""
    score = name.removesuffix("_held_out").removesuffix("_train")
    if score in SCORES:
        return ConfigError(f"score {name} is called {score} here, where the reference is the only real set")
    if name in METRICS:
        why = "held-out rows apart" if name == _APART else "a run, which a set of rows is not"
        return ConfigError(f"metric {name} needs {why}: let selfloop run or judge measure it")
    return ConfigError(f"no score is called {quoted(name)}{nearest(name, list(SCORES))}")


def _refuse_lacking(names: Sequence[str], events: Events | None, target: str | None) -> None:
    """Refuse scores of columns or of a target of sets that have none, and targets that are none.

    Raises:
        ConfigError: with the first.
    """
    of = {column.name: column for column in columns_of(events)} if isinstance(events, Mixed | Vectors) else {}
    if target is not None and target not in of:
        there = listed_near(target, list(of)) or "none"
        raise ConfigError(f"there is no column {quoted(target)} to predict; there are {there}")
    if target is not None and not (of[target].coordinates and not of[target].missing):
        why = "is missing in some rows" if of[target].coordinates else "never changes"
        raise ConfigError(f"the target {quoted(target)} {why}; name another column")
    for name in names:
        if "columns" in SCORES[name].needs and not of:
            raise ConfigError(f"score {name} is of the columns of a table, which these sets do not have: leave it out")
        if "numbers" in SCORES[name].needs and isinstance(events, Text):
            raise ConfigError(f"score {name} is of numbers, and these sets are text: leave it out")
        if "text" in SCORES[name].needs and not isinstance(events, Text):
            raise ConfigError(f"score {name} is of text, which these sets are not: leave it out")
        if "target" in SCORES[name].needs and target is None:
            raise ConfigError(f"score {name} is of what a model predicts: name the column by --target, or leave it out")
        if SCORES[name].classes and target is not None and not isinstance(of[target], Category):
            raise ConfigError(
                f"score {name} needs a target of classes, and {quoted(target)} is a number: use tstr_score"
            )


def _sizes(real: Tensor, generated: Tensor, extractor: Extractor) -> Sizes:
    event = math.prod(real.shape[1:])
    return Sizes(
        train=len(real),
        held_out=len(real),
        generated=len(generated),
        event=event,
        features=width(extractor, event),
    )


_REFERENCE = {
    "the real training rows have": "the reference has",
    "the real ones, training and held-out rows together,": "those of the reference,",
    "share of training rows": "share of rows of the reference",
    "a real training row": "a row of the reference",
} | dict.fromkeys(
    (WORDS["train"], "the real training rows", "the real training features", "real training features"), "the reference"
)
_REFERENCE |= dict.fromkeys((WORDS["held_out"], "the held-out real rows", "the held-out rows"), "the reference")
_REFERENCE |= {"the training rows": "the reference"}


def _of_reference(definition: str) -> str:
    for words, reference in _REFERENCE.items():
        definition = definition.replace(words, reference)
    return definition


def plain(score: Score) -> dict[str, object]:
    """Return a score as JSON takes it; a value that is not finite becomes null."""
    fields = dataclasses.asdict(score)
    return fields | {"value": score.value if math.isfinite(score.value) else None}
