"""What makes a user's models: its name in settings, its arguments, and whether one name means one thing."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import operator
import pickle
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from selfloop.core.errors import ConfigError, nearest, quoted

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Copies:
    """A factory that copies a prototype.

    Attributes:
        given: the object that the user holds, and may go on to change.
        prototype: as it was when it was given.
    """

    given: Any
    prototype: Any

    def __call__(self) -> Any:
        """Return a copy."""
        return copy.deepcopy(self.prototype)


def named(given: Any, arguments: dict[str, Any]) -> tuple[str, Factory, dict[str, Any]]:
    """Return the name that settings record, what makes the models, and the arguments that it is called with.

    Args:
        given: a class, a function, a ``functools.partial`` of one, or a prototype.
        arguments: in addition to a partial's keywords.

    Raises:
        ConfigError: an argument is not a plain value or has no name, or a prototype cannot be copied or has arguments.
    """
    if isinstance(given, functools.partial):
        if given.args:
            raise ConfigError(f"{quoted(given.func)}: a partial's values must be given by keyword, to be recorded")
        return named(given.func, given.keywords | arguments)
    maker = isinstance(given, type) or inspect.isroutine(given)
    of = given if maker else type(given)
    name = f"{of.__module__}:{of.__qualname__}"
    if not maker:
        return f"{name}()", _copies(given, name, arguments), {}
    for argument, value in arguments.items():
        if not plain(value):
            raise ConfigError(
                f"{name}: argument {argument} is {quoted(value)}, and no plain value as in YAML: give numbers, text, "
                "lists, or dicts of them, and let a function make the rest"
            )
    _refuse_unknown(name, given, arguments)
    return name, given, arguments


def _copies(given: Any, name: str, arguments: dict[str, Any]) -> Copies:
    if arguments:
        raise ConfigError(f"{name} is an object that was made already: give its class, and the arguments to that")
    try:
        return Copies(given, copy.deepcopy(given))
    except Exception as error:  # what __deepcopy__ and __reduce__ raise is open
        raise ConfigError(f"{name}: the object cannot be copied ({one_line(error)}): give its class instead") from error


def _refuse_unknown(name: str, factory: Factory, arguments: dict[str, Any]) -> None:
    """Refuse an argument that a factory does not take, where its signature can be read."""
    known = signature(factory)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    if known and (unknown := [argument for argument in arguments if argument not in known]):
        raise ConfigError(f"{name} has no argument {unknown[0]!r}{nearest(unknown[0], list(known))}")


def refuse_seeds(arguments: dict[str, Any]) -> None:
    """Refuse a seed among the arguments of a model that comes by its name.

    Raises:
        ValueError: there is one.
    """
    if "random_state" in arguments:
        raise ValueError("random_state follows from the experiment's seeds: leave it out of the arguments")


def signature(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a callable; none where they cannot be read, as of some written in C."""
    try:
        return dict(inspect.signature(call).parameters)
    except (ValueError, TypeError):
        return {}


def without_default(call: Callable[..., Any], given: Iterable[str]) -> list[str]:
    """Return the parameters that a callable must be given by name, and is not."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p for p in signature(call).values() if p.kind in kinds and p.default is p.empty]
    return [p.name for p in parameters if p.name not in given]


def plain(value: Any) -> bool:
    """Whether a value comes back from YAML as it is: finite numbers, text, None, lists, dicts with text as keys."""
    if isinstance(value, list):
        return all(map(plain, value))
    if isinstance(value, dict):
        return all(type(key) is str and plain(inner) for key, inner in value.items())
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def register(table: dict[str, Factory], name: str, factory: Factory) -> None:
    """Put a factory into a table.

    Raises:
        ConfigError: the name stands for something else there, and its definition was not simply run again.
    """
    known = table.get(name)
    if known is None or _current(name, known) < _current(name, factory):
        table[name] = factory
    elif not _same(known, factory):
        raise ConfigError(
            f"{name} stands for another object in this process already: "
            + ("give its class, and the arguments to that" if isinstance(factory, Copies) else "give it another name")
        )


def _current(name: str, factory: Factory) -> bool:
    """Whether a name leads to a factory, or to its prototype's class; a notebook's cell that is run again moves it."""
    module, _, path = name.removesuffix("()").partition(":")
    try:
        found = operator.attrgetter(path)(sys.modules[module])
    except (KeyError, AttributeError):
        return False
    return bool(found == (type(factory.given) if isinstance(factory, Copies) else factory))


def _same(a: Factory, b: Factory) -> bool:
    if isinstance(a, Copies) and isinstance(b, Copies):
        return a.given is b.given or _equal(a.prototype, b.prototype)
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        return a is b or (a.__code__ == b.__code__ and not any(map(_bound, (a, b))))
    return bool(a == b)


def _bound(function: FunctionType) -> bool:
    """Whether a function holds values besides its code."""
    return any((function.__closure__, function.__defaults__, function.__kwdefaults__))


def _equal(a: Any, b: Any) -> bool:
    """Whether two objects hold the same; those that cannot be pickled are not known to."""
    try:
        return pickle.dumps(a) == pickle.dumps(b)
    except Exception:  # what __reduce__ raises is open
        return False


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__
