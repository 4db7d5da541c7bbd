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
from selfloop.ledger.row import Doubles, Entry, Measured, Published, Row, Seen

_SHARE = 0.01  # of the labels, by another model


def _excess(rows: int, d: int, noise: float, seeds: int) -> Doubles:
    """Return ‖β̂ − β‖² by seed, (S,), where _SHARE of the labels are by a model with ‖β′ − β‖ = 1; x ∼ N(0, I)."""
    found = []
    for seed in range(seeds):
        rng, streams = generator(seed, "ledger/dohmatob", rows, str(_SHARE)), Streams((seed,))
        x = rng.standard_normal((rows, d))
        y = noise * rng.standard_normal(rows)
        y[: round(_SHARE * rows)] += x[: round(_SHARE * rows), 0]
        model, both = LinearRegression(intercept=False), torch.from_numpy(np.column_stack([x, y]))
        state = model.init((d + 1,), streams)
        state = model.fit(state, Samples.full(both[None], 0), Budget(epochs=1).resolve(1), streams)
        found.append(float(state["coefficients"].square().sum()))
    return np.array(found)


def _expected(rows: int, d: int) -> float:
    """Return Eq. 11 of Dohmatob et al. 2024 for σ² = c² = 1: φ/(1 − φ) + p² + p (1 − p) φ/(1 − φ), φ = d/rows."""
    per_row = d / (rows - d)
    return per_row + _SHARE**2 + _SHARE * (1 - _SHARE) * per_row


def _ratio(a: Measured, b: Measured) -> Measured:
    """Return a/b of independent numbers."""
    return Measured(a.value / b.value, a.value / b.value * math.hypot(a.error / a.value, b.error / b.value))


def _rows() -> Iterator[Row]:
    for rows, d, seeds in ((10_000, 100, 24), (50_000, 10, 140)):
        yield Row(
            statement=(
                f"test error less σ² = 1, d = {d}, n = {rows:,}, 1 % of the labels by a model that is off by c² = 1"
            ),
            where="Corollary 1, Eq. 11",
            seen=Seen.notes,
            theirs=Published.formula(_expected(rows, d)),
            ours=Measured.mean(_excess(rows, d, 1.0, seeds)),
        )
    few, many, d = 500, 20_000, 10
    clean = (few - d - 1) / (many - d - 1)
    yield Row(
        statement=(
            f"error at n = {many:,} over that at n = {few:,}, 1 % of the labels by a model that is off by 1: more "
            f"data do not help. Rule: it is over 5 times the {clean:.3g} of real labels alone"
        ),
        where="abstract: with as little as 1 % of synthetic data larger training sets do not enhance performance",
        seen=Seen.abstract,
        theirs=Published.formula(5 * clean),
        ours=_ratio(*(Measured.mean(_excess(rows, d, 0.1, 200)) for rows in (many, few))),
        kind="above",
    )


ENTRY = Entry(
    title="Dohmatob, Feng, Subramonian & Kempe 2024, Strong Model Collapse",
    source="arXiv:2410.04840",
    recipe=(
        "`linear_regression` on x ∼ N(0, I), of which 1 % of rows have labels by another model, at a distance of 1 "
        "from the truth: 24 and 140 seeds with σ = 1, and 200 with d = 10, σ = 0.1. It is one fit and no loop."
    ),
    rows=_rows,
    found=(
        "All hold: the other model's share times its distance, squared, is a floor that no n takes away. Eq. 11 is "
        "σ²φ/(1 − φ) + (p² + p (1 − p) φ/(1 − φ)) c², φ = d/n, of n → ∞. Its simpler form, σ²d/n + p²c² (Eq. 12), is "
        "0.0101 for d = 100 and n = 10⁴, and 0.0002 for n = 10⁶: numbers that are a reader's, not the paper's."
    ),
)
