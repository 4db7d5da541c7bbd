"""How early alarms speak, how often they find a collapse, and how often they are false.

``python -m studies.alarms simulate`` counts false alarms of every calibration where the truth is known: 5 statistics
over 50 retrainings of arms that are all alike, by chance alone, whose noise is independent, depends on the generation
before, or has heavy tails.

``python -m studies.alarms controls RUN OUT [--seeds N]`` runs further seeds of a finished run's control, with the
statistics of alarms alone. ``python -m studies.alarms held_out RUN CONTROLS …`` (pairs) counts on them, per statistic
and for all together, the false alarms of what is calibrated on the control of the run.

``python -m studies.alarms rank RUN … [--compute]`` ranks statistics at equal false alarms, apart for fully synthetic
regimes that collapse into noise (variance above the control's at the end) and onto modes. A statistic's threshold is
the badness, less that of generation 0, which 5 % of the control arms of the even seeds ever pass; judged are the odd
ones. Statistics are those that were recorded; with ``--compute`` all of :data:`STATISTICS`, from the samples.

``python -m studies.alarms power RUN …`` says what alarms find in every regime of runs, with the
statistics of the default or others.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from selfloop import Experiment, Run, run
from selfloop.alarm import EARLIEST
from selfloop.analysis.curves import Array, Curves, Setting, mean, read
from selfloop.analysis.warning import first_alarms, leads
from selfloop.core.sequential import Monitor, maximum, tickets
from selfloop.engines.local import cores
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators import Gaussian
from selfloop.metrics import METRICS, Evidence

STATISTICS = (
    "w2_held_out",
    "w1_held_out",
    "frechet_train",
    "kid_train",
    "mmd_rbf_train",
    "sliced_w2_train",
    "precision_train",
    "recall_train",
    "density_train",
    "coverage_train",
    "variance_ratio",
    "leading_variance_ratio",
    "vendi_ratio",
    "neighbour_entropy",
    "authenticity",
)
REFERENCE = "w2_held_out"
LEVEL = 0.05
NULLS = ("independent", "AR(0.5)", "AR(0.9)", "Student's t, 2 degrees")
METHODS = ("controls' maxima", "controls alongside", "ranks over generations")


def share(count: int, of: int) -> str:
    """Return a share and its 95 % interval (Clopper and Pearson)."""
    ends = binomtest(count, of).proportion_ci()
    return f"{count / of:.1%} ({ends.low:.1%} to {ends.high:.1%})"


# Every calibration on curves of badness less that of generation 0: an arm's (S, T + 1), its controls' (S, m, T + 1)


def alarm_at(method: str, arm: Array, controls: Array) -> float:
    """Return the generation of a method's alarm, inf for none, NaN where there are too few controls for it."""
    m = controls.shape[1]
    if method == METHODS[0]:
        found = maximum(arm, controls, LEVEL) if tickets(m, LEVEL) else None
        return math.nan if not tickets(m, LEVEL) else math.inf if found is None else found[0]
    alone = method == METHODS[2]
    if not alone and not tickets(m, LEVEL):
        return math.nan
    monitor = Monitor({0: [] if alone else range(1, m + 1)}, LEVEL)
    both = np.concatenate([arm[:, None], controls], axis=1)
    for t in range(arm.shape[1]):
        if monitor.see(both[:, :, t]):
            return t
    return math.inf


# Simulated


def noise(null: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return noise along the last axis, of unit variance where there is one."""
    if null == NULLS[3]:
        return np.asarray(rng.standard_t(2, shape))
    rho = {NULLS[0]: 0.0, NULLS[1]: 0.5, NULLS[2]: 0.9}[null]
    x = rng.standard_normal(shape)
    for t in range(1, shape[-1]):
        x[..., t] = rho * x[..., t - 1] + math.sqrt(1 - rho**2) * x[..., t]
    return x


def simulated(null: str, m: int, repetitions: int, drift: float = 0.0, retrainings: int = 50) -> dict[str, list[float]]:
    """Return by method the generations of alarms, of an arm that gets worse by ``drift`` deviations a generation."""
    rng, found = np.random.default_rng([NULLS.index(null), m]), {method: list[float]() for method in METHODS}
    for _ in range(repetitions):
        x = noise(null, (5, m + 1, retrainings + 1), rng)
        x[:, 0] += drift * np.arange(retrainings + 1)
        x -= x[..., :1]
        for method in METHODS:
            found[method].append(alarm_at(method, x[:, 0], x[:, 1:]))
    return found


def simulate(options: argparse.Namespace) -> None:
    """Print false alarms, and what a slow drift is found by."""
    jobs = [(null, m, drift) for drift in (0.0, 0.2) for null in NULLS for m in (19, 39)]
    with ProcessPoolExecutor(cores()) as pool:
        found = list(pool.map(simulated, *zip(*((n, m, options.repetitions, d) for n, m, d in jobs), strict=True)))
    table = Table("noise", "controls", "drift", *METHODS, box=None)
    for (null, m, drift), by in zip(jobs, found, strict=True):
        cells = []
        for at in (np.array(by[method]) for method in METHODS):
            raised = int(np.isfinite(at).sum())
            cells.append(share(raised, len(at)) if not drift else f"{raised / len(at):.0%}, at {np.median(at):g}")
        table.add_row(null, str(m), f"{drift:g}", *cells)
    show(table)


# Real loops


def worse(curves: Curves, statistics: Sequence[str]) -> Array:
    """Return badness less that of generation 0, (S, A, T + 1)."""
    rows = [np.vectorize(METRICS[name].badness, otypes=[float])(curves.values[name]) for name in statistics]
    return np.stack([x - x[:, :1] for x in rows])


def control_of(curves: Curves) -> Setting:
    """Return the setting of λ = 0."""
    return next(setting for setting in curves.settings if setting.ratio == 0)


def more_controls(options: argparse.Namespace) -> None:
    """Run further seeds of a run's control."""
    before = Run.open(options.run).experiment
    seeds = range(before.seeds) if isinstance(before.seeds, int) else before.seeds
    begin = max(seeds) + 1
    settings = before.model_dump() | {
        "seeds": list(range(begin, begin + options.seeds)),
        "grid": {"mixing": [{"name": "augment", "lam": 0.0}]},
        "metrics": list(EARLIEST),
    }
    for _ in run(Experiment.build(settings), options.out):
        pass


def held_out(options: argparse.Namespace) -> None:
    """Print the false alarms of controls that nothing was calibrated on."""
    names = (*((name,) for name in EARLIEST), EARLIEST)
    counts = {(method, of): [0, 0] for method in METHODS for of in names}
    for path, other in zip(options.runs[::2], options.runs[1::2], strict=True):
        curves, fresh = read(Run.open(path)), read(Run.open(other))
        for of in names:
            known, tested = worse(curves, of)[:, list(control_of(curves).arms)], worse(fresh, of)
            for method in METHODS:
                at = [alarm_at(method, tested[:, arm], known) for arm in range(tested.shape[1])]
                counts[method, of][0] += int(np.isfinite(at).sum())
                counts[method, of][1] += len(at)
                if of == EARLIEST:
                    print(f"{Path(path).name}: {method}, all together: {share(int(np.isfinite(at).sum()), len(at))}")
    table = Table("statistic", *METHODS, box=None)
    for of in names:
        table.add_row(of[0] if len(of) == 1 else "all together", *(share(*counts[method, of]) for method in METHODS))
    show(table)


def power(options: argparse.Namespace) -> None:
    """Print what is found in every regime of runs, by each calibration."""
    table = Table("loop", "regime", "arms", *METHODS, box=None)
    for path in options.runs:
        curves = read(Run.open(path))
        bad, control = worse(curves, options.statistics), control_of(curves)
        for setting in curves.settings:
            if setting is control:
                continue
            cells = []
            for method in METHODS:
                at = []
                for arm in setting.arms:
                    others = [o for o in control.arms if curves.seeds[o] != curves.seeds[arm]]
                    at.append(alarm_at(method, bad[:, arm], bad[:, others]))
                cells.append(f"{np.isfinite(at).mean():.0%}, at {np.median(at):g}")
            table.add_row(Path(path).name, setting.label, str(len(setting.arms)), *cells)
    show(table)


# A ranking at equal false alarms


@dataclass(frozen=True)
class Judged:
    """Alarms of one statistic in controls and in arms that collapse, and those of W2 in the latter; inf for none."""

    quiet: Array
    found: Array
    reference: Array


def of_arm(path: str, arm: int) -> Array:
    """Return all statistics of one arm, computed from its samples, (S, T + 1)."""
    opened = Run.open(path)
    split = opened.split(arm)
    with as_in_a_worker():
        columns = []
        for t in range(opened.last + 1):
            x = opened.samples(t, arm)[: split.train.shape[1]]
            if not len(x):
                columns.append([math.nan] * len(STATISTICS))
                continue
            evidence = Evidence(
                generator=Gaussian(),
                state={},
                first={},
                untrained={},
                train=split.train.to(x.dtype),
                held_out=split.held_out.to(x.dtype),
                generated=x[None],
            )
            columns.append([float(METRICS[name].compute(evidence)[0]) for name in STATISTICS])
    return np.array(columns).T


def computed(path: str, curves: Curves) -> dict[str, Array]:
    """Return all statistics of all arms, (arms, T + 1) each, from the samples."""
    with ProcessPoolExecutor(cores()) as pool:
        found = np.array(list(pool.map(functools.partial(of_arm, path), range(len(curves.seeds)))))
    return {name: found[:, i] for i, name in enumerate(STATISTICS)}


def kind(curves: Curves, setting: Setting, control: Setting) -> str:
    """Return whether a regime collapses into noise or onto modes, by log variance at the end against the control's."""
    last = [float(mean(np.log(curves.of(s, "variance_ratio")))[-1]) for s in (setting, control)]
    return "into noise" if last[0] > last[1] else "onto modes"


def synthetic(setting: Setting) -> bool:
    """Whether a regime trains on samples alone."""
    mixing = setting.settings.get("mixing")
    lam = mixing.get("lam") if isinstance(mixing, dict) else None
    return math.isinf(setting.ratio) or lam in ("inf", math.inf)


def rank(options: argparse.Namespace) -> None:
    """Print a ranking for each kind of collapse."""
    by: dict[str, dict[str, list[Judged]]] = {}
    for path in options.runs:
        curves = read(Run.open(path))
        values = computed(path, curves) if options.compute else curves.values
        names = [name for name in STATISTICS if name in values]
        full, control = Curves(**(vars(curves) | {"values": values})), control_of(curves)
        for setting in curves.settings:
            if not synthetic(setting):
                continue
            of = kind(full, setting, control)
            print(f"{Path(path).name}, {setting.label}: {of}")
            seeds = [curves.seeds[arm] for arm in control.arms]
            calm, bad = ({name: full.of(each, name) for name in names} for each in (control, setting))
            found = first_alarms(calm, bad, seeds, METRICS)
            for name, (quiet, loud) in found.items():
                by.setdefault(of, {}).setdefault(name, []).append(Judged(quiet, loud, found[REFERENCE][1]))
    for of, statistics in sorted(by.items()):
        table = Table("statistic", "alarm at", "lead on W2", "found", "false alarms", box=None, title=f"Collapse {of}")
        lines = [(name, *_together(judged)) for name, judged in statistics.items()]
        for name, at, lead, found, false in sorted(lines, key=lambda line: (line[1], -line[3])):
            table.add_row(name, f"{at:g}", f"{lead:g}", f"{found:.0%}", false)
        show(table)


def _together(judged: Sequence[Judged]) -> tuple[float, float, float, str]:
    join: Callable[[str], Array] = lambda of: np.concatenate([getattr(each, of) for each in judged])  # noqa: E731
    quiet, found, reference = join("quiet"), join("found"), join("reference")
    return (
        float(np.median(found)),
        float(np.median(leads(found, reference))),
        float(np.isfinite(found).mean()),
        share(int(np.isfinite(quiet).sum()), len(quiet)),
    )


def show(table: Table) -> None:
    """Print a table."""
    Console(width=150).print(table)


def main() -> None:
    """Run one of the studies."""
    parser = argparse.ArgumentParser(prog="python -m studies.alarms", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("simulate")
    one.add_argument("--repetitions", type=int, default=1000)
    one.set_defaults(go=simulate)
    one = commands.add_parser("controls")
    one.add_argument("run")
    one.add_argument("out")
    one.add_argument("--seeds", type=int, default=96)
    one.set_defaults(go=more_controls)
    for name, go in (("held_out", held_out), ("power", power), ("rank", rank)):
        one = commands.add_parser(name)
        one.add_argument("runs", nargs="+", metavar="RUN")
        one.set_defaults(go=go)
        if go is power:
            one.add_argument("--statistics", nargs="+", default=list(EARLIEST), metavar="METRIC")
    one.add_argument("--compute", action="store_true", help="all statistics, from the samples")
    options = parser.parse_args()
    options.go(options)


if __name__ == "__main__":
    main()
