"""What is given of a loop becomes a run directory: read, checked, measured, committed generation by generation."""

from __future__ import annotations

import functools
import math
import time
import uuid
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfloop.analysis.alignment import align, units
from selfloop.analysis.sources import EventSet
from selfloop.core.config import GREATEST
from selfloop.core.errors import ConfigError, DataError, quoted, refuse_unlike
from selfloop.core.events import Images, Mixed, Text, Vectors
from selfloop.core.files import disk_errors, put_bytes, refuse_unnameable, save_tensors
from selfloop.core.paths import here
from selfloop.core.records import Record
from selfloop.core.samples import Samples, stack
from selfloop.core.streams import Streams
from selfloop.data import kept
from selfloop.data.arrays import EncodedTable, Held, ImageArray, ScaledArray, TokenArray, described, told
from selfloop.data.base import Split
from selfloop.data.reading.tables import Coded, refuse_target
from selfloop.data.units import most_rows
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker
from selfloop.environment import prepared
from selfloop.experiment import FREE, Experiment, member
from selfloop.features.base import FEATURES, Extractor
from selfloop.features.unnamed import unnamed
from selfloop.generators.outside import Outside
from selfloop.loop import load, measure
from selfloop.measures import obstacle, usual, width
from selfloop.metrics.base import METRICS
from selfloop.metrics.demand import Sizes
from selfloop.mixing.outside import Outside as Regime
from selfloop.outside.again import key_of, known, refuse_changed, refuse_other
from selfloop.outside.given import Key, Loop
from selfloop.runner import measure_anew
from selfloop.store import Run, Writer, check
from selfloop.store.remote import working
from selfloop.store.schema import stack_file

DEFAULT = (
    "sliced_w2_held_out",
    "frechet_held_out",
    "precision_held_out",
    "recall_held_out",
    "density_held_out",
    "coverage_held_out",
    "mean_error",
    "covariance_error",
    "variance_ratio",
)
"""Metrics where none are named: what a pipeline can wait for, so neither W1 nor W2, whose time grows with n³.

The error of the covariance is left out of rows of more than a thousand numbers, such as pictures: it looks at the
numbers themselves, and its time grows with their square, beyond that of most networks of images.
"""

_WIDE = 1000

ROWS = 10_000
"""The most rows that are measured of a set, unless another number is asked for."""

_HELD = 2**28  # bytes of new generations that are not read again between being checked and being measured

Progress = Callable[[int, int], None]  # generations measured, and in all


def record(
    loop: Loop,
    out: str | Path,
    *,
    features: str | Extractor | None = None,
    metrics: Sequence[str] | None = None,
    also: Sequence[str] = (),
    rows: int = ROWS,
    raw: bool = False,
    target: str | None = None,
    notice: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Measure what a run directory does not have yet of a loop, and return the run.

    All that is new is read and checked before anything is written; it is read twice where it is too much to be held.

    Args:
        loop: with at least one generation.
        out: the run directory, made or added to; or the URL of one elsewhere.
        features, metrics, rows, raw, target: as of :func:`judge`.
        also: metrics besides these.
        notice: called with a line on generations that are copies of others, and, where the directory is new, on
            whatever was chosen because nobody had named it.
        progress: told after each generation.

    Raises:
        DataError: something cannot be read, compared or measured; nothing is written.
        ConfigError: a setting is none.
        RunError: the directory is another loop's, in use or damaged, or a generation is not what it was.
        StorageFull: there is no space.
    """
    out = here(out)
    refuse_unnameable(out)
    refuse_unlike("rows", rows, Integral, "a whole number")
    if rows < 2:
        raise ConfigError(f"rows is {rows}: at least 2 are needed to measure anything")
    with working(out):
        there = Run.open(out) if (out / "experiment.yaml").exists() else None
        if target is None and there is not None:
            target = there.experiment.data.predicted()
        data, reference = _data(loop, raw, rows, target)
        extractor, words = _looking(features, reference, there)
        if notice is not None and there is None:
            for line in filter(None, (words, *reference.notes)):
                notice(line)
        had = {} if there is None else known(there)
        if there is not None and there.present:
            refuse_other(there, loop, data, reference.events, extractor)
        names = list(metrics or (_default(data, reference) if there is None else there.experiment.metrics))
        names += [name for name in also if name not in names]
        sizes = _sizes(data, extractor)
        _refuse_few(loop.real.name, names, sizes)
        name = loop.name if there is None else there.experiment.name
        begun = prepared(_experiment(name, loop, data, extractor, names), out)
        experiment = begun.experiment
        with disk_errors(out):
            check(out, experiment, begun.environment, begun.real)
        digests = {key: [each.digest() for each in some] for key, some in loop.generations.items()}
        if there is not None:
            refuse_changed(there, loop, digests, had)
        new = _New(loop, digests, reference, names, sizes)
        for t in range(loop.length):
            for key in loop.generations:
                if (key, t) not in had:
                    new.rows(key, t)
        if there is not None and not new.found and _is_whole(there, experiment):
            Writer.settle(there)
            there.verify()
            return there
        if notice is not None and (line := _copies(loop, digests, had)):
            notice(line)
        with Writer.lock(out, experiment, begun.environment, begun.real) as writer, disk_errors(out):
            measure_anew(writer, uuid.uuid4().hex)
            _measure(writer, new, loop.length, progress)
        return Run.open(out)


def _copies(loop: Loop, digests: Mapping[Key, Sequence[str]], had: Container[tuple[Key, int]]) -> str:
    """Return a line on new generations that are copies of others, byte for byte; "" of none.

    All sequences may begin with the same one.
    """
    first: dict[str, str] = {}
    copies = []
    for t in range(loop.length):
        for key, some in loop.generations.items():
            origin = first.setdefault(digests[key][t], some[t].name)
            if t and origin != some[t].name and (key, t) not in had:
                copies.append((some[t].name, origin))
    if not copies:
        return ""
    more = f", and {len(copies) - 1:,} more are such copies" if len(copies) > 1 else ""
    return "{} holds what {} does, byte for byte".format(*map(quoted, copies[0])) + more


def _looking(features: str | Extractor | None, reference: EventSet, there: Run | None) -> tuple[Extractor, str]:
    """Return the features that were named, else those of the run, else what suits, and what there is to say of it."""
    if features is None:
        return unnamed([(reference.events, reference.pictures)]) if there is None else (there.experiment.features, "")
    return member(FEATURES, features), ""


def _data(loop: Loop, raw: bool, rows: int, target: str | None) -> tuple[Held, EventSet]:
    """Return the real rows as data, and a set that says what generations are brought to: it has a few of them."""
    real = loop.reference()
    apart = None if loop.held_out is None else loop.held_out.read(real.events)
    pictures = real.pictures
    if pictures is not None and not isinstance(real.events, Images):  # rows of numbers that are pictures too
        others = [next(iter(loop.generations.values()))[0].read(real.events), *([] if apart is None else [apart])]
        pictures = pictures if all(each.pictures is not None for each in others) else None
    if pictures is not None:
        if target is not None:
            raise ConfigError(f"{real.source!r} holds pictures, which have no columns to predict: leave the target out")
        reference = replace(real, x=pictures[:1], events=Images(tuple(pictures.shape[1:])), kind="pictures")
        own = pictures
        beside = None if apart is None else align(reference, apart).generated
        return ImageArray(**_counts(own, beside, loop, rows, 0.1)), reference
    if isinstance(real.events, Mixed):
        reference = replace(real, x=real.x[:0])
        beside = None if apart is None else align(reference, apart).generated
        coded = Coded(real.events, real.x.numpy())
        refuse_target(coded.columns, real.events.parts, target, quoted(real.source))
        counts: dict[str, Any] = _counts(real.x, beside, loop, rows, 0.2)
        return EncodedTable(**counts, **described(real.events), target=target), reference
    if isinstance(real.events, Text):
        if target is not None:
            raise ConfigError(f"{real.source!r} holds text, which has no columns to predict: leave the target out")
        reference = replace(real, x=real.x[:0])
        beside = None if apart is None else align(reference, apart).generated
        return _tokens(real, beside, loop, rows), reference
    if not isinstance(real.events, Vectors):
        raise DataError(f"{real.source!r} holds {real.events.kind}, which cannot be judged yet")
    shift, scale, unit, _ = units(real, real.events, raw)
    _refuse_far(real, shift, scale)
    unnamed = Vectors(real.events.columns, shift, scale)
    events = Vectors(real.events.columns, shift, scale, word="" if unnamed.unit == unit else unit)
    reference = replace(real, x=real.x[:0].double(), events=events, kind="run")
    beside = None if apart is None else _restored(reference, apart)
    refuse_target(events.columns, (), target, quoted(real.source))
    counts = _counts(real.events.restore(real.x), beside, loop, rows, 0.2)
    known: dict[str, Any] = {"columns": list(events.columns), "shift": shift.tolist(), "scale": scale.tolist()}
    return ScaledArray(**counts, **known, word=events.word, target=target), reference


def _tokens(real: EventSet, beside: Tensor | None, loop: Loop, rows: int) -> TokenArray:
    """Return text as data, of which no document is both compared with and held out.

    Raises:
        DataError: there are too few documents for that.
    """
    assert isinstance(real.events, Text)
    counts = _counts(real.x, beside, loop, rows, 0.1)
    if real.units is not None and beside is None:
        counts["n"] = min(counts["n"], most_rows(real.units.numpy(), counts["held_out"]))
        counts["units_sha256"] = kept.hold(real.units)
        if counts["n"] < 2:
            raise DataError(
                f"{loop.real.name!r} has {len(real.x)} rows of {len(real.units)} documents, which are too few to hold "
                "some out: give more, or name others by --held-out"
            )
    return TokenArray(**counts, **told(real.events))


def _refuse_far(real: EventSet, shift: Tensor, scale: Tensor) -> None:
    """Refuse units that are no settings.

    Raises:
        DataError: with the first column that has them.
    """
    far = torch.maximum(shift.abs(), scale) > GREATEST
    if far.any():
        name = real.events.columns[int(far.int().argmax())]
        raise DataError(
            f"{real.source!r}: column {quoted(name)} has numbers beyond {GREATEST:.0e}; change its unit, or compare in "
            "its own units by --raw"
        )


def _restored(reference: EventSet, x: EventSet) -> Tensor:
    """Return rows in the user's units, (N, d), their columns in the order of the real ones.

    Raises:
        DataError: they have other columns.
    """
    align(reference, x)
    order = [x.events.columns.index(name) for name in reference.events.columns]
    return x.events.restore(x.x)[:, order].contiguous()


def _counts(own: Tensor, beside: Tensor | None, loop: Loop, rows: int, share: float) -> dict[str, Any]:
    """Return the settings of rows in memory: how many train, how many are held out of them or of those beside them.

    Raises:
        DataError: there are too few.
    """
    count = len(own)
    if beside is None:
        held_out = min(max(1, round(share * count)), rows)
        n = min(count - held_out, rows)
        if n < 2:
            raise DataError(f"{loop.real.name!r} has {count} rows; it needs 3, 2 to compare with and 1 to hold out")
    else:
        n, held_out = min(count, rows), min(len(beside), rows)
    found = {"sha256": kept.hold(own.contiguous()), "shape": list(own.shape), "n": n, "held_out": held_out}
    if beside is not None:
        found["held_out_sha256"] = kept.hold(beside.contiguous())
        if found["held_out_sha256"] == found["sha256"]:
            raise DataError("the held-out rows are the real ones: give others, or leave them out to hold out a part")
    return found


def _default(data: Held, reference: EventSet) -> list[str]:
    """Return the metrics that are measured of some data where none are named."""
    wide = math.prod(data.shape[1:]) > _WIDE
    names = usual(DEFAULT, reference.events, data.predicted())
    return [name for name in names if not (wide and name == "covariance_error")]


def _sizes(data: Held, extractor: Extractor) -> Sizes:
    """Return the sizes of the sets, where a generation has as many rows as are measured."""
    n, held_out, event = data.n or 0, data.held_out or 0, math.prod(data.shape[1:])
    return Sizes(train=n, held_out=held_out, generated=n, event=event, features=width(extractor, event))


def _refuse_few(name: str, metrics: Sequence[str], sizes: Sizes) -> None:
    """Refuse a set with too few rows for a metric, or one that would take too much memory.

    Raises:
        ConfigError: with the first metric.
    """
    for metric in metrics:
        if metric in METRICS and (words := obstacle(METRICS[metric], sizes)) is not None:
            raise ConfigError(f"{name!r}: metric {metric} {words}, by --metrics, or give more rows")


def _experiment(name: str, loop: Loop, data: Held, features: Extractor, metrics: list[str]) -> Experiment:
    return Experiment(
        name=name,
        description=loop.about,
        data=data,
        generator=Outside(),
        mixing=Regime(),
        generations=max(loop.length - 1, 1),
        seeds=loop.repetitions,
        grid={"mixing.sequence": loop.kinds},
        metrics=metrics,
        features=features,
    )


def _is_whole(there: Run, experiment: Experiment) -> bool:
    """Whether a run is of this very experiment, but for what is told of it, and has all of its metrics."""
    own, asked = (
        {k: v for k, v in each.model_dump().items() if k not in FREE} for each in (there.experiment, experiment)
    )
    return own == asked and set(experiment.metrics) <= set(there.recorded)


class _New:
    """The generations that a run does not have yet, each checked when it is read.

    Attributes:
        found: how many rows each has, by sequence and generation.
    """

    def __init__(
        self,
        loop: Loop,
        digests: Mapping[Key, Sequence[str]],
        reference: EventSet,
        metrics: Sequence[str],
        sizes: Sizes,
    ) -> None:
        self.found: dict[tuple[Key, int], int] = {}
        self._loop, self._digests, self._reference, self._metrics, self._sizes = (
            loop,
            digests,
            reference,
            metrics,
            sizes,
        )
        self._held: dict[tuple[Key, int], Tensor] = {}
        self._room = _HELD

    def rows(self, key: Key, t: int) -> Tensor:
        """Return the rows (k, *event) of a generation that are measured, in the units of the real ones.

        Raises:
            DataError: they cannot be read, or not be compared with the real ones.
            ConfigError: they are too few for a metric.
        """
        if (key, t) in self._held:
            return self._held.pop((key, t))
        source = self._loop.generations[key][t]
        x = align(self._reference, source.read(self._reference.events)).generated
        n = self._sizes.train
        _refuse_few(source.name, self._metrics, replace(self._sizes, generated=min(len(x), n)))
        first = (key, t) not in self.found
        self.found[key, t] = len(x)
        if len(x) > n:  # a file may have an order
            (drawn,) = Streams(seeds=(key[1],), generation=t).permutations(f"outside/{key[0]}", [len(x)])
            x = x[torch.from_numpy(np.sort(drawn[:n]))]
        if x.is_floating_point() and not torch.isfinite(x).all():
            raise DataError(f"{source.name!r} has numbers that are beyond float64 in the units of the real rows")
        if first and x.nbytes <= self._room:
            self._room -= x.nbytes
            self._held[key, t] = x
        return x

    def source(self, key: Key, t: int) -> dict[str, Any]:
        """Return what is noted of where a generation comes from."""
        origin = self._loop.generations[key][t]
        return {"name": origin.name, "sha256": self._digests[key][t], "rows": self.found[key, t]}


def _measure(writer: Writer, new: _New, length: int, progress: Progress | None) -> None:
    """Measure and commit what a run lacks, generation by generation."""

    @functools.lru_cache(maxsize=1)
    def split(s: int) -> Split:
        return load(writer.stacks[s], writer.holds)

    for t in range(length):
        todo = writer.lacking(t)
        if not todo:
            continue
        started, folder = time.monotonic(), writer.begin(t)
        notes: dict[int, dict[str, Any]] = {}
        records: list[Record] = []
        for s in todo:
            members = writer.stacks[s]
            samples = stack([Samples.full(new.rows(key_of(arm), t)[None], born=t + 1) for arm in members])
            with as_in_a_worker():
                records += measure(members, split(s), t, {}, {}, samples, Team())
            name = stack_file("samples", s)
            tensors = samples.stored()
            sources = {"sources": [new.source(key_of(arm), t) for arm in members]}
            notes[s] = {name: save_tensors(folder / name, tensors, put_bytes) | sources}
        writer.commit(t, notes, sorted(records, key=lambda record: record["arm"]))
        writer.happened("generation", generation=t, seconds=f"{time.monotonic() - started:.3f}")
        if progress is not None:
            progress(t + 1, length)
