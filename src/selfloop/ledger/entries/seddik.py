"""Seddik et al. 2024: next-token prediction as a table of counts."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from selfloop.ledger.loops import Turn, trajectories
from selfloop.ledger.row import Entry, Measured, Published, Row, Seen
from selfloop.theory.categorical import mixed_heterozygosity

_N, _CATEGORIES, _SEEDS, _FITS = 20, 10, 150, 30
_START = 1 / _CATEGORIES  # Σp² of the truth


def _same(turn: Turn) -> Tensor:
    """Return S = Σp² of the fitted tables, (R,); 1 is a single token."""
    return turn.state["rows.probability"].square().sum(1)


def _rows() -> Iterator[Row]:
    synthetic, mixed = trajectories(
        _same,
        data={"name": "categorical", "probabilities": [1 / _CATEGORIES] * _CATEGORIES, "n": _N, "held_out": 2},
        generator="categorical",
        generations=_FITS - 1,
        grid={"mixing": ["replace", {"name": "augment", "lam": 1}]},
        metrics=["categories_kept"],
        seeds=_SEEDS,
    )
    when = f"n = {_N} samples, {_CATEGORIES} equally likely tokens"
    for m in (1, 10, 30):
        value = 1 - (1 - 1 / _N) ** m * (1 - _START)
        yield Row(
            statement=f"fully synthetic, {when}: S_m = 1 − (1 − 1/n)^m (1 − S_0), m = {m}",
            where="formula of the fully synthetic case",
            seen=Seen.notes,
            theirs=Published.formula(value),
            ours=Measured.mean(synthetic[:, m - 1]),
            exact=value,
        )
    long = trajectories(
        lambda turn: _same(turn) > 1 - 1e-9,
        data={"name": "categorical", "probabilities": [1 / 5] * 5, "n": 5, "held_out": 2},
        generator="categorical",
        mixing="replace",
        generations=59,
        metrics=["categories_kept"],
        seeds=80,
    )[0]
    yield Row(
        statement=(
            "fully synthetic: total collapse is almost sure. Rule: over 95 % of runs have one token left at "
            "m = 60, n = 5"
        ),
        where="theorem of the fully synthetic case",
        seen=Seen.notes,
        theirs=Published.printed("0.95", 0.0),
        ours=Measured.mean(long[:, -1]),
        kind="above",
    )
    settled = (1 - 1 / _N) * (1 - _START) * mixed_heterozygosity(_N, 1, _FITS - 1)
    yield Row(
        statement=(
            f"{when} beside as many real ones: collapse is avoided. Rule: 1 − S_{_FITS} is over half the real rows'"
        ),
        where="theorem of the partially synthetic case",
        seen=Seen.abstract,
        theirs=Published.formula(0.5 * (1 - 1 / _N) * (1 - _START)),
        ours=Measured.mean(1 - mixed[:, -1]),
        kind="above",
        exact=settled,
    )


ENTRY = Entry(
    title="Seddik, Chen, Hayou, Youssef & Debbah 2024, How Bad is Training on Synthetic Data?",
    source="arXiv:2404.05090",
    recipe=(
        f"`categorical` under `replace` and `augment`, {_SEEDS} seeds; S = Σp², m counts fits, the first to real rows."
    ),
    rows=_rows,
    found=(
        "Their formula is the loss of heterozygosity of the Wright-Fisher model, and holds; so do both statements. How "
        "much synthetic data is too much, which the paper bounds, was not seen, and is not tried."
    ),
)
