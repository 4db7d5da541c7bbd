"""Metrics of features that lie in files, computed span by span in any number of processes or on any number of nodes.

A task is told the names of the files and a span of rows, and answers with sums, radii or memberships, which are joined
in the order of the spans. So any ``map`` will do: that of a pool of processes, or of a cluster whose nodes see the
files. Shares of points in balls have the bits of one pass over all rows, as every membership is exact; sums are those
of one pass to rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from selfloop.core.errors import DataError, kind_in_words, said
from selfloop.core.files import Stamp, stamp
from selfloop.data.reading.npy import DAMAGE
from selfloop.metrics.arrays import level, pair
from selfloop.metrics.frechet import Moments, frechet
from selfloop.metrics.manifold import KINDS, SHARES, Manifolds
from selfloop.metrics.mmd import Kernelled, Sums
from selfloop.metrics.neighbours import BLOCK, Array, Distinct, membership, square_radii

Files = Sequence[str | Path]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

NAMES = ("frechet", "kid", *SHARES)
_KS = [ball.k for ball in KINDS]
_CLOSED = np.array([ball.closed for ball in KINDS])


def sharded(
    real: Files, generated: Files, names: Sequence[str] = NAMES, *, map: Map = map, blocks: int = 4
) -> dict[str, float]:
    """Return metrics of two sets of features, each in one file or several, as a loop defines them.

    A file is mapped, not read, as long as a set is one; the files of a set that has several are joined in every
    process's memory. Every process keeps the two sets that it was asked for last.

    Args:
        real: .npy files of features (N, *event), which together are the reference.
        generated: those of what is judged.
        names: out of "frechet", "kid", "precision", "recall", "density" and "coverage".
        map: calls a function with each of some tasks and returns the answers in order, as the built-in one does, and
            as do those of ``multiprocessing.Pool``, ``concurrent.futures`` and ``ray.util.multiprocessing.Pool``.
        blocks: of 2,048 rows, that are a task.

    Returns:
        The values by name. Precision, recall, density and coverage have the bits that arrays would give; the Fréchet
        distance and KID differ from these by rounding, some 1e-12 of the greatest of their terms.

    Raises:
        DataError: a file is no array of numbers, or cannot be read.
        ValueError: another name, rows of other sizes, too few of them, or an entry that is not finite.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from selfloop.metrics import precision_recall, sharded
        >>> rng = np.random.default_rng(0)
        >>> Path("features").mkdir()
        >>> for name, scale in (("real-0", 1), ("real-1", 1), ("made", 0.5)):
        ...     np.save(f"features/{name}.npy", scale * rng.normal(size=(500, 2)))
        >>> found = sharded(["features/real-0.npy", "features/real-1.npy"], ["features/made.npy"])
        >>> found["recall"] < found["precision"]
        True
    """
    for word, files in (("real", real), ("generated", generated)):
        if isinstance(files, str | Path) or not files:
            raise ValueError(f"{word} must be a list of one file or more, not {files!r}")
    if isinstance(names, str):
        raise ValueError(f"names must be a list, as [{names!r}]")
    if others := [name for name in names if name not in NAMES]:
        raise ValueError(f"{others[0]!r} is not one of {', '.join(NAMES)}")
    of = tuple(tuple(str(file) for file in files) for files in (real, generated))
    sets, span, found = _opened(of), max(1, blocks) * BLOCK, dict[str, float]()
    x, y = sets.rows
    if "frechet" in names:
        parts = [
            list(map(functools.partial(_moments, of, which), _spans(len(rows), span)))
            for which, rows in enumerate(sets.rows)
        ]
        found["frechet"] = frechet(*(functools.reduce(Moments.__add__, each) for each in parts))
    if "kid" in names:
        found["kid"] = sets.kernelled.estimate(
            list(map(functools.partial(_sums, of), _spans(max(len(x), len(y)), span)))
        )
    if set(SHARES) & set(names):
        a, b = sets.distinct
        reach, other = (
            np.concatenate(list(map(functools.partial(_radii, of, which), _spans(len(each.points), span))), axis=1)
            for which, each in enumerate(sets.distinct)
        )
        inside = list(map(functools.partial(_inside, of, reach, other), _spans(len(a.points), span)))
        manifolds = Manifolds.joined(a, b, inside)
        found |= {name: SHARES[name](manifolds) for name in SHARES}
    return {name: found[name] for name in names}


@dataclass(frozen=True)
class _Sets:
    """Two sets as metrics see them; every process makes the same of the same files."""

    rows: tuple[Tensor, Tensor]

    @cached_property
    def levelled(self) -> tuple[Tensor, Tensor]:
        (x, y), _ = level(*self.rows)
        return x, y

    @cached_property
    def kernelled(self) -> Kernelled:
        return Kernelled.of(*self.rows)

    @cached_property
    def distinct(self) -> tuple[Distinct, Distinct]:
        x, y = self.levelled
        return Distinct.of(x), Distinct.of(y)

    @cached_property
    def centre(self) -> Tensor:
        return self.distinct[0].centre()


Of = tuple[tuple[str, ...], ...]  # the files of both sets


def _opened(of: Of) -> _Sets:
    """Return the sets in these files as they are now."""
    return _read(of, tuple(stamp(Path(file)) for files in of for file in files))


@functools.lru_cache(maxsize=1)
def _read(of: Of, stamps: tuple[Stamp | None, ...]) -> _Sets:
    real, generated = (
        parts[0] if len(parts) == 1 else np.concatenate(parts)
        for parts in ([_mapped(f) for f in files] for files in of)
    )
    x, y = pair(real, generated, least=2)
    return _Sets((x, y))


def _mapped(file: str) -> Array:
    try:
        found = np.load(file, mmap_mode="c", allow_pickle=False)  # "c": torch wants what can be written to
    except DAMAGE as error:
        raise DataError(f"{file!r} cannot be read as .npy: {said(error)}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or found.ndim < 2:
        what = f"{kind_in_words(found.dtype)} {found.shape}" if isinstance(found, np.ndarray) else "an archive"
        raise DataError(f"{file!r} holds {what}: features are numbers (N, …) in a .npy file")
    return found


def _spans(n: int, span: int) -> list[slice]:
    return [slice(start, min(start + span, n)) for start in range(0, n, span)]


def _moments(of: Of, which: int, some: slice) -> Moments:
    return Moments.of(_opened(of).rows[which][some])


def _sums(of: Of, some: slice) -> Sums:
    return _opened(of).kernelled.sums(some)


def _radii(of: Of, which: int, some: slice) -> Array:
    sets, name = _opened(of), ("real", "generated")[which]
    return square_radii(sets.distinct[which], _KS, sets.centre, name, some)


def _inside(of: Of, real: Array, generated: Array, some: slice) -> tuple[Array, Array, Array]:
    sets = _opened(of)
    return membership(*sets.distinct, real, generated, _CLOSED, sets.centre, some)
