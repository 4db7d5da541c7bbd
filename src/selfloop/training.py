"""The one gradient loop: budget, minibatches, Adam, EMA, all with a replica axis.

The losses of the R copies are summed, so that each copy's gradient is its own; Adam works element by element.
Nothing here mixes copies: a NaN stays in the copy that made it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from selfloop.config import Frozen
from selfloop.optimizer import Adam, Optimizer
from selfloop.samples import Samples
from selfloop.streams import Streams

State = dict[str, Tensor]


class Budget(Frozen):
    """How long one fit lasts; exactly one of the three is given.

    A comparison over λ must hold the samples seen constant, as the paper does (Section 5): all three do, because an
    epoch is one of the *real* set whatever the size of the training set.
    """

    samples: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Budget:
        if sum(value is not None for value in (self.samples, self.epochs, self.steps)) != 1:
            raise ValueError("give exactly one of samples, epochs and steps")
        return self

    def resolve(self, n_real: int) -> Budget:
        """Return the same budget with epochs turned into samples seen, for a real set of ``n_real`` rows."""
        return self if self.epochs is None else Budget(samples=max(1, round(self.epochs * n_real)))

    def count(self, batch_size: int) -> int:
        """Return the number of gradient steps; the last batch is a full one, so up to a batch more is seen."""
        if self.epochs is not None:
            raise ValueError("resolve(n_real) turns epochs into samples first")
        return self.steps if self.steps is not None else math.ceil((self.samples or 0) / batch_size)


class Blocks:
    """Per-step draws, made many steps at a time: ``Blocks(draw, shape)[step]`` is (R, *shape).

    ``draw(shape, index)`` returns (R, *shape) and is called once per block, so a step's numbers depend on the
    step alone and a fit can start from any step. A block of ``size`` numbers per copy is long enough to amortise a
    stream and short enough for memory.
    """

    def __init__(
        self, draw: Callable[[tuple[int, ...], int], Tensor], shape: tuple[int, ...], size: int = 1 << 16
    ) -> None:
        self._draw, self._shape = draw, shape
        self._steps = max(1, size // max(1, math.prod(shape)))
        self._index, self._block = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Tensor:
        index, offset = divmod(step, self._steps)
        if index != self._index:
            self._block, self._index = self._draw((self._steps, *self._shape), index), index
        return self._block[:, offset]


class Batches:
    """Shuffled minibatches: each arm walks through its own rows in fresh random order, epoch after epoch.

    A batch may span two epochs, so all have ``batch_size`` rows, also where that is more than the arm has.
    """

    def __init__(self, data: Samples, batch_size: int, streams: Streams) -> None:
        self._data, self._streams = data, streams
        self._counts = [int(count) for count in data.count]
        self._arms = torch.arange(len(self._counts)).unsqueeze(1)
        self._rows = Blocks(self._draw, (batch_size,), size=1 << 13)

    def _draw(self, shape: tuple[int, ...], block: int) -> Tensor:
        """Return the rows, (R, steps, B), at which the walks are in a block of steps."""
        start, walks = block * math.prod(shape), []
        for seed, count in zip(self._streams.seeds, self._counts, strict=True):
            stream = Streams(seeds=(seed,), generation=self._streams.generation)
            epochs = range(start // count, (start + math.prod(shape) - 1) // count + 1)
            walk = np.concatenate([stream.permutations("order", [count], epoch)[0] for epoch in epochs])
            walks.append(walk[start - epochs[0] * count :][: math.prod(shape)])
        return torch.from_numpy(np.stack(walks)).view(len(walks), *shape)

    def __getitem__(self, step: int) -> Tensor:
        """Return the batch of one step, (R, B, *event)."""
        return self._data.x[self._arms, self._rows[step]]


OPTIMIZER, EMA, LOSS = "optimizer.", "ema.", "loss"
MOMENTS = ("exp_avg", "exp_avg_sq")


def parameters(state: State) -> State:
    """Return the model's own parameters, no optimiser moments, no average, no loss, in alphabetic order.

    Sums over leaves run in this order: a state read back from a file comes in another.
    """
    return {k: v for k, v in sorted(state.items()) if not k.startswith((OPTIMIZER, EMA)) and k != LOSS}


def averaged(state: State) -> State:
    """Return the parameters to sample with: the exponential moving average where there is one."""
    ema = {k.removeprefix(EMA): v for k, v in state.items() if k.startswith(EMA)}
    return ema or parameters(state)


def fresh(params: State, ema: bool) -> State:
    """Return the state of an untrained model: parameters, Adam's moments at zero and, if asked for, an average."""
    r = len(next(iter(params.values())))
    moments = {f"{OPTIMIZER}{m}.{k}": torch.zeros_like(v) for m in MOMENTS for k, v in params.items()}
    average = {f"{EMA}{k}": v.clone() for k, v in params.items()} if ema else {}
    return params | moments | average | {f"{OPTIMIZER}step": torch.zeros(r), LOSS: torch.zeros(r)}


def reset_optimizer(state: State) -> State:
    """Return the state with Adam's moments and step count at zero, as a new optimiser has them."""
    return {k: torch.zeros_like(v) if k.startswith(OPTIMIZER) else v for k, v in state.items()}


def _own(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def train(
    state: State,
    loss: Callable[[State, int], Tensor],
    *,
    steps: int,
    adam: Adam,
    ema_decay: float | None = None,
) -> State:
    """Take ``steps`` Adam steps from ``state`` and return the new one; the given tensors are left as they are.

    Args:
        state: as :func:`fresh` makes it, leaves leading with R.
        loss: maps parameters and the number of the step to the R copies' losses, (R,).
        steps: gradient steps; 0 returns the state as it is.
        adam: hyperparameters.
        ema_decay: decay of the average; it ramps up as min(decay, (1 + k)/(10 + k)) over all steps k ever taken.

    Returns:
        The trained state; ``loss`` (R,) is the mean over the last fifth of the steps.
    """
    params = {k: _own(v).requires_grad_() for k, v in parameters(state).items()}
    leaves = list(params.values())
    first, second = ([_own(state[f"{OPTIMIZER}{moment}.{k}"]) for k in params] for moment in MOMENTS)
    optimizer = Optimizer(adam, leaves, list(zip(first, second, strict=True)))
    average = {k: state[f"{EMA}{k}"].clone() for k in params} if ema_decay is not None else {}
    taken = int(state[f"{OPTIMIZER}step"][0])
    tail, total = max(1, steps // 5), torch.zeros_like(state[LOSS])
    for step in range(taken, taken + steps):
        with torch.enable_grad():
            losses = loss(params, step - taken)
            gradients = torch.autograd.grad(losses.sum(), leaves)
        optimizer.step(gradients, step)
        if step >= taken + steps - tail:
            total += losses.detach()
        if ema_decay is not None:
            for name, shadow in average.items():
                shadow.lerp_(params[name].detach(), 1 - min(ema_decay, (1 + step) / (10 + step)))
    trained: State = {k: v.detach() for k, v in params.items()}
    for moment, values in zip(MOMENTS, (first, second), strict=True):
        trained |= {f"{OPTIMIZER}{moment}.{k}": value for k, value in zip(params, values, strict=True)}
    trained |= {f"{EMA}{k}": v for k, v in average.items()}
    trained[f"{OPTIMIZER}step"] = state[f"{OPTIMIZER}step"] + steps
    trained[LOSS] = total / tail if steps else state[LOSS]
    return trained
