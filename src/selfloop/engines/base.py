"""What an engine is: where the stacks of a generation run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from selfloop.core.registry import Family

Result = TypeVar("Result")


class Pool(Protocol):
    """Applies a function to stack numbers and yields results as they come; the order does not matter."""

    def map(self, function: Callable[[int], Result], stacks: Sequence[int]) -> Iterator[Result]:
        """Yield ``function(stack)`` for every stack."""


class Engine(Protocol):
    """Settings of a place where stacks run; results are the same to the bit wherever that is."""

    @property
    def here(self) -> bool:
        """Whether stacks run in this process, which then needs not be told what the program defines."""

    def start(self, stacks: int) -> AbstractContextManager[Pool]:
        """Start what runs up to ``stacks`` stacks at once; it ends with the context."""


ENGINES: Family[type[Engine]] = Family("engine", "selfloop.engines", {"start": 1})
