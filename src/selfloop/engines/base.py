"""What an engine is: where the stacks of a generation run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, runtime_checkable

from selfloop.core.registry import Family

Result = TypeVar("Result")


class Pool(Protocol):
    """Applies a function to stack numbers and yields results as they come; the order does not matter."""

    def map(self, function: Callable[[int], Result], stacks: Sequence[int]) -> Iterator[Result]:
        """Yield ``function(stack)`` for every stack."""


@runtime_checkable
class Cluster(Protocol):
    """Calls functions where the run directory is not: all that they need is sent, and what they return comes back.

    A function is called with the device it may use, with what takes notes of how far it is, and with its arguments.
    """

    def put(self, value: Any) -> Any:
        """Return what stands for a value among the arguments of calls, so that it is sent once."""

    def begin(self, key: tuple[int, int], function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function somewhere; among the arguments may be what :meth:`put` and :meth:`next` returned."""

    def next(self, hear: Callable[[dict[str, Any]], None]) -> tuple[tuple[int, int], Any, Any]:
        """Wait for a call to end, and hear meanwhile what calls tell.

        Returns:
            Its key, its result, and what stands for that among arguments.
        """


class Engine(Protocol):
    """Settings of a place where stacks run; results are the same to the bit wherever that is."""

    @property
    def here(self) -> bool:
        """Whether stacks run in this process, which then needs not be told what the program defines."""

    def start(self, stacks: int) -> AbstractContextManager[Pool | Cluster]:
        """Start what runs up to ``stacks`` stacks at once; it ends with the context."""


ENGINES: Family[type[Engine]] = Family("engine", "selfloop.engines", {"start": 1})
