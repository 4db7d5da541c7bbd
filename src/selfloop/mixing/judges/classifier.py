"""Tells real rows from generated ones."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.mixing.base import Pool
from selfloop.mixing.judges.base import JUDGES, Judge


@JUDGES.register
class Classifier(Judge):
    """The probability that a row is real, after a logistic regression of the real rows against those to be judged.

    Both classes count alike, so that ½ is where they are equally likely. Features are the powers of each number up to
    ``degree``, standardised; of degree 2 they tell two Gaussians with diagonal covariances apart as well as can be.

    Attributes:
        degree: the greatest power.
        penalty: the weight of the squared coefficients, as scikit-learn's 1/C.
    """

    name: Literal["classifier"] = "classifier"
    needs: ClassVar[frozenset[Capability]] = frozenset(("numbers",))
    degree: int = Field(default=2, ge=1, le=4)
    penalty: float = Field(default=1.0, gt=0)

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        """Return (N,) float64."""
        if not len(x):
            return torch.zeros(0, dtype=torch.float64)
        from sklearn.linear_model import LogisticRegression  # takes a second that only this judge should cost

        real = self._features(pool.real.arm(0))
        middle, spread = real.mean(0), real.std(0)
        spread[spread == 0] = 1
        both = (np.concatenate([real, self._features(x)]) - middle) / spread
        labels = np.arange(len(both)) < len(real)
        model = LogisticRegression(C=1 / self.penalty, class_weight="balanced", max_iter=1000).fit(both, labels)
        return torch.from_numpy(model.predict_proba(both[len(real) :])[:, 1])

    def _features(self, x: Tensor) -> np.ndarray:
        flat = x.flatten(1).double().numpy()
        return np.concatenate([flat**power for power in range(1, self.degree + 1)], 1)
