"""Shumailov et al. 2024: a Gaussian that walks away."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from selfloop.ledger.loops import Turn, trajectories
from selfloop.ledger.row import Entry, Measured, Published, Row
from selfloop.theory.gaussian import alpha

_M, _FITS, _SEEDS = 100, 11, 1600


def _read(turn: Turn) -> torch.Tensor:
    """Return E x² of a sample of the model, and W₂² between the model and N(0, 1), (R, 2)."""
    mean, variance = turn.state["mean"][:, 0], turn.state["covariance"][:, 0, 0]
    return torch.stack([mean.square() + variance, mean.square() + (variance.sqrt() - 1).square()], 1)


def _rows() -> Iterator[Row]:
    found = trajectories(
        _read,
        data={"name": "gaussian", "dim": 1, "n": _M, "held_out": 2},
        generator="gaussian",
        mixing="replace",
        generations=_FITS - 1,
        seeds=_SEEDS,
    )[0]
    yield Row(
        statement=f"variance of X^10, M = {_M}: a sample after 10 fits",
        where="one-dimensional Gaussian, σ²(1 + n/M) at n = 10",
        theirs=Published.printed("1.1"),
        ours=Measured.mean(found[:, _FITS - 2, 0]),
        exact=1 + (_FITS - 1) / _M,
    )
    yield Row(
        statement=f"E W₂² between truth and model, M = {_M}, after 11 fits",
        where="one-dimensional Gaussian, (3/2) σ² Σ 1/M, to first order",
        theirs=Published.printed("0.165"),
        ours=Measured.mean(found[:, _FITS - 1, 1]),
        exact=_FITS / _M + 2 * (1 - alpha(_M).value ** _FITS),
    )


ENTRY = Entry(
    title="Shumailov et al. 2024, AI models collapse when trained on recursively generated data",
    source="doi:10.1038/s41586-024-07566-y, arXiv:2305.17493",
    recipe=f"`gaussian` (unbiased) in one dimension under `replace`, M = {_M} rows, {_SEEDS} seeds.",
    rows=_rows,
    found=(
        "Both hold. X^n is drawn after n fits, the distance is of the fit that follows: they are one fit "
        "apart. Their 0.165 "
        "is of first order in 1/M; the exact value is 0.1648."
    ),
)
