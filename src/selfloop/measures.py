"""Which metrics the sets of an experiment allow: refused before anything is fitted, chosen where none was named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from selfloop.arms import Arm
from selfloop.core.columns import Category
from selfloop.core.errors import FOREIGN, ConfigError, DataError, quoted, said
from selfloop.core.events import Events, Mixed, Text
from selfloop.core.memory import in_words, memory
from selfloop.data.real import RealRows
from selfloop.experiment import Experiment
from selfloop.features.base import FEATURES, Extractor, Network
from selfloop.features.unnamed import unnamed
from selfloop.metrics.base import METRICS, Metric
from selfloop.metrics.demand import Sizes
from selfloop.metrics.tables import columns_of
from selfloop.mixing.base import draws

_UNASKED = 2**30  # bytes that a metric may take which nobody has named
_WIDEST = 2048  # features of networks of images: Inception's
OF_TEXT = (
    "bigram_kl_held_out",
    "frechet_held_out",
    "perplexity_judge_ratio",
    "distinct_2",
    "token_entropy",
    "tokens_kept",
)
"""Metrics of text where none was named; and of models that have a density besides:"""
OF_LIKELIHOOD = ("perplexity_held_out",)
OF_COLUMNS = ("shape_error_held_out", "association_error_held_out", "levels_kept")
"""Metrics besides the default ones, of rows with columns that are not all numbers; and of those with a target this:"""
OF_TARGET = ("tstr_score",)
SETS = {"train": "rows to train on", "held_out": "held-out rows", "generated": "generated rows"}


def sizes_of(members: Iterable[Arm], real: RealRows) -> set[Sizes]:
    """Return the sizes of the sets of arms, each that differs once.

    Raises:
        ConfigError: a regime does not say how many rows it wants.
    """
    found = set()
    for arm in members:
        n, held_out, event = real.extents[arm.data_key]
        generated = min(n, *(draws(arm.experiment.mixing, t, n) for t in (0, 1)))
        features = width(arm.experiment.features, event)
        found.add(Sizes(train=n, held_out=held_out, generated=generated, event=event, features=features))
    return found


def width(extractor: Extractor, event: int) -> int:
    """Return how many features an extractor makes of an event of so many numbers, about, without running it."""
    return _WIDEST if "pixels" in extractor.needs else event


def seeing(experiment: Experiment, members: Iterable[Arm], real: RealRows) -> tuple[Experiment, str]:
    """Return the experiment with features that suit its data, if none were named, and what there is to say of it."""
    if experiment.names_features:
        return experiment, ""
    kept = [real.of(key) for key in dict.fromkeys(arm.data_key for arm in members)]
    features, words = unnamed((each.events, each.events.pixels(each.rows[:1])) for each in kept)
    return experiment.with_features(features), words


def usual(default: Sequence[str], events: Events, target: str | None) -> tuple[str, ...]:
    """Return the metrics of rows where none was named.

    Text has its own. Other rows have the default ones; columns that are not all numbers have the errors of shapes and
    of associations and the share of levels that are kept besides, and a target has the downstream score.

    Args:
        default: of rows of numbers alone, or of images.
        events: what the rows are.
        target: the column to predict; None where there is none.
    """
    if isinstance(events, Text):
        return OF_TEXT
    of_columns = OF_COLUMNS if isinstance(events, Mixed) else ()
    return (*default, *of_columns, *(() if target is None else OF_TARGET))


def suited(
    experiment: Experiment, sizes: Iterable[Sizes], members: Iterable[Arm], real: RealRows
) -> tuple[Experiment, str]:
    """Return the experiment with metrics that suit its rows and sizes, if none was named, and what there is to say.

    They are the usual ones, and the perplexity of models of text that have one. One that would take more than a
    gibibyte gives way to the one that is for the same and takes less, or is left out where there is none.
    """
    if experiment.names_metrics:
        return experiment, ""
    asked = () if experiment.alarm is None else experiment.alarm.statistics
    likely = experiment.data.holds == "text" and "density" in experiment.generator.offers
    wanted = dict.fromkeys(OF_LIKELIHOOD if likely else ())
    for arm in members:
        events, target = real.of(arm.data_key).events, arm.experiment.data.predicted()
        wanted |= dict.fromkeys(usual(experiment.metrics, events, target))
    names, gone = dict[str, None](), dict[str, int]()
    for name in wanted:
        demand = max((METRICS[name].demand(each) for each in sizes), key=lambda demand: demand.memory)
        if demand.memory <= _UNASKED or name in asked:
            names[name] = None
            continue
        gone[name] = demand.memory
        if demand.instead is not None:
            names[demand.instead] = None
    suits = experiment if list(names) == experiment.metrics else experiment.with_metrics(list(names))
    if not gone:
        return suits, ""
    size = in_words(max(gone.values()))
    words = f"metrics: {', '.join(names)}; {', '.join(gone)} would take {size} for so many rows: name them to have them"
    return suits, words


def refuse_unmeasurable(names: Iterable[str], sizes: Iterable[Sizes]) -> None:
    """Refuse metrics for which some arm has too few rows, or the machine too little memory.

    Raises:
        ConfigError: with the first of them.
    """
    for name in names:
        for each in sizes:
            if (words := obstacle(METRICS[name], each)) is not None:
                raise ConfigError(f"metric {name} {words}")


def refuse_untold(names: Iterable[str], members: Iterable[Arm], real: RealRows) -> None:
    """Refuse metrics of classes where the target is a number.

    Raises:
        ConfigError: with the first of them.
    """
    for name in (name for name in names if METRICS[name].classes):
        for arm in members:
            target = arm.experiment.data.predicted()
            columns = columns_of(real.of(arm.data_key).events)
            if not any(column.name == target and isinstance(column, Category) for column in columns):
                raise ConfigError(
                    f"metric {name} needs a target of classes, and {quoted(target)} is a number: use tstr_score"
                )


def refuse_unseen(members: Iterable[Arm], real: RealRows) -> None:
    """Refuse features that cannot look at an arm's events.

    Raises:
        DataError: with the first of them.
    """
    for arm in members:
        extractor = arm.experiment.features
        if isinstance(extractor, Network):
            kept = real.of(arm.data_key)
            pixels = kept.events.pixels(kept.rows[:1])
            extractor.check(kept.rows[:1] if pixels is None else pixels)
        if any("naming" in METRICS[name].needs for name in arm.experiment.metrics):
            _refuse_other_names(extractor, real.of(arm.data_key).events.classes)


def _refuse_other_names(extractor: Extractor, classes: int) -> None:
    names = getattr(extractor, "names", classes)
    if names != classes:
        raise DataError(
            f"features {FEATURES.name_of(extractor)} name {names} classes, and the data are of {classes}: "
            "let features learn from labels of the same classes"
        )


def obstacle(metric: Metric, sizes: Sizes, sets: Mapping[str, str] = SETS) -> str | None:
    """Return why a metric cannot be computed of sets of some sizes, as a sentence without its name; None if it can.

    Args:
        metric: of which the demand is asked.
        sizes: of the sets.
        sets: what they are called, by their names in :class:`Sizes`.

    Raises:
        ConfigError: the metric's own code fails.
    """
    try:
        demand = metric.demand(sizes)
        few = next((which for which, least in demand.rows.items() if getattr(sizes, which) < least), None)
        size = demand.memory
    except FOREIGN as error:
        raise ConfigError(f"metric {metric.name!r} cannot say what it needs: {said(error)}") from error
    if few is not None:
        return f"needs at least {demand.rows[few]} {sets[few]}, and there are {getattr(sizes, few)}: leave it out"
    if size > memory():
        rows = f"{sizes.generated:,} generated rows of {sizes.event:,} numbers"
        use = f"use {demand.instead}" if demand.instead else "leave it out"
        return f"would take {in_words(size)} of memory for {rows}, and this machine has {in_words(memory())}: {use}"
    return None
