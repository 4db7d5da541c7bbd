"""Which statistic tells first that a loop is collapsing, at equal false alarms?

``python -m studies.early_warning RUN [--csv FILE]`` takes a run with a λ = 0 control and fully synthetic arms of the
same seeds. Every statistic is computed on every generation's samples against the arm's real training rows, as a metric
is. It becomes a badness, larger is worse, less its value at generation 0 of the same arm. A statistic raises the alarm
at the first generation whose badness is above a threshold, and the threshold is the one at which 5 % of the control
arms of the even seeds would ever have raised it. On the odd seeds it is then judged:

- false alarms: control arms that raise it at any generation;
- found: fully synthetic arms that raise it;
- alarm at: the generation of the alarm, a median over those arms (never counts as infinitely late);
- lead: generations by which it comes before the alarm of W2 to held-out data in the same arm, a median.
"""

from __future__ import annotations

import argparse
import csv
import functools
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from selfloop import Run
from selfloop.engines.threads import as_in_a_worker
from selfloop.engines.local import cores
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
FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Ranked:
    """One line of the table; see the module for what the columns mean."""

    statistic: str
    false_alarms: float
    found: float
    alarm_at: float
    lead: float
    arms: int


def badness(statistic: str, values: np.ndarray) -> np.ndarray:
    """Return what grows as samples get worse, of every value."""
    return np.vectorize(METRICS[statistic].badness, otypes=[float])(values)


def of_arm(path: str, arm: int) -> np.ndarray:
    """Return the statistics of one arm, (statistics, generations)."""
    run = Run.open(path)
    split = run.split(arm)
    with as_in_a_worker():
        columns = []
        for t in range(run.last + 1):
            x = run.samples(t, arm)[: split.train.shape[1]]
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


def rank(control: np.ndarray, collapsing: np.ndarray, seeds: Sequence[int]) -> list[Ranked]:
    """Return the statistics by the generation of their alarm.

    Args:
        control: (arms, statistics, generations) of λ = 0.
        collapsing: the same of fully synthetic arms with the same seeds.
        seeds: of the arms.
    """
    even = np.array([seed % 2 == 0 for seed in seeds])
    alarms: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for i, name in enumerate(STATISTICS):
        worse, worst = ((b := badness(name, arms[:, i])) - b[:, :1] for arms in (control, collapsing))
        threshold = np.quantile(np.nanmax(worse[even], axis=1), 1 - FALSE_ALARMS, method="higher")
        alarms[name] = first(worse[~even], threshold), first(worst[~even], threshold)
    reference = alarms[REFERENCE][1]
    ranked = []
    for name, (quiet, found) in alarms.items():
        with np.errstate(invalid="ignore"):
            leads = np.where(np.isinf(reference) & np.isinf(found), 0.0, reference - found)
        ranked.append(
            Ranked(
                name,
                float(np.isfinite(quiet).mean()),
                float(np.isfinite(found).mean()),
                float(np.median(found)),
                float(np.median(leads)),
                len(found),
            )
        )
    return sorted(ranked, key=lambda r: (r.alarm_at, -r.found, r.false_alarms))


def first(worse: np.ndarray, threshold: float) -> np.ndarray:
    """Return each arm's first generation above the threshold, or that is not a number any more; inf for never."""
    above = (worse > threshold) | np.isnan(worse)
    return np.where(above.any(1), above.argmax(1), np.inf)


def main() -> None:
    """Compute the statistics of a run and print the ranking."""
    parser = argparse.ArgumentParser(prog="python -m studies.early_warning", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="a finished run with arms of λ = 0 and λ = inf")
    parser.add_argument("--csv", type=Path, help="where to write every statistic of every arm and generation")
    options = parser.parse_args()
    run = Run.open(options.run)
    by_lam = {lam: [arm for arm in run.arms if arm.experiment.mixing.lam == lam] for lam in (0.0, math.inf)}
    chosen = [arm for arms in by_lam.values() for arm in arms]
    with ProcessPoolExecutor(cores()) as pool:
        found = list(pool.map(functools.partial(of_arm, options.run), [arm.index for arm in chosen]))
    half = len(by_lam[0.0])
    values = np.array(found)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["lam", "seed", "generation", *STATISTICS])
            for arm, table in zip(chosen, values, strict=True):
                for t, row in enumerate(table.T):
                    writer.writerow([arm.experiment.mixing.lam, arm.seed, t, *(f"{v:.6g}" for v in row)])
    table = Table("statistic", "alarm at", "lead on W2", "found", "false alarms", box=None)
    ranked = rank(values[:half], values[half:], [arm.seed for arm in by_lam[0.0]])
    for row in ranked:
        table.add_row(
            row.statistic, f"{row.alarm_at:g}", f"{row.lead:g}", f"{row.found:.0%}", f"{row.false_alarms:.0%}"
        )
    console = Console(width=100)
    console.print(table)
    console.print(f"{ranked[0].arms} control and as many fully synthetic arms judged; thresholds from as many others")


if __name__ == "__main__":
    main()
