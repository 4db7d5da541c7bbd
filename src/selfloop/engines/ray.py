"""The nodes of a Ray cluster, which share nothing but its object store."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import platform
import socket
from collections import deque
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat

from selfloop.core.config import Frozen
from selfloop.core.errors import ConfigError, RunError, SelfloopError, said, to_install
from selfloop.engines.base import ENGINES, Cluster
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker

_ATTEMPTS = 3  # a stack whose node is lost this often is not going to succeed
_LOOK = 1.0  # seconds between two looks at how far tasks are
_PATIENCE = 10.0  # seconds in which a cluster answers
_PACKAGES = ("selfloop", "torch", "numpy", "scipy", "numba")  # on which the bits depend


@ENGINES.register
class Ray(Frozen):
    """A Ray cluster: every stack of every generation is a task, and this process reads and writes the run directory.

    Nodes need selfloop and the libraries it computes with, all of the same version, but no file of the run: what a
    task needs and makes travels through the object store. A node that is lost costs the tasks it was at.

    Attributes:
        address: of the cluster, "auto" for the one of this machine; None starts one here, which ends with the run.
        cpus: that a task takes of a node; it computes on one thread.
        gpus: that a task takes of a node, such as 0.25; networks of images then run there.
    """

    name: Literal["ray"] = "ray"
    address: str | None = None
    cpus: float = Field(default=1.0, gt=0)
    gpus: NonNegativeFloat = 0.0

    @property
    def here(self) -> bool:
        """Whether stacks run in this process."""
        return False

    @contextlib.contextmanager
    def start(self, stacks: int) -> Iterator[Cluster]:
        """Join the cluster, or start one, and leave it at the end.

        Raises:
            ConfigError: Ray is not installed, no cluster answers, or a node has not what this process has.
        """
        ray = _imported()
        if ray.is_initialized():
            _refuse_others(ray, self)
            yield _Tasks(ray, self)
            return
        with _joined(ray, self.address):
            _refuse_others(ray, self)
            yield _Tasks(ray, self)


def _imported() -> ModuleType:
    """Return Ray.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(to_install("engine ray", "ray", "ray")) from error
    found: ModuleType = ray
    return found


@contextlib.contextmanager
def _joined(ray: ModuleType, address: str | None) -> Iterator[None]:
    """Be a driver of the cluster.

    Raises:
        ConfigError: no cluster answers there.
    """
    _refuse_silent(address)
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except Exception as error:  # by address: ConnectionError, ValueError, RuntimeError or an error of its own
        where = "no cluster can be started here" if address is None else f"no cluster answers at {address!r}"
        raise ConfigError(f"engine ray: {where}: {said(error, 200)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_silent(address: str | None) -> None:
    """Refuse an address at which nobody listens: Ray itself looks for minutes.

    Raises:
        ConfigError: nobody does.
    """
    host, _, port = (address or "").rpartition("/")[2].rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"engine ray: no cluster answers at {address!r}: {said(error, 200)}") from error


def _refuse_others(ray: ModuleType, settings: Ray) -> None:
    """Refuse a cluster on a node of which the same task would not come to the same bits, or that has no room for it.

    Raises:
        ConfigError: such a node is there, or none has what a task takes.
    """

    def there() -> dict[str, str]:  # within a function, and so sent as it is: selfloop need not be there
        try:
            from selfloop.engines.ray import versions
        except ImportError as error:
            return {"selfloop": f"not importable ({error})"}
        return versions()

    nodes = [node for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": settings.cpus} | ({"GPU": settings.gpus} if settings.gpus else {})
    if not any(all(node["Resources"].get(name, 0) >= many for name, many in wanted.items()) for node in nodes):
        words = " and ".join(f"{many:g} {name}" for name, many in wanted.items())
        raise ConfigError(f"engine ray: a task takes {words}, and none of {len(nodes)} nodes has as many")
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    expected = versions()
    asked = {}
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[node["NodeManagerHostname"], node["NodeID"]] = (
            ray.remote(there).options(num_cpus=0, scheduling_strategy=place).remote()
        )
    for (host, number), answer in asked.items():
        try:
            found = ray.get(answer)
        except Exception as error:  # whatever a node without Python's packages, or one that leaves now, ends in
            raise ConfigError(f"engine ray: node {host} ({number[:8]}) cannot be asked: {said(error, 200)}") from error
        if (other := _other(found, expected)) is not None:
            raise ConfigError(f"engine ray: node {host} ({number[:8]}) has {other}: install the same on every node")


def _other(found: dict[str, str], expected: dict[str, str]) -> str | None:
    """Return in words what differs first, None where nothing does."""
    for name, value in expected.items():
        if found.get(name) != value:
            return f"{name} {found.get(name, 'not at all')}, and this process {value}"
    return None


@functools.cache
def versions() -> dict[str, str]:
    """Return what the bits of a task depend on, by name, as it is here; selfloop's code by the start of its SHA-256."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])} | {name: version(name) for name in _PACKAGES}
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found | {"selfloop's code": digest.hexdigest()[:12]}


class _Tasks:
    """Calls as tasks of a cluster."""

    def __init__(self, ray: ModuleType, settings: Ray) -> None:
        from ray.util.queue import Queue

        self._ray, self._keys, self._ended = ray, dict[Any, tuple[int, int]](), deque[Any]()
        self._call = ray.remote(_call).options(
            num_cpus=settings.cpus, num_gpus=settings.gpus or None, max_retries=_ATTEMPTS, retry_exceptions=False
        )
        self._said = ray.put(versions())
        self._told = Queue(actor_options={"num_cpus": 0})
        self._on = "cuda" if settings.gpus else "cpu"

    def put(self, value: Any) -> Any:
        """Return a reference to a value in the object store."""
        with _in_one_line(self._ray):
            return self._ray.put(value)

    def begin(self, key: tuple[int, int], function: Callable[..., Any], *arguments: Any) -> None:
        """Begin a task."""
        with _in_one_line(self._ray):
            self._keys[self._call.remote(self._said, self._on, self._told, function, *arguments)] = key

    def next(self, hear: Callable[[dict[str, Any]], None]) -> tuple[tuple[int, int], Any, Any]:
        """Wait for a task, and hear meanwhile how far others are; return its key, its result and the reference to that.

        Raises:
            SelfloopError: the task's own.
            RunError: the cluster cannot go on.
        """
        with _in_one_line(self._ray):
            if not self._ended:
                waiting = list(self._keys)
                ended, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
                while not ended:
                    ended, _ = self._ray.wait(waiting, num_returns=1, timeout=_LOOK)
                    for told in self._told.get_nowait_batch(self._told.qsize()):
                        hear(told)
                self._ended.extend(ended)
            reference = self._ended.popleft()
            return self._keys.pop(reference), self._ray.get(reference), reference


@contextlib.contextmanager
def _in_one_line(ray: ModuleType) -> Iterator[None]:
    """Say in one line why a cluster cannot go on.

    Raises:
        SelfloopError: what a task ended in.
        RunError: a node or the object store did.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SelfloopError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise RunError(f"engine ray cannot go on: {said(error, 300)}; the same command goes on from here") from error


def _call(expected: dict[str, str], device: str, notes: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a task, as a worker process of this machine would; a node may have joined since the start."""
    if (other := _other(versions(), expected)) is not None:
        raise ConfigError(f"engine ray: a node that has joined has {other}: install the same on every node")

    def tell(told: dict[str, Any]) -> None:
        with contextlib.suppress(Exception):  # what is told is for people: no fault of the way there may stop a fit
            notes.put_nowait(told)

    with as_in_a_worker():
        return function(Team(torch.device(device)), tell, *arguments)
