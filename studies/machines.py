"""Which bits of a run depend on the machine, and by how much?

``python -m studies.machines OUT`` runs small loops of every kind, and some functions, once as they are and once on each
of the machines that environment variables let libraries imitate, each in a process of its own below OUT; what is there
already is not run again. It compares them bit by bit and prints Markdown, in some eight minutes of one core.

Each process also computes a few products, exponentials and so on: a variable that changes none of their bits has no
effect on this CPU, and is said to be without. What no variable imitates: code of another compiler (ARM, macOS), what
MKL and oneDNN choose on other CPUs beyond the kernels that they have for this one, and other versions.

The difference of two metrics is |a − b| / max(|a|, |b|), the largest of all arms and metrics: one that is near zero, as
an error of the mean can be, makes it large. That of weights and of samples is ‖a − b‖ / ‖a‖, the largest of all
tensors, without the optimiser's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfloop import Experiment, Run, run
from selfloop.core.streams import Streams
from selfloop.environment import processor
from selfloop.learning.transport.assignment import assignment
from selfloop.metrics.frechet import frechet
from selfloop.metrics.transport import wasserstein
from selfloop.theory.gaussian_loop import gaussian_loop

PLAIN = "as it is"
HASWELL = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",
}
"""A CPU with AVX2, and without AVX-512."""
OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_NAME": "x86-64",
    "NUMBA_CPU_FEATURES": "",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX2_Usable,-FMA_Usable,-FMA4",
}
"""A CPU without AVX and without fused multiplication and addition."""


def only(*names: str) -> dict[str, str]:
    """Return what of the old CPU these variables set."""
    return {name: OLD[name] for name in names}


BOUND = 1e-5
"""By how much metrics of generation 0 differ at most where a fit met no kink: float32 (docs/numbers.md)."""

CPUS: dict[str, dict[str, str]] = {
    "torch": only("ATEN_CPU_CAPABILITY"),
    "oneDNN": only("ONEDNN_MAX_CPU_ISA"),
    "MKL": only("MKL_CBWR"),
    "OpenBLAS": only("OPENBLAS_CORETYPE"),
    "NumPy": only("NPY_DISABLE_CPU_FEATURES"),
    "numba": only("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"),
    "libm": only("GLIBC_TUNABLES"),
    "AVX2": HASWELL,
    "old": OLD,
}
"""By name, what imitates another CPU: a library alone without AVX, all of them on a CPU with AVX2, all without AVX."""
SPREAD: dict[str, tuple[dict[str, str], int]] = {
    "4 threads": ({"OMP_NUM_THREADS": "4"}, 0),
    "2 workers": ({}, 2),
}
"""By name, how the same CPU is shared: variables, and processes."""

MOONS = {"name": "two_moons", "n": 200, "held_out": 200}
WINE = {"name": "scikit_learn", "table": "wine", "target": "cultivar", "held_out": 59}
OF_TABLES = ["shape_error_held_out", "association_error_held_out", "recall_held_out", "tstr_score"]
SHORT = {"pretrain": {"steps": 100}, "budget": {"steps": 30}}
SMALL = ("data.n=100", "data.held_out=100", "pretrain={epochs: 8}", "budget={epochs: 3}", "generator.steps=6")
LOOPS: dict[str, dict[str, Any]] = {
    "gaussian": {"data": {"name": "gaussian", "n": 200, "dim": 5}, "generator": "gaussian", "generations": 20},
    "kernel_density, two moons": {"data": MOONS, "generator": "kernel_density", "generations": 20},
    "kernel_density, pinwheel": {
        "data": {"name": "pinwheel", "n": 200, "held_out": 200},
        "generator": "kernel_density",
        "generations": 20,
    },
    "mixture": {
        "data": {"name": "eight_gaussians", "n": 200},
        "generator": {"name": "mixture", "components": 8},
        "generations": 20,
    },
    "categorical": {
        "data": {"name": "categorical", "n": 200, "probabilities": [0.05] * 20},
        "generator": "categorical",
        "generations": 20,
    },
    "linear_regression": {
        "data": {"name": "diabetes", "n": 200, "held_out": 200},
        "generator": "linear_regression",
        "generations": 20,
    },
    "scikit-learn's GaussianMixture": {
        "data": MOONS,
        "generator": {"name": "estimator", "estimator": "GaussianMixture", "arguments": {"n_components": 4}},
        "generations": 10,
    },
    "otcfm": {"data": MOONS, "generator": {"name": "otcfm", "batch_size": 64}, "generations": 10, **SHORT},
    "ddpm": {"data": MOONS, "generator": {"name": "ddpm", "width": 64, "batch_size": 64}, "generations": 10, **SHORT},
    "vae": {"data": MOONS, "generator": {"name": "vae", "width": 32, "batch_size": 64}, "generations": 10, **SHORT},
    "table: copula": {"data": WINE, "generator": "copula", "generations": 10, "metrics": OF_TABLES},
    "table: otcfm": {"data": WINE, "generator": "otcfm", "generations": 4, "metrics": OF_TABLES, **SHORT},
    "text: ngram": {"data": {"name": "text"}, "generator": {"name": "ngram", "order": 3}, "generations": 10},
    "text: gpt": {
        "data": {"name": "text"},
        "generator": {"name": "gpt", "layers": 2, "width": 32, "heads": 2, "batch_size": 50},
        "generations": 5,
        **SHORT,
    },
    "digits-ddpm-small": {"recipe": SMALL},
    "digits-edm-small": {"recipe": SMALL},
}
"""By name: settings, or what of a recipe's is set otherwise."""


def experiment(name: str, text: Path) -> Experiment:
    """Return a loop by its name; texts are the lines of a file."""
    settings = dict(LOOPS[name])
    if (other := settings.pop("recipe", None)) is not None:
        return Experiment.load(name).override(*other)
    if settings["data"]["name"] == "text":
        settings["data"] = {"name": "text", "path": str(text), "unit": "line", "n": 200, "held_out": 200}
    return Experiment.build({"name": slug(name), "seeds": 1, "grid": {"mixing.lam": [1, math.inf]}, **settings})


def words(count: int = 600) -> str:
    """Return made-up words, a line each."""
    rng = np.random.Generator(np.random.Philox(key=1))
    parts = [np.array(list(letters)) for letters in ("bcdfglmnprst", "aeiou", "bdgklmnrstvz", "aeio", "lnrst")]
    return "\n".join("".join(rng.choice(part) for part in parts[: rng.integers(2, 6)]) for _ in range(count))


def drawn() -> dict[str, Tensor]:
    """Return random numbers of every method of the streams."""
    streams = Streams((0, 1), 3)
    return {
        "normal": streams.normal("a", (100_000,)),
        "normal64": streams.normal("a", (100_000,), dtype=torch.float64),
        "uniform": streams.uniform("a", (100_000,)),
        "integers": streams.integers("a", 1000, (100_000,)),
        "permutations": torch.from_numpy(np.concatenate(streams.permutations("a", [1000, 999]))),
    }


def functions() -> dict[str, NDArray[Any]]:
    """Return what functions make of random numbers, by name."""
    rng = np.random.Generator(np.random.Philox(key=2))
    a, b = rng.standard_normal((2, 300, 8))
    *_, last = gaussian_loop(np.zeros(3), np.eye(3), n=100, generations=100, replicas=20)
    return {
        "`gaussian_loop`, 100 retrainings": last.covariance,
        "`assignment`": np.asarray(assignment(np.square(a[:, None] - b).sum(2))),
        "`wasserstein`": np.array(wasserstein(a, b)),
        "`frechet`": np.array(frechet(a, b)),
    }


def probe() -> dict[str, str]:
    """Return digests of what each library computes, and what each says of itself."""
    rng = np.random.Generator(np.random.Philox(key=3))
    a, b = rng.standard_normal((200, 300)), rng.standard_normal((300, 200))
    x, y = torch.from_numpy(a).float(), torch.from_numpy(b).float()
    computed: dict[str, Any] = {
        "OpenBLAS": a @ b,
        "NumPy": np.exp(a),
        "torch": x.softmax(-1).numpy(),
        "MKL": (x @ y).numpy(),
        "oneDNN": torch.nn.functional.conv2d(
            x.reshape(1, 20, 30, 100), y.flatten()[:3600].reshape(20, 20, 3, 3)
        ).numpy(),
        "libm": np.array([math.exp(value) for value in a.flat]),
    }
    digests = {name: hashlib.sha256(value.tobytes()).hexdigest()[:12] for name, value in computed.items()}
    return digests | {f"{name} says": value for name, value in processor().items()}


def everything(out: Path, text: Path, workers: int, loops: Sequence[str]) -> None:
    """Run loops and functions below a folder, on the machine that this process is on."""
    for name in loops:
        for _ in run(experiment(name, text), out / slug(name), workers=workers):
            pass
    np.savez(out / "functions.npz", **functions())
    torch.save(drawn(), out / "drawn.pt")
    (out / "probe.json").write_text(json.dumps(probe()), encoding="utf-8")


def on(machine: str, out: Path, loops: Sequence[str]) -> None:
    """Run loops on a machine, in a process of its own with a cache of its own, as features of real rows are kept."""
    variables = CPUS.get(machine) or SPREAD.get(machine, ({}, 0))[0]
    command = [sys.executable, "-m", "studies.machines", str(out), *loops, "--on", machine]
    kept = {"OMP_NUM_THREADS": "1", "SELFLOOP_CACHE": str(out / slug(machine) / "cache")}
    subprocess.run(command, env=os.environ | kept | variables, check=True)


@dataclass(frozen=True)
class Apart:
    """How far a loop on another machine is from the plain one; 0.0 is none in any bit.

    Attributes:
        real: whether the real rows are the same.
        weights: of generation 0.
        samples: of generation 0.
        first: metrics of generation 0.
        last: metrics after the last retraining.
        same: whether all files and metrics of all generations are.
    """

    real: bool
    weights: float
    samples: float
    first: float
    last: float
    same: bool


def apart(one: Run, other: Run) -> Apart:
    """Return how far two runs of one experiment are apart."""
    stacks, last = range(len(one.stacks)), one.experiment.generations

    def most(pairs: Iterator[tuple[Tensor, Tensor]]) -> float:
        return max((of_tensors(a, b) for a, b in pairs), default=0.0)

    def weights() -> Iterator[tuple[Tensor, Tensor]]:
        for stack in stacks:
            a, b = one.state(0, stack), other.state(0, stack)
            yield from ((a[key], b[key]) for key in a if not key.startswith("optimizer."))

    def metrics(t: int) -> float:
        pairs = zip(one.everything_of(t), other.everything_of(t), strict=True)
        return max(of_numbers(a["metrics"][key], b["metrics"][key]) for a, b in pairs for key in a["metrics"])

    def all_of(of: Run, t: int) -> list[Any]:
        files = [stack["files"] for stack in of.manifest(t)["stacks"].values()]
        return files + [record["metrics"] for record in of.everything_of(t)]

    return Apart(
        real=one._real.agrees(other._real),
        weights=most(weights()),
        samples=most((one.stack_samples(0, stack).x, other.stack_samples(0, stack).x) for stack in stacks),
        first=metrics(0),
        last=metrics(last),
        same=all(all_of(one, t) == all_of(other, t) for t in range(last + 1)),
    )


def of_tensors(a: Tensor, b: Tensor) -> float:
    """Return ‖a − b‖ / ‖a‖, infinite where shapes differ or only one is finite."""
    if a.shape != b.shape:
        return math.inf
    if a.equal(b):
        return 0.0
    a, b = a.double(), b.double()
    found = float((a - b).norm() / a.norm())
    return found if math.isfinite(found) else math.inf


def of_numbers(a: float | None, b: float | None) -> float:
    """Return |a − b| / max(|a|, |b|), infinite where only one is finite."""
    if a == b:
        return 0.0
    found = math.inf if a is None or b is None else abs(a - b) / max(abs(a), abs(b))
    return found if math.isfinite(found) else math.inf


def shown(value: float) -> str:
    """Return a difference in one digit."""
    return "=" if value == 0 else f"{value:.0e}".replace("e-0", "e-")


def cell(found: Apart) -> str:
    """Return what a table says of a loop on a machine; a dagger where real rows are others."""
    if found.same:
        return "="
    if not found.real:
        return f"{shown(found.first)} → {shown(found.last)} †"
    return "(=)" if not found.first and not found.last else f"{shown(found.first)} → {shown(found.last)}"


def table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(out: Path, loops: Sequence[str]) -> str:
    """Return the tables of loops on all machines below a folder."""
    machines = [name for name in (*CPUS, *SPREAD) if (out / slug(name) / "probe.json").exists()]
    read = {name: json.loads((out / slug(name) / "probe.json").read_text("utf-8")) for name in (PLAIN, *machines)}
    idle = [name for name in CPUS if name in machines and read[name] == read[PLAIN]]
    machines = [name for name in machines if name not in idle]
    cpus, spread = [n for n in machines if n in CPUS], [n for n in machines if n in SPREAD]

    def opened(machine: str, loop: str) -> Run:
        return Run.open(out / slug(machine) / slug(loop))

    found = {loop: {m: apart(opened(PLAIN, loop), opened(m, loop)) for m in machines} for loop in loops}
    numbers = {m: torch.load(out / slug(m) / "drawn.pt", weights_only=True) for m in (PLAIN, *machines)}
    worked = {m: dict(np.load(out / slug(m) / "functions.npz")) for m in (PLAIN, *machines)}

    def of_functions(machine: str, name: str) -> str:
        return shown(of_tensors(*(torch.from_numpy(worked[m][name]) for m in (PLAIN, machine))))

    def worst() -> Iterator[Sequence[str]]:
        for loop, by in found.items():
            some = [by[m] for m in cpus]
            yield [loop, *(shown(max(getattr(a, k) for a in some)) for k in ("weights", "samples", "first", "last"))]

    everywhere = all(numbers[m][key].equal(numbers[PLAIN][key]) for m in machines for key in numbers[PLAIN])
    others = [loop for loop, by in found.items() if not all(a.real for a in by.values())]
    shared = all(by[m].same for by in found.values() for m in spread)
    heads = ["loop", "retrainings", *cpus]
    of_loops = (
        [loop, str(opened(PLAIN, loop).experiment.generations), *(cell(by[m]) for m in cpus)]
        for loop, by in found.items()
    )
    more = ([name, "", *(of_functions(m, name) for m in cpus)] for name in worked[PLAIN])
    return "\n\n".join(
        [
            f"Random numbers the same on all {len(machines)}: {yes(everywhere)}. Real rows: of all loops but "
            f"{'; '.join(others) or 'none'}. All "
            f"files with {', '.join(spread)}: {yes(shared)}. Without effect here: {', '.join(idle) or 'none'}.",
            table(heads, (*of_loops, *more)),
            table(["loop", "weights 0", "samples 0", "metrics 0", "metrics, last"], worst()),
            "\n".join(f"- {name}: {told(read[name])}" for name in (PLAIN, *cpus)),
            f"functions with {', '.join(spread)}: "
            + yes(all(of_functions(m, name) == "=" for m in spread for name in worked[PLAIN])),
        ]
    )


def yes(holds: bool) -> str:
    """Return it in a word."""
    return "yes" if holds else "NO"


def told(read: Mapping[str, str]) -> str:
    """Return what the libraries of a machine say of themselves."""
    return ", ".join(f"{key.removesuffix(' says')} {value}" for key, value in read.items() if key.endswith("says"))


def slug(name: str) -> str:
    """Return the folder of a machine or a loop."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def main() -> None:
    """Run what is not there yet, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m studies.machines", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a folder, made if it is not there")
    parser.add_argument("loops", nargs="*", metavar="LOOP", help=f"of {', '.join(LOOPS)}; without any, all")
    parser.add_argument("--on", metavar="MACHINE", help="run the loops in this process, as on that machine")
    given = parser.parse_args()
    text, loops = given.out / "words.txt", given.loops or list(LOOPS)
    if unknown := [name for name in loops if name not in LOOPS]:
        parser.error(f"no loop is called {unknown[0]!r}: there are {', '.join(LOOPS)}")
    if given.on is not None:
        everything(given.out / slug(given.on), text, SPREAD.get(given.on, ({}, 0))[1], loops)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    text.write_text(words(), encoding="utf-8")
    for name in (PLAIN, *CPUS, *SPREAD):
        if (given.out / slug(name) / "probe.json").exists():
            continue
        began = time.perf_counter()
        on(name, given.out, loops)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(page(given.out, loops))


if __name__ == "__main__":
    main()
