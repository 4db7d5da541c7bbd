"""Where a stage runs: its device, its time, and how it times and reports."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.rows import Row, add
from selfloop.core.errors import ConfigError
from selfloop.engines.team import Team, available

NoMemory = torch.OutOfMemoryError
_WARM, _PRODUCTS = 2, 8
_SIDE = {"cuda": 8192, "cpu": 512}


def refuse_absent(device: str) -> str | None:
    """Return why a device cannot be used here; None where it can."""
    try:
        available(device)
    except ConfigError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Place:
    """Where a stage runs.

    Attributes:
        device: of networks.
        stage: its name.
        out: the folder of what is found.
        end: when its time is over, by the monotonic clock.
        data: the folder of CIFAR-10.
    """

    device: torch.device
    stage: str
    out: Path
    end: float
    data: Path

    @classmethod
    def at(cls, device: str, stage: str, out: Path, seconds: float, data: Path) -> Place:
        """Return the place of a stage that has so many seconds."""
        return cls(available(device), stage, out, time.monotonic() + seconds, data)

    @property
    def small(self) -> bool:
        """Whether the stages are only tried, with small networks: on the CPU."""
        return self.device.type == "cpu"

    @property
    def team(self) -> Team:
        """The device as fits take it."""
        return Team(self.device)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    def say(self, what: str, **found: object) -> None:
        """Report a row."""
        add(self.out / "results.jsonl", Row(stage=self.stage, what=what, **found))  # type: ignore[arg-type]

    def attempt(self, what: str, part: Callable[[], object], seconds: float = 0.0, good: bool | None = None) -> None:
        """Run a part of a stage; where it fails, or there is no time for it, a row says so and the stage goes on.

        Args:
            what: the part is called in such a row.
            part: reports rows of its own.
            seconds: that it takes on a GPU, about.
            good: what a failure counts as, False being one of the whole check.
        """
        if self.left < (0 if self.small else seconds):
            self.say(what, note=f"left out: {max(self.left, 0):.0f} s are left")
            return
        try:
            part()
        except NoMemory:
            self.say(what, good=good, note="not enough memory of the device")
        except Exception as error:  # whatever a precision, a compiler or a kernel that is not there raises
            self.say(what, good=good, note=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        finally:
            self.free()

    def free(self) -> None:
        """Give memory that is no longer used back to the device, and begin to look for a peak anew."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the time of one call."""
        self.wait()
        begun = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - begun

    def peak(self) -> str:
        """Return the most memory that was in use, in words."""
        if self.device.type == "cuda":
            return f"peak {torch.cuda.max_memory_allocated(self.device) / 2**30:.2f} GiB"
        return f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB of the whole process"

    def product_rate(self, dtype: torch.dtype) -> float:
        """Return the FLOP/s of a large matrix product of random numbers, the best of a few."""
        n = _SIDE.get(self.device.type, 2048)
        a, b = (torch.randn(n, n, device=self.device).to(dtype) for _ in range(2))
        for _ in range(_WARM):
            a @ b
        return 2 * n**3 / min(self.seconds(lambda: a @ b) for _ in range(_PRODUCTS))


@contextlib.contextmanager
def rounding(tf32: bool, search: bool = False) -> Iterator[None]:
    """Let float32 products and convolutions round to TF32's 10 bits or not, and cuDNN look for the fastest kernel.

    What was set before is set again afterwards. These are the names that every torch from 2.6 on has.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark
    products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark = tf32, tf32, search
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark = before
