"""Regression on random features, of least norm: more parameters than rows, and still in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS
from selfloop.generators.conditional import predictor
from selfloop.generators.linear_regression import LeastSquares
from selfloop.learning.training import BUFFERS

_WEIGHTS, _BIASES = f"{BUFFERS}weights", f"{BUFFERS}biases"


@GENERATORS.register
class RandomFeatures(LeastSquares):
    """y = Σ_j β_j max(0, x u_j + c_j) / √p + b + σ z: a network whose hidden layer is drawn once and never trained.

    u_j ∼ N(0, I / k) for k other columns, and c_j ∼ N(0, 1). β and b are those of :class:`LeastSquares` with the
    features for x: of least norm where there are more features than rows, which then are met exactly, so that the
    ``noise`` of maximum likelihood is 0.

    State: that of :class:`LeastSquares` with β (R, p), and ``buffers.weights`` u (R, k, p) and ``buffers.biases`` c
    (R, p). A fit from scratch draws them again.

    Attributes:
        features: p.
    """

    name: Literal["random_features"] = "random_features"
    features: Count = 100
    has: ClassVar[frozenset[Capability]] = LeastSquares.has - {"linear"}

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What it always has: its likelihood has no strict maximum where features are many."""
        return self.has

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the hidden layer and of the coefficients."""
        super().state_size(event)
        return self.dtype.itemsize * self.features * (event[0] + 1)

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return the bytes of the features of all rows."""
        return self.dtype.itemsize * self.features * n

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the hidden layers; all else is as in other models without a fit."""
        k, p = event[0] - 1, self.features
        return super().init(event, streams) | {
            _WEIGHTS: streams.normal("init/weights", (k, p), dtype=self.dtype) / math.sqrt(max(1, k)),
            _BIASES: streams.normal("init/biases", (p,), dtype=self.dtype),
        }

    def blank(self, k: int, r: int) -> State:
        """Return y = σ z, with hidden layers of zeros."""
        layer = {
            _WEIGHTS: torch.zeros(r, k, self.features, dtype=self.dtype),
            _BIASES: torch.zeros(r, self.features, dtype=self.dtype),
        }
        return super().blank(self.features, r) | layer

    def fitted(self, x: Tensor, y: Tensor, weight: Tensor, before: State) -> State:
        """Return the minimum of least norm."""
        layer = {name: before[name][0] for name in (_WEIGHTS, _BIASES)}
        return super().fitted(_activated(x, layer[_WEIGHTS], layer[_BIASES]), y, weight, before) | layer

    def predicted(self, state: State, x: Tensor) -> Tensor:
        """Return Σ_j β_j max(0, x u_j + c_j) / √p + b."""
        # One arm at a time, and copies: what a matrix product rounds depends on how many there are, and on alignment.
        layers = zip(x, state[_WEIGHTS], state[_BIASES], strict=True)
        return predictor(state, torch.stack([_activated(rows.clone(), u.clone(), c) for rows, u, c in layers]))


def _activated(x: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Return the features (n, p) of rows (n, k)."""
    return (x @ weights + biases).relu() / math.sqrt(len(biases))
