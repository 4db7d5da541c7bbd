"""Which statistic tells first that a loop is collapsing, at equal false alarms?

``python -m studies.early_warning RUN [--csv FILE]`` takes a run with a λ = 0 control and fully synthetic arms of the
same seeds. Every statistic is computed on every generation's samples against the arm's real training rows, as a metric
is. How they are ranked stands in :mod:`selfloop.analysis.warning`: thresholds that 5 % of the control arms of the even
seeds would ever have crossed are judged on the odd seeds by

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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from selfloop import Run
from selfloop.analysis.warning import rank
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
    control, collapsing = (
        {name: arms[:, i] for i, name in enumerate(STATISTICS)} for arms in (values[:half], values[half:])
    )
    ranked = rank(control, collapsing, [arm.seed for arm in by_lam[0.0]], METRICS, REFERENCE)
    for row in ranked:
        table.add_row(
            row.statistic,
            f"{row.alarm_at.value:g}",
            f"{row.lead.value:g}",
            f"{row.found:.0%}",
            f"{row.false_alarms:.0%}",
        )
    console = Console(width=100)
    console.print(table)
    console.print(f"{ranked[0].arms} control and as many fully synthetic arms judged; thresholds from as many others")


if __name__ == "__main__":
    main()
