"""The stages one after the other, each in a process of its own that is ended when its time is over."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.needs import missing
from benchmarks.gpu.rows import Row, add, read, table

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stage:
    """A part of the check.

    Attributes:
        name: as the table has it.
        module: of this package, whose ``stage`` runs it.
        share: of the time that the whole check may take; what a stage leaves is the last one's.
    """

    name: str
    module: str
    share: float


STAGES = (
    Stage("a", "agreement", 0.14),
    Stage("b", "throughput", 0.42),
    Stage("c", "sampling", 0.14),
    Stage("d", "toys", 0.09),
    Stage("e", "memory", 0.08),
    Stage("f", "recipe", 0.13),
)
_LEAST = 10.0  # seconds with which a stage is begun
_POLL = 0.2
_GRACE = 5.0  # seconds that a stage has to end by itself


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages; 0 where nothing failed, 1 where something did, 2 where nothing can be run."""
    options = _options(arguments)
    if absent := missing(ROOT / "pyproject.toml"):
        advice = "bring their wheels: pip install --no-index --no-deps --target SITE *.whl, and put SITE on PYTHONPATH"
        print(f"gpu-check: not installed: {', '.join(absent)}; {advice}", file=sys.stderr)
        return 2
    if options.stage is not None:
        return _inside(options)
    from benchmarks.gpu.place import refuse_absent

    if (why := refuse_absent(options.device)) is not None:
        print(f"gpu-check needs a GPU: {why}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    lines = options.out / "results.jsonl"
    lines.unlink(missing_ok=True)
    end = time.monotonic() + 60 * options.minutes
    for stage in STAGES:
        left = end - time.monotonic()
        if options.only and stage.name not in options.only:
            continue
        limit = left if stage is STAGES[-1] else min(60 * options.minutes * stage.share, left)
        if limit < _LEAST:
            add(lines, Row(stage=stage.name, what=stage.module, note="left out: no time was left"))
        else:
            _run(stage, options, limit, lines)
        (options.out / "table.md").write_text(table(read(lines)), encoding="utf-8")
    rows = read(lines)
    print(table(rows))
    print(f"{lines} and table.md beside it", file=sys.stderr)
    return int(any(row.good is False for row in rows))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, pictures = importlib.import_module("benchmarks.gpu").__doc__, ROOT / ".data" / "cifar10-jpeg"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=about)
    parser.add_argument("--device", default="cuda", help="as torch names it; cpu tries the stages with small networks")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu-check", help="folder of what is found")
    parser.add_argument("--minutes", type=float, default=9.0, help="that all stages may take together")
    parser.add_argument("--only", default="", metavar="LETTERS", help="of the stages to run")
    parser.add_argument("--data", type=Path, default=pictures, help="folder of CIFAR-10, for the last stage")
    parser.add_argument("--stage", choices=[stage.name for stage in STAGES], help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _inside(options: argparse.Namespace) -> int:
    """Be the process of one stage."""
    from benchmarks.gpu.place import Place

    stage = next(stage for stage in STAGES if stage.name == options.stage)
    place = Place.at(options.device, stage.name, options.out, options.seconds, options.data)
    importlib.import_module(f"benchmarks.gpu.{stage.module}").stage(place)
    return 0


def _run(stage: Stage, options: argparse.Namespace, limit: float, lines: Path) -> None:
    """Run a stage, print its rows as they come, and end it where its time is over."""
    told = ["--device", options.device, "--out", str(options.out.resolve()), "--data", str(options.data.resolve())]
    told += ["--stage", stage.name, "--seconds", f"{limit - _GRACE:.1f}"]
    command = [sys.executable, "-m", "benchmarks.gpu", *told]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    said = options.out / f"stage-{stage.name}.log"
    print(f"stage {stage.name}, {stage.module}: up to {limit:.0f} s", file=sys.stderr, flush=True)
    seen, begun = len(read(lines)), time.monotonic()
    with said.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while process.poll() is None and time.monotonic() - begun < limit:
                time.sleep(_POLL)
                seen = _shown(lines, seen)
        finally:
            cut = process.poll() is None
            _end(process)
    spent = time.monotonic() - begun
    if cut:
        add(lines, Row(stage=stage.name, what=stage.module, note=f"cut off after {spent:.0f} s"))
    elif process.returncode:
        note = f"ended with {process.returncode}: {_last(said)}"
        add(lines, Row(stage=stage.name, what=stage.module, good=False, note=note))
    _shown(lines, seen)


def _shown(lines: Path, seen: int) -> int:
    rows = read(lines)
    for line in table(rows[seen:]).splitlines()[2:]:
        print(line, file=sys.stderr, flush=True)
    return len(rows)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a stage and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last(log: Path) -> str:
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return words[-1][:300] if words else "nothing was said"


if __name__ == "__main__":
    sys.exit(main())
