"""Text that was there before: in training rows, whole or in part, or in the generation itself."""

from __future__ import annotations

import numpy as np

from selfloop.metrics.base import METRICS, Metric, per_arm
from selfloop.metrics.counts import Counts
from selfloop.metrics.demand import Demand
from selfloop.metrics.text_rows import (
    FIRST,
    TEXT,
    Ids,
    Keys,
    Mask,
    Windows,
    held,
    ids,
    inside,
    lengths,
    rows_of,
    windows,
)

_MOST = 23  # bits of the table of hashes that are asked for


def copied_texts(train: Ids, generated: Ids) -> float:
    """Return the share of generated rows (M, L) that are a training row (N, L), token for token.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import copied_texts
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> round(copied_texts(real, made), 3)
        0.667
    """
    real, made = (windows(x, x.shape[1])[:, 0] for x in (ids(train), ids(generated)))
    return float(_among(made, real).mean())


def duplicate_texts(x: Ids) -> float:
    """Return the share of (N, L) rows that are equal to one before them.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import duplicate_texts
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> round(duplicate_texts(made), 3)
        0.333
    """
    x = ids(x)
    return 1 - len(Counts.of(windows(x, x.shape[1])[:, 0]).kinds) / len(x)


def longest_copies(train: Ids, generated: Ids) -> Ids:
    """Return of each generated row how many of its tokens in a row are somewhere in a training row, at most, (M,).

    As a part of a copy is a copy, the length is found by halving: all rows that ask for the same length are asked
    together.

    Args:
        train: (N, L) ids.
        generated: (M, L) ids; edges are in no copy.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import longest_copies
        >>> real = np.array([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 0]])  # ids of tokens; 0 is the edge that ends a row
        >>> made = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 1, 2]])
        >>> longest_copies(real, made)
        array([4, 4, 2])
    """
    train, generated = ids(train), ids(generated)
    there, asked = Windows(train), Windows(generated)
    least = np.zeros(len(generated), np.int64)
    most = np.minimum(lengths(generated), int(lengths(train).max()))
    while (open_ := least < most).any():
        middle = (least + most + 1) // 2
        for n in np.flatnonzero(np.bincount(middle[open_])).tolist():
            rows = np.flatnonzero(open_ & (middle == n))
            use = inside(generated[rows], n)
            copied = np.zeros(use.shape, bool)
            copied[use] = _among(asked(n)[rows][use], there(n)[inside(train, n)])
            found = copied.any(1)
            least[rows[found]] = n
            most[rows[~found]] = n - 1
    return least


def _among(asked: Keys, known: Keys) -> Mask:
    """Return which of (M,) keys are among others, (M,).

    Only those of the others are sorted that a table of the first bits does not rule out.
    """
    bits = min(_MOST, 3 + max(len(asked), len(known)).bit_length())
    shift, table = np.uint64(64 - bits), np.zeros(2**bits, bool)
    table[asked >> shift] = True
    near = np.sort(known[table[known >> shift]])
    return Counts(near, np.ones(len(near), np.int64)).at(asked) > 0


METRICS.register(
    Metric(
        name="copied_texts",
        title="Copies of training rows",
        definition="Share of the generated rows that are a real training row, token for token.",
        goal="lower",
        note="down to that of held-out rows",
        version=1,
        unit="share",
        scale="difference",
        compute=lambda e: per_arm(copied_texts, rows_of(e, "train"), rows_of(e, "generated")),
        needs=TEXT,
        demand=lambda sizes: Demand(memory=held(sizes)),
    ),
    Metric(
        name="duplicate_texts",
        title="Duplicates",
        definition="Share of the generated rows that are an earlier one of them, token for token.",
        goal="lower",
        note="down to that of the training rows",
        version=1,
        unit="share",
        scale="difference",
        floor=True,
        compute=lambda e: per_arm(duplicate_texts, rows_of(e, "generated")),
        needs=TEXT,
        demand=lambda sizes: Demand(memory=held(sizes)),
    ),
    Metric(
        name="longest_copy",
        title="Longest copy",
        definition=(
            "How many tokens in a row of a generated row are somewhere in a real training row, at most; the mean over "
            f"the first {FIRST} generated rows."
        ),
        goal="lower",
        note="down to that of held-out rows",
        version=1,
        unit="tokens",
        compute=lambda e: per_arm(
            lambda train, generated: float(longest_copies(train, generated[:FIRST]).mean()),
            rows_of(e, "train"),
            rows_of(e, "generated"),
        ),
        needs=TEXT,
        demand=lambda sizes: Demand(memory=2 * held(sizes)),
    ),
)
