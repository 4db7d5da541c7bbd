"""Where the stacks of a generation run: in this process, or spread over worker processes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from typing import Any, Literal

from pydantic import NonNegativeInt

from selfloop.core.config import Frozen
from selfloop.core.errors import RunError
from selfloop.engines.base import ENGINES, Pool, Result
from selfloop.engines.threads import as_in_a_worker
from selfloop.engines.worker import begin

_ATTEMPTS = 3  # a stack that kills its worker this often is not going to succeed


class InProcess:
    """One stack after the other; the caller's settings of torch neither change nor matter."""

    def map(self, function: Callable[[int], Result], stacks: Sequence[int]) -> Iterator[Result]:
        """Yield ``function(stack)`` for every stack, in order; the caller's settings are back at every yield."""
        for stack in stacks:
            with as_in_a_worker():
                result = function(stack)
            yield result


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let processes that are started meanwhile not hear Ctrl-C while they import; this one hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _quiet_tracker() -> None:
    """Start the process in which loky frees what a run leaves that is ended by a signal: it warned the user of that."""
    from loky.backend.resource_tracker import ensure_running

    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


class Workers:
    """Processes with one thread each; one that is killed costs only the stacks it was working on."""

    def __init__(self, workers: int) -> None:
        self._workers, self._left = workers, set[int]()
        self._executor = self._start()

    def _start(self) -> Any:
        from loky import ProcessPoolExecutor

        _quiet_tracker()
        # BLAS and OpenMP read these when a worker starts; a second thread per process only makes both wait.
        settings = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        # glibc gives what a training step frees back to the kernel and fetches it again: a tenth of the step.
        settings |= dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 30))
        return ProcessPoolExecutor(self._workers, initializer=begin, initargs=(os.getpid(),), env=settings)

    def map(self, function: Callable[[int], Result], stacks: Sequence[int]) -> Iterator[Result]:
        """Yield ``function(stack)`` as they finish, running those of a killed worker again."""
        from loky.process_executor import BrokenProcessPool

        self._left = set(stacks)
        for _ in range(_ATTEMPTS):
            try:
                # A worker that was killed while it had nothing to do shows here.
                with _deaf():
                    futures = {self._executor.submit(function, stack): stack for stack in sorted(self._left)}
                for future in as_completed(futures):
                    result = future.result()
                    self._left.discard(futures[future])
                    yield result
                return
            except BrokenProcessPool:
                self.close()
                self._executor = self._start()
        raise RunError(f"worker processes were killed {_ATTEMPTS} times in one generation: is there enough memory?")

    def close(self) -> None:
        """Stop the processes: those at work at once; idle ones leave by themselves, which Ctrl-C cannot disturb."""
        with _deaf():
            self._executor.shutdown(wait=True, kill_workers=bool(self._left))


@ENGINES.register
class Local(Frozen):
    """This machine: this process for 0 workers, else as many processes as are of use.

    Attributes:
        workers: processes.
    """

    name: Literal["local"] = "local"
    workers: NonNegativeInt = 0

    @property
    def here(self) -> bool:
        """Whether stacks run in this process."""
        return self.workers == 0

    @contextlib.contextmanager
    def start(self, stacks: int) -> Iterator[Pool]:
        """Start the processes, no more than there are stacks, and stop them at the end."""
        if self.here:
            yield InProcess()
            return
        pool = Workers(min(self.workers, stacks))
        try:
            yield pool
        finally:
            pool.close()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
