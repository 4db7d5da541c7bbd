"""Gerstgrasser et al. 2024: linear regression on labels of the model before."""

from __future__ import annotations

import math
from collections.abc import Iterator

from selfloop.ledger.loops import metric, trajectories
from selfloop.ledger.row import Entry, Measured, Published, Row
from selfloop.theory.regression import accumulated_error, replaced_error

_D, _ROWS, _FITS, _SEEDS = 10, 111, 10, 600
_WHERE = "linear regression, d = 10, T = 111, σ² = 1, 10 fits"


def _rows() -> Iterator[Row]:
    errors = trajectories(
        metric("coefficient_error"),
        data={"name": "linear_regression", "coefficients": [1.0] * _D, "n": _ROWS, "held_out": 2},
        generator={"name": "linear_regression", "intercept": False, "noise": 1.0},
        generations=_FITS - 1,
        grid={"mixing": ["replace", "accumulate"]},
        metrics=["coefficient_error"],
        seeds=_SEEDS,
    )[:, :, -1]
    what = f"test error less σ², d = {_D}, T = {_ROWS}, {_FITS} fits"
    replaced, accumulated = Measured.mean(errors[0]), Measured.mean(errors[1])
    first, kept = replaced_error(_ROWS, _D, 1), accumulated_error(_ROWS, _D, _FITS, kept=True)
    yield Row(
        statement=f"{what}, replace",
        where=_WHERE,
        theirs=Published.printed("1.0"),
        ours=replaced,
        exact=replaced_error(_ROWS, _D, _FITS),
    )
    yield Row(
        statement=f"{what}, accumulate", where=_WHERE, theirs=Published.printed("0.155"), ours=accumulated, exact=kept
    )
    yield Row(
        statement=f"{what}, accumulate: their bound, π²/6 of the first fit's",
        where="their bound",
        theirs=Published.formula(math.pi**2 / 6 * first),
        ours=accumulated,
        kind="at most",
        exact=kept,
    )


ENTRY = Entry(
    title="Gerstgrasser et al. 2024, Is Model Collapse Inevitable?",
    source="arXiv:2404.01413",
    recipe=(
        f"`linear_regression` without an intercept, y drawn with the known σ = 1, x ∼ N(0, I) kept in all generations, "
        f"{_SEEDS} seeds. The error is ‖β_t − β‖², which is the test error less σ²."
    ),
    rows=_rows,
    found=(
        "All hold, with x kept: the exact value is σ²d/(T − d − 1) Σ 1/k². Where every generation had new x "
        "it would be "
        f"{accumulated_error(_ROWS, _D, _FITS):.4f}, which their 0.155 is not."
    ),
)
