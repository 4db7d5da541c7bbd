"""Data that a function of a program draws: of a whole number, its seed, and of nothing else.

Settings know a function by its name and a SHA-256 of what it consists of. A run made with it is read without it; to go
on, it needs the program that has it.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.code import TABLES
from selfloop.core.config import SHA256, one_line
from selfloop.core.errors import ConfigError, DataError, quoted
from selfloop.core.events import Vectors
from selfloop.core.streams import generator
from selfloop.data.base import DATA, Dataset, Parts, Split, refuse_rows, split_rows
from selfloop.data.reading.memory import frame_numbers, is_array, is_frame, read_array
from selfloop.data.reading.tables import Rows

_KNOWN: dict[str, Callable[..., Any]] = TABLES.setdefault("function", {})
"""The functions that this program was given, by name and SHA-256; worker processes get them, too."""

_N = 1000


@DATA.register
class Function(Dataset):
    """Rows (n, d) that a function returns; made by :func:`function`. Model units are the function's.

    A function of a seed and n draws n independent rows: those to train on, those held out, and fresh ones without end,
    each from a seed of its own that is derived from the arm's. A function of a seed alone returns all rows of an arm,
    which are then divided by a permutation.

    Attributes:
        function: "module:name".
        sha256: of its source text, or of its code where there is no such.
        draws: whether it takes n.
        n: how many rows train; None is 1,000 of one that draws, else all that are not held out.
        held_out: how many are held out; None is as many as ``n`` of one that draws, else 20 %.
    """

    name: Literal["function"] = "function"
    function: str
    sha256: SHA256
    draws: bool
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """Fresh rows, of a function that draws."""
        return frozenset(("fresh",)) if self.draws else frozenset()

    def load(self, seeds: Sequence[int]) -> Split:
        """Call the function for every seed.

        Raises:
            ConfigError: this program does not have it.
            DataError: it fails, returns no such rows, or other ones when asked again.
        """
        parts = self._drawn(seeds) if self.draws else self._divided(seeds)
        d = parts.train.shape[-1]
        columns = ("x", "y") if d == 2 else tuple(f"x{i}" for i in range(d))
        return Split(train=parts.train, held_out=parts.held_out, events=Vectors.unscaled(columns))

    def fresh(self, seed: int, generation: int, k: int) -> Tensor:
        """Draw k rows (k, d) by a seed of the arm and the generation; there is no end to them."""
        if not self.draws:
            return super().fresh(seed, generation, k)
        return torch.from_numpy(self._rows(_seed(seed, generation, "fresh"), k))

    def _drawn(self, seeds: Sequence[int]) -> Parts:
        n = self.n or _N
        refuse_rows(len(seeds) * (n + (self.held_out or n)), 1, self._source)
        self._refuse_unseeded(seeds[0])
        train = [self._rows(_seed(seed, 0, "data"), n) for seed in seeds]
        held_out = [self._rows(_seed(seed, 0, "held_out"), self.held_out or n) for seed in seeds]
        return Parts(self._stacked(train), self._stacked(held_out))

    def _divided(self, seeds: Sequence[int]) -> Parts:
        divided: list[tuple[Tensor, Tensor]] = []
        for seed in seeds:
            rows = self._rows(seed)
            m = max(1, round(0.2 * len(rows))) if self.held_out is None else self.held_out
            divided.append(split_rows(rows, self.n, m, [seed], self._source))
        train, held_out = ([part[i].numpy()[0] for part in divided] for i in (0, 1))
        return Parts(self._stacked(train), self._stacked(held_out))

    def _stacked(self, rows: list[np.ndarray]) -> Tensor:
        if len(shapes := {part.shape for part in rows}) > 1:
            raise DataError(f"{self._source} returns {' and '.join(map(str, sorted(shapes)))} rows of different seeds")
        return torch.from_numpy(np.stack(rows))

    def _refuse_unseeded(self, seed: int) -> None:
        first, again = (self._rows(_seed(seed, 0, "data"), 2) for _ in range(2))
        if not np.array_equal(first, again):
            raise DataError(
                f"{self._source} returns other rows when it is called again with the same seed: let all that it draws "
                "follow from its seed, as from numpy.random.default_rng(seed)"
            )

    @property
    def _source(self) -> str:
        return f"data function {quoted(self.function)}"

    def _rows(self, *arguments: int) -> np.ndarray:
        """Return what a call of the function returns, checked: (n, d) float64."""
        key = _key(self.function, self.sha256)
        if key not in _KNOWN:
            raise ConfigError(
                f"{self._source} is known only to the program that defines it: run that, with data=that function, or "
                "name its file with --import and let it call selfloop.data.function there"
            )
        try:
            returned = _KNOWN[key](*arguments)
        except Exception as error:  # whatever the user's code raises
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise DataError(f"{self._source} fails at {arguments}: {why}") from error
        if not is_array(returned):
            raise DataError(f"{self._source} returns {type(returned).__name__}: return an array (n, d)")
        source = f"what {self._source} returns,"
        rows = frame_numbers(returned, source) if is_frame(returned) else read_array(returned, source, least=0)
        if not isinstance(rows, Rows) or (self.draws and len(rows.values) != arguments[1]):
            wanted = f"({arguments[1]}, d)" if self.draws else "(N, d)"
            raise DataError(f"{self._source} returns {tuple(returned.shape)} at {arguments}: return {wanted} numbers")
        return rows.values


def _seed(seed: int, generation: int, purpose: str) -> int:
    """Return a seed from 0 to 2³² − 1, which every library takes."""
    return int(generator(seed, generation, purpose, 0).integers(2**32))


@DATA.takes
def _taken(x: Any) -> Function | None:
    return function(x) if inspect.isfunction(x) else None


def function(f: Callable[..., Any], *, n: int | None = None, held_out: int | None = None) -> Function:
    """Return what a function draws as data; ``Experiment(data=f)`` is short for it.

    Args:
        f: ``f(seed, n)``, which draws n independent rows (n, d), or ``f(seed)``, which returns all rows (N, d); seed is
            a whole number, and equal ones must give equal rows.
        n: how many rows train; None is 1,000 of one that draws, else all others.
        held_out: how many are held out; None is as many as ``n`` of one that draws, else 20 %.

    Raises:
        ConfigError: it is no such function, there is another one of the same name and text, or a number is out of
            range.
    """
    name = f"{getattr(f, '__module__', '?')}:{getattr(f, '__qualname__', type(f).__name__)}"
    if not inspect.isfunction(f):
        raise ConfigError(f"data function {quoted(name)} is none that is written in Python: give def f(seed, n)")
    settings = {"function": name, "sha256": _digest(f), "draws": _draws(f, name), "n": n, "held_out": held_out}
    try:
        made = Function.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(one_line(error, Function)) from error
    before = _KNOWN.setdefault(_key(name, made.sha256), f)
    if before is not f and _bound(before) != _bound(f):
        raise ConfigError(
            f"two data functions are called {quoted(name)} and differ only in values from outside them: "
            "write these into functions of their own"
        )
    return made


def _key(name: str, sha256: str) -> str:
    return f"{name} {sha256}"


def _draws(f: Callable[..., Any], name: str) -> bool:
    """Return whether a function takes a seed and n, or a seed alone."""
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(f).parameters.values())
    taken = [parameter for parameter in parameters if parameter.kind in places]
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    draws = len(needed) == 2 or (len(taken) > 1 and taken[1].name == "n")
    if len(needed) > 1 + draws or len(taken) < 1 + draws or not set(needed) <= set(taken):
        raise ConfigError(f"data function {quoted(name)} must take a seed and n, or a seed alone: give def f(seed, n)")
    return draws


def _digest(f: Callable[..., Any]) -> str:
    """Return the SHA-256 of a function's own text, else, as of a lambda in a larger statement, of its code."""
    code: Any = f.__code__
    try:
        text = None if f.__name__ == "<lambda>" else inspect.getsource(f)
    except (OSError, TypeError):
        text = None
    text = _text(code) if text is None else text
    return hashlib.sha256(inspect.cleandoc(text).encode()).hexdigest()


def _text(code: Any) -> str:
    """Return what compiled code consists of, where it stands in its file apart; the same in every process."""
    if isinstance(code, frozenset):
        return str(sorted(map(_text, code)))
    if not inspect.iscode(code):
        return repr(code)
    return str([code.co_code, code.co_names, code.co_varnames, code.co_freevars, *map(_text, code.co_consts)])


def _bound(f: Any) -> list[object]:
    """Return what a function has besides its text and its module, such that other values are not equal."""
    found: list[object] = []
    for value in (*(cell.cell_contents for cell in f.__closure__ or ()), *(f.__defaults__ or ())):
        try:
            found.append(pickle.dumps(value))
        except Exception:  # whatever an object's own pickling raises
            found.append(id(value))
    return found
