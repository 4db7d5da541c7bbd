"""Ferbach et al. 2024: samples that people choose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from selfloop.ledger.loops import Turn, trajectories
from selfloop.ledger.row import Entry, Measured, Published, Row, Seen
from selfloop.theory.curated import tilted

_SEEDS, _T = 24, 60
_GREATEST = "Theorem 2.1: convergence to p_0 where r is greatest"
_MIXED = "theorems on a share of real data"
_SHARES = [0.4, 0.3, 0.2, 0.1]
_REWARD = {"name": "distance", "to": [2.0, 0.0], "scale": 2.0}


def _reward(turn: Turn) -> Tensor:
    """Return E r and Var r of the samples, (R, 2), r = −‖x − (2, 0)‖²/8."""
    r = -(turn.samples.x.double() - torch.tensor([2.0, 0.0])).square().sum(2) / 8
    return torch.stack([r.mean(1), r.var(1)], 1)


def _of_the_last(turn: Turn) -> Tensor:
    """Return the share of category 3 in the table, (R,)."""
    last = turn.state["rows.x"][..., 0] == len(_SHARES) - 1
    return (last * turn.state["rows.probability"]).sum(1)


def _rows() -> Iterator[Row]:
    reward = {"name": "distance", "to": [3.0], "scale": 2.0}
    share = trajectories(
        _of_the_last,
        data={"name": "categorical", "probabilities": _SHARES, "n": 1000, "held_out": 2},
        generator="categorical",
        mixing={"name": "curated", "reward": reward, "k": 300, "lam": float("inf")},
        generations=3,
        metrics=["categories_kept"],
        seeds=12,
    )[0]
    for t in (1, 3):
        value = float(tilted(np.array(_SHARES), -np.square(np.arange(4) - 3) / 8, t)[-1])
        yield Row(
            statement=f"p_t ∝ p_0 e^(tr) for K → ∞: share of the best of four categories, t = {t}, K = 300",
            where="Lemma 2.1",
            seen=Seen.notes,
            theirs=Published.formula(value),
            ours=Measured.mean(share[:, t]),
            exact=value,
        )
    synthetic, mixed = trajectories(
        _reward,
        data={"name": "gaussian", "dim": 2, "n": 500, "held_out": 2},
        generator="gaussian",
        generations=_T,
        grid={"mixing": [{"name": "curated", "reward": _REWARD, "k": 4, "lam": lam} for lam in (float("inf"), 1.0)]},
        seeds=_SEEDS,
    )
    steps = np.diff(synthetic[..., 0], axis=1)[:, :5]
    least = int(np.argmin(steps.mean(0) / steps.std(0)))
    yield Row(
        statement="curated samples alone: E r grows in each of the first five retrainings; the least of the five steps",
        where="a statement on curated samples alone",
        seen=Seen.notes,
        theirs=Published.formula(0.0),
        ours=Measured.mean(steps[:, least]),
        kind="above",
    )
    yield Row(
        statement=(
            f"curated samples alone: E r goes to its maximum, 0. Rule: after {_T} retrainings under 5 % of the "
            "way is left"
        ),
        where=_GREATEST,
        seen=Seen.abstract,
        theirs=Published.printed("0.05", 0.0),
        ours=Measured.mean(synthetic[:, -1, 0] / synthetic[:, 0, 0]),
        kind="below",
    )
    yield Row(
        statement=f"curated samples alone: Var r vanishes. Rule: after {_T} retrainings under 5 % is left",
        where=_GREATEST,
        seen=Seen.notes,
        theirs=Published.printed("0.05", 0.0),
        ours=Measured.mean(synthetic[:, -1, 1] / synthetic[:, 0, 1]),
        kind="below",
    )
    yield Row(
        statement="as much real data beside: E r is above the real data's; the gain",
        where=_MIXED,
        seen=Seen.notes,
        theirs=Published.formula(0.0),
        ours=Measured.mean(mixed[:, -1, 0] - mixed[:, 0, 0]),
        kind="above",
    )
    yield Row(
        statement="as much real data beside: it is stable. Rule: over half of the real data's Var r is left",
        where=_MIXED,
        seen=Seen.abstract,
        theirs=Published.printed("0.5", 0.0),
        ours=Measured.mean(mixed[:, -1, 1] / mixed[:, 0, 1]),
        kind="above",
    )


ENTRY = Entry(
    title="Ferbach, Bertrand, Bose & Gidel 2024, Self-Consuming Generative Models with Curated Data",
    source="arXiv:2407.09499",
    recipe=(
        f"`curated` by `distance`: `categorical` with K = 300, and `gaussian` in two dimensions with K = 4, n = 500, "
        f"{_SEEDS} seeds. Theirs are synthetic sets and CIFAR-10, by networks; none of these is run here."
    ),
    rows=_rows,
    found=(
        "The limit K → ∞ and the statements hold on these small models. That a Gaussian can be every e^(tr) of "
        "itself, as r is quadratic, makes it as good as the model that can be anything of their theorem."
    ),
)
