"""A loop that was run elsewhere, as it is given: names of files, patterns of them, or what is in memory."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from torch import Tensor

from selfloop.analysis.sequences import Arrivals, common_name, refuse_same, said, sequences
from selfloop.analysis.sources import EventSet, fingerprint, held, held_digest, read_events, run_of, tokens_of
from selfloop.core.errors import ConfigError, DataError, counted, refuse_no_names, refuse_unlike
from selfloop.core.events import Events
from selfloop.core.paths import is_url
from selfloop.data.reading.memory import FILES, is_texts


@dataclass(frozen=True)
class Origin:
    """Where a set of rows comes from.

    Attributes:
        name: what messages call it.
        read: returns the rows, by the columns or the tokens of other rows where these are given.
        digest: returns the SHA-256 that tells whether they are the same as before.
        named: whether it is a file, a folder or a run's generation, and ``name`` is its.
    """

    name: str
    read: Callable[[Events | None], EventSet]
    digest: Callable[[], str]
    named: bool


Key = tuple[str, int]
"""A sequence: "loop" or "control", and its repetition."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop that was run elsewhere, as it is given.

    Attributes:
        real: the real rows.
        held_out: those that no model was trained on; None holds out a part of ``real``.
        generations: of every sequence, equally many; may be empty where more are on their way.
        name: a word for it.
        about: what it is, in a sentence.
    """

    real: Origin
    held_out: Origin | None
    generations: Mapping[Key, Sequence[Origin]]
    name: str
    about: str

    @property
    def length(self) -> int:
        """How many generations there are."""
        return min(map(len, self.generations.values()), default=0)

    def reference(self, *beside: str) -> EventSet:
        """Return the real rows: text by the tokens of the first run that the loop, or a source beside it, names."""
        others = itertools.chain([] if self.held_out is None else [self.held_out], *self.generations.values())
        return self.real.read(tokens_of([*(each.name for each in others if each.named), *beside]))

    def first(self, length: int) -> Loop:
        """Return the loop with its first generations alone."""
        return replace(self, generations={key: some[:length] for key, some in self.generations.items()})

    def whole(self, arrivals: Arrivals) -> Loop:
        """Return the loop up to the first generation that is still being written."""
        there = arrivals.whole({each.name for some in self.generations.values() for each in some})
        generations = zip(*self.generations.values(), strict=True)
        whole = (all(each.name in there for each in some) for some in generations)
        return self.first(sum(1 for _ in itertools.takewhile(bool, whole)))

    @property
    def repetitions(self) -> list[int]:
        """The numbers of the repetitions."""
        return sorted({s for _, s in self.generations})

    @property
    def kinds(self) -> list[str]:
        """Of the sequences, the loop's first."""
        return [kind for kind in ("loop", "control") if any(kind == each for each, _ in self.generations)]


def loop_of(
    real: Any,
    generations: Any,
    *,
    held_out: Any = None,
    control: Any = None,
    every: int = 1,
    leave_out: Sequence[str] = (),
    growing: bool = False,
) -> Loop:
    """Return the loop that is meant, as :func:`judge` takes it, without reading it.

    Args:
        real, generations, held_out, control, every, leave_out: as of :func:`judge`.
        growing: whether more generations may be on their way, as of :func:`selfloop.analysis.sequences.sequences`.

    Raises:
        ConfigError, DataError: there is no such loop, or the control does not go with it.
    """
    refuse_unlike("every", every, Integral, "a whole number, 1 for all generations")
    refuse_no_names(leave_out, "leave_out")
    found = {("loop", s): each for s, each in _sequences(generations, every, growing, "generation", leave_out).items()}
    if control is not None:
        others = _sequences(control, every, growing, "control", leave_out)
        found = _with_control(found, {("control", s): each for s, each in others.items()}, growing)
    against = _origin(real, "real", leave_out, least=3, real=True)
    apart = None if held_out is None else _origin(held_out, "held_out", leave_out, real=True)
    parts = [("the real data", against), *([] if apart is None else [("the held-out rows", apart)])]
    parts += [
        (f"generation {t} of the {kind}", each) for (kind, _), some in found.items() for t, each in enumerate(some)
    ]
    refuse_same((part, each.name) for part, each in parts if each.named)
    words = _words(generations) or []
    what = f"generations {said(words)}" if words else "generations in memory"
    return Loop(
        real=against,
        held_out=apart,
        generations=found,
        name=f"judged-{common_name(words[0])}" if words else "judged",
        about=f"A loop that was run elsewhere: {what} against {against.name!r}.",
    )


def _words(given: Any) -> list[str] | None:
    """Return names of files, patterns of them, or None where something else is given."""
    if isinstance(given, str | os.PathLike):
        return [os.fspath(given)]
    if isinstance(given, Sequence) and given and all(isinstance(each, str | os.PathLike) for each in given):
        return [os.fspath(each) for each in given]
    return None


def _origin(x: Any, name: str, leave_out: Sequence[str], least: int = 1, real: bool = False) -> Origin:
    """Return where a set comes from that is given by its name, or as an array by one of ours."""
    if isinstance(x, str | os.PathLike):
        source = os.fspath(x)

        def read(like: Events | None) -> EventSet:
            return read_events(source, least, like, real, leave_out)

        return Origin(source, read, functools.partial(fingerprint, source), True)
    return Origin(name, lambda like: held(x, name, least, like, leave_out), lambda: held_digest(x, name), False)


def _sequences(given: Any, every: int, growing: bool, part: str, leave_out: Sequence[str]) -> dict[int, list[Origin]]:
    """Return the generations of every repetition, by its number."""
    if (words := _words(given)) is not None:
        found = sequences(words, every=every, growing=growing)
        return {s: [_origin(source, source, leave_out) for source in sources] for s, sources in found.items()}
    items: list[Any] = list(given) if isinstance(given, list | tuple | np.ndarray | Tensor) else []
    if not items:
        what = (
            f"an empty {type(given).__name__}" if hasattr(given, "__len__") and not len(given) else type(given).__name__
        )
        raise DataError(
            f"{part}s: give a list of arrays, tensors, data frames or names of files in their order, or a pattern of "
            f"names such as 'gen_{{t}}.csv', not {what}"
        )
    if every < 1:
        raise ConfigError(f"every is {every}: it is 1 for all generations, 2 for every second, and so on")
    lists = items if all(isinstance(each, list | tuple) for each in items) else [items]
    named = (os.path.exists(x) or is_url(x) or run_of(x) for each in lists for x in each)
    if all(map(is_texts, lists)) and not any(named):
        raise DataError(f"{part}s are lists of strings, of which none is the name of a file: {FILES}")
    if len({len(each) for each in lists}) > 1:
        raise DataError(f"{part}s: repetitions have {', '.join(str(len(each)) for each in lists)}: give equally many")
    if not lists[0]:
        raise DataError(
            f"{part}s: the lists of {counted(len(lists), 'repetition')} are empty: give at least one in each"
        )
    ends = [f" of repetition {s}" if len(lists) > 1 else "" for s in range(len(lists))]
    return {
        s: [_origin(x, f"{part} {t}{ends[s]}", leave_out) for t, x in list(enumerate(each))[::every]]
        for s, each in enumerate(lists)
    }


def _with_control(
    loop: dict[Key, list[Origin]], control: dict[Key, list[Origin]], growing: bool
) -> dict[Key, list[Origin]]:
    """Return both, the control as long as the loop.

    Raises:
        DataError: the control lacks generations or repetitions, and no more are on their way.
    """
    numbers, others = ({s for _, s in each} for each in (loop, control))
    if growing:
        both = numbers & others
        loop, control = ({key: some for key, some in each.items() if key[1] in both} for each in (loop, control))
    elif numbers != others:
        there, here = (", ".join(map(str, sorted(each))) for each in (numbers, others))
        raise DataError(
            f"the loop has the repetitions {there} and the control {here}: make the others, or leave them out"
        )
    length, least = (min(map(len, each.values()), default=0) for each in (loop, control))
    if least < length and not growing:
        raise DataError(
            f"the control has {counted(least, 'generation')} and the loop {length}: make the others, or name the first "
            f"{least} of the loop alone"
        )
    length = min(length, least)
    return {key: some[:length] for key, some in (loop | control).items()}
