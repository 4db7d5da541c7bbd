"""Models of one column given the others, for loops that relabel: rows (x, y) whose x are real and whose y are made."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.learning.training import ROWS, Budget

_X, _COUNT = f"{ROWS}x", f"{ROWS}count"


class Conditional(Sampler):
    """A predictor η of the column ``target``, given the x in all others: x β + b.

    x are not modelled: samples have those of the real rows (born 0) in the training set, of the fit before where it has
    none, and its own where there was no fit before, as with ``retrain: scratch``.

    State: ``coefficients`` β (R, d − 1), ``intercept`` b (R,), what else the family has, ``rows.x`` (R, N, d − 1) the x
    to sample with, padded with zeros to the most that an arm has, and ``rows.count`` (R,) how many there are.

    Attributes:
        target: the column of y, counted from 0, or from −1 at the end.
        inputs: the x of samples: "kept", the real ones in their order, and again from the first where more are wanted;
            "redrawn" from them, each as probably as any other; or "normal", standard normal ones.
        intercept: whether b is fitted, or 0.
        penalty: α of the term α ‖β‖² that is added to what a row loses on average; 0 for none.
    """

    target: int = -1
    inputs: Literal["kept", "redrawn", "normal"] = "kept"
    intercept: bool = True
    penalty: Annotated[float, Field(ge=0)] = 0.0
    dtype: ClassVar[torch.dtype] = torch.float64
    # Alone, an arm's state is as long as its own real rows.
    stack: ClassVar[int] = 1
    has: ClassVar[frozenset[Capability]] = frozenset(("density", "parameters", "prediction", "linear", "temperature"))

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What it always has; the likelihood of an exponential family where nothing is added to it.

        It is one where x are the same in samples and real rows, as the Hessian of neither family depends on y.
        """
        return self.has if self.penalty or self.inputs == "normal" else self.has | {"exponential"}

    @abstractmethod
    def fitted(self, x: Tensor, y: Tensor, weight: Tensor, before: State) -> State:
        """Return one arm's ``coefficients`` (k,), ``intercept`` () and what else there is.

        Args:
            x: (n, k), finite.
            y: (n,), finite.
            weight: (n,), what rows count, with mean 1.
            before: the arm's state so far, (1, …).
        """

    @abstractmethod
    def blank(self, k: int, r: int) -> State:
        """Return the leaves of R untrained models of k other columns, without the x to sample with."""

    @abstractmethod
    def mean(self, state: State, eta: Tensor) -> Tensor:
        """Return E[y | x] given η, both (R, n)."""

    @abstractmethod
    def respond(self, state: State, eta: Tensor, streams: Streams, temperature: float) -> Tensor:
        """Draw y of p(y | x)^(1/τ), normalised, τ being the temperature, given η, both (R, n)."""

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the coefficients.

        Raises:
            ConfigError: events have no such column, or no other.
        """
        (d,) = event
        self._column(d)
        return self.dtype.itemsize * d

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return models without coefficients, and without x to sample with, so that they sample NaN."""
        k, r = event[0] - 1, len(streams.seeds)
        rows = {_X: torch.zeros(r, 0, k, dtype=self.dtype), _COUNT: torch.zeros(r, dtype=torch.int64)}
        return self.blank(k, r) | rows

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the fit to the rows that count; ``budget`` plays no part, and ``state`` but for the x that it has."""
        arms, inputs = [], []
        for r in range(len(data.count)):
            before = {name: leaf[r : r + 1] for name, leaf in state.items()}
            x, y = self._apart(data.rows(r, self.dtype)[0])
            weight = data.counting(r)[1]
            finite = bool(torch.isfinite(x).all() and torch.isfinite(y).all())
            lost = {name: torch.full_like(leaf[0], math.nan) for name, leaf in self.blank(x.shape[1], 1).items()}
            arms.append(self.fitted(x, y, weight, before) if finite else lost)
            inputs.append(self._inputs(x, data, r, before))
        return {name: torch.stack([arm[name] for arm in arms]) for name in arms[0]} | {
            _X: torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True),
            _COUNT: torch.tensor([len(x) for x in inputs]),
        }

    def _inputs(self, x: Tensor, data: Samples, r: int, before: State) -> Tensor:
        """Return the x (N, k) to sample with, out of those (n, k) of the rows that count."""
        if self.inputs == "normal":
            return x[:0]
        real = x[data.born[r, data.counting(r)[0]] == 0]
        if len(real):
            return real
        kept = before[_X][0, : int(before[_COUNT][0])]
        return kept if len(kept) else x

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw y for n of the x; NaN where there are neither x nor a fit. x have no temperature."""
        k = state[_X].shape[2]
        if self.inputs == "normal":
            x = streams.normal("inputs", (n, k), dtype=self.dtype)
        else:
            x = torch.stack([self._drawn(state, r, n, rng) for r, rng in enumerate(streams.numpy("inputs"))])
        y = self.respond(state, self.predicted(state, x), streams, temperature)
        at = self._column(k + 1)
        return torch.cat([x[..., :at], y.unsqueeze(2), x[..., at:]], 2)

    def predicted(self, state: State, x: Tensor) -> Tensor:
        """Return η, (R, n), of the other columns (R, n, k)."""
        return predictor(state, x)

    def _drawn(self, state: State, r: int, n: int, rng: np.random.Generator) -> Tensor:
        """Return n of an arm's x, (n, k)."""
        count = int(state[_COUNT][r])
        if not count:
            return torch.full((n, state[_X].shape[2]), math.nan, dtype=self.dtype)
        rows = torch.arange(n) % count if self.inputs == "kept" else torch.from_numpy(rng.integers(count, size=n))
        return state[_X][r, rows]

    def residual(self, state: State, x: Tensor) -> Tensor:
        """Return y − E[y | x] of (R, N, d) rows, (R, N)."""
        others, y = self._apart(x.to(self.dtype))
        return y - self.mean(state, self.predicted(state, others))

    def _column(self, d: int) -> int:
        """Return the number of y's column among d, counted from 0.

        Raises:
            ConfigError: there is no such column, or no other.
        """
        if d < 2:
            raise ConfigError(
                f"generator {GENERATORS.name_of(self)} predicts a column from others, and the data have one column"
            )
        if not -d <= self.target < d:
            raise ConfigError(f"generator.target is {self.target}, and the data have columns 0 to {d - 1}")
        return self.target % d

    def _apart(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the x (…, d − 1) and y (…,) of rows (…, d)."""
        at = self._column(rows.shape[-1])
        return torch.cat([rows[..., :at], rows[..., at + 1 :]], -1), rows[..., at]


def predictor(state: State, x: Tensor) -> Tensor:
    """Return η = x β + b, (R, n), of (R, n, k) rows.

    Products are summed row by row: a matrix product's order depends on how many arms there are.
    """
    eta: Tensor = (x * state["coefficients"].unsqueeze(1)).sum(2) + state["intercept"].unsqueeze(1)
    return eta
