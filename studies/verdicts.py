"""How often is a verdict wrong, and how often does it see a collapse?

``python -m studies.verdicts [--out DIR] [--small]`` runs six loops whose truth is known (Gaussians in closed form with
30, 100 and 1000 rows, a Gaussian mixture on 8 Gaussians, OT-CFM on two moons and on the digits), goes on where it was
stopped, and prints three tables:

- false alarms: how often an unchanged loop, λ = 0, is called worse or collapsed after 20 retrainings, judged by default
  by one seed and by five, against its generation 0 and against a control. An unchanged arm with a control is, in closed
  form, generations 21 to 40 of an arm held against its generations 1 to 20: the same rows and the same model, other
  samples. Networks go on training at λ = 0, so that theirs are held against generation 0 only.
- the same for every metric of the catalogue that can be judged by, by the loop in which it does worst;
- λ = ∞ after 5 and 20 retrainings by one seed and by five: how often each word is given.

Groups of five seeds are drawn ten times over without overlap within a draw; the standard error is of the number of
arms, each counted once.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from selfloop import Experiment, Run, run
from selfloop.analysis import curves as read_curves
from selfloop.analysis import verdict
from selfloop.analysis.curves import Curves, Setting
from selfloop.core.streams import generator
from selfloop.metrics import METRICS
from studies.stability import percent, table

RETRAININGS = 20
WORDS = ("collapsed", "worse", "cannot tell yet", "stable so far")
SHUFFLES = 10
JUDGED = ["w2_held_out", "variance_ratio"]
MODES = ["mode_coverage", "mode_quality", "reverse_kl"]
SLOW = ["likelihood_gap", "max_sliced_w2_train", "max_sliced_w2_held_out"]
QUICK = [name for name, metric in METRICS.items() if metric.goal is not None and name not in (*MODES, *SLOW)]
LARGE = [
    "w2_held_out",
    "w1_held_out",
    "frechet_held_out",
    "kid_held_out",
    "sliced_w2_held_out",
    "precision_held_out",
    "coverage_held_out",
    "mean_error",
    "variance_ratio",
]
TRAINED = [
    *("w2_held_out", "w1_held_out", "variance_ratio", "frechet_held_out", "kid_held_out"),
    *("precision_held_out", "recall_held_out", "density_held_out", "coverage_held_out"),
]


@dataclass(frozen=True)
class Loop:
    """One of the six: its settings, and how many seeds, unchanged and all together."""

    name: str
    settings: dict[str, Any]
    exact: bool
    seeds: int
    metrics: list[str]

    def experiments(self, seeds: int) -> Iterator[Experiment]:
        """Return the unchanged loop and the one with λ = ∞; of networks both in one."""
        common = self.settings | {"seeds": seeds}
        if not self.exact:
            grid = {"mixing.lam": [0.0, math.inf]}
            yield Experiment.build(common | _named(self.name, grid, self.metrics, RETRAININGS))
            return
        unchanged = _named(f"{self.name}-unchanged", {"mixing.lam": [0.0]}, self.metrics, 2 * RETRAININGS)
        yield Experiment.build(common | unchanged)
        grid = {"mixing.lam": [0.0, math.inf]}
        yield Experiment.build(common | _named(f"{self.name}-collapse", grid, JUDGED, RETRAININGS))


def _named(name: str, grid: dict[str, Any], metrics: list[str], generations: int) -> dict[str, Any]:
    return {"name": name, "grid": grid, "metrics": metrics, "generations": generations}


def gaussian(n: int, seeds: int, metrics: list[str], suffix: str = "") -> Loop:
    """Return the two-dimensional Gaussian in closed form."""
    data = {"name": "gaussian", "n": n, "held_out": n, "dim": 2}
    return Loop(f"gaussian-{n}{suffix}", {"data": data, "generator": {"name": "gaussian"}}, True, seeds, metrics)


LOOPS = (
    gaussian(30, 200, QUICK),
    gaussian(30, 40, ["w2_held_out", *SLOW], "-slow-metrics"),
    gaussian(100, 200, QUICK),
    gaussian(1000, 60, LARGE),
    Loop(
        "eight-gaussians",
        {
            "data": {"name": "eight_gaussians", "n": 400, "held_out": 400},
            "generator": {"name": "mixture", "components": 8},
        },
        True,
        100,
        [*LARGE, *MODES],
    ),
    Loop(
        "moons-otcfm",
        {
            "data": {"name": "two_moons", "n": 1000},
            "generator": {"name": "otcfm"},
            "pretrain": {"epochs": 150},
            "budget": {"epochs": 60},
        },
        False,
        20,
        TRAINED,
    ),
    Loop(
        "digits-otcfm",
        {
            "data": {"name": "digits", "held_out": 360},
            "generator": {"name": "otcfm", "width": 192, "batch_size": 64},
            "pretrain": {"epochs": 250},
            "budget": {"epochs": 18},
        },
        False,
        10,
        TRAINED,
    ),
)


def groups(arms: int, size: int) -> Iterator[np.ndarray]:
    """Draw disjoint groups of so many arms, over and over."""
    for k in range(SHUFFLES if size > 1 else 1):
        order = generator(0, "verdicts", k).permutation(arms)
        yield from order[: arms - arms % size].reshape(-1, size)


def pseudo(
    parts: Sequence[tuple[str, float, dict[str, np.ndarray], np.ndarray]], floors: dict[str, np.ndarray]
) -> Curves:
    """Return the curves of a run with a few settings.

    Args:
        parts: of each setting the label, λ, curves by metric (S, T + 1), and where its arms ended (S,).
        floors: by metric, (S,).
    """
    size = len(parts[0][3])
    return Curves(
        settings=tuple(
            Setting(label=label, arms=tuple(range(k * size, (k + 1) * size)), ratio=lam, settings={"mixing.lam": lam})
            for k, (label, lam, _, _) in enumerate(parts)
        ),
        seeds=tuple(range(size)) * len(parts),
        values={name: np.concatenate([values[name] for _, _, values, _ in parts]) for name in parts[0][2]},
        floors={name: np.tile(floor, len(parts)) for name, floor in floors.items()},
        ended=(ended := np.concatenate([at for *_, at in parts])),
        endings=tuple("diverged" if at >= 0 else "" for at in ended),
    )


def words(found: Curves, arms: np.ndarray, metric: str | None, *, control: bool) -> str:
    """Return the word for an unchanged loop of some arms."""
    at, quiet = slice(0, RETRAININGS + 1), np.full(len(arms), -1)
    first = {name: values[arms, at] for name, values in found.values.items()}
    floors = {name: floor[arms] for name, floor in found.floors.items()}
    parts = [("control", 0.0, first, quiet)]
    if control:
        later = {name: values[arms, RETRAININGS:].copy() for name, values in found.values.items()}
        for name, values in later.items():
            values[:, 0] = found.values[name][arms, 0]
        parts.append(("unchanged", 0.5, later, quiet))
    made = pseudo(parts, floors)
    by = verdict.judged(made if metric is None else _only(made, metric), METRICS, metric=metric)
    if not control:
        return verdict.of_setting(made.settings[0], made, by).word
    # The control's own false alarms are counted without one; here it is taken as it is.
    return verdict.of_setting(made.settings[1], made, replace(by, controls={"unchanged": made.settings[0]})).word


def _only(made: Curves, metric: str) -> Curves:
    return Curves(
        settings=made.settings,
        seeds=made.seeds,
        values={metric: made.values[metric]},
        floors={metric: made.floors[metric]},
        ended=made.ended,
        endings=made.endings,
    )


def alarms(found: Curves, size: int, metric: str | None, *, control: bool) -> tuple[float, float]:
    """Return how often an unchanged loop is called worse or collapsed, and how often nothing is said."""
    counts = Counter(words(found, group, metric, control=control) for group in groups(len(found.seeds), size))
    total = counts.total()
    return (counts["worse"] + counts["collapsed"]) / total, counts["cannot tell yet"] / total


def seen(found: Curves, size: int, retrainings: int) -> Counter[str]:
    """Count the words for λ = ∞ after so many retrainings, by so many seeds."""
    by_lam = {setting.ratio: np.array(setting.arms) for setting in found.settings}
    counts: Counter[str] = Counter()
    for group in groups(len(by_lam[0.0]), size):
        parts = []
        for lam, label in ((0.0, "λ = 0"), (math.inf, "λ = ∞")):
            arms = by_lam[lam][group]
            ended = np.where(found.ended[arms] <= retrainings, found.ended[arms], -1)
            cut = {name: values[arms, : retrainings + 1] for name, values in found.values.items()}
            parts.append((label, lam, cut, ended))
        made = pseudo(parts, {name: floor[by_lam[0.0][group]] for name, floor in found.floors.items()})
        counts[verdict.of_setting(made.settings[1], made, verdict.judged(made, METRICS)).word] += 1
    return counts


def _of_lam(found: Curves, lam: float) -> Curves:
    """Return the arms of one λ."""
    arms = list(next(s for s in found.settings if s.ratio == lam).arms)
    return Curves(
        settings=(Setting(label="λ", arms=tuple(range(len(arms))), ratio=lam, settings={}),),
        seeds=tuple(found.seeds[arm] for arm in arms),
        values={name: values[arms] for name, values in found.values.items()},
        floors={name: floor[arms] for name, floor in found.floors.items()},
        ended=found.ended[arms],
        endings=tuple(found.endings[arm] for arm in arms),
    )


def finished(experiment: Experiment, out: Path) -> Curves:
    """Run an experiment, or what is left of it, and return its curves."""
    for done in run(experiment, out=out / experiment.name):
        if done.t == experiment.generations:
            print(f"{experiment.name}: {done.t} retrainings", flush=True)
    return read_curves.read(Run.open(out / experiment.name))


def page(loops: Sequence[tuple[Loop, Curves, Curves]]) -> str:
    """Return the three tables as a page of Markdown, from each loop, its unchanged arms and all."""
    false, power = [], []
    every: dict[str, list[tuple[float, str]]] = {}
    for loop, unchanged, whole in loops:
        arms = len(unchanged.seeds)
        for size in (1, 5):
            for control in (False, True) if loop.exact else (False,):
                against = "control" if control else "generation 0"
                rate, silent = alarms(unchanged, size, None, control=control)
                error = math.sqrt(max(rate * (1 - rate), 1 / arms**2) * size / arms)
                false.append((loop.name, size, against, arms, f"{percent(rate)} ± {percent(error)}", f"{silent:.0%}"))
                for metric in unchanged.metrics:
                    if METRICS[metric].goal is not None:
                        found = alarms(unchanged, size, metric, control=control)[0]
                        where = f"{loop.name}, {size} seed{'s' * (size > 1)}, {against}"
                        every.setdefault(metric, []).append((found, where))
            for retrainings in (5, RETRAININGS):
                counts = seen(whole, size, retrainings)
                shares = [f"{counts[word] / counts.total():.0%}" for word in WORDS]
                power.append((loop.name, size, retrainings, *shares))
    worst = [
        (metric, percent(float(np.mean([rate for rate, _ in rates]))), percent(max(rates)[0]), max(rates)[1])
        for metric, rates in every.items()
    ]
    lines = [
        "# The verdict, checked",
        "",
        "How often the [verdict](../verdict.md) is wrong, and how often it sees a collapse. This page is the",
        "output of `python -m studies.verdicts --markdown docs/results/verdicts.md`. Gaussians have two dimensions",
        "and are fitted in closed form, 8 Gaussians by a mixture (400 rows), moons (1,000 rows) and digits by OT-CFM.",
        "",
        f"## Unchanged loops, called worse or collapsed after {RETRAININGS} retrainings",
        "",
        "Judged by default, by W2 to held-out data and the variance.",
        "",
        *table(("loop", "seeds", "against", "arms", "false alarms", "cannot tell yet"), false),
        "",
        "## The same, metric by metric",
        "",
        "Judged by one metric of the catalogue: the mean over the rows above in which it was measured, and the worst.",
        "",
        *table(("metric", "mean", "worst", "where"), worst),
        "",
        "## Fully synthetic loops",
        "",
        "Exact theory expects a collapse of each.",
        "",
        *table(("loop", "seeds", "T", *WORDS), power),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the loops and print the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/verdicts"), help="where the runs go")
    parser.add_argument("--only", nargs="*", help="names of loops")
    parser.add_argument("--seeds", type=int, help="of every loop, in place of its own number")
    parser.add_argument("--markdown", type=Path, help="where the page goes, in place of the terminal")
    options = parser.parse_args()
    loops = []
    for loop in LOOPS:
        if options.only and loop.name not in options.only:
            continue
        found = [finished(experiment, options.out) for experiment in loop.experiments(options.seeds or loop.seeds)]
        loops.append((loop, found[0] if loop.exact else _of_lam(found[0], 0.0), found[-1]))
    if options.markdown is None:
        print(page(loops))
    else:
        options.markdown.write_text(page(loops))


if __name__ == "__main__":
    main()
