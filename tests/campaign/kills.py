"""Signals and power cuts at random moments of runs of every kind, which then are finished and compared.

What is expected of each: the run that is finished after it has the bits of one that was left alone, every generation
that its user was told of before is still there, and nothing is in the way of going on.
"""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers import Nursery, nursery, snapshot

from tests.campaign import Try
from tests.campaign.kinds import Kind, kinds, ray, s3

Signals = list[tuple[float, str]]
BLOWS: dict[str, Callable[[random.Random, float], Signals]] = {
    "SIGKILL": lambda rng, life: [(life * rng.random(), "SIGKILL")],
    "SIGTERM": lambda rng, life: [(life * rng.random(), "SIGTERM")],
    "SIGINT": lambda rng, life: [(life * rng.random(), "SIGINT")],
    "SIGINT twice": lambda rng, life: [(at := life * rng.random(), "SIGINT"), (at + 0.1 * rng.random(), "SIGINT")],
    "stopped, killed": lambda rng, life: [(at := life * rng.random(), "SIGSTOP"), (at + 0.05, "SIGKILL")],
    "stopped, goes on": lambda rng, life: [(at := life * rng.random(), "SIGSTOP"), (at + 0.05, "SIGCONT")],
}
POWER = "power cut"
SHARES = {"SIGKILL": 8, POWER: 6}
"""How often each blow comes; the others once."""


class Bench:
    """Runs of one kind, in a folder."""

    def __init__(self, nest: Nursery, kind: Kind, folder: Path, seed: int) -> None:
        self.nest, self.kind, self.folder, self.rng = nest, kind, folder, random.Random(f"{seed} {kind.name}")
        folder.mkdir()
        kind.write(folder)
        self.tried = 0
        self.report = True  # whether runs write one: most do not, as it takes longer than the run
        self.start = ""
        if kind.before:
            self.start = self._made("start", "before.yaml")
        self.expected = self.files(self._made("whole"))
        again = self.files(self._made("again"))
        assert again == self.expected, f"two runs of {kind.name} differ"
        self.report = False
        begin = time.monotonic()
        self._made("timed")
        self.life = time.monotonic() - begin

    def place(self, name: str) -> str:
        """Return where a run of this name is kept."""
        return f"{self.kind.url}/{self.folder.name}-{name}" if self.kind.url else str(self.folder / name / "run")

    def run(self, out: str, settings: str = "run.yaml", **job: object) -> subprocess.CompletedProcess[str]:
        """Run the command that makes a run, or goes on with it."""
        environment = {"SELFLOOP_CACHE": str(self.folder / "cache"), **self.kind.environment}
        command = ("run", settings, "--out", out, *self.kind.arguments)
        return self.nest.command(*command, cwd=self.folder, job=job | {"report": self.report}, **environment)

    def files(self, out: str) -> dict[str, bytes]:
        """Return the bytes of a run."""
        return self._fetched(out) if self.kind.url else snapshot(Path(out))

    def _made(self, name: str, settings: str = "run.yaml") -> str:
        out = self.begin(name)
        done = self.run(out, settings)
        if done.returncode:
            raise RuntimeError(f"a run of {self.kind.name} cannot be made: {done.stderr}")
        return out

    def _fetched(self, out: str) -> dict[str, bytes]:
        import fsspec

        store = fsspec.filesystem(
            "s3", endpoint_url=self.kind.environment["AWS_ENDPOINT_URL"], key="key", secret="secret"
        )
        store.invalidate_cache()
        root = out.removeprefix("s3://")
        found = {name.removeprefix(f"{root}/"): store.cat(name) for name in store.find(root)}
        return {name: content for name, content in found.items() if name not in ("lock", "log.txt")}

    def begin(self, name: str) -> str:
        """Return where a run of this name is to be, with what it grows from in it."""
        if not self.kind.url:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        if self.start:
            shutil.copytree(self.start, self.place(name))
        return self.place(name)

    def attempt(self) -> Try:
        """Disturb a run once to three times, finish it and compare."""
        names = [POWER, *BLOWS] if not self.kind.url and "Ray" not in self.kind.name else [*BLOWS]
        self.tried += 1
        self.report = self.tried % 8 == 0
        name = f"try-{self.tried}"
        out = self.begin(name)
        said, wrong = [], ""
        for _ in range(self.rng.choice([1, 1, 2, 3])):
            blow = self.rng.choices(names, [SHARES.get(name, 1) for name in names])[0]
            wrong, detail = self._power(name) if blow == POWER else self._signal(blow, out)
            said.append(detail)
            if wrong:
                break
        wrong = wrong or self._finished(out)
        kind = f"{self.kind.name}"
        if not wrong:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return Try("kills", kind, f"try {self.tried}: {', '.join(said)}", wrong)

    def _told(self, done: subprocess.CompletedProcess[str]) -> int:
        """Return how many generations its user was told of."""
        lines = (done.stdout + done.stderr).splitlines()
        told = [line for line in lines if line.startswith("generation ") and " under way" not in line]
        return max((int(line.split()[1].split("/")[0]) + 1 for line in told), default=0)

    def _signal(self, blow: str, out: str) -> tuple[str, str]:
        signals = BLOWS[blow](self.rng, self.life)
        done = self.run(out, signals=signals)
        detail = " and ".join(f"{name} after {at:.3f} s" for at, name in signals)
        if "Traceback" in done.stderr:
            return f"traceback: {done.stderr.splitlines()[-1]}", detail
        if blow == "stopped, goes on" and done.returncode:
            return f"a stop and its end broke the run: {done.stderr}", detail
        return self._lost(out, self._told(done)), detail

    def _power(self, name: str) -> tuple[str, str]:
        at, seed = self.rng.randrange(self.changes), self.rng.randrange(2**32)
        done, image = self._cut(name, at, seed)
        detail = f"power cut before change {at}, seed {seed}"
        if image.is_dir():
            shutil.rmtree(self.folder / name)
            image.rename(self.folder / name)
        elif done.returncode:
            return f"{done.stderr or done.returncode}", detail
        return self._lost(self.place(name), self._told(done)), detail

    def _cut(self, name: str, at: int | None, seed: int) -> tuple[subprocess.CompletedProcess[str], Path]:
        image = self.folder / f"{name}-image"
        if image.exists():
            image.unlink()
        watched = {"root": str(self.folder / name), "image": str(image), "at": at, "seed": seed}
        return self.run(self.place(name), power=watched), image

    @functools.cached_property
    def changes(self) -> int:
        """How many changes a whole run makes to its folder."""
        self.begin("counted")
        return int(self._cut("counted", None, 0)[1].read_text())

    def _lost(self, out: str, told: int) -> str:
        if not told:
            return ""
        there = self.files(out)
        lost = [t for t in range(told) if f"generation-{t:04d}/manifest.json" not in there]
        return f"generations {lost} were told of and are gone" if lost else ""

    def _finished(self, out: str) -> str:
        done = self.run(out)
        if done.returncode:
            return f"does not go on: {(done.stderr or done.stdout).strip()}"
        found = self.files(out)
        differ = sorted(name for name in {*found, *self.expected} if found.get(name) != self.expected.get(name))
        if not self.report:
            differ = [name for name in differ if not name.startswith("report/")]
        return f"differ: {', '.join(differ[:5])}" if differ else ""


def tries(minutes: float, seed: int, folder: Path) -> Iterator[Try]:
    """Disturb runs of every kind in turn."""
    end = time.monotonic() + 60 * minutes
    with contextlib.ExitStack() as stack:
        nest = stack.enter_context(nursery())
        found = [*kinds(), *filter(None, (stack.enter_context(s3()), stack.enter_context(ray())))]
        benches = []
        for kind in found:
            try:
                benches.append(Bench(nest, kind, folder / kind.name.replace(" ", "-"), seed))
            except RuntimeError as error:
                yield Try("kills", kind.name, "made without disturbance", str(error))
        while benches:
            for bench in benches:
                if time.monotonic() > end:
                    return
                yield bench.attempt()
