"""The one gradient loop: budget, minibatches, Adam, EMA, all with a replica axis.

The losses of the R copies are summed, so that each copy's gradient is its own; Adam works element by element.
Nothing here mixes copies: a NaN stays in the copy that made it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from selfloop.core.config import Frozen
from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import Checkpoint
from selfloop.engines.journal import OPEN, SUMS
from selfloop.engines.team import Team
from selfloop.learning.optimizer import Adam, Optimizer


class Budget(Frozen):
    """How long one fit lasts; exactly one of the three is given, and 0 steps keep a model as it is.

    A comparison over λ must hold the samples seen constant, as the paper does (Section 5): all three do, because an
    epoch is one of the *real* set whatever the size of the training set.
    """

    samples: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    steps: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Budget:
        if sum(value is not None for value in (self.samples, self.epochs, self.steps)) != 1:
            raise ValueError("give exactly one of samples, epochs and steps")
        return self

    def resolve(self, n_real: int) -> Budget:
        """Return the same budget with epochs turned into samples seen, for a real set of ``n_real`` rows."""
        return self if self.epochs is None else Budget(samples=max(1, round(self.epochs * n_real)))

    def count(self, batch_size: int) -> int:
        """Return the number of gradient steps; the last batch is a full one, so up to a batch more is seen.

        Raises:
            ConfigError: it is given in epochs, whose length only the real data have.
        """
        if self.epochs is not None:
            raise ConfigError(
                f"a fit does not know how long {self.epochs:g} epochs are: give it budget.resolve(n) with the "
                "number n of real rows, or a budget of steps or samples"
            )
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

    def span(self, start: int, stop: int) -> Tensor:
        """Return the draws of the steps from ``start`` up to ``stop``, (R, stop − start, *shape)."""
        parts = []
        while start < stop:
            self[start]
            first = start - self._index * self._steps
            last = min(first + stop - start, self._steps)
            parts.append(self._block[:, first:last])
            start += last - first
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


_DRAWN = 1 << 12  # rows that are drawn by weight at a time


class Batches:
    """Minibatches of each arm's own rows, all of ``batch_size``, also where that is more than the arm has.

    Rows that count alike are shuffled: an arm walks through them in fresh random order, epoch after epoch, and a batch
    may span two. Where rows are weighed each is drawn by itself: with replacement, and by its weight.
    """

    def __init__(self, data: Samples, batch_size: int, streams: Streams) -> None:
        self._data = data
        self._streams = [Streams((seed,), streams.generation) for seed in streams.seeds]
        self._arms = torch.arange(len(self._streams)).unsqueeze(1)
        self._weighed = [] if data.weight is None else [data.counting(r) for r in range(len(self._streams))]
        # A short fit to few rows would spend its time on the order of epochs that it never reaches; what is drawn by
        # weight comes in large parts, of which small blocks would draw each several times.
        ahead = 1 << 13 if self._weighed else min(1 << 13, 8 * int(data.count.max()))
        self._rows = Blocks(self._draw, (batch_size,), size=ahead)

    def _draw(self, shape: tuple[int, ...], block: int) -> Tensor:
        """Return the rows, (R, steps, B), at which the walks are in a block of steps."""
        size, walks = math.prod(shape), []
        start = block * size
        for r, count in enumerate(map(int, self._data.count)):
            length = _DRAWN if self._weighed else count
            epochs = range(start // length, (start + size - 1) // length + 1)
            walk = torch.cat([self._drawn(r, epoch) if self._weighed else self._order(r, epoch) for epoch in epochs])
            walks.append(walk[start - epochs[0] * length :][:size])
        return torch.stack(walks).view(len(walks), *shape)

    def _order(self, r: int, epoch: int) -> Tensor:
        """Return all rows of an arm in random order, (count,)."""
        (order,) = self._streams[r].permutations("order", [int(self._data.count[r])], epoch)
        return torch.from_numpy(order)

    def _drawn(self, r: int, part: int) -> Tensor:
        """Return rows of an arm drawn by weight, (_DRAWN,)."""
        (rng,) = self._streams[r].numpy("order/weighed", part)
        rows, weight = self._weighed[r]
        edges = weight.cumsum(0)
        drawn = torch.searchsorted(edges, torch.from_numpy(rng.random(_DRAWN)) * edges[-1], right=True)
        return rows[drawn.clamp_max(len(rows) - 1)]  # rounding may carry a number to the last edge

    def __getitem__(self, step: int) -> Tensor:
        """Return the batch of one step, (R, B, *event)."""
        return self._data.x[self._arms, self._rows[step]]

    def classes(self, step: int) -> Tensor:
        """Return the classes of the batch of one step, (R, B) int64.

        Raises:
            ValueError: rows have none.
        """
        if self._data.label is None:
            raise ValueError("rows without labels have no classes")
        return self._data.label[self._arms, self._rows[step]]


class EMA(Frozen):
    """An exponential moving average of the parameters; exactly one of the first two is given.

    Attributes:
        decay: what a step leaves of the average.
        half_life: samples seen until half of the average is gone; the decay of a step is ½^(batch / half_life).
        growing: whether the window grows with what has been seen, up to the one given: a decay is at most
            (1 + k)/(10 + k) after k steps (ddpm-torch), a half-life at most a twentieth of the samples seen (EDM).
    """

    decay: float | None = Field(default=None, gt=0, lt=1)
    half_life: PositiveFloat | None = None
    growing: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> EMA:
        if (self.decay is None) == (self.half_life is None):
            raise ValueError("give exactly one of decay and half_life")
        return self

    def keeps(self, taken: int, batch_size: int) -> float:
        """Return what the step after the first ``taken`` ones leaves of the average."""
        if self.decay is not None:
            return min(self.decay, (1 + taken) / (10 + taken)) if self.growing else self.decay
        window = self.half_life or math.inf
        if self.growing:
            window = min(window, taken * batch_size / 20)
        return 0.0 if window == 0 else float(0.5 ** (batch_size / window))


OPTIMIZER, SHADOW, LOSS, FAILED, EVENT = "optimizer.", "ema.", "loss", "failed", "event"
SHARES = "class_shares"  # of what a model of classes was trained on
ROWS = "rows."  # training rows that a model without parameters keeps
BUFFERS = "buffers."  # what a user's model keeps beside its parameters: running statistics, counters
CATEGORY = f"{BUFFERS}category"  # (R, d) of which category a coordinate is, from 1, 0 of a number's
MOMENTS = ("exp_avg", "exp_avg_sq")
_SCALE = f"{OPTIMIZER}scale"
_DONE, _TOTAL = "fit.steps", "fit.loss"  # of a fit under way


def parameters(state: State) -> State:
    """Return the model's own parameters in alphabetic order: no optimiser moments, average, rows, buffers or notes.

    Sums over leaves run in this order: a state read back from a file comes in another.
    """
    notes, others = (LOSS, FAILED, EVENT, SHARES, _DONE, _TOTAL), (OPTIMIZER, SHADOW, ROWS, BUFFERS)
    return {k: v for k, v in sorted(state.items()) if not k.startswith(others) and k not in notes}


def averaged(state: State) -> State:
    """Return the parameters to sample with: the exponential moving average where there is one."""
    ema = {k.removeprefix(SHADOW): v for k, v in state.items() if k.startswith(SHADOW)}
    return ema or parameters(state)


def fresh(params: State, ema: bool) -> State:
    """Return the state of an untrained model.

    It holds the parameters, Adam's moments at zero, an average if asked for, and two notes (R,): ``loss``, and
    ``failed``, the step of the last fit at which the loss was no longer finite, −1 where it always was.
    """
    r = len(next(iter(params.values())))
    moments = {f"{OPTIMIZER}{m}.{k}": torch.zeros_like(v) for m in MOMENTS for k, v in params.items()}
    average = {f"{SHADOW}{k}": v.clone() for k, v in params.items()} if ema else {}
    notes = {f"{OPTIMIZER}step": torch.zeros(r), LOSS: torch.zeros(r), FAILED: torch.full((r,), -1)}
    return params | moments | average | notes


def fresh_size(count: int, ema: bool) -> int:
    """Return the bytes of what :func:`fresh` makes of one copy of ``count`` float32 parameters, but for the notes."""
    return 4 * count * (1 + len(MOMENTS) + ema)


def reset_optimizer(state: State) -> State:
    """Return the state with Adam's moments and step count at zero, as a new optimiser has them."""
    return {k: torch.zeros_like(v) if k.startswith(OPTIMIZER) else v for k, v in state.items()}


def _own(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


_LOOK = 100  # steps after which the loop looks whether any copy is still alive; on a GPU looking means waiting


def train(
    state: State,
    loss: Callable[[State, int], Tensor],
    *,
    steps: int,
    adam: Adam,
    batch_size: int = 1,
    ema: EMA | None = None,
    parts: int = 1,
    scaled: bool = False,
    checkpoint: Checkpoint | None = None,
    team: Team | None = None,
) -> State:
    """Take ``steps`` Adam steps from ``state`` and return the new one; the given tensors are left as they are.

    A copy whose loss is not finite is lost: its parameters become NaN, and once all copies are lost the fit ends.

    Args:
        state: as :func:`fresh` makes it, leaves leading with R.
        loss: maps parameters and the number of a part of a batch to the R copies' losses over it, (R,); the parts of
            step s have the numbers s · n to (s + 1) · n − 1, n being ``parts`` times the processes of the team.
        steps: gradient steps; 0 returns the state as it is.
        adam: hyperparameters.
        batch_size: rows of a step and copy, by which rises and windows given in samples are counted.
        ema: of the average, if there is one.
        parts: of this process's share of a batch, whose gradients are averaged: less memory for the same step.
        scaled: whether losses are multiplied by a factor that keeps 16-bit gradients from vanishing: halved, and the
            step left out, where a gradient is not finite, doubled after 2000 steps without. For a single copy.
        checkpoint: where the fit is kept while it is under way, and goes on from if it was, and who is told of it.
        team: processes that take every step together, each with its share of the batch; None is this one alone.

    Returns:
        The trained state; ``loss`` (R,) is the mean over the last fifth of the steps.
    """
    if scaled and len(state[LOSS]) > 1:
        raise ValueError("scaled losses are for one copy: its neighbours would leave out the same steps")
    if steps == 0:
        return state
    saved = checkpoint.read() if checkpoint is not None else None
    course = checkpoint.course if checkpoint is not None else None
    if saved is not None:
        saved = {name: tensor.to(state[LOSS].device) for name, tensor in saved.items()}
        state = {name: tensor for name, tensor in saved.items() if name not in (SUMS, OPEN)}
    if course is not None:
        course.begin(steps, saved)
    fit = _Fit(state, adam, scaled, team or Team())
    tail = max(1, steps // 5)
    for step in range(int(state[_DONE]) if saved is not None else 0, steps):
        losses = fit.step(loss, step, parts, adam.rate(fit.taken, step, batch_size))
        if course is not None:
            course.step(step, losses)
        if step >= steps - tail:
            fit.total += losses
        if ema is not None:
            fit.average(ema.keeps(fit.taken - 1, batch_size))
        if step % _LOOK == 0 and bool((fit.failed >= 0).all()):
            break
        if checkpoint is not None and checkpoint.due() and step + 1 < steps:
            kept = {} if course is None else course.state
            checkpoint.write(fit.state | kept | {_DONE: torch.tensor(step + 1), _TOTAL: fit.total})
    if course is not None:
        course.end()
    lost = fit.failed >= 0
    return fit.state | {LOSS: torch.where(lost, torch.full_like(fit.total, torch.nan), fit.total / tail)}


class _Fit:
    """A fit under way: tensors of its own, changed in place."""

    def __init__(self, state: State, adam: Adam, scaled: bool, team: Team) -> None:
        self._rest, self._team = state, team
        self._params = {k: _own(v).requires_grad_() for k, v in parameters(state).items()}
        self._leaves = list(self._params.values())
        self._moments = [[_own(state[f"{OPTIMIZER}{moment}.{k}"]) for k in self._params] for moment in MOMENTS]
        self._optimizer = Optimizer(adam, self._leaves, list(zip(*self._moments, strict=True)))
        self._average = {k: state[k].clone() for k in state if k.startswith(SHADOW)}
        self._scale = _Scale(state) if scaled else None
        self.taken = int(state[f"{OPTIMIZER}step"][0])
        self.failed = state[FAILED].clone() if _DONE in state else torch.full_like(state[FAILED], -1)
        self.total = state[_TOTAL].clone() if _TOTAL in state else torch.zeros_like(state[LOSS])

    def step(self, loss: Callable[[State, int], Tensor], step: int, parts: int, rate: float) -> Tensor:
        """Take a step and return the losses before it, (R,)."""
        team, shares = self._team, parts * self._team.size
        first = step * shares + team.rank
        losses, gradients = self._gradients(loss, first)
        for part in range(1, parts):
            more, others = self._gradients(loss, first + part * team.size)
            losses += more
            for gradient, other in zip(gradients, others, strict=True):
                gradient += other
        if shares > 1:
            team.all_reduce([losses, *gradients])
            for tensor in (losses, *gradients):
                tensor /= shares
        if self._scale is None or self._scale.finite(gradients):
            self._optimizer.step(gradients, self.taken, rate)
        self.taken += 1
        self.failed = torch.where((self.failed < 0) & ~torch.isfinite(losses), step, self.failed)
        return losses

    def _gradients(self, loss: Callable[[State, int], Tensor], part: int) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            losses = loss(self._params, part)
            total = losses.sum() if self._scale is None else losses.sum() * self._scale.factor
            gradients = torch.autograd.grad(total, self._leaves, allow_unused=True, materialize_grads=True)
        return losses.detach(), list(gradients)

    def average(self, keep: float) -> None:
        """Move the average towards the parameters."""
        for name, shadow in self._average.items():
            shadow.lerp_(self._params[name.removeprefix(SHADOW)].detach(), 1 - keep)

    @property
    def state(self) -> State:
        """The state as it is now."""
        out: State = {k: v.detach() for k, v in self._params.items()}
        for moment, values in zip(MOMENTS, self._moments, strict=True):
            out |= {f"{OPTIMIZER}{moment}.{k}": value for k, value in zip(self._params, values, strict=True)}
        out |= self._average
        out[f"{OPTIMIZER}step"] = torch.full_like(self._rest[f"{OPTIMIZER}step"], self.taken)
        out[FAILED], out[LOSS] = self.failed, self._rest[LOSS]
        out |= {name: self._rest[name] for name in (EVENT, SHARES, CATEGORY) if name in self._rest}
        return out | (self._scale.state if self._scale is not None else {})


class _Scale:
    """The factor on the loss of one copy; see :func:`train`."""

    def __init__(self, state: State) -> None:
        factor, good = state.get(_SCALE, torch.zeros(1, 2))[0].tolist()
        self.factor, self._good = factor or 2.0**16, int(good)

    def finite(self, gradients: list[Tensor]) -> bool:
        """Divide the gradients by the factor, and say whether all are finite."""
        for gradient in gradients:
            gradient /= self.factor
        finite = bool(torch.stack([torch.isfinite(gradient).all() for gradient in gradients]).all())
        self._good = self._good + 1 if finite else 0
        if not finite:
            self.factor /= 2
        elif self._good % 2000 == 0:
            self.factor *= 2
        return finite

    @property
    def state(self) -> State:
        """The leaf that keeps it, (1, 2): the factor and how many steps it was good for."""
        return {_SCALE: torch.tensor([[self.factor, float(self._good)]])}
