"""What a generator is: frozen hyperparameters whose methods take and return states that lead with R."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Frozen
from selfloop.core.events import Events, Kind
from selfloop.core.registry import Family
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.learning.training import Budget


class Generator(Protocol):
    """A family of generative models; no method lets an arm see its neighbours.

    :class:`Sampler` has the usual answers; a class of one's own may be derived from it.
    """

    @property
    def trained(self) -> bool:
        """Whether ``fit`` takes gradient steps, and so needs a budget."""

    @property
    def makes(self) -> frozenset[Kind]:
        """The kinds of events that it can make."""

    @property
    def offers(self) -> frozenset[Capability]:
        """What it has besides fitting and sampling."""

    @property
    def dtype(self) -> torch.dtype:
        """Of samples of vectors."""

    @property
    def stack(self) -> int:
        """How many arms to train in one tensor program."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions that it needs besides those that selfloop always has."""

    @property
    def starts_from(self) -> str | None:
        """The file that generation 0 begins with."""

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return the state of R untrained models of events of a space: their shape and, of text, (L, V)."""

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the state after fitting each model to its own data, going on from ``state``."""

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> Tensor:
        """Draw (R, n, *event) samples; of an arm that has diverged, NaN, and floats where images have no NaN."""

    def model_dump(self) -> dict[str, Any]:
        """Return the settings."""


class Sampler(Frozen):
    """The usual answers of a generator: float32 vectors, fitted without a budget, sixteen arms a stack."""

    trained: ClassVar[bool] = False
    makes: ClassVar[frozenset[Kind]] = frozenset(("vectors",))
    offers: ClassVar[frozenset[Capability]] = frozenset(("parameters",))
    dtype: ClassVar[torch.dtype] = torch.float32
    stack: ClassVar[int] = 16
    libraries: ClassVar[tuple[str, ...]] = ()
    starts_from: ClassVar[str | None] = None
    elsewhere: ClassVar[bool] = False
    """Whether its models are trained elsewhere, and nothing can be run."""

    @property
    def fits(self) -> int:
        """How many fits an arm takes in a generation, one after the other."""
        return 1

    def makers(self, n: int) -> Tensor | None:
        """Return which of several models makes each of the n rows of a sample, (n,) int16; None where there is one."""
        return None

    def given(self, data: Samples) -> Tensor:
        """Return how many rows of each arm's training set it can learn from, (R,): an arm without any has starved."""
        return data.count

    def lacks(self, events: Events) -> Mapping[Capability, str]:
        """Return what of its offers it has not got on such events, and what can be done."""
        return {}

    def refuse(self, x: Tensor) -> None:
        """Refuse real rows (n, *event) that no model of the family makes; it is asked before anything is fitted.

        Raises:
            ValueError: with what they would have to be.
        """

    def state_size(self, event: Sequence[int]) -> int:
        """Return how many bytes one arm's state takes at least; 0 where only ``init`` knows.

        Raises:
            ConfigError, ValueError: there is no such model of events of this shape.
        """
        return 0

    def shared_size(self, event: Sequence[int]) -> int:
        """Return how many bytes take what all arms share beside their states, such as a model that is not trained."""
        return 0

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return how many bytes a step of one arm's fit to n rows takes at least, beside state and rows."""
        return 4 * getattr(self, "batch_size", 0) * math.prod(event)


def latents(
    streams: Streams, shape: Sequence[int], temperature: float, index: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw √τ z, (R, *shape), z standard normal: the ``index``-th latents of a sample at a temperature τ."""
    return math.sqrt(temperature) * streams.normal("latents", shape, index, dtype)


@runtime_checkable
class Density(Protocol):
    """A generator whose likelihood can be computed."""

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log density of (R, N, *event) points in nats, (R, N)."""


class Tempered(Protocol):
    """A generator whose samples may be drawn at a temperature τ; it offers "temperature".

    Where that can be done exactly they are of the density p^(1/τ), normalised; else every normal number that is drawn
    for them is multiplied by √τ. Of a normal distribution both have τ times the covariance.
    """

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw (R, n, *event) samples at a temperature above 0; at 1 they are those drawn without one."""


@runtime_checkable
class Predicting(Protocol):
    """A model of one column given the others; it offers "prediction".

    One that offers "linear" predicts by Σ β_j x_j, and its state has ``coefficients`` β (R, d − 1) of the other
    columns, in their order.
    """

    @property
    def target(self) -> int:
        """The number of the column, −1 for the last."""

    def residual(self, state: State, x: Tensor) -> Tensor:
        """Return the column of (R, N, d) rows less its mean given the others, (R, N)."""


@runtime_checkable
class Classifying(Protocol):
    """A model of the class in one column given the others; it offers "classes"."""

    def correct(self, state: State, x: Tensor) -> Tensor:
        """Return whether the class in (R, N, d) rows is the one most likely given the rest of the row, (R, N) bool."""


@runtime_checkable
class Conditional(Protocol):
    """A model of rows given their class, which learns from labelled rows; it offers "labels".

    ``fit`` finds the classes in ``data.label``, and ``sample`` draws rows of the classes that ``labels`` draws.
    """

    @property
    def classes(self) -> int | None:
        """How many classes there are; None of a model that does not know of any, and does not offer "labels"."""

    def labels(self, state: State, n: int, streams: Streams) -> Tensor:
        """Return the classes (R, n) int64 of the n rows that ``sample`` draws with the same streams, from 0."""


class Parametric(Protocol):
    """A model as a function of free parameters θ (p,), at which the theory's matrices can be formed."""

    @property
    def parameters(self) -> int:
        """p."""

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the log density (N,) of points (N, d)."""

    def theta(self, state: State) -> Tensor:
        """Return θ of one arm's state.

        Raises:
            ValueError: the state is on the edge of the family.
        """

    def state(self, theta: Tensor) -> State:
        """Return the state of one arm that :meth:`theta` takes."""


@runtime_checkable
class OfParameters(Protocol):
    """A generator that offers "parametric"."""

    def parametric(self, state: State) -> Parametric:
        """Return the family that a state is one of."""


def beginning(generator: Generator) -> str:
    """Return the setting that names the file which generation 0 begins with, or the folder that has it."""
    path = Path(generator.starts_from or "")
    settings = ((name, value) for name, value in generator.model_dump().items() if name != "name")
    named = (name for name, value in settings if isinstance(value, str) and Path(value) in (path, *path.parents))
    return f"generator.{next(named, 'starts_from')}"


def attributed(generator: Generator, samples: Samples) -> Samples:
    """Return a generator's samples with which of its models made each row, where it has several."""
    makers = generator.makers(samples.x.shape[1]) if isinstance(generator, Sampler) else None
    return samples if makers is None else replace(samples, maker=makers.expand(samples.born.shape))


GENERATORS: Family[type[Generator]] = Family(
    "generator",
    "selfloop.generators",
    {"init": 2, "fit": 4, "sample": 3},
    also="an object or a class that has fit(X) and sample(n), or Estimator.of(function) that makes one",
)
