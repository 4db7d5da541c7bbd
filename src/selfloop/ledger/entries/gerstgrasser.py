"""Gerstgrasser et al. 2024: linear regression on labels of the model before."""

from __future__ import annotations

import math
from collections.abc import Iterator

from selfloop.ledger.loops import metric, trajectories
from selfloop.ledger.row import Entry, Measured, Published, Row, Seen
from selfloop.theory.regression import accumulated_error, replaced_error

_D, _ROWS, _FITS, _SEEDS = 10, 111, 10, 600
_THEOREM = "Theorem 2, Eq. 3"


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
    what = f"test error less σ² = 1, d = {_D}, T = {_ROWS}, n = {_FITS} fits"
    once = _D / (_ROWS - _D - 1)
    replaced, accumulated = Measured.mean(errors[0]), Measured.mean(errors[1])
    kept = accumulated_error(_ROWS, _D, _FITS, kept=True)
    yield Row(
        statement=f"{what}, replace: σ²d/(T − d − 1) · n",
        where="Eq. 4",
        seen=Seen.notes,
        theirs=Published.formula(once * _FITS),
        ours=replaced,
        exact=replaced_error(_ROWS, _D, _FITS),
    )
    yield Row(
        statement=f"{what}, accumulate: σ²d/(T − d − 1) · Σ 1/i²",
        where=_THEOREM,
        seen=Seen.notes,
        theirs=Published.formula(once * sum(1 / i**2 for i in range(1, _FITS + 1))),
        ours=accumulated,
        exact=kept,
    )
    yield Row(
        statement=f"{what}, accumulate: their bound, π²/6 of the first fit's",
        where=_THEOREM,
        seen=Seen.notes,
        theirs=Published.formula(math.pi**2 / 6 * once),
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
        "All hold, with x kept, as theirs is. Where every generation had new x it would be "
        f"{accumulated_error(_ROWS, _D, _FITS):.4f} in place of 0.155. The paper gives the formulas; the sizes are a "
        "reader's."
    ),
)
