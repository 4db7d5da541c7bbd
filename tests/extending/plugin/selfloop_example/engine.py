"""An engine: this process, the last stack first; results do not depend on the order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

from selfloop import Frozen
from selfloop.engines.base import Pool, Result
from selfloop.engines.threads import as_in_a_worker


class Reversed:
    """Applies a function to stack numbers from the last to the first."""

    def map(self, function: Callable[[int], Result], stacks: Sequence[int]) -> Iterator[Result]:
        """Yield ``function(stack)``; numbers are computed with a worker's settings of threads and types."""
        for stack in reversed(stacks):
            with as_in_a_worker():
                result = function(stack)
            yield result


class Backwards(Frozen):
    """This process, the last stack first."""

    name: Literal["backwards"] = "backwards"
    here: ClassVar[bool] = True

    @contextmanager
    def start(self, stacks: int) -> Iterator[Pool]:
        """There is nothing to start."""
        yield Reversed()
