"""Feng et al. 2024: how many wrong labels a verified set of labels bears."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import brentq

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams, generator
from selfloop.generators.logistic_regression import LogisticRegression
from selfloop.learning.training import Budget
from selfloop.ledger.row import Doubles, Entry, Measured, Published, Row, Seen
from selfloop.theory.verified import breakdown

_ROWS, _D, _SEEDS = 8000, 4, 20
_KEEPS_CORRECT = 0.9  # φ


def _pull(wrong: float, keeps_wrong: float, seed: int) -> float:
    """Return β·e₁ of a classifier of verified labels: above 0 it is right more often than not, below 0 wrong.

    Rows are of two classes, N(±e₁, I), of which each has the wrong label with the probability ``wrong``; those of a
    seed are the same whatever that is.
    """
    rng, streams = generator(seed, "ledger/feng"), Streams((seed,))
    side = rng.integers(2, size=_ROWS) * 2 - 1
    x = rng.standard_normal((_ROWS, _D))
    x[:, 0] += side
    correct = rng.random(_ROWS) >= wrong
    kept = rng.random(_ROWS) < np.where(correct, _KEEPS_CORRECT, keeps_wrong)
    rows = torch.from_numpy(np.column_stack([x, np.where(correct, side, -side)])[kept])
    model = LogisticRegression(intercept=False)
    state = model.fit(model.init((_D + 1,), streams), Samples.full(rows[None], 1), Budget(epochs=1).resolve(1), streams)
    return float(state["coefficients"][0, 0])


def _thresholds(ratio: float) -> Doubles:
    """Return the share of wrong labels at which the classifier turns, by seed, (S,)."""
    turns = [
        brentq(lambda wrong: _pull(wrong, ratio * _KEEPS_CORRECT, seed), 0.2, 0.99, xtol=1e-5)  # noqa: B023
        for seed in range(_SEEDS)
    ]
    return np.array(turns)


def _rows() -> Iterator[Row]:
    for ratio, name in ((1.0, "1"), (1 / 3, "1/3"), (1 / 14, "1/14")):
        yield Row(
            statement=f"share of wrong labels at which a linear classifier turns, 1/(1 + ψ/φ), ψ/φ = {name}",
            where="Theorem 4.2, the breakdown point p*",
            seen=Seen.notes,
            theirs=Published.formula(1 / (1 + ratio)),
            ours=Measured.mean(_thresholds(ratio)),
            exact=breakdown(1.0, ratio),
        )


ENTRY = Entry(
    title="Feng, Dohmatob, Yang, Charton & Kempe 2024, Beyond Model Collapse",
    source="arXiv:2406.07515",
    recipe=(
        f"`logistic_regression` without an intercept on {_ROWS} rows of two classes N(±e₁, I) in d = {_D}, "
        f"whose labels are wrong with probability p and are kept by a verifier with φ = {_KEEPS_CORRECT} where they "
        f"are right, ψ where they are wrong; {_SEEDS} seeds. The threshold is the root of its coefficient of e₁ in p."
    ),
    rows=_rows,
    found=(
        "All three hold. The paper gives the formula, and 1/2 without a verifier; the other two ratios are a reader's."
    ),
)
