"""Data from a pool, as the web is one, that fills with what models made."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from selfloop.core.config import Frozen
from selfloop.core.samples import Samples
from selfloop.mixing.base import MIXINGS, Pool, Regime
from selfloop.mixing.judges.base import Probability
from selfloop.mixing.parts import chosen, joined, multiple


class Detector(Frozen):
    """Takes rows that it holds for synthetic out of the pool.

    What is left has 1 − true_positive to 1 − false_positive times the odds: equal rates change nothing.

    Attributes:
        true_positive: the share of synthetic rows that it takes out.
        false_positive: the share of real rows that it takes out.
    """

    true_positive: Probability
    false_positive: Probability = 0.0

    @model_validator(mode="after")
    def _leaves_some(self) -> Detector:
        if self.true_positive == self.false_positive == 1:
            raise ValueError("a detector with both rates 1 leaves nothing in the pool: lower one of them")
        return self

    def left(self, share: float) -> float:
        """Return the share of synthetic rows in a pool that had ``share`` of them, once it has been there."""
        synthetic = share * (1 - self.true_positive)
        real = (1 - share) * (1 - self.false_positive)
        return synthetic / (synthetic + real) if synthetic else 0.0


@MIXINGS.register
class Contaminated(Regime):
    """n rows: a share of them surely real, the others out of a pool whose synthetic share is 1 − (1 − rate)^t.

    Real rows are fixed ones, synthetic ones are out of all samples so far, each equally likely and none twice. Shares
    are met in every training set, but for one row, and not only on average.

    Attributes:
        rate: by which share of what is real in the pool becomes synthetic in each generation.
        real: the share of each training set that is known to be real.
        detector: thins the pool, and must leave something there.
    """

    name: Literal["contaminated"] = "contaminated"
    rate: Probability = 0.1
    real: Probability = 0.0
    detector: Detector | None = None

    @model_validator(mode="after")
    def _something_left(self) -> Contaminated:
        if self.detector is None:
            return self
        for rate, kind, wrong in ((1, "synthetic", "true_positive"), (0, "real", "false_positive")):
            if self.rate == rate and getattr(self.detector, wrong) == 1:
                raise ValueError(
                    f"rate {rate} makes a pool of {kind} rows alone, and detector.{wrong} 1 takes all of them out: "
                    f"lower {wrong}, or change rate"
                )
        return self

    def share(self, t: int) -> float:
        """Return the share of synthetic rows in the training set of generation t."""
        pool: float = 1 - (1 - self.rate) ** t
        return (1 - self.real) * (pool if self.detector is None else self.detector.left(pool))

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return n rows, the real ones first."""
        synthetic = multiple(self.share(t), pool.n)
        if synthetic == 0:
            return pool.real
        real = chosen([pool.real], pool.n - synthetic, pool, "mixing/real")
        earlier = chosen([pool.generated(g) for g in range(t)], synthetic, pool, "mixing/synthetic")
        return joined([(real, None), (earlier, None)])
