"""Synthesisers of tables by other packages, as models with ``fit(X)`` and ``sample(n)`` for :mod:`.estimator`.

They are handed a frame whose categories are columns of their own kind, and encode it in their own way. What they draw
at random comes from the global generators, which the estimator seeds.
"""

from __future__ import annotations

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from selfloop.core.errors import ConfigError, to_install
from selfloop.generators.factories import refuse_seeds


class Synthesizer(ABC):
    """A model of frames as a model of rows of numbers.

    Attributes:
        package: that has it, and is imported when the first one is made.
        extra: of selfloop that installs the package.
    """

    package: ClassVar[str]
    extra: ClassVar[str]

    def __init__(self, name: str, **arguments: Any) -> None:
        """Import the package, and hold what the model is made with.

        Raises:
            ConfigError: it is not installed.
            TypeError: the package's model takes no such arguments.
        """
        try:
            self._library = importlib.import_module(self.package)
        except ImportError as error:
            raise ConfigError(
                to_install(f"generator estimator {name}", self.package.partition(".")[0], self.extra)
            ) from error
        self._name, self._arguments = name, arguments
        self._spans: list[range] = []

    @abstractmethod
    def learn(self, frame: Any, discrete: list[str]) -> None:
        """Fit to a frame, of which some columns are of categories."""

    @abstractmethod
    def draw(self, n: int) -> Any:
        """Return a frame of n rows with the same columns."""

    def fit(self, x: np.ndarray, categories: Sequence[range] = ()) -> None:
        """Fit to rows (n, d), some of whose coordinates are the levels of categories."""
        import pandas as pd

        starts = {span.start: span for span in categories}
        inside = {j for span in categories for j in span[1:]}
        self._spans = [starts.get(j, range(j, j + 1)) for j in range(x.shape[1]) if j not in inside]
        columns: dict[str, np.ndarray] = {}
        for span in self._spans:
            own = x[:, list(span)]
            columns[f"x{span.start}"] = own[:, 0] if span.start not in starts else _levels(own)
        self.learn(pd.DataFrame(columns), [f"x{start}" for start in starts])

    def sample(self, n: int) -> np.ndarray:
        """Return (n, d) rows whose categories are one-hot."""
        frame = self.draw(n)
        x = np.zeros((n, self._spans[-1].stop))
        for span in self._spans:
            values = np.asarray(frame[f"x{span.start}"], dtype=np.float64)
            if len(span) == 1:
                x[:, span.start] = values
            else:
                x[np.arange(n), span.start + values.astype(np.int64)] = 1.0
        return x


def _levels(x: np.ndarray) -> np.ndarray:
    """Return the number of each row's level (n,); of a single coordinate, 0 or 1."""
    found: np.ndarray = x[:, 0].astype(np.int64) if x.shape[1] == 1 else x.argmax(1)
    return found


class Neural(Synthesizer):
    """The networks of Xu et al. 2019, on the CPU: CTGAN and TVAE, of the package ``ctgan``."""

    package: ClassVar[str] = "ctgan"
    extra: ClassVar[str] = "ctgan"

    def __init__(self, name: str, **arguments: Any) -> None:
        """Make the model."""
        super().__init__(name, **arguments)
        self._model = getattr(self._library, name)(**{"enable_gpu": False} | arguments)

    def learn(self, frame: Any, discrete: list[str]) -> None:
        """Train for as many epochs as the arguments say."""
        self._model.fit(frame, discrete)

    def draw(self, n: int) -> Any:
        """Return n rows."""
        return self._model.sample(n)


class Forest(Synthesizer):
    """Adversarial random forests (Watson et al. 2023), of the package ``arfpy``."""

    package: ClassVar[str] = "arfpy.arf"
    extra: ClassVar[str] = "arfpy"

    def learn(self, frame: Any, discrete: list[str]) -> None:
        """Grow forests until they cannot tell the rows from samples, and estimate the densities in their leaves."""
        known = frame.astype(dict.fromkeys(discrete, "category"))
        self._model = self._library.arf(known, **{"verbose": False} | self._arguments)
        self._model.forde()

    def draw(self, n: int) -> Any:
        """Return n rows."""
        return self._model.forge(n)


_KINDS: dict[str, type[Synthesizer]] = {"CTGAN": Neural, "TVAE": Neural, "ARF": Forest}

TABULAR = {name: kind.extra for name, kind in _KINDS.items()}
"""The synthesisers, and the distribution that has each."""


def check(name: str, arguments: dict[str, Any], has: tuple[str, ...]) -> None:
    """Refuse what cannot be meant; whether the package knows the arguments is seen when the first model is made.

    Raises:
        ValueError: with why.
    """
    refuse_seeds(arguments)
    if has != ("density",):
        raise ValueError(f"{name} offers no density and no parameters: leave has out")


def made_by(name: str) -> Callable[..., Synthesizer]:
    """Return what makes one of them."""
    return functools.partial(_KINDS[name], name)
