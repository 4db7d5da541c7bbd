"""Rows of text divided by whole units, so that no document or line is in two parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from selfloop.core.errors import DataError
from selfloop.core.streams import Streams
from selfloop.data.base import Parts, held_apart


def most_rows(counts: np.ndarray, held_out: int, parts: int = 1) -> int:
    """Return how many rows can train whatever the order of units, where ``parts`` other parts take so many rows.

    A part ends within a unit, whose other rows no part may have, at worst at each end.
    """
    return int(counts.sum() - held_out - parts * (counts.max() - 1))


def divide_units(
    rows: np.ndarray,
    counts: np.ndarray,
    n: int | None,
    held_out: int | None,
    seeds: Sequence[int],
    source: str,
    *,
    unit: str = "unit",
    fresh_rows: int = 0,
    apart: np.ndarray | None = None,
    advice: str = "",
) -> Parts:
    """Divide rows (N, L) by whole units, in an order drawn by each seed; within the parts their order is drawn, too.

    Args:
        rows: of the units, one after the other.
        counts: (K,) how many rows each unit fills.
        n: rows to train on; None is as many as there are whatever the seed.
        held_out: rows to hold out; None is a tenth or, of ``apart``, all.
        seeds: of the arms.
        source: names the data in messages.
        unit: what a unit is called.
        fresh_rows: rows that are set aside.
        apart: (M, L) rows to hold out that are none of these.
        advice: what else can be done where there are too few.

    Raises:
        DataError: there are too few rows.
    """
    wanted = {"held_out": held_out or max(1, round(0.1 * len(rows)))} if apart is None else {}
    wanted |= {"fresh_rows": fresh_rows} if fresh_rows else {}
    most = most_rows(counts, sum(wanted.values()), len(wanted))
    asked, n = n, most if n is None else n
    if n < 2 or n > most:
        spare = len(rows) - sum(wanted.values()) - most
        words = f"n + {' + '.join(wanted)}" if wanted else "n"
        numbers = " + ".join(map(str, (max(n, 2), *wanted.values())))
        lost = f", and up to {spare} are left out so that no {unit} is in two parts" if spare else ""
        what = f"{len(rows)} rows of {len(counts)} {unit}s"
        lower = any(each is not None and each > 1 for each in (held_out, asked and asked - 1, fresh_rows))
        do = "lower them" if lower or spare else f"give more {unit}s"
        raise DataError(f"{source} has {what}, fewer than {words} = {numbers}{lost}: {do}{advice}")
    parts: dict[str, list[np.ndarray]] = {"n": [], **{name: [] for name in wanted}}
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for order, rng in zip(
        Streams(tuple(seeds)).permutations("data", [len(counts)] * len(seeds)),
        Streams(tuple(seeds)).numpy("data/rows"),
        strict=True,
    ):
        at = 0
        filled = np.cumsum(counts[order])
        for name, count in ({"n": n} | wanted).items():
            begun = filled[at - 1] if at else 0
            until = int(np.searchsorted(filled, begun + count)) + 1
            taken = np.concatenate([np.arange(first[u], first[u] + counts[u]) for u in order[at:until]])[:count]
            parts[name].append(rows[rng.permutation(taken)])
            at = until
    stacked = {name: torch.from_numpy(np.stack(each)) for name, each in parts.items()}
    held = stacked["held_out"] if apart is None else held_apart(apart, held_out, seeds)
    return Parts(stacked["n"], held, stacked.get("fresh_rows"))
