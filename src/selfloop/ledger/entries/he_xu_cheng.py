"""He, Xu & Cheng 2025: how much fresh real rows should count beside samples of the model before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial

from selfloop.ledger.loops import Read, metric, trajectories
from selfloop.ledger.row import Doubles, Entry, Measured, Published, Row, Seen
from selfloop.theory.fresh import golden_weight

_GENERATIONS, _SETTLED, _N = 20, 6, 80
_REAL_PER_SYNTHETIC = (0.5, 1.0, 2.0, 4.0)
_WEIGHTS = np.linspace(0.4, 0.95, 9)


def _off(parameter: str, truth: float) -> Read:
    """Return what reads the mean square error of a parameter over columns, (R,)."""
    return lambda turn: (turn.state[parameter] - truth).square().mean(1)


_FAMILIES: dict[str, dict[str, Any]] = {
    "Gaussian mean": {
        "read": _off("mean", 0.0),
        "data": {"name": "gaussian", "dim": 20},
        "generator": "gaussian",
        "seeds": 12,
    },
    "Poisson rate": {
        "read": _off("rate", 1.0),
        "data": {"name": "poisson", "dim": 200, "rate": 1.0},
        "generator": "poisson",
        "seeds": 6,
        "metrics": ["nll"],
    },
    "exponential mean": {
        "read": _off("scale", 1.0),
        "data": {"name": "exponential", "dim": 200},
        "generator": "exponential",
        "seeds": 6,
        "metrics": ["nll"],
    },
    "linear regression": {
        "read": metric("coefficient_error"),
        "data": {"name": "linear_regression", "coefficients": [1.0, -1.0, 0.0, 0.5, 0.0, 0.0]},
        "generator": {"name": "linear_regression", "intercept": False, "inputs": "normal"},
        "metrics": ["coefficient_error"],
        "seeds": 12,
    },
}


def _best(errors: Doubles) -> float:
    """Return the weight at which the mean of errors (S, weights) is least, by a polynomial of degree 5."""
    curve = Polynomial.fit(_WEIGHTS, errors.mean(0), 5)
    fine = np.linspace(_WEIGHTS[0], _WEIGHTS[-1], 2000)
    return float(fine[np.argmin(curve(fine))])


def _rows() -> Iterator[Row]:
    for family, settings in _FAMILIES.items():
        for ratio in _REAL_PER_SYNTHETIC:
            k = 1 / ratio
            regimes = [{"name": "fresh", "k": k, "weight": round(float(a), 6)} for a in _WEIGHTS]
            errors = trajectories(
                **settings | {"data": settings["data"] | {"n": _N, "held_out": 2}},
                generations=_GENERATIONS,
                grid={"mixing": regimes},
            )[..., _SETTLED:].mean(2)
            yield Row(
                statement=f"{family}: best weight of the real rows, r = n_real/n_synthetic = {ratio:g}",
                where="abstract: the reciprocal of the golden ratio" if ratio == 1 else "formula (√(r² + 4r) − r)/2",
                seen=Seen.abstract if ratio == 1 else Seen.nowhere,
                theirs=Published.formula((math.sqrt(ratio**2 + 4 * ratio) - ratio) / 2),
                ours=Measured.jackknifed(_best, errors.T),
                exact=golden_weight(k),
            )


ENTRY = Entry(
    title="He, Xu & Cheng 2025, Golden Ratio Weighting Prevents Model Collapse",
    source="arXiv:2502.18049",
    recipe=(
        f"`fresh` with {len(_WEIGHTS)} weights from {_WEIGHTS[0]:g} to {_WEIGHTS[-1]:g} of n = {_N} new real rows each "
        f"generation, on common random numbers; squared errors of generations {_SETTLED} to {_GENERATIONS}, "
        "averaged over coordinates; the least of a polynomial of degree 5 through them, with a jackknife over seeds."
    ),
    rows=_rows,
    found=(
        "All hold, in all four families. It is the weight of the real rows as a whole, whatever their number; the "
        "samples have the rest. The abstract gives the reciprocal of the golden ratio in some cases, which r = 1 is "
        "here, and an expression for all proportions, which was not seen: ours follows from the recursion."
    ),
)
