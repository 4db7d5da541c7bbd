"""Runs whose files were damaged, and disks and clocks that fail: all is named, and nothing is lost that was committed.

- Every file that a run of each kind consists of is truncated, emptied, zeroed, has a bit flipped, is taken from another
  run, from another place of the same run, or is gone: reading the run must name it.
- The disk is full, over its quota, read-only, of too few inodes or goes away at every change of a run; it is slow; the
  clock steps back; another process writes meanwhile: one line, and afterwards the run goes on to the same bits.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from helpers import SKIPPED, Nursery, nursery, snapshot

from selfloop import Run, RunError
from tests.campaign import Try
from tests.campaign.kinds import TOY, Kind, kinds


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _edited(content: bytes, rng: random.Random) -> bytes:
    """Change a digit, as an editor would."""
    digits = [i for i, byte in enumerate(content) if byte in b"0123456789"]
    if not digits:
        return content
    at = rng.choice(digits)
    return content[:at] + str((int(content[at : at + 1]) + 1) % 10).encode() + content[at + 1 :]


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    end = min(len(content), start + 1 + rng.randrange(512))
    left = content[:start] + bytes(end - start) + content[end:]
    return left if left != content else bytes(len(content))


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": lambda content, rng: content[: rng.randrange(len(content))],
    "longer": lambda content, rng: content + rng.randbytes(1 + rng.randrange(100)),
    "bit flipped": _flipped,
    "zeroed": _zeroed,
    "digit changed": _edited,
}


def damaged(path: Path, other: Path, seed: int) -> Iterator[tuple[str, str, str]]:
    """Damage every file of a run in every way; yield the way, the file, and what is wrong with how it was named.

    Args:
        path: a run, as it is again afterwards.
        other: a run of the same files with other contents.
        seed: of where files are damaged.
    """
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.name not in SKIPPED]
    files = [p for p in files if "report" not in p.relative_to(path).parts]
    for file in files:
        name = str(file.relative_to(path))
        content, rng = file.read_bytes(), random.Random(f"{seed} {name}")
        alike = [p for p in files if p.suffix == file.suffix and p != file and p.read_bytes() != content]
        ways = {way: change(content, rng) for way, change in DAMAGES.items() if content}
        if alike:
            ways["of another place"] = rng.choice(alike).read_bytes()
        if (other / name).exists() and (other / name).read_bytes() != content:
            ways["of another run"] = (other / name).read_bytes()
        for way, changed in [*ways.items(), ("gone", None)]:
            if changed == content or (way == "truncated" and name == "metrics.jsonl"):
                continue  # a kill leaves this, and the run goes on from it
            file.unlink() if changed is None else file.write_bytes(changed)
            yield way, name, _unnamed(path, file)
            file.write_bytes(content)
    yield "whole again", path.name, "; ".join(Run.open(path).damage())


def _unnamed(path: Path, file: Path) -> str:
    """Return what is wrong with how the damage of a file is told; empty where its name is."""
    try:
        lines = Run.open(path).damage()
    except RunError as error:
        lines = [str(error)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if any("\n" in line for line in lines):
        return f"more than a line: {lines}"
    return "" if any(file.name in line for line in lines) else f"not named in {lines}"


def _of_kind(nest: Nursery, kind: Kind, folder: Path, seed: int) -> Iterator[Try]:
    folder.mkdir()
    kind.write(folder)
    for name, more in (("run", ()), ("other", ("--set", "seeds=[7, 8]"))):
        arguments = ("run", "run.yaml", "--out", name, *more, *kind.arguments)
        done = nest.command(*arguments, cwd=folder, job={"report": False})
        if done.returncode:
            yield Try("damage", kind.name, "made", done.stderr)
            return
    for way, name, wrong in damaged(folder / "run", folder / "other", seed):
        yield Try("damage", f"{way}", f"{kind.name}: {name}", wrong)


class Faults:
    """Runs of one kind on disks that fail."""

    def __init__(self, nest: Nursery, folder: Path) -> None:
        self.nest, self.folder = nest, folder
        folder.mkdir()
        (folder / "run.yaml").write_text(TOY, encoding="utf-8")
        assert self.run(folder / "whole/run").returncode == 0
        self.expected = snapshot(folder / "whole/run")

    def run(self, out: Path, **job: object) -> subprocess.CompletedProcess[str]:
        """Run the toy."""
        arguments = ("run", "run.yaml", "--out", out, "--workers", "0")
        return self.nest.command(*arguments, cwd=self.folder, job=job | {"report": False})

    def finished(self, out: Path) -> str:
        """Go on where the disk is sound; return what is wrong."""
        done = self.run(out)
        if done.returncode:
            return f"does not go on: {done.stderr.strip()}"
        return "" if snapshot(out) == self.expected else "other bits"

    def told(self, done: subprocess.CompletedProcess[str], must_fail: bool = True) -> str:
        """Return what is wrong with how a run has ended."""
        said = [line for line in done.stderr.splitlines() if line.startswith("selfloop: ")]
        if "Traceback" in done.stderr or done.returncode not in (0, 1, 2):
            return f"code {done.returncode}: {done.stderr.strip()}"
        if must_fail and (done.returncode == 0 or len(said) != 1):
            return f"code {done.returncode}, {len(said)} lines: {done.stderr.strip()}"
        return ""

    def injected(self, number: int) -> Iterator[Try]:
        """Let the disk fail with this error from each change on, until none does."""
        word = errno.errorcode[number]
        for at in range(10_000):
            own = self.folder / f"{word}-{at}"
            out = own / "run"
            own.mkdir()
            done = self.run(out, faults={"root": str(own), "at": at, "error": number})
            if done.returncode == 0 and "selfloop: " not in done.stderr:
                return
            yield Try("damage", word, f"at change {at}", self.told(done) or self.finished(out))
            shutil.rmtree(own)

    def mounted(self, kind: str, options: str) -> Try:
        """Run on a file system in memory with these options, then go on with what there is elsewhere."""
        place = self.folder / "mounted"
        place.mkdir(exist_ok=True)
        out = self.folder / "moved/run"
        with mounted(place, options):
            done = self.run(place / "run")
            if (place / "run").exists():
                shutil.copytree(place / "run", out)
        wrong = self.told(done, must_fail=False) or self.finished(out)
        shutil.rmtree(out.parent, ignore_errors=True)
        return Try("damage", kind, options, wrong)

    def read_only(self) -> Try:
        """Run where nothing can be written."""
        place = self.folder / "mounted"
        place.mkdir(exist_ok=True)
        with mounted(place, "size=10m,ro"):
            return Try("damage", "read-only", "a new run", self.told(self.run(place / "run")))

    def vanishes(self, after: float) -> Try:
        """Take the folder away under a run."""
        own = self.folder / "vanishes"
        own.mkdir()
        # It moves as the process sleeps: changes are slow, and a rename is none of its own.
        job = {"faults": {"root": str(own), "slow": 0.002}, "signals": [[after, "SIGSTOP"], [after + 0.3, "SIGCONT"]]}
        mover = subprocess.Popen(
            ["sh", "-c", f"sleep {after + 0.15}; mv {own}/run {own}/moved 2>/dev/null; true"], stderr=subprocess.DEVNULL
        )
        done = self.run(own / "run", **job)
        mover.wait()
        wrong = self.told(done, must_fail=False)
        left = own / "moved" if (own / "moved").exists() else own / "run"
        wrong = wrong or self.finished(left)
        shutil.rmtree(own)
        return Try("damage", "vanishing disk", f"after {after:.2f} s", wrong)

    def odd(self, kind: str, **faults: float) -> Try:
        """Run on a disk that is only slow, or by a clock that goes back."""
        own = self.folder / "odd"
        own.mkdir()
        done = self.run(own / "run", faults={"root": str(own), **faults})
        wrong = self.told(done, must_fail=False) or self.finished(own / "run")
        shutil.rmtree(own)
        return Try("damage", kind, json.dumps(faults), wrong)

    def two_writers(self, at: float) -> Try:
        """Start a second process while the first is stopped."""
        own = self.folder / "two"
        own.mkdir()
        first = {"signals": [[at, "SIGSTOP"], [at + 1.0, "SIGCONT"]]}
        arguments = ("run", "run.yaml", "--out", own / "run", "--workers", "0")
        with nursery() as another, ThreadPoolExecutor(1) as beside:
            stopped = beside.submit(self.run, own / "run", **first)
            time.sleep(at + 0.3)
            done = another.command(*arguments, cwd=self.folder, job={"report": False})
        both = (stopped.result(), done)
        wrong = next(filter(None, (self.told(each, must_fail=False) for each in both)), "")
        if not wrong and all(each.returncode for each in both):
            wrong = f"both were refused: {' '.join(each.stderr.strip() for each in both)}"
        wrong = wrong or self.finished(own / "run")
        shutil.rmtree(own)
        return Try("damage", "two writers", f"stopped after {at:.2f} s", wrong)


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory, which only root may."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def may_mount(folder: Path) -> bool:
    """Whether this process may mount file systems."""
    place = folder / "try"
    place.mkdir()
    return subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, check=False
    ).returncode == 0 and (subprocess.run(["umount", place], check=False).returncode == 0)


def _faults(nest: Nursery, folder: Path, rng: random.Random) -> Iterator[Try]:
    bench = Faults(nest, folder)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        yield from bench.injected(number)
    yield bench.odd("slow disk", slow=0.01)
    for back in (0.5, 3600.0, 1e6):
        yield bench.odd("clock set back", back=back)
    for _ in range(10):
        yield bench.vanishes(1.5 * rng.random())
    for _ in range(5):
        yield bench.two_writers(rng.random())
    if os.name == "posix" and may_mount(folder):
        size = sum(map(len, bench.expected.values()))
        for kilobytes in range(4, size // 1024 + 80, 4):
            yield bench.mounted("full disk", f"size={kilobytes}k")
        for inodes in range(3, len(bench.expected) + 10):
            yield bench.mounted("no inodes", f"size=10m,nr_inodes={inodes}")
        yield bench.read_only()


def tries(minutes: float, seed: int, folder: Path) -> Iterator[Try]:
    """Damage runs of every kind, then let disks fail; once all is done, the same at other places of files."""
    end = time.monotonic() + 60 * minutes
    with nursery() as nest:
        for again in range(1000):
            rng = random.Random(f"{seed} {again}")
            sources = [_faults(nest, folder / f"faults-{again}", rng)] + [
                _of_kind(nest, kind, folder / f"{kind.name}-{again}", again) for kind in kinds() if not kind.before
            ]
            for source in sources:
                for each in source:
                    yield each
                    if time.monotonic() > end:
                        return
