"""Two sets of events brought into the same columns and the same units, or refused by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from selfloop.analysis.sources import EventSet, refuse_other_columns
from selfloop.core.columns import Column, Constant, Number
from selfloop.core.errors import DataError, listed, quoted
from selfloop.core.events import DATA_UNITS, Events, Images, Mixed, Text, Vectors
from selfloop.data.reading.tables import Rows
from selfloop.data.table import moments


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Sets that can be compared.

    Attributes:
        real: (N, *event).
        generated: (M, *event).
        unit: of both.
        scaling: by what numbers are scaled, in words.
        events: what their rows are.
    """

    real: Tensor
    generated: Tensor
    unit: str
    scaling: str
    events: Events


def align(real: EventSet, generated: EventSet, *, raw: bool = False, resized: bool = False) -> Aligned:
    """Return two sets in one unit, that of the real one.

    Sets that both are pictures are compared as pictures. Columns of numbers are matched by name and, unless ``raw``,
    standardised as those of the real set are: of a run as its model sees them, of a table by its means and deviations.
    An array, which may hold features as well, is compared as it is, and so are tokens, which must be the same ones.

    Args:
        real: the reference.
        generated: what is held against it.
        raw: numbers are compared in the units in which they come.
        resized: pictures may differ in size and colour: what looks at them makes them alike.

    Raises:
        DataError: they differ in the size of pictures or in columns, or a real column has no deviation.
    """
    pictures = real.pictures, generated.pictures
    if pictures[0] is not None and pictures[1] is not None:
        if not resized and pictures[0].shape[1:] != pictures[1].shape[1:]:
            raise _unlike(real, generated, "their sizes differ")
        images = Images(tuple(pictures[0].shape[1:]))
        return Aligned(
            real=pictures[0],
            generated=pictures[1],
            unit=images.unit,
            scaling="pictures as they are",
            events=images,
        )
    if isinstance(real.events, Text) and isinstance(generated.events, Text):
        if not real.events.alike(generated.events):
            raise DataError(
                f"{real.source!r} and {generated.source!r} cannot be compared: their tokens or the lengths of their "
                "rows differ"
            )
        return Aligned(
            real=real.x, generated=generated.x, unit=real.events.unit, scaling="tokens as they are", events=real.events
        )
    if isinstance(real.events, Text) or isinstance(generated.events, Text):
        raise _unlike(real, generated, "only one of them is text")
    if isinstance(real.events, Vectors) or isinstance(generated.events, Vectors):
        real, generated = _in_numbers(real), _in_numbers(generated)
    if isinstance(real.events, Mixed):
        if not real.events.alike(generated.events):
            raise _unlike(real, generated, "columns are matched by name and by what they hold")
        how = f"columns encoded as those of {real.source!r}"
        return Aligned(
            real=real.x,
            generated=_encoded(real.events, generated),
            unit=real.events.unit,
            scaling=how,
            events=real.events,
        )
    if not isinstance(real.events, Vectors) or not isinstance(generated.events, Vectors):
        raise _unlike(real, generated, "only one of them is of pictures")
    if generated.kind == "table" and real.kind != "array":
        refuse_other_columns(generated.source, generated.events.columns, repr(real.source), real.events.columns)
    if sorted(real.events.columns) != sorted(generated.events.columns):
        raise _unlike(real, generated, "columns are matched by name, and others must be left out")
    shift, scale, unit, scaling = units(real, real.events, raw)
    order = [generated.events.columns.index(name) for name in real.events.columns]
    return Aligned(
        real=_scaled(real.x, real.events, shift, scale),
        generated=_scaled(generated.x[:, order], _ordered(generated.events, order), shift, scale),
        unit=unit,
        scaling=scaling,
        events=Vectors(real.events.columns, shift, scale),
    )


def _encoded(events: Mixed, x: EventSet) -> Tensor:
    """Return rows with the same columns in the units of others."""
    if isinstance(x.events, Mixed) and x.events.plain() != events.plain():
        return events.encode(x.events.table(x.x))
    return x.x


def _in_numbers(each: EventSet) -> EventSet:
    """Return rows of numbers, some of which never change, as numbers alone; others as they are."""
    if not isinstance(each.events, Mixed) or not all(
        isinstance(part.value, int | float) if isinstance(part, Constant) else _is_plain(part)
        for part in each.events.parts
    ):
        return each
    values = np.column_stack([column.astype(np.float64) for column in each.events.table(each.x).values()])
    names = tuple(part.name for part in each.events.parts)
    return replace(each, x=torch.from_numpy(values), events=Vectors.unscaled(names))


def _is_plain(part: Column) -> bool:
    return isinstance(part, Number) and not part.missing and part.epoch is None


def units(real: EventSet, events: Vectors, raw: bool) -> tuple[Tensor, Tensor, str, str]:
    """Return shift and scale (d,) of the units of comparison, their word, and a sentence about them.

    Raises:
        DataError: a column of a table has no deviation.
    """
    if raw or real.kind == "array":
        unscaled = Vectors.unscaled(events.columns)
        return unscaled.shift, unscaled.scale, unscaled.unit, "columns in the units in which they come"
    if real.kind == "run":
        how = "in" if events.unit == DATA_UNITS else f"scaled to {events.unit} as in"
        return events.shift, events.scale, events.unit, f"columns {how} the run of {real.source!r}"
    try:
        mean, std = moments(Rows(list(events.columns), real.x.double().numpy()), quoted(real.source))
    except DataError as error:
        raise DataError(f"{error}, or compare in its own units by --raw") from error
    shift, scale = torch.from_numpy(mean), torch.from_numpy(std)
    return shift, scale, "standard deviations", f"columns standardised by the means and deviations of {real.source!r}"


def _ordered(events: Vectors, order: list[int]) -> Vectors:
    return Vectors(tuple(events.columns[i] for i in order), events.shift[order], events.scale[order])


def _scaled(x: Tensor, events: Vectors, shift: Tensor, scale: Tensor) -> Tensor:
    """Return (N, d) rows in other units; those that are in them already keep their bits."""
    if torch.equal(events.shift, shift) and torch.equal(events.scale, scale):
        return x
    return (events.restore(x) - shift) / scale


def _unlike(real: EventSet, generated: EventSet, why: str) -> DataError:
    told = f"{_told(real)}, {_told(generated)}"
    return DataError(f"{real.source!r} and {generated.source!r} cannot be compared: {why}; {told}")


def _told(each: EventSet) -> str:
    if isinstance(each.events, Vectors | Mixed) and each.pictures is None:
        return f"{each.source!r} has {len(each.events.columns)} values an event, {listed(each.events.columns)}"
    if isinstance(each.events, Text):
        return f"{each.source!r} has rows of {each.events.block} tokens"
    channels, height, width = each.events.shape if each.pictures is None else each.pictures.shape[1:]
    return f"{each.source!r} has pictures of {height} × {width} pixels, {channels} channel{'s' * (channels > 1)}"
