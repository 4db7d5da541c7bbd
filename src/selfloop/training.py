"""The one gradient loop: budget, minibatches, Adam, EMA, all with a replica axis.

The losses of the R copies are summed, so that each copy's gradient is its own; Adam works element by element.
Nothing here mixes copies: a NaN stays in the copy that made it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from selfloop.config import Frozen
from selfloop.replicas import add
from selfloop.samples import Samples
from selfloop.streams import Streams

State = dict[str, Tensor]

_BLOCK = 1 << 16  # numbers drawn at a time and copy: long enough to amortise a stream, short enough for memory


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
    """Per-step draws, made many steps at a time: ``Blocks(draw, size)[step]`` is (R, *shape).

    ``draw(shape, index)`` returns (R, *shape) and is called once per block, so a step's numbers depend on the
    step alone and a fit can start from any step.
    """

    def __init__(self, draw: Callable[[tuple[int, ...], int], Tensor], shape: tuple[int, ...]) -> None:
        self._draw, self._shape = draw, shape
        self._steps = max(1, _BLOCK // max(1, math.prod(shape)))
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
        self._data, self._batch_size, self._streams = data, batch_size, streams
        self._counts = [int(count) for count in data.count]
        self._orders: list[dict[int, np.ndarray]] = [{} for _ in self._counts]

    def _order(self, r: int, epoch: int) -> np.ndarray:
        if epoch not in self._orders[r]:
            stream = Streams(seeds=(self._streams.seeds[r],), generation=self._streams.generation)
            (order,) = stream.permutations("order", [self._counts[r]], epoch)
            # Only this epoch and the one before can be asked for again.
            self._orders[r] = {e: kept for e, kept in self._orders[r].items() if e >= epoch - 1} | {epoch: order}
        return self._orders[r][epoch]

    def _rows(self, r: int, step: int) -> np.ndarray:
        position = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epoch, offset = np.divmod(position, self._counts[r])
        parts = [self._order(r, int(e))[offset[epoch == e]] for e in np.unique(epoch)]
        return np.concatenate(parts)

    def __getitem__(self, step: int) -> Tensor:
        """Return the batch of one step, (R, B, *event)."""
        rows = torch.from_numpy(np.stack([self._rows(r, step) for r in range(len(self._counts))]))
        return self._data.x[torch.arange(len(rows)).unsqueeze(1), rows]


class Adam(Frozen):
    """Adam's hyperparameters, with optional clipping of each copy's gradient norm."""

    learning_rate: PositiveFloat = 1e-3
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-8
    clip: PositiveFloat | None = None


OPTIMIZER, EMA, LOSS = "optimizer.", "ema.", "loss"


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
    moments = {f"{OPTIMIZER}{m}.{k}": torch.zeros_like(v) for m in ("exp_avg", "exp_avg_sq") for k, v in params.items()}
    average = {f"{EMA}{k}": v.clone() for k, v in params.items()} if ema else {}
    return params | moments | average | {f"{OPTIMIZER}step": torch.zeros(r), LOSS: torch.zeros(r)}


def reset_optimizer(state: State) -> State:
    """Return the state with Adam's moments and step count at zero, as a new optimiser has them."""
    return {k: torch.zeros_like(v) if k.startswith(OPTIMIZER) else v for k, v in state.items()}


def _clip(gradients: Sequence[Tensor], limit: float) -> None:
    norm = add([g.flatten(1).square().sum(1) for g in gradients]).sqrt()
    factor = (limit / (norm + 1e-6)).clamp_max(1.0)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.ndim - 1)))


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
    names = list(parameters(state))
    params = {k: state[k].clone().requires_grad_() for k in names}
    leaves = list(params.values())
    # Not fused: that kernel ignores the gradients' strides, and rounds the last few elements of a leaf differently, so
    # that an arm's bits would depend on its place in the stack.
    optimizer = torch.optim.Adam(
        leaves, lr=adam.learning_rate, betas=(adam.beta1, adam.beta2), eps=adam.epsilon, foreach=True
    )
    taken = state[f"{OPTIMIZER}step"]
    for k, leaf in params.items():
        optimizer.state[leaf] = {
            "step": taken[0].clone(),
            "exp_avg": state[f"{OPTIMIZER}exp_avg.{k}"].clone(),
            "exp_avg_sq": state[f"{OPTIMIZER}exp_avg_sq.{k}"].clone(),
        }
    average = {k: state[f"{EMA}{k}"].clone() for k in names} if ema_decay is not None else {}
    tail, total = max(1, steps // 5), torch.zeros_like(state[LOSS])
    for step in range(steps):
        with torch.enable_grad():
            losses = loss(params, step)
            gradients = torch.autograd.grad(losses.sum(), leaves)
        if adam.clip is not None:
            _clip(gradients, adam.clip)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient
        optimizer.step()
        if step >= steps - tail:
            total += losses.detach()
        if ema_decay is not None:
            done = float(taken[0]) + step
            for name, shadow in average.items():
                shadow.lerp_(params[name].detach(), 1 - min(ema_decay, (1 + done) / (10 + done)))
    trained: State = {k: v.detach() for k, v in params.items()}
    for k, leaf in params.items():
        trained[f"{OPTIMIZER}exp_avg.{k}"] = optimizer.state[leaf]["exp_avg"]
        trained[f"{OPTIMIZER}exp_avg_sq.{k}"] = optimizer.state[leaf]["exp_avg_sq"]
    trained |= {f"{EMA}{k}": v for k, v in average.items()}
    trained[f"{OPTIMIZER}step"] = taken + steps
    trained[LOSS] = total / tail if steps else state[LOSS]
    return trained
