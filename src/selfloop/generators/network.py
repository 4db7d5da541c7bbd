"""What generators with a large network have in common, whatever their events are.

Arms are fitted one after the other, batch by batch, because such a network keeps a device busy alone; the processes of
a team share every batch, and the events to draw.
"""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import EXECUTION
from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams, generator
from selfloop.engines.device import HERE, Checkpoint, Device
from selfloop.engines.team import Team
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.generators.classes import Classes
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import EMA, EVENT, SHARES, Batches, Blocks, Budget, averaged, train

T = TypeVar("T")

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Draws:
    """Random numbers for single events, by how many events came before: a batch's do not depend on how it is split.

    Attributes:
        streams: of one arm.
        rows: the events.
        ready: what is drawn for them already, by purpose.
    """

    streams: Streams
    rows: range = range(0)
    ready: Mapping[str, Tensor] = field(default_factory=dict)
    _blocks: dict[str, Blocks] = field(default_factory=dict)

    def at(self, rows: range) -> Draws:
        """Return the draws for other events."""
        return replace(self, rows=rows, ready={})

    def ahead(self, rows: range, keep: Callable[[Tensor], Tensor]) -> Draws:
        """Return the draws for other events, of which those that were ever asked for are drawn, and kept, already."""
        drawn = {name: keep(blocks.span(rows.start, rows.stop)) for name, blocks in self._blocks.items()}
        return replace(self, rows=rows, ready=drawn)

    def _span(self, purpose: str, shape: tuple[int, ...], draw: Callable[[tuple[int, ...], int], Tensor]) -> Tensor:
        if purpose in self.ready:
            return self.ready[purpose]
        blocks = self._blocks.setdefault(purpose, Blocks(draw, shape))
        return blocks.span(self.rows.start, self.rows.stop)

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw standard normals, (1, B, *shape)."""
        return self._span(purpose, shape, lambda sizes, i: self.streams.normal(purpose, sizes, i))

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw uniforms on [0, 1), (1, B, *shape)."""
        return self._span(purpose, shape, lambda sizes, i: self.streams.uniform(purpose, sizes, i))

    def integers(self, purpose: str, high: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw integers from 0 … high − 1, (1, B, *shape)."""
        return self._span(purpose, shape, lambda sizes, i: self.streams.integers(purpose, high, sizes, i))


Noise = Callable[[], Tensor]


def event_noise(streams: Streams, rows: range, event: Sequence[int], deviation: float = 1.0) -> Noise:
    """Return what draws, call after call, normals (1, B, *event), for each event from a stream of its own.

    So an event does not depend on those drawn beside it: neither on how many, nor on the process.
    """
    (seed,) = streams.seeds
    own = [generator(seed, streams.generation, "latents", row) for row in rows]
    shape = tuple(event)

    def draw() -> Tensor:
        z = torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in own]))
        return deviation * z.unsqueeze(0)

    return draw


class Ahead(Generic[T]):
    """Things made one after the other, the next one in a thread while a device is busy with the one before.

    What ``make`` reads and changes belongs to it from :meth:`begin` to :meth:`take`.

    Args:
        make: returns a thing by its number.
        numbers: of all there are.
        threads: whether to; else each is made when it is taken.
    """

    def __init__(self, make: Callable[[int], T], numbers: range, *, threads: bool) -> None:
        self._make, self._numbers, self._begun = make, numbers, dict[int, Future[T]]()
        self._pool = ThreadPoolExecutor(1) if threads else None

    def begin(self, number: int) -> None:
        """Begin to make one."""
        if self._pool is not None and number in self._numbers:
            self._begun[number] = self._pool.submit(self._make, number)

    def take(self, number: int) -> T:
        """Return one."""
        begun = self._begun.pop(number, None)
        return self._make(number) if begun is None else begun.result()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Net:
    """One arm's network with its parameters filled in.

    Attributes:
        params: leaves (1, …).
        architecture: what else there is to the network.
        evaluate: maps parameters, that, inputs and what a network is told by name to predictions.
        device: of the parameters.
        dtype: of matrix products and convolutions; None computes in float32.
        dropout: draws what is dropped; None drops nothing.
    """

    params: State
    architecture: Any
    evaluate: Callable[..., Tensor]
    device: torch.device
    dtype: torch.dtype | None = None
    dropout: torch.Generator | None = None

    def __call__(self, *inputs: Tensor, **told: Any) -> Tensor:
        """Map inputs such as events (1, B, *event) and times (1, B) or (1, 1) to float32 predictions (1, B, …)."""
        dropout = None if self.dropout is None else [self.dropout]
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return self.evaluate(self.params, self.architecture, *inputs, dropout=dropout, **told).float()


def _short(team: Team, advice: str) -> str:
    return f"there is not enough memory on device {str(team.device)!r}: {advice}"


class NetworkModel(Sampler, ABC):
    """A generator with a large network; a family says what the network is, its loss, and how it draws events.

    Attributes:
        batch_size: events of a step.
        optimizer: Adam's hyperparameters.
        ema: the averaged weights that sample; None samples with the last ones.
        resume: what a retraining goes on from, the "last" weights or the "average", which then also is the average's
            beginning, as in EDM's ``--transfer``.
        precision: of matrix products and convolutions; sums, norms and the optimiser stay in float32.
        compile: whether the network goes through ``torch.compile``.
        accumulate: parts in which a batch is worked off, for less memory.
        sample_batch: events that are drawn at once.
    """

    batch_size: PositiveInt
    optimizer: Adam
    ema: EMA | None
    resume: Literal["last", "average"] = "last"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: Annotated[bool, EXECUTION] = False
    accumulate: Annotated[PositiveInt, EXECUTION] = 1
    sample_batch: Annotated[PositiveInt, EXECUTION] = 128

    trained: ClassVar[bool] = True
    offers: ClassVar[frozenset[Capability]] = frozenset(("parameters", "devices", "temperature"))
    stack: ClassVar[int] = 1

    @model_validator(mode="after")
    def _whole_parts(self) -> NetworkModel:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} cannot be split into {self.accumulate} equal parts")
        return self

    @abstractmethod
    def untrained(self, event: Sequence[int], streams: Streams) -> State:
        """Return the states with which fits of such events begin, as ``training.fresh`` has them."""

    @abstractmethod
    def architecture(self, event: Sequence[int]) -> Any:
        """Return what there is to the network of such events besides parameters: settings, or a module."""

    def shape(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of an event of a space."""
        return tuple(space)

    @property
    @abstractmethod
    def evaluate(self) -> Callable[..., Tensor]:
        """What maps parameters, an architecture, inputs and ``dropout`` to predictions; see :class:`Net`."""

    @property
    def drops(self) -> bool:
        """Whether units are dropped in training."""
        return False

    @abstractmethod
    def prepare(self, events: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        """Return what the loss needs of a whole batch of events (1, B, *event): tensors (1, B, …) on the CPU."""

    @abstractmethod
    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        """Return the loss of each event of a share of what :meth:`prepare` returned; (1, B) on the net's device."""

    @abstractmethod
    def draw(self, net: Net, streams: Streams, rows: range, state: State, temperature: float) -> Tensor:
        """Return events (1, B, …) of one arm, by their numbers among all that are drawn; NaN where the network is lost.

        Args:
            net: of the weights that sample.
            streams: of the arm; every event has a stream of its own.
            rows: the numbers of the events.
            state: of the arm.
            temperature: at which they are drawn.
        """

    @abstractmethod
    def finish(self, x: Tensor) -> Tensor:
        """Return what :meth:`draw` did as events, of ``dtype``."""

    def network(self, params: State, event: Sequence[int], dropout: torch.Generator | None = None) -> Net:
        """Return one arm's network."""
        device = next(iter(params.values())).device
        dtype = _DTYPES.get(self.precision)
        return Net(params, self.architecture(event), self._evaluate, device, dtype, dropout)

    @functools.cached_property
    def _evaluate(self) -> Callable[..., Tensor]:
        return torch.compile(self.evaluate) if self.compile else self.evaluate

    @property
    def told(self) -> Classes | None:
        """The classes of which the network is told; None where it is told of none."""
        return None

    def tell(self, net: Net, labels: Tensor) -> Net:
        """Return a network that is told of the classes (1, B) of its events, −1 where it is not to know."""
        raise NotImplementedError(f"{type(self).__name__} is not told of classes")

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks, or read them from a checkpoint."""
        copies = len(streams.seeds)
        state = self.untrained(event, streams) | {EVENT: torch.tensor([tuple(event)] * copies)}
        return state if self.told is None else state | {SHARES: self.told.untrained(copies)}

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Minimise the loss over each arm's events."""
        if self.told is not None:
            state = state | {SHARES: self.told.shares(data)}
        fits = []
        for r, seed in enumerate(streams.seeds):
            one = {name: leaf[r : r + 1].to(device.team.device) for name, leaf in state.items()}
            own = Streams((seed,), streams.generation)
            fitted = self._fit_or_advise(one, data.select([r]), budget, own, device.team, device.checkpoint(r))
            fits.append({name: leaf.cpu() for name, leaf in fitted.items()})
        return fits[0] if len(fits) == 1 else {name: torch.cat([one[name] for one in fits]) for name in fits[0]}

    def _fit_or_advise(
        self, state: State, data: Samples, budget: Budget, streams: Streams, team: Team, checkpoint: Checkpoint | None
    ) -> State:
        """Fit one arm.

        Raises:
            ConfigError: the device has not enough memory; it names the first number of parts that there is enough for.
        """
        with contextlib.suppress(torch.OutOfMemoryError):
            return self._fit(state, data, budget, streams, team, checkpoint)
        # Only here is free what the step that failed had. Processes of a team would wait for each other in a trial.
        finer = range(self.accumulate + 1, self.batch_size + 1) if team.size == 1 else ()
        for parts in (each for each in finer if self.batch_size % each == 0):
            with contextlib.suppress(torch.OutOfMemoryError):
                smaller = self.model_copy(update={"accumulate": parts})
                smaller._fit(state, data, Budget(steps=1), streams, team, None)
                size = self.batch_size // parts
                raise ConfigError(_short(team, f"a batch in parts of {size} fits: set generator.accumulate to {parts}"))
        one = "not even one event at a time fits: use a smaller network"
        raise ConfigError(_short(team, one if team.size == 1 else "raise generator.accumulate"))

    def _fit(
        self, state: State, data: Samples, budget: Budget, streams: Streams, team: Team, checkpoint: Checkpoint | None
    ) -> State:
        event, device = tuple(state[EVENT][0].tolist()), state[EVENT].device
        size, steps = self._share(team), budget.count(self.batch_size)
        batches, whole, draws = Batches(data, self.batch_size, streams), Draws(streams), Draws(streams)
        dropout = torch.Generator(device) if self.drops else None
        if self.resume == "average":
            state = state | averaged(state)
        keep: Callable[[Tensor], Tensor] = torch.Tensor.pin_memory if device.type == "cuda" else lambda x: x

        @functools.lru_cache(maxsize=1)  # the shares of a step follow each other
        def prepared(step: int) -> tuple[Tensor, ...]:
            rows = range(step * self.batch_size, (step + 1) * self.batch_size)
            batch, those = self.prepare(batches[step], whole.at(rows)), self.told
            return batch if those is None else (*batch, those.told(batches.classes(step), whole.at(rows)))

        def share(part: int) -> tuple[list[Tensor], Draws]:
            first = part * size
            step, offset = divmod(first, self.batch_size)
            events = [keep(tensor[:, offset : offset + size]) for tensor in prepared(step)]
            return events, draws.ahead(range(first, first + size), keep)

        parts = range(team.rank, steps * self.accumulate * team.size, team.size)
        with Ahead(share, parts, threads=device.type != "cpu") as shares:

            def loss(params: State, part: int) -> Tensor:
                events, drawn = shares.take(part)
                if dropout is not None:
                    dropout.manual_seed(int(streams.integers("dropout", 2**32, (), part)))
                net = self.network(params, event, dropout)
                if self.told is not None:
                    *events, labels = events
                    net = self.tell(net, labels)
                losses = self.loss(net, events, drawn).mean(1)
                shares.begin(part + team.size)
                return losses

            return train(
                state,
                loss,
                steps=steps,
                adam=self.optimizer,
                batch_size=self.batch_size,
                ema=self.ema,
                parts=self.accumulate,
                scaled=self.precision == "float16",
                checkpoint=checkpoint,
                team=team,
            )

    def _share(self, team: Team) -> int:
        """Return how many events of a batch are worked off at once by one process.

        Raises:
            ConfigError: a batch cannot be split evenly.
        """
        if self.batch_size % (self.accumulate * team.size):
            parts = f"{self.accumulate} parts of {team.size} devices"
            raise ConfigError(f"generator.batch_size {self.batch_size} cannot be split evenly into {parts}")
        return self.batch_size // (self.accumulate * team.size)

    @torch.no_grad()
    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw (R, n, …) events; NaN, and floats therefore, where an arm's are not finite.

        Raises:
            ConfigError: it has no temperature.
        """
        if temperature != 1 and "temperature" not in self.offers:
            raise ConfigError(f"generator {GENERATORS.name_of(self)} does not sample at a temperature")
        drawn = []
        for r, seed in enumerate(streams.seeds):
            one = {name: leaf[r : r + 1].to(device.team.device) for name, leaf in state.items()}
            own = Streams((seed,), streams.generation)
            drawn.append(self._sample_or_advise(one, n, own, device.team, temperature))
        return torch.cat(drawn) if len(drawn) > 1 else drawn[0]

    def _sample_or_advise(self, state: State, n: int, streams: Streams, team: Team, temperature: float) -> Tensor:
        """Draw the events of one arm.

        Raises:
            ConfigError: the device has not enough memory; it names a number of events at once that there is enough for.
        """
        with contextlib.suppress(torch.OutOfMemoryError):
            return self._sample(state, n, streams, team, temperature)
        count = min(self.sample_batch, n) // 2 if team.size == 1 else 0
        while count:
            with contextlib.suppress(torch.OutOfMemoryError):
                smaller = self.model_copy(update={"sample_batch": count})
                smaller._sample(state, count, streams, team, temperature)
                raise ConfigError(_short(team, f"{count} drawn at once fit: set generator.sample_batch to {count}"))
            count //= 2
        one = "not even one event at a time fits: use a smaller network"
        raise ConfigError(_short(team, one if team.size == 1 else "lower generator.sample_batch"))

    def _sample(self, state: State, n: int, streams: Streams, team: Team, temperature: float) -> Tensor:
        space = tuple(state[EVENT][0].tolist())
        net, event = self.network(averaged(state), space), self.shape(space)
        labels = None if self.told is None else self.told.drawn(state[SHARES], n, streams)
        events = torch.zeros(1, n, *event, dtype=self.dtype, device=team.device)
        lost = torch.zeros(1, device=team.device)
        for start in range(0, n, self.sample_batch)[team.rank :: team.size]:
            rows = range(start, min(start + self.sample_batch, n))
            one = net if labels is None else self.tell(net, labels[:, rows.start : rows.stop])
            x = self.draw(one, streams, rows, state, temperature)
            lost += ~torch.isfinite(x).all()
            events[:, rows.start : rows.stop] = self.finish(x)
        team.all_reduce([lost])
        if lost.any():
            return torch.full((), torch.nan).expand(1, n, *event)
        team.all_reduce([events])  # where one process has an event, the others have zeros
        return events.cpu()
