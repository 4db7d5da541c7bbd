"""Dohmatob et al. 2024: strong model collapse, a little synthetic data that more data do not make up for."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams, generator
from selfloop.generators.linear_regression import LinearRegression
from selfloop.learning.training import Budget
from selfloop.ledger.row import Doubles, Entry, Measured, Published, Row

_D, _SEEDS, _SHARE = 10, 200, 0.01
_NUMBERS = "what they are of, and under which conditions, was not seen"


def _excess(rows: int, share: float) -> Doubles:
    """Return ‖β̂ − β‖² by seed, (S,), where a share of the labels is by a model with ‖β′ − β‖ = 1, and σ = 0.1."""
    found = []
    for seed in range(_SEEDS):
        rng, streams = generator(seed, "ledger/dohmatob", rows, str(share)), Streams((seed,))
        x = rng.standard_normal((rows, _D))
        y = 0.1 * rng.standard_normal(rows)
        y[: round(share * rows)] += x[: round(share * rows), 0]
        model, both = LinearRegression(intercept=False), torch.from_numpy(np.column_stack([x, y]))
        state = model.init((_D + 1,), streams)
        state = model.fit(state, Samples.full(both[None], 0), Budget(epochs=1).resolve(1), streams)
        found.append(float(state["coefficients"].square().sum()))
    return np.array(found)


def _ratio(a: Measured, b: Measured) -> Measured:
    """Return a/b of independent numbers."""
    return Measured(a.value / b.value, a.value / b.value * math.hypot(a.error / a.value, b.error / b.value))


def _rows() -> Iterator[Row]:
    for theirs in ("0.0101", "0.0002"):
        yield Row(
            statement=f"the number {theirs}",
            where="a number of the paper, whose place was not seen",
            theirs=Published.printed(theirs),
            ours=None,
            why=f"not seen: {_NUMBERS}",
        )
    few, many = 500, 20_000
    clean = (few - _D - 1) / (many - _D - 1)
    yield Row(
        statement=(
            f"error at n = {many:,} over that at n = {few:,}, 1 % of the labels by a model that is off by 1: more "
            "data do not "
            f"help. Rule: it is over 5 times the {clean:.3g} of real labels alone"
        ),
        where="others' summaries: 1 % of synthetic data is enough that larger training sets do not improve performance",
        theirs=Published.formula(5 * clean),
        ours=_ratio(Measured.mean(_excess(many, _SHARE)), Measured.mean(_excess(few, _SHARE))),
        kind="above",
    )


ENTRY = Entry(
    title="Dohmatob, Feng, Subramonian & Kempe 2024, Strong Model Collapse",
    source="arXiv:2410.04840",
    recipe=(
        f"`linear_regression` in d = {_D}, σ = 0.1, on rows of which a share has labels by another model, at "
        "a distance of "
        f"1 from the truth, {_SEEDS} seeds. It is one fit and no loop."
    ),
    rows=_rows,
    found=(
        "The statement holds: the other model's share times its distance, squared, is a floor that no n "
        "takes away. The "
        "numbers 0.0101 and 0.0002 are not tried, for want of their conditions."
    ),
)
