"""Kazdan et al. 2024: a Gaussian in one dimension, its samples replaced or accumulated."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from selfloop.ledger.loops import Turn, trajectories
from selfloop.ledger.row import Doubles, Entry, Measured, Published, Row, Seen
from selfloop.theory.pooled import accumulate

_SEEDS = {"replace": 300, "accumulate": 130}
_RUNS = "their stored runs of the experiment on Gaussians: mean ± s.e. of 100 seeds"


def _read(turn: Turn) -> torch.Tensor:
    """Return σ² and μ², (R, 2); the truth's are 1 and 0."""
    return torch.stack([turn.state["covariance"][:, 0, 0], turn.state["mean"][:, 0].square()], 1)


def _loop(regime: str, n: int, fits: int) -> Doubles:
    """Return σ² and μ² by seed and fit, (S, fits, 2)."""
    found: Doubles = trajectories(
        _read,
        data={"name": "gaussian", "dim": 1, "n": n, "held_out": 2},
        generator={"name": "gaussian", "covariance": "mle"},
        mixing=regime,
        generations=fits - 1,
        seeds=_SEEDS[regime],
    )[0]
    return found


def _row(what: str, theirs: str, error: float, values: Doubles, exact: float) -> Row:
    return Row(
        statement=what,
        where=_RUNS,
        seen=Seen.files,
        theirs=Published.printed(theirs, error),
        ours=Measured.mean(values),
        exact=exact,
    )


def _rows() -> Iterator[Row]:
    ratio, square = "σ²_t/σ²", "(μ_t − μ)²/σ²"
    few, many = _loop("replace", 10, 100), _loop("replace", 100, 100)
    yield _row(f"{ratio}, replace, n = 10, t = 10", "0.301", 0.042, few[:, 9, 0], 0.9**10)
    yield _row(f"{ratio}, replace, n = 100, t = 50", "0.579", 0.054, many[:, 49, 0], 0.99**50)
    yield _row(f"{ratio}, replace, n = 100, t = 100", "0.309", 0.040, many[:, 99, 0], 0.99**100)
    yield _row(f"{square}, replace, n = 10, t = 100", "0.926", 0.166, few[:, 99, 1], 1 - 0.9**100)
    few, many = _loop("accumulate", 10, 100), _loop("accumulate", 100, 100)
    known = {n: accumulate(n, 99) for n in (10, 100)}
    yield _row(f"{ratio}, accumulate, n = 10, t = 100", "0.873", 0.048, few[:, 99, 0], known[10].variance[99])
    yield _row(f"{ratio}, accumulate, n = 100, t = 100", "0.997", 0.017, many[:, 99, 0], known[100].variance[99])
    yield _row(f"{square}, accumulate, n = 10, t = 100", "0.158", 0.019, few[:, 99, 1], known[10].mean_square[99])


ENTRY = Entry(
    title="Kazdan, Schaeffer, Dey, Gerstgrasser, Rafailov, Donoho & Koyejo 2024, Collapse or Thrive?",
    source="arXiv:2410.16713",
    recipe=(
        f"`gaussian` of maximum likelihood on N(0, 1), {_SEEDS['replace']} and {_SEEDS['accumulate']} seeds. "
        "t counts fits, the first being the one to real rows, as in their code (`np.cov` with `bias=True`; 100 seeds)."
    ),
    rows=_rows,
    found=(
        "All hold. The theory says E σ²_t = (1 − 1/n)^t where samples replace, and Π(1 − 1/(nk²)) where they "
        "accumulate. With the unbiased variance E σ²_t would stay 1 in the first, and with t counted from the first "
        "retraining there would be a factor more."
    ),
)
