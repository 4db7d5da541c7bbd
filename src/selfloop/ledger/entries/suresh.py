"""Suresh et al. 2024: how long a Poisson model lives, and a Gaussian's variance."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from selfloop.ledger.loops import trajectories
from selfloop.ledger.row import Entry, Measured, Published, Row, Seen
from selfloop.theory.categorical import poisson_alive

_N, _COLUMNS, _SEEDS = 10, 500, 16
_BOUND = "bound, by an earlier reading of a summary"


def _rows() -> Iterator[Row]:
    alive = trajectories(
        lambda turn: (turn.state["rate"] > 0).double().mean(1),
        data={"name": "poisson", "dim": _COLUMNS, "rate": 1.0, "n": _N, "held_out": 2},
        generator="poisson",
        mixing="replace",
        generations=499,
        metrics=["nll"],
        seeds=_SEEDS,
    )[0]
    for k, theirs in ((10, "0.8214"), (50, "0.3187"), (100, "0.1775"), (500, "0.0390")):
        yield Row(
            statement=f"Poisson, n = {_N}, λ_0 = 1: still alive after {k} fits",
            where="numbers for the Poisson model, whose place is unknown",
            seen=Seen.nowhere,
            theirs=Published.printed(theirs),
            ours=Measured.mean(alive[:, k - 1]),
            exact=poisson_alive(_N, 1, k),
        )
    for k in (10, 100):
        yield Row(
            statement=f"Poisson, n = {_N}, λ_0 = 1: alive after {k} fits, their bound 1 − e^(−nλ_0/k)",
            where=_BOUND,
            seen=Seen.notes,
            theirs=Published.formula(1 - math.exp(-_N / k)),
            ours=Measured.mean(alive[:, k - 1]),
            kind="at least",
            exact=poisson_alive(_N, 1, k),
        )
    yield from _gaussian()


def _gaussian() -> Iterator[Row]:
    n, fits = 10, 40
    variance = trajectories(
        lambda turn: turn.state["covariance"][:, 0, 0],
        data={"name": "gaussian", "dim": 1, "n": n, "held_out": 2},
        generator={"name": "gaussian", "covariance": "mle"},
        mixing="replace",
        generations=fits - 1,
        seeds=200,
    )[0][:, -1]
    for floor in (0.5, 1.0):
        yield Row(
            statement=f"Gaussian, n = {n}: P(σ_t > {floor} σ_0) after {fits} fits, their bound (σ_0/ε) e^(−t/4n)",
            where=_BOUND,
            seen=Seen.notes,
            theirs=Published.formula(math.exp(-fits / (4 * n)) / floor),
            ours=Measured.mean(np.sqrt(variance) > floor),
            kind="at most",
        )


ENTRY = Entry(
    title="Suresh, Thangaraj & Khandavally 2024, Rate of Model Collapse in Recursive Training",
    source="arXiv:2412.17646",
    recipe=(
        f"`poisson` under `replace`, {_COLUMNS} independent columns and {_SEEDS} seeds; `gaussian` of maximum "
        "likelihood. k counts fits, the first being the one to real rows."
    ),
    rows=_rows,
    found=(
        "All hold; 1 − q_k^{nλ_0} of the branching process gives the four numbers to the last digit. Whether the paper "
        "prints them is not known: its abstract does not, nor what was seen of its text and of its authors' code."
    ),
)
