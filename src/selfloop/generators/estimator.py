"""Any object with ``fit(X)`` and ``sample(n)`` as a generator: a torch module, scikit-learn's mixtures, or your own.

A model whose tensors can be read and put back is its tensors: it goes on from them in the next retraining, and samples
with them. Of any other the state is what determines it, the rows it was fitted to and a seed; it is fitted anew
whenever it has to sample or to score, which costs a fit each time and always gives the same one.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, JsonValue, model_validator
from threadpoolctl import threadpool_limits
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.code import TABLES, imported_like, imported_names, imported_object
from selfloop.core.errors import FOREIGN, ConfigError, SelfloopError, nearest, said
from selfloop.core.events import Kind
from selfloop.core.samples import Samples, State, category_numbers, numbered_categories, resampled
from selfloop.core.seeding import seeded
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators import scikit_learn, tabular
from selfloop.generators.adapter import FAILURES, METHODS, MODEL, WEIGHT, Adapter, lacks, of_the_machine
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.generators.factories import Copies, named, one_line, register, signature, without_default
from selfloop.generators.scikit_learn import SKLEARN
from selfloop.generators.tabular import TABULAR
from selfloop.learning.training import CATEGORY, EVENT, ROWS, Budget, parameters

_MADE: dict[str, Callable[..., Any]] = TABLES.setdefault("model", {})  # what this program gave to Estimator.of
_X, _COUNT, _SEED, _WEIGHT = (f"{ROWS}{name}" for name in ("x", "count", "seed", "weight"))
_LOST = -1  # in the place of a seed: the last fit has failed


@GENERATORS.register
class Estimator(Sampler):
    """An object with ``fit(X)`` and ``sample(n)``, made anew whenever it is needed; see docs/generators.md.

    It is made, fitted and sampled with torch's, NumPy's and Python's global generators seeded from the experiment's
    streams, and these are restored afterwards. ``fit`` and ``sample`` are also given a ``seed``, a ``random_state`` or
    a ``generator`` where they take an argument of that name, and an attribute ``random_state`` is set before both.
    ``fit`` is told by ``categories``, if it takes these, which coordinates are the levels of a category, a range each.
    Samples are shuffled, as a mixture's come component by component.

    In generation 0 a fit that fails, and samples that are not finite, are errors of the settings. Later ones are data:
    a model that can no longer be fitted has diverged, and samples NaN; what it raised is told to the device.

    State: ``rows.seed`` (R,) of the last fit, or −1 where that has failed, and

    - with ``state_dict`` and ``load_state_dict``: ``model.*`` and ``buffers.model.*``, the model's tensors (R, …), of
      which the former are the parameters, and ``event`` (R, ·), the shape of an event;
    - else ``rows.x`` (R, N, *event), padded with zeros from ``rows.count`` (R,) on to the longest of the arms, and
      ``rows.weight`` (R, N) where rows count differently and ``fit`` takes a ``sample_weight``, and
      ``buffers.category`` (R, d) where rows have categories: of which a coordinate is, from 1, 0 of a number's.

    Attributes:
        estimator: one of :data:`SKLEARN` or :data:`TABULAR`, or "module:name" of what was given to :meth:`of`.
        arguments: with which it is made.
        has: what metrics may ask of it, a log density or parameters; :meth:`of` finds out, and so do settings that
            name what ``--import`` imported.
    """

    name: Literal["estimator"] = "estimator"
    estimator: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    has: tuple[Literal["density", "parameters"], ...] = Field(default=("density",), strict=False)
    dtype: ClassVar[torch.dtype] = torch.float64
    # Alone, an arm's state is as long as its own training set.
    stack: ClassVar[int] = 1

    @property
    def makes(self) -> frozenset[Kind]:  # type: ignore[override]
        """Vectors; models of the user's own may make images too."""
        known = self.estimator in SKLEARN or self.estimator in TABULAR
        return frozenset(("vectors",) if known else ("vectors", "images"))

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What its models have."""
        return frozenset(() if self.estimator in TABULAR else self.has)

    @property
    def libraries(self) -> tuple[str, ...]:  # type: ignore[override]
        """The distribution that has a synthesiser."""
        return (TABULAR[self.estimator],) if self.estimator in TABULAR else ()

    @classmethod
    def of(cls, factory: Any, **arguments: JsonValue) -> Estimator:
        """Return the generator whose models are ``factory(**arguments)``, after making one to see what it offers.

        Settings record the name of the factory and the arguments, so that a run is resumed by a program that gives the
        same ones; what stands behind the name is not checked. Only this program and its workers know the factory: the
        command line reads and reports its runs, and goes on with them where ``--import`` names a file that calls this.

        Args:
            factory: a class, a function, a ``functools.partial`` of one by keywords, or an object to copy, which brings
                the weights that all arms begin with.
            arguments: plain values, as in YAML.

        Raises:
            ConfigError: no model can be made so, it cannot fit or sample, or the name stands for something else.
        """
        name, make, given = named(factory, arguments)
        with seeded(0):
            has = Adapter(name, _called(name, make, given)).offers()
        register(_MADE, name, make)
        return cls(estimator=name, arguments=given, has=has)

    @model_validator(mode="before")
    @classmethod
    def _finds_out(cls, settings: Any) -> Any:
        """Find out what models of imported code have, where nobody says."""
        given = settings if isinstance(settings, dict) else {}
        name, arguments = given.get("estimator"), given.get("arguments", {})
        if "has" in given or not isinstance(name, str) or not isinstance(arguments, dict):
            return settings
        factory = imported_object(name)
        return settings if factory is None else given | {"has": _offered(name, factory, json.dumps(arguments))}

    @model_validator(mode="after")
    def _can_be_made(self) -> Estimator:
        if self.estimator in TABULAR:
            tabular.check(self.estimator, self.arguments, self.has)
        elif ":" not in self.estimator:
            if self.estimator not in SKLEARN and (own := imported_like(self.estimator)):
                raise ValueError(f"no estimator is called {self.estimator!r}, did you mean {own[0]!r}?")
            scikit_learn.check(self.estimator, self.arguments, self.has)
        return self

    @property
    def _factory(self) -> Callable[..., Any]:
        if self.estimator in SKLEARN:
            return scikit_learn.found(self.estimator)
        if self.estimator in TABULAR:
            return tabular.made_by(self.estimator)
        imported: Callable[..., Any] | None = imported_object(self.estimator)
        if imported is not None:
            return imported
        if self.estimator not in _MADE:
            module, _, name = self.estimator.partition(":")
            if (there := imported_names(module)) is not None:
                raise ConfigError(
                    f"generator.estimator {self.estimator!r}: {module} has no {name!r}{nearest(name, there)}"
                )
            raise ConfigError(
                f"generator.estimator {self.estimator!r} is known only to a program that gives it to Estimator.of: "
                "run it from there, or name its file with --import"
            )
        return _MADE[self.estimator]

    def _made(self, device: Device = HERE) -> Adapter:
        """Return a new model, on the run's device where its factory takes an argument of that name."""
        factory, more = self._factory, {}
        if device.team.device.type != "cpu" and "device" in signature(factory) and "device" not in self.arguments:
            more = {"device": device.team.device}
        return Adapter(self.estimator, _called(self.estimator, factory, self.arguments | more))

    def refuse(self, x: Tensor) -> None:
        """Make a model of the user's own before anything is fitted.

        Raises:
            ConfigError: there is none, or it cannot fit or sample.
        """
        if ":" in self.estimator:
            with seeded(0):
                self._made().offers()

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return the tensors of new models, or states of no rows, which sample NaN; an event is (d,) or (C, H, W).

        Raises:
            ConfigError: no model can be made.
        """
        models = []
        for seed in _seeds(streams, "init").tolist():
            with seeded(seed):
                models.append(self._made())
        notes = {_SEED: _seeds(streams, "fit")}
        if models[0].stateful:
            return _stacked([model.leaves() for model in models]) | notes | {EVENT: torch.tensor([event] * len(models))}
        dtype = self.dtype if len(event) == 1 else torch.uint8
        rows = torch.zeros(len(models), 0, *event, dtype=dtype)
        return {_X: rows, _COUNT: torch.zeros(len(models), dtype=torch.int64)} | notes

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the tensors of models that go on from ``state``, or the rows to fit to; ``budget`` plays no part.

        Raises:
            ConfigError: it is generation 0, and the model cannot be fitted to them; or the model is no longer the one
                whose tensors these are.
        """
        seeds = _seeds(streams, "fit")
        if data.weight is not None and not self._weighs:
            data = resampled(data, streams)
        if _X not in state:
            arms = range(len(seeds))
            return _stacked(
                [self._refitted(_arm(state, r), data.select([r]), seeds[r], streams, device.of([r])) for r in arms]
            )
        x = data.x[:, : int(data.count.max())].to(state[_X].dtype)
        used = torch.arange(x.shape[1]) < data.count.unsqueeze(1)
        used = used.view(*used.shape, *[1] * (x.ndim - 2))
        fitted = {_X: torch.where(used, x, torch.zeros_like(x)), _COUNT: data.count.clone(), _SEED: seeds}
        if data.weight is not None:
            fitted[_WEIGHT] = data.weight[:, : x.shape[1]]
        if data.categories:
            fitted[CATEGORY] = category_numbers(data.categories, x.shape[2]).repeat(len(x), 1)
        for r in range(len(x)) if streams.generation == 0 else ():
            try:
                self._from_rows(_arm(fitted, r), device)
            except FAILURES as error:
                raise self._failure(error) from error
        return fitted

    @property
    def _weighs(self) -> bool:
        """Whether ``fit`` takes what each row counts; else rows are drawn again, as often as they count."""
        factory = self._factory
        fit = getattr(factory.prototype if isinstance(factory, Copies) else factory, "fit", None)
        return fit is not None and WEIGHT in signature(fit)

    def _refitted(self, state: State, data: Samples, seed: Tensor, streams: Streams, device: Device) -> State:
        """Return one arm's state after its model was fitted to its rows, marked where that failed."""
        x, weight = _counted(data.x[0], data.count, data.weight)
        lost = state | {_SEED: torch.full_like(state[_SEED], _LOST)}
        if not _usable(x):
            return lost
        with seeded(int(seed)):
            model = self._made(device)
            model.load(state)
            try:
                model.fit(x, int(seed), weight, data.categories)
            except FAILURES as error:
                if streams.generation == 0 or of_the_machine(error):
                    raise self._failure(error) from error
                device.failed(said(error))
                return lost
        fitted = model.leaves() | {_SEED: seed.reshape(1), EVENT: state[EVENT]}
        wrong = [name for name, leaf in parameters(fitted).items() if not torch.isfinite(leaf).all()]
        if wrong and streams.generation == 0:
            what = wrong[0].removeprefix(MODEL)
            raise model.refusal(f"{what} is not finite after the first fit: train more gently, or scale the data")
        return fitted

    def _failure(self, error: Exception) -> ConfigError:
        own = ":" in self.estimator  # who wrote it wants to know where
        return ConfigError(f"generator.estimator {self.estimator}: {said(error) if own else one_line(error)}")

    def _from_rows(self, state: State, device: Device) -> Adapter | None:
        """Return one arm's model fitted to the rows of its state; None where there are none, or not all are finite."""
        x, weight = _counted(state[_X][0], state[_COUNT], state.get(_WEIGHT))
        if not _usable(x):
            return None
        categories = numbered_categories(state[CATEGORY][0]) if CATEGORY in state else ()
        # How a sum is split over threads changes its last digits.
        with seeded(int(state[_SEED])), threadpool_limits(1):
            model = self._made(device)
            model.fit(x, int(state[_SEED]), weight, categories)
        return model

    def _fitted(self, state: State, device: Device = HERE) -> Adapter | None:
        """Return one arm's fitted model; None where it has diverged."""
        if _X in state:
            try:
                return self._from_rows(state, device)
            except FAILURES as error:
                if of_the_machine(error):
                    raise self._failure(error) from error
                device.failed(said(error))
                return None
        if int(state[_SEED]) == _LOST:
            return None
        with seeded(int(state[_SEED])):
            model = self._made(device)
            model.load(state)
        return model

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> Tensor:
        """Draw (R, n, *event) samples in random order; NaN, and floats therefore, of an arm that has diverged.

        Raises:
            ConfigError: a model draws something else than n events; or what is not finite, or nothing, in generation 0.
        """
        orders = streams.permutations("estimator/order", [n] * len(streams.seeds))
        first = state[_SEED] == _seeds(streams.at(0), "fit")  # latents may be those of generation 0 in all
        drawn = []
        for r, (order, seed) in enumerate(zip(orders, _seeds(streams, "sample").tolist(), strict=True)):
            x = self._drawn(_arm(state, r), n, seed, bool(first[r]), device.of([r]))
            drawn.append(x[torch.from_numpy(order)].unsqueeze(0))
        return torch.cat(drawn)

    def _drawn(self, state: State, n: int, seed: int, first: bool, device: Device) -> Tensor:
        """Draw one arm's samples (n, *event); ``first`` says that its fit was generation 0's."""
        event = state[_X].shape[2:] if _X in state else tuple(state[EVENT][0].tolist())
        lost = torch.full((n, *event), torch.nan, dtype=self.dtype if len(event) == 1 else torch.float32)
        model = self._fitted(state, device)
        if model is None:
            return lost
        try:
            with seeded(seed):
                x = model.sample(n, event, seed)
        except FAILURES as error:
            if first or of_the_machine(error):
                raise self._failure(error) from error
            device.failed(said(error))
            return lost
        if first and not torch.isfinite(x).all():
            raise model.refusal(
                "it sampled what is not finite after the first fit: train more gently, or scale the data"
            )
        return x

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log density of (R, N, *event) points, (R, N) float64; NaN where the model has diverged.

        Raises:
            ConfigError: the model has none, or it is no array (N,).
        """
        values = torch.full(x.shape[:2], torch.nan, dtype=self.dtype)
        for r, points in enumerate(x):
            one = _arm(state, r)
            model = self._fitted(one)
            if model is None:
                continue
            threads = threadpool_limits(1) if _X in state else contextlib.nullcontext()
            try:
                with seeded(int(one[_SEED])), threads:
                    values[r] = model.log_prob(points)
            except (ArithmeticError, np.linalg.LinAlgError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
                continue
            except FAILURES as error:
                raise self._failure(error) from error
        return values


@GENERATORS.takes
def _taken(value: Any) -> Estimator | None:
    """Take an object, or a class, that fits and samples as the user's own model."""
    if hasattr(value, "init"):
        return None
    lacking = [method for method in METHODS if not callable(getattr(value, method, None))]
    if len(lacking) == 1:
        raise ConfigError(f"{(value if isinstance(value, type) else type(value)).__qualname__} {lacks(lacking[0])}")
    return None if lacking else Estimator.of(value)


@functools.cache
def _offered(name: str, factory: Callable[..., Any], arguments: str) -> tuple[str, ...]:
    """Return what a model has that is made with arguments, which are given as JSON.

    Raises:
        ConfigError: as :meth:`Estimator.of`.
    """
    with seeded(0):
        return Adapter(name, _called(name, factory, json.loads(arguments))).offers()


def _called(name: str, factory: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Return ``factory(**arguments)``.

    Raises:
        ConfigError: it cannot be called so.
    """
    if missing := without_default(factory, arguments):
        raise ConfigError(f"generator.estimator {name}: it is made with {missing[0]}: give it in generator.arguments")
    try:
        return factory(**copy.deepcopy(arguments))  # a list among them is the settings', not the model's
    except FOREIGN as error:  # whatever the factory's own code raises
        if of_the_machine(error) or isinstance(error, SelfloopError):
            raise
        raise ConfigError(f"generator.estimator {name}: no model can be made ({said(error)})") from error


def _counted(x: Tensor, count: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return one arm's rows that count, and what each counts where they do not count alike; ``x`` is (N, *event)."""
    if weight is None:
        return x[: int(count)], None
    rows, counts = Samples(x=x[None], born=torch.zeros_like(weight), count=count, weight=weight).counting(0)
    return x[rows], counts


def _arm(state: State, r: int) -> State:
    return {name: leaf[r : r + 1] for name, leaf in state.items()}


def _stacked(arms: list[State]) -> State:
    return {name: torch.cat([arm[name] for arm in arms]) for name in arms[0]}


def _usable(x: Tensor) -> bool:
    """Whether there are rows, and all are finite."""
    return len(x) > 0 and bool(torch.isfinite(x).all())


def _seeds(streams: Streams, purpose: str) -> Tensor:
    """Return a seed an arm, which is 32 bits to NumPy and scikit-learn; (R,) int64."""
    return streams.integers(f"estimator/{purpose}", 2**32, ())
