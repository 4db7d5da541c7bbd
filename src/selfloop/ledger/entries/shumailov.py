"""Shumailov et al. 2024: a Gaussian that walks away."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from selfloop.ledger.loops import Turn, trajectories
from selfloop.ledger.row import Entry, Measured, Published, Row, Seen
from selfloop.theory.gaussian import alpha

_M, _FITS, _SEEDS = 100, 11, 1600
_WHERE = "Nature, supplement, section 3.1.1"


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
        statement=f"variance of X^n, σ²(1 + n/M) to first order, M = {_M}, n = 10: a sample after 10 fits",
        where=_WHERE,
        seen=Seen.notes,
        theirs=Published.formula(1 + (_FITS - 1) / _M),
        ours=Measured.mean(found[:, _FITS - 2, 0]),
        exact=1 + (_FITS - 1) / _M,
    )
    yield Row(
        statement=f"E W₂² between truth and model, (3/2) σ² Σ 1/M_i to first order, M = {_M}, n + 1 = {_FITS}",
        where=f"{_WHERE}, Eq. 6",
        seen=Seen.notes,
        theirs=Published.formula(1.5 * _FITS / _M),
        ours=Measured.mean(found[:, _FITS - 1, 1]),
        exact=_FITS / _M + 2 * (1 - alpha(_M).value ** _FITS),
    )


ENTRY = Entry(
    title="Shumailov et al. 2024, AI models collapse when trained on recursively generated data",
    source="doi:10.1038/s41586-024-07566-y, arXiv:2305.17493",
    recipe=f"`gaussian` (unbiased) in one dimension under `replace`, M = {_M} rows, {_SEEDS} seeds.",
    rows=_rows,
    found=(
        "Both hold. X^n is drawn after n fits, the distance is of the fit that follows: they are one fit apart. Their "
        "formulas are of first order in 1/M: the first is exact all the same, and for the 0.165 of the second it is "
        "0.1648. The paper gives the formulas; M = 100 and n = 10 are a reader's."
    ),
)
