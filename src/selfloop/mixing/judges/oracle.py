"""Knows the truth, and errs at stated rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.registry import Named
from selfloop.data.base import Dataset
from selfloop.mixing.base import Pool
from selfloop.mixing.judges.base import (
    JUDGES,
    Judge,
    Probability,
    Threshold,
    check,
    kept,
    needs,
    refuse,
    refuse_incomplete,
    refuse_no_threshold,
)


@JUDGES.register
class Oracle(Judge):
    """1 for rows that pass, of the right ones a share ``true_positive``, of the others ``false_positive``.

    Which rows are right another judge says. Errors are independent from row to row, and from those of any other oracle
    of the regime (Feng et al. 2024, "Beyond Model
    Collapse": φ and ψ are the rates of right and of wrong rows).

    Attributes:
        truth: says which rows are right.
        threshold: the score of the truth from which on a row is right; None is that judge's own.
        true_positive: the probability that a right row passes.
        false_positive: the probability that a wrong row does.
    """

    name: Literal["oracle"] = "oracle"
    truth: Annotated[Judge, Named(JUDGES, whole=True)]
    threshold: Threshold = None
    true_positive: Probability = 1.0
    false_positive: Probability = 0.0

    @model_validator(mode="after")
    def _sound(self) -> Oracle:
        refuse(self.truth, "scores", "oracle.truth")
        return self

    def refuse_incomplete(self) -> None:
        """Refuse a truth of which nobody says how much is right."""
        refuse_no_threshold(self.truth, self.threshold, "threshold")
        refuse_incomplete(self.truth)

    @property
    def needs(self) -> frozenset[Capability]:  # type: ignore[override]
        """What the truth needs."""
        return needs(self.truth)

    def check(self, data: Dataset, event: Sequence[int], n: int) -> None:
        """Check the truth."""
        check(self.truth, data, event, n)

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        """Return 1 or 0 a row, (N,) float64."""
        right = kept(self.truth, self.threshold, x, replace(pool, judge=pool.judge + 1))  # it may be an oracle, too
        (rng,) = pool.streams.numpy("oracle", pool.judge)
        rate = torch.where(right, self.true_positive, self.false_positive)
        return (torch.from_numpy(rng.random(len(x))) < rate).double()
