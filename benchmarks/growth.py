"""How the time of each part grows with its size: replicas, rows, dimensions, batch, generations."""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.timing import Load, repeats, seconds_per_call
from selfloop import Experiment, run
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators import OTCFM
from selfloop.learning.training import Budget
from selfloop.learning.transport.coupling import assignment, squared_distances
from selfloop.metrics import wasserstein
from selfloop.theory import gaussian_loop

STEPS, ROUNDS = 20, 5


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One part's times over one variable.

    Attributes:
        work: what was done.
        variable: what grew.
        times: seconds by the variable's value, medians.
        exponent: slope of log time against log value, by least squares; 1 is proportional growth.
        load: cores that other processes used meanwhile, a mean.
    """

    work: str
    variable: str
    times: dict[int, float]
    exponent: float
    load: float


def growth(work: str, variable: str, values: Sequence[int], call: Callable[[int], Callable[[], object]]) -> Growth:
    """Time ``call(value)()`` for each value, all of them in each round, and fit the exponent."""
    calls = {value: call(value) for value in values}
    counts = {value: repeats(each) for value, each in calls.items()}
    with Load() as load:
        rounds = [{v: seconds_per_call(each, counts[v]) for v, each in calls.items()} for _ in range(ROUNDS)]
    return fitted(work, variable, {value: statistics.median(r[value] for r in rounds) for value in values}, load.others)


def fitted(work: str, variable: str, times: dict[int, float], load: float) -> Growth:
    """Return the row of given times with its exponent."""
    slope = np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0]
    return Growth(work=work, variable=variable, times=times, exponent=float(slope), load=load)


def fit(*, replicas: int = 8, rows: int = 1000, d: int = 2, batch: int = 256) -> Callable[[], object]:
    """Return a call that takes STEPS steps of OT-CFM."""
    streams, generator = Streams(tuple(range(replicas))), OTCFM(batch_size=batch)
    data = Samples.full(streams.normal("data", (rows, d)), born=0)
    state = generator.init((d,), streams)
    return lambda: generator.fit(state, data, Budget(steps=STEPS), streams)


def sampling(points: int) -> Callable[[], object]:
    """Return a call that draws points of a fitted flow."""
    streams, generator = Streams(tuple(range(8))), OTCFM()
    data = Samples.full(streams.normal("data", (1000, 2)), born=0)
    state = generator.fit(generator.init((2,), streams), data, Budget(steps=100), streams)
    return lambda: generator.sample(state, points, streams)


def clouds(n: int, d: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two normal point sets."""
    rng = np.random.default_rng(n)
    return torch.from_numpy(rng.standard_normal((n, d))), torch.from_numpy(rng.standard_normal((n, d)))


def plans(n: int) -> Callable[[], object]:
    """Return a call that solves a few assignments."""
    costs = torch.stack([squared_distances(*clouds(n)) for _ in range(4)])
    return functools.partial(assignment, costs)


def distance(n: int) -> Callable[[], object]:
    """Return a call that computes one W2."""
    return functools.partial(wasserstein, *clouds(n))


def gaussian(d: int = 2, replicas: int = 256) -> Callable[[], object]:
    """Return a call that runs the Gaussian loop for a few generations."""
    settings = {"n": 200, "generations": 64, "replicas": replicas}
    return lambda: list(gaussian_loop(np.zeros(d), np.eye(d), **settings))


def loops(generations: Sequence[int]) -> Growth:
    """Time a whole run, storage and metrics included, and read off when each generation was reached."""
    settings = {
        "name": "growth",
        "data": {"name": "two_moons", "n": 256, "held_out": 256},
        "generator": {"name": "otcfm", "batch_size": 128},
        "budget": {"steps": 20},
        "grid": {"mixing.lam": [0.5, float("inf")]},
        "metrics": ["w2_held_out"],
        "generations": max(generations),
    }
    with tempfile.TemporaryDirectory() as folder, Load() as load:
        start = time.perf_counter()
        loop = run(Experiment.build(settings), Path(folder) / "run")
        times = {generation.t: time.perf_counter() - start for generation in loop}
    return fitted("a whole run, 2 arms", "retrainings", {t: times[t] for t in generations}, load.others)


def rows() -> Iterator[Growth]:
    """Yield the series."""
    with as_in_a_worker():
        step = f"{STEPS} steps of OT-CFM"
        yield growth(step, "replicas R", (1, 2, 4, 8, 16, 32), lambda r: fit(replicas=r))
        yield growth(step, "batch size", (32, 64, 128, 256, 512), lambda b: fit(batch=b))
        yield growth(step, "real rows n", (1_000, 4_000, 16_000, 64_000), lambda n: fit(rows=n))
        yield growth(step, "dimensions d", (2, 8, 32, 128, 512), lambda d: fit(d=d, replicas=2))
        yield growth("sampling by dopri5, R = 8", "points", (250, 500, 1000, 2000, 4000), sampling)
        yield growth("4 assignments in the plane", "points", (32, 64, 128, 256, 512, 1024), plans)
        yield growth("W2 in the plane", "points", (250, 500, 1000, 2000, 4000), distance)
        yield growth("64 generations of the Gaussian loop", "dimensions d", (1, 2, 5, 10, 20, 50), gaussian)
        yield growth(
            "64 generations of the Gaussian loop", "replicas R", (64, 256, 1024, 4096), lambda r: gaussian(2, r)
        )
    yield loops((8, 16, 32, 64, 128))


def plot(found: Sequence[Growth], path: Path) -> None:
    """Draw every series on logarithmic axes."""
    columns = 5
    figure = Figure(figsize=(3.0 * columns, 2.8 * -(-len(found) // columns)), layout="constrained")
    FigureCanvasAgg(figure)
    for i, row in enumerate(found):
        axes = figure.add_subplot(-(-len(found) // columns), columns, i + 1)
        x, y = np.array(list(row.times)), np.array(list(row.times.values()))
        axes.loglog(x, y, "o-", color="tab:blue")
        axes.loglog(x, np.exp(np.log(y).mean()) * (x / np.exp(np.log(x).mean())) ** row.exponent, ":", color="gray")
        axes.set_title(f"{row.work}\nexponent {row.exponent:.2f}", fontsize=9)
        axes.set_xlabel(row.variable)
        axes.set_ylabel("seconds")
        axes.set_xticks(x[:: 1 if len(x) < 6 else 2], labels=[f"{value:g}" for value in x[:: 1 if len(x) < 6 else 2]])
        axes.minorticks_off()
        middle = np.sqrt(y.min() * y.max())  # at least a factor of ten, so that noise looks like noise
        axes.set_ylim(min(0.8 * y.min(), middle / 3.2), max(1.25 * y.max(), middle * 3.2))
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110, metadata={"Software": None})
