"""A kernel density of fixed bandwidth, whose loop adds h² to the variance in every generation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.learning.training import ROWS, Budget
from selfloop.learning.transport.coupling import squared_distances

_X, _COUNT, _WEIGHT = (f"{ROWS}{name}" for name in ("x", "count", "weight"))
_BLOCK = 1 << 22  # distances that are held at once


@GENERATORS.register
class KernelDensity(Sampler):
    """Σ_i w_i N(x; x_i, h² I) / Σ_i w_i over the training rows: a sample is one of them, moved by h z with normal z.

    State: ``rows.x`` (R, N, d) and ``rows.weight`` (R, N), float64, of the rows that count, padded with zeros to the
    most that an arm has, and ``rows.count`` (R,) how many there are. It has no parameters.

    Attributes:
        bandwidth: h, in the units in which models see the data, the same in all directions and generations.
    """

    name: Literal["kernel_density"] = "kernel_density"
    bandwidth: Annotated[float, Field(gt=0)] = 0.1
    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "temperature"))
    dtype: ClassVar[torch.dtype] = torch.float64
    # Alone, an arm's state is as long as its own training set.
    stack: ClassVar[int] = 1

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return no rows, which sample NaN."""
        r = len(streams.seeds)
        return {
            _X: torch.zeros(r, 0, *event, dtype=self.dtype),
            _COUNT: torch.zeros(r, dtype=torch.int64),
            _WEIGHT: torch.zeros(r, 0, dtype=self.dtype),
        }

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the rows that count; neither ``state`` nor ``budget`` plays a part."""
        arms = [data.rows(r, self.dtype) for r in range(len(data.count))]
        # One row that is not finite would be drawn sooner or later: the arm has diverged now.
        sound = [x if torch.isfinite(x).all() else torch.full_like(x, math.nan) for x, _ in arms]
        return {
            _X: torch.nn.utils.rnn.pad_sequence(sound, batch_first=True),
            _COUNT: torch.tensor([len(x) for x, _ in arms]),
            _WEIGHT: torch.nn.utils.rnn.pad_sequence([weight for _, weight in arms], batch_first=True),
        }

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw training rows by what they count, and move each by √τ h z, τ being the temperature."""
        rows = [drawn_by_weight(*_of(state, r), n, rng) for r, rng in enumerate(streams.numpy("components"))]
        z = streams.normal("latents", (n, *state[_X].shape[2:]), dtype=self.dtype)
        return torch.stack(rows) + math.sqrt(temperature) * self.bandwidth * z

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log density of (R, N, d) points; NaN of an arm that has diverged."""
        return torch.stack([self._log_prob(points.to(self.dtype), *_of(state, r)) for r, points in enumerate(x)])

    def _log_prob(self, points: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        if not len(x) or not torch.isfinite(x).all():
            return torch.full((len(points),), math.nan, dtype=self.dtype)
        share = (weight / weight.sum()).log()
        parts = [
            (share - squared_distances(part, x) / (2 * self.bandwidth**2)).logsumexp(1)
            for part in torch.split(points, max(1, _BLOCK // len(x)))
        ]
        return torch.cat(parts) - points.shape[1] * math.log(self.bandwidth * math.sqrt(2 * math.pi))


def _of(state: State, r: int) -> tuple[Tensor, Tensor]:
    """Return one arm's rows (N, d) and what they count (N,), without padding."""
    k = int(state[_COUNT][r])
    return state[_X][r, :k], state[_WEIGHT][r, :k]


def drawn_by_weight(x: Tensor, weight: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """Draw n of the rows (k, d) independently, each as probably as it counts (k,); NaN where there are none."""
    if not len(x):
        return torch.full((n, *x.shape[1:]), math.nan, dtype=x.dtype)
    edges = weight.cumsum(0)
    drawn = torch.from_numpy(rng.random(n)) * edges[-1]
    return x[torch.searchsorted(edges, drawn, right=True).clamp_max(len(x) - 1)]
