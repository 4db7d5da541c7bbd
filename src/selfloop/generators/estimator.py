"""Anything that can ``fit(X)`` and ``sample(n)`` as a generator: scikit-learn's mixtures and densities, or your own.

A fitted object is no tensor, so a state is what determines it: the rows it was fitted to, and a seed. It is fitted
anew whenever it has to sample or to score, which costs a fit each time and always gives the same one.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, JsonValue, model_validator
from threadpoolctl import threadpool_limits
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.errors import ConfigError, nearest
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.learning.training import ROWS, Budget

SKLEARN = {
    "GaussianMixture": "sklearn.mixture",
    "BayesianGaussianMixture": "sklearn.mixture",
    "KernelDensity": "sklearn.neighbors",
}
"""The estimators of scikit-learn that can sample, and where they are."""

_MADE: dict[str, Callable[..., Any]] = {}  # what this process was given by Estimator.of
_X, _COUNT, _SEED = (f"{ROWS}{name}" for name in ("x", "count", "seed"))


@GENERATORS.register
class Estimator(Sampler):
    """An object with ``fit(X)`` and ``sample(n)``, made anew for every fit.

    ``fit`` takes (N, d) float64; ``sample`` returns (n, d), or a tuple that begins with that. What they draw must
    follow from a whole number ``random_state``: an attribute, where there is one, is set before both; ``sample`` is
    given it where it takes an argument of that name. Samples are shuffled, as a mixture's come component by component.
    Where there is ``score_samples(X)``, it is the log density, (N,).

    In generation 0 a fit that fails is an error of the settings. Later ones are data: a model that can no longer be
    fitted has diverged, and samples NaN.

    State: ``rows.x`` (R, N, d) float64, padded with zeros from ``rows.count`` (R,) on to the longest of the arms, and
    ``rows.seed`` (R,). There are no parameters.

    Attributes:
        estimator: one of :data:`SKLEARN`, or "module:name" of what was given to :meth:`of`.
        arguments: with which it is made.
    """

    name: Literal["estimator"] = "estimator"
    estimator: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    offers: ClassVar[frozenset[Capability]] = frozenset(("density",))
    dtype: ClassVar[torch.dtype] = torch.float64
    # Alone, an arm's state is as long as its own training set.
    stack: ClassVar[int] = 1

    @classmethod
    def of(cls, factory: Callable[..., Any], **arguments: JsonValue) -> Estimator:
        """Return the generator whose models are ``factory(**arguments)``.

        Settings record the name of the factory and the arguments, so that a run is resumed by a program that gives the
        same ones; what stands behind the name is not checked. Only this process knows the factory, and the command line
        refuses to run it, but reads and reports its runs.

        Args:
            factory: a class, or a function of a module.
            arguments: plain values, as in YAML.

        Raises:
            ValueError: the factory is a lambda or local, and so has no name of its own.
        """
        name = f"{factory.__module__}:{factory.__qualname__}"
        if "<" in name:
            raise ValueError(f"{name} has no name of its own: define it at the top of its module")
        _MADE[name] = factory
        return cls(estimator=name, arguments=arguments)

    @model_validator(mode="after")
    def _can_be_made(self) -> Estimator:
        if ":" in self.estimator:
            return self
        if self.estimator not in SKLEARN:
            raise ValueError(f"no estimator is called {self.estimator!r}{nearest(self.estimator, list(SKLEARN))}")
        if "random_state" in self.arguments:
            raise ValueError("random_state follows from the experiment's seeds: leave it out of the arguments")
        factory = self._factory
        known = list(inspect.signature(factory).parameters)
        if unknown := [name for name in self.arguments if name not in known]:
            raise ValueError(f"{self.estimator} has no argument {unknown[0]!r}{nearest(unknown[0], known)}")
        factory(**self.arguments)._validate_params()
        if self.estimator == "KernelDensity" and self.arguments.get("kernel", "gaussian") not in ("gaussian", "tophat"):
            raise ValueError(
                f"KernelDensity cannot sample from kernel {self.arguments['kernel']!r}: use gaussian or tophat"
            )
        return self

    @property
    def _factory(self) -> Callable[..., Any]:
        if self.estimator in SKLEARN:
            found: Callable[..., Any] = getattr(importlib.import_module(SKLEARN[self.estimator]), self.estimator)
            return found
        if self.estimator not in _MADE:
            raise ConfigError(
                f"generator.estimator {self.estimator!r} is known only to a program that gives it to Estimator.of, "
                "and not to its worker processes: run it from there with workers=0"
            )
        return _MADE[self.estimator]

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return states of no rows, which sample NaN."""
        (d,) = event
        r = len(streams.seeds)
        return {
            _X: torch.zeros(r, 0, d, dtype=self.dtype),
            _COUNT: torch.zeros(r, dtype=torch.int64),
            _SEED: _seeds(streams, "fit"),
        }

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the rows to fit to; neither ``state`` nor ``budget`` plays a part.

        Raises:
            ConfigError: it is generation 0, and the estimator cannot be fitted to them.
        """
        x = data.x[:, : int(data.count.max())].to(self.dtype)
        used = torch.arange(x.shape[1]) < data.count.unsqueeze(1)
        fitted = {
            _X: torch.where(used.unsqueeze(-1), x, torch.zeros_like(x)),
            _COUNT: data.count.clone(),
            _SEED: _seeds(streams, "fit"),
        }
        if streams.generation == 0:
            for r in range(len(x)):
                try:
                    self._model(fitted, r)
                except (ValueError, ArithmeticError) as error:
                    raise ConfigError(f"generator.estimator {self.estimator}: {_one_line(error)}") from error
        return fitted

    def _model(self, state: State, r: int) -> Any:
        """Return one arm's fitted model; None where there are no rows, or not all are finite."""
        rows = state[_X][r, : int(state[_COUNT][r])]
        if len(rows) == 0 or not torch.isfinite(rows).all():
            return None
        model = self._factory(**self.arguments)
        if hasattr(model, "random_state"):
            model.random_state = int(state[_SEED][r])
        # How a sum is split over threads changes its last digits.
        with threadpool_limits(1):
            model.fit(rows.numpy().copy())
        return model

    def _sound(self, state: State, r: int) -> Any:
        """Return one arm's fitted model; None where it has diverged."""
        try:
            return self._model(state, r)
        except (ValueError, ArithmeticError):
            return None

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> Tensor:
        """Fit, and draw (R, n, d) samples in random order.

        Raises:
            ConfigError: the model cannot be told what to draw from, or draws something else than n rows.
        """
        orders = streams.permutations("estimator/order", [n] * len(streams.seeds))
        drawn = torch.full((len(orders), n, state[_X].shape[2]), torch.nan, dtype=self.dtype)
        for r, (order, seed) in enumerate(zip(orders, _seeds(streams, "sample").tolist(), strict=True)):
            model = self._sound(state, r)
            if model is not None:
                drawn[r] = torch.from_numpy(self._draw(model, n, drawn.shape[2], seed)[order])
        return drawn

    def _draw(self, model: Any, n: int, d: int, seed: int) -> np.ndarray:
        if "random_state" in inspect.signature(model.sample).parameters:
            found = model.sample(n, random_state=seed)
        elif hasattr(model, "random_state"):
            model.random_state = seed
            found = model.sample(n)
        else:
            raise ConfigError(
                f"generator.estimator {self.estimator} cannot be told what to draw: give its sample an argument "
                "random_state, or the object an attribute of that name that sample follows"
            )
        rows = np.asarray(found[0] if isinstance(found, tuple) else found, dtype=np.float64)
        if rows.shape != (n, d):
            raise ConfigError(f"generator.estimator {self.estimator} sampled {rows.shape}, and not {(n, d)}")
        return rows

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Fit, and return the log density of (R, N, d) points, (R, N); NaN where the model has diverged.

        Raises:
            ConfigError: the model has no ``score_samples``.
        """
        values = torch.full(x.shape[:2], torch.nan, dtype=self.dtype)
        for r, points in enumerate(x.to(self.dtype)):
            model = self._sound(state, r)
            if model is None:
                continue
            if not hasattr(model, "score_samples"):
                raise ConfigError(f"generator.estimator {self.estimator} has no score_samples, and so no likelihood")
            with threadpool_limits(1):
                values[r] = torch.from_numpy(np.asarray(model.score_samples(points.numpy()), dtype=np.float64))
        return values


def _seeds(streams: Streams, purpose: str) -> Tensor:
    """Return a ``random_state`` an arm, which is 32 bits to scikit-learn; (R,) int64."""
    return streams.integers(f"estimator/{purpose}", 2**32, ())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
