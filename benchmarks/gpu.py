"""What only a GPU can show, in one Markdown table: ``make gpu-check``, or ``python -m benchmarks.gpu``.

``--device cpu`` goes the same way on the CPU with a small network, to try the checks themselves.
"""

from __future__ import annotations

import argparse
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.images import FULL, SMALL, STREAMS, Case
from selfloop import ConfigError, Experiment, Run, run
from selfloop.core.samples import State
from selfloop.engines.device import Device
from selfloop.engines.team import Team, available
from selfloop.generators.network import Draws
from selfloop.learning.pixels import to_interval
from selfloop.learning.training import Budget, parameters

ROOT = Path(__file__).parents[1]
RECIPES = ("digits-otcfm-small", "digits-ddpm-small", "digits-edm-small")


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        what: was looked at.
        good: whether it is as it should be; None where there is nothing to pass.
        found: numbers and words.
    """

    what: str
    good: bool | None
    found: str


def table(checks: Sequence[Check]) -> str:
    """Return the checks as a Markdown table."""
    words = {True: "pass", False: "**fail**", None: "–"}
    lines = [f"| {check.what} | {words[check.good]} | {check.found} |" for check in checks]
    return "\n".join(["| check | | found |", "|---|---|---|", *lines])


def conformance() -> Check:
    """Run the conformance tests, which are skipped where their data are not."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["nothing was said"])[-1]
    found = re.sub(r" in [0-9.]+s.*", "", last.strip("= "))
    return Check("conformance with the originals", done.returncode == 0, f"{found}, {_since(begun)}")


def same_as_cpu(case: Case, device: torch.device, state: State) -> Check:
    """Compare the network's output on the device with the CPU's, in float32."""
    event = (3, case.side, case.side)
    params = {k: v + 0.05 * STREAMS.normal(f"shift/{k}", v.shape[1:]) for k, v in parameters(state).items()}
    x, t = STREAMS.normal("images", (4, *event)), STREAMS.normal("times", (4,))
    found = []
    for place in (torch.device("cpu"), device):
        net = case.generator().network({k: v.to(place) for k, v in params.items()}, event)
        with torch.no_grad():
            found.append(net(x.to(place), t.to(place)).cpu())
    apart = float((found[1] - found[0]).abs().max() / found[0].abs().max())
    # TF32, where the caller has allowed it, keeps 10 bits.
    return Check(
        "network on the device and on the CPU", apart < 1e-3, f"largest difference {apart:.1e} of the largest output"
    )


def recipe(name: str, team: Team, folder: Path, generations: int, steps: int | None) -> Check:
    """Run a recipe, and say whether every arm came through."""
    told = [f"generations={generations}", *([f"budget.steps={steps}", f"pretrain.steps={steps}"] if steps else [])]
    begun, out = time.perf_counter(), folder / f"{name}-{generations}"
    records = [record for g in run(Experiment.load(name).override(*told), out, team=team) for record in g.records]
    Run.open(out).verify()
    well = all(record["status"] == "ok" for record in records)
    last = ", ".join(f"{key} {value:.3g}" for key, value in records[-1]["metrics"].items() if value is not None)
    retrainings = f"{generations} retraining{'s' if generations > 1 else ''}"
    return Check(f"{name}, {retrainings}", well, f"{_since(begun)}; at the end {last}")


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return FLOP/s of a large matrix product, the best of a few."""
    n = 8192 if device.type == "cuda" else 1024
    a = torch.ones(n, n, device=device, dtype=dtype)
    return 2 * n**3 / min(_seconds(device, lambda: a @ a) for _ in range(5))


def step_flops(case: Case, state: State) -> int:
    """Return the floating-point operations of a step's products and convolutions, counted on one image."""
    generator = case.generator()
    params = {k: v.clone().requires_grad_() for k, v in parameters(state).items()}
    batch = (to_interval(case.data().x[:, :1]),)
    with FlopCounterMode(display=False) as counter:
        net = generator.network(params, (3, case.side, case.side))
        torch.autograd.grad(
            generator.loss(net, batch, Draws(STREAMS, range(1))).sum(), list(params.values()), allow_unused=True
        )
    return int(counter.get_total_flops()) * case.batch


def throughput(case: Case, team: Team, state: State, precision: str, steps: int) -> Iterator[Check]:
    """Time training and sampling, and find the memory that they take."""
    card, here = team.device, Device(team)
    generator = case.generator(precision=precision, channels_last=card.type == "cuda", sample_batch=case.batch)
    data = case.data()
    if card.type == "cuda":
        torch.cuda.reset_peak_memory_stats(card)

    def fit(count: int) -> float:
        return _seconds(card, lambda: generator.fit(state, data, Budget(steps=count), STREAMS, here))

    fit(2)
    step = max(fit(2 + steps) - fit(2), 1e-9) / steps
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    share = step_flops(case, state) / step / matmul_rate(card, dtype)
    yield Check(
        f"training, {precision}, {case.words}",
        None,
        f"{case.batch / step:.4g} images/s, {share:.0%} of the measured matmul rate",
    )
    image = _seconds(card, lambda: generator.sample(state, case.batch, STREAMS, here)) / case.batch
    yield Check(f"sampling, {precision}, 35 evaluations, {case.batch} at once", None, f"{1 / image:.4g} images/s")
    yield Check(f"peak memory, {precision}", None, f"{_peak(card) / 2**30:.2f} GiB")


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _seconds(device: torch.device, call: Callable[[], object]) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - begun


def _since(begun: float) -> str:
    return f"{time.perf_counter() - begun:.1f} s"


def checks(device: torch.device, steps: int | None = None) -> Iterator[Check]:
    """Yield all checks; ``steps`` shortens every fit."""
    team = Team(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    yield Check("device", None, f"{name}, torch {torch.__version__}, Python {platform.python_version()}")
    yield conformance()
    case = replace(FULL, batch=256) if device.type == "cuda" else replace(SMALL, batch=8)
    state = case.generator().init((3, case.side, case.side), STREAMS)
    yield same_as_cpu(case, device, state)
    with tempfile.TemporaryDirectory() as folder:
        for recipe_name in RECIPES:
            yield recipe(recipe_name, team, Path(folder), 1, steps)
        yield recipe(RECIPES[-1], team, Path(folder), 2, steps)
    # Without a GPU bfloat16 may be emulated, which takes ten times as long.
    for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
        yield from throughput(case, team, state, precision, steps or 10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 where all checks pass, 1 where one fails, 2 where there is no such device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="as torch names it")
    parser.add_argument(
        "--steps", type=int, help="gradient steps of every fit, to try the checks; default: the recipes' own"
    )
    options = parser.parse_args(arguments)
    try:
        device = available(options.device)
    except ConfigError as error:
        print(f"gpu-check needs a GPU: {error}", file=sys.stderr)
        return 2
    found = []
    for check in checks(device, options.steps):
        print(f"{check.what} …", file=sys.stderr)
        found.append(check)
    print(table(found))
    return int(any(check.good is False for check in found))


if __name__ == "__main__":
    sys.exit(main())
