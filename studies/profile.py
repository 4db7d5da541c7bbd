"""How often does the profile say yes of a loop that never changes, and what does it say of loops that collapse?

``python -m studies.profile [--out DIR] [--seeds S] [--markdown FILE]`` runs three loops in closed form, goes on where
it was stopped, and prints two tables:

- false alarms: how often each notion is said to happen in an unchanged loop, λ = 0, after 20 retrainings, by one seed
  and by five, held against its generation 0 and against a control: generations 21 to 40 of an arm against its
  generations 1 to 20, which are the same rows and the same model, other samples;
- what is said after 20 retrainings by five seeds of λ = 1, of no real rows at all (λ = ∞), and of samples drawn at
  temperatures below and above 1 besides, which collapse onto the modes and into noise.

Groups of five seeds are drawn ten times over without overlap within a draw, as in ``studies.verdicts``.
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
from torch import Tensor

from selfloop import Experiment, Run, run
from selfloop.analysis import verdict
from selfloop.analysis.curves import Curves, Setting, read
from selfloop.analysis.profile import LOOKS, NOTIONS, Looked, look
from selfloop.data.real import Real
from studies.stability import percent, table
from studies.verdicts import groups

RETRAININGS = 20
WORDS = ("yes", "no", "cannot tell", "not measured")

LOOPS: dict[str, dict[str, Any]] = {
    "gaussian-100": {"data": {"name": "gaussian", "n": 100, "dim": 2}, "generator": {"name": "gaussian"}},
    "gaussian-1000": {"data": {"name": "gaussian", "n": 1000, "dim": 2}, "generator": {"name": "gaussian"}},
    "eight-gaussians": {
        "data": {"name": "eight_gaussians", "n": 400},
        "generator": {"name": "mixture", "components": 8},
    },
}
"""Gaussians in closed form, and a mixture of as many components as there are modes."""

REGIMES: list[dict[str, Any]] = [
    {"name": "augment", "lam": 0.0},
    {"name": "augment", "lam": 1.0},
    {"name": "augment", "lam": math.inf},
    {"name": "biased", "lam": math.inf, "temperature": 0.9},
    {"name": "biased", "lam": math.inf, "temperature": 1.1},
]
"""Nothing, a loop that is stable in theory, one that is not, and collapse onto modes and into noise."""

GROWN = {
    "data": {"name": "gaussian", "dim": 2},
    "generator": {"name": "gaussian"},
}
SIZES = [50, 100, 200]
"""A loop whose settings differ in n, for the change of scaling law."""


@dataclass(frozen=True)
class Twice:
    """The rows of a run whose arms count twice: as they are, and as what they are so many retrainings later."""

    run: Run
    arms: int

    def real(self, arm: int) -> Real:
        """Return what is kept of an arm's real rows."""
        return self.run.real(arm % self.arms)

    def samples(self, t: int, arm: int) -> Tensor:
        """Return an arm's samples; of one that counts later those of t + 20, but for generation 0."""
        return self.run.samples(t + RETRAININGS * (arm >= self.arms and t > 0), arm % self.arms)


def finished(name: str, settings: dict[str, Any], seeds: int, generations: int, out: Path) -> Run:
    """Run a loop to its end, or read it where it was run."""
    common = {"name": name, "seeds": seeds, "generations": generations, "metrics": ["w2_held_out", "variance_ratio"]}
    list(run(Experiment.build(settings | common), out / name))
    return Run.open(out / name)


def unchanged(out: Path, name: str, seeds: int) -> Looked:
    """Return what is seen of λ = 0 in a loop, as a control and as a setting that is held against it."""
    found = finished(f"{name}-unchanged", LOOPS[name] | {"grid": {"mixing.lam": [0.0]}}, seeds, 2 * RETRAININGS, out)
    curves = read(found)
    made = _twice(curves)
    by = verdict.judged(made, found.metrics)
    return look(made, by, Twice(found, seeds), found.metrics, made.settings, seeds, LOOKS)


def _twice(curves: Curves) -> Curves:
    """Return generations 0 to 20 as a control, λ = 0, and 0 and 21 to 40 as another setting, called λ = 0.5."""
    at = len(curves.seeds)
    later = [0, *range(RETRAININGS + 1, 2 * RETRAININGS + 1)]
    both = tuple(
        Setting(label=label, arms=tuple(range(k * at, (k + 1) * at)), ratio=lam, settings={"mixing.lam": lam})
        for k, (label, lam) in enumerate((("control", 0.0), ("unchanged", 0.5)))
    )
    values = {name: np.concatenate([x[:, : RETRAININGS + 1], x[:, later]]) for name, x in curves.values.items()}
    return Curves(
        settings=both,
        seeds=curves.seeds * 2,
        values=values,
        floors={name: np.tile(x, 2) for name, x in curves.floors.items()},
        ended=np.tile(curves.ended, 2),
        endings=curves.endings * 2,
    )


def of_seeds(looked: Looked, chosen: np.ndarray, *, controlled: bool = True) -> dict[str, Sequence[str]]:
    """Return by setting the words for each notion, of the arms of these places among its arms."""
    settings = tuple(
        replace(setting, arms=tuple(setting.arms[i] for i in chosen)) for setting in looked.curves.settings
    )
    by_label = {setting.label: setting for setting in settings}
    controls = {label: by_label[c.label] for label, c in looked.by.controls.items()} if controlled else {}
    some = replace(looked, curves=replace(looked.curves, settings=settings), by=replace(looked.by, controls=controls))
    return {s.label: [f.word for f in some.profile(s).findings] for s in settings}


def false_alarms(looked: Looked, name: str, seeds: int) -> Iterator[list[str]]:
    """Yield rows of the table: a notion said to happen of an unchanged loop, by how many seeds, against what."""
    for size in (1, 5):
        for controlled in (False, True):
            said = [
                of_seeds(looked, group, controlled=controlled)["unchanged" if controlled else "control"]
                for group in groups(seeds, size)
            ]
            rates = [np.mean([words[place] == "yes" for words in said]) for place in range(len(NOTIONS))]
            any_of = np.mean(["yes" in words for words in said])
            against = "control" if controlled else "generation 0"
            yield [name, str(size), against, *map(percent, rates), percent(any_of)]


def said_of(looked: Looked, name: str, seeds: int) -> Iterator[list[str]]:
    """Yield rows of the table: how often each word is given, by five seeds, of every setting but the control."""
    counts: dict[str, list[Counter[str]]] = {}
    total = 0
    for group in groups(seeds, 5):
        total += 1
        for label, words in of_seeds(looked, group).items():
            for place, word in enumerate(words):
                counts.setdefault(label, [Counter() for _ in NOTIONS])[place][word] += 1
    for label, of in counts.items():
        yield [name, label, *(_shares(count, total) for count in of)]


def _shares(count: Counter[str], total: int) -> str:
    if count["not measured"] == total:
        return "–"
    return " / ".join(f"{100 * count[word] / total:.0f}" for word in WORDS[:3])


def page(false: Sequence[Sequence[str]], said: Sequence[Sequence[str]], seeds: int) -> str:
    """Return both tables as Markdown."""
    heads = [notion.number for notion in NOTIONS]
    lines = [
        "# The profile, checked",
        "",
        "How often the [profile](../../profile.md) says that a notion of collapse happens where nothing does, and",
        "what it says of loops that change. This page is the output of",
        f"`python -m studies.profile --seeds {seeds} --markdown docs/results/profile/index.md`. The loops are in",
        "closed form: Gaussians of 100 and 1,000 rows in two dimensions, and a mixture of eight components on 400",
        "rows of eight Gaussians; for the scaling law Gaussians of 50 to 200 rows, a third as many arms.",
        "",
        *(f"- **{notion.number}** {notion.title}: {notion.says}" for notion in NOTIONS),
        "",
        f"## Unchanged loops: how often the word is yes, after {RETRAININGS} retrainings",
        "",
        f"Of {seeds} arms each; five seeds in ten draws of disjoint groups. The last column: any of the nine.",
        "",
        *table(("loop", "seeds", "against", *heads, "any"), false),
        "",
        f"## Loops that change, after {RETRAININGS} retrainings",
        "",
        "Yes / no / cannot tell in per cent of groups of five seeds; – was not measured. Biased: no real rows, and",
        "samples drawn at a temperature of 0.9 (onto the modes) or 1.1 (into noise). λ = 0 is held against its own",
        "generation 0, the others against λ = 0.",
        "",
        *table(("loop", "setting", *heads), said),
        "",
    ]
    return "\n".join(lines)


def tables(out: Path, seeds: int, names: Sequence[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Run the loops and count."""
    false: list[list[str]] = []
    said: list[list[str]] = []
    for name in names:
        false += false_alarms(unchanged(out, name, seeds), name, seeds)
        grid = {"grid": {"mixing": REGIMES}}
        said += said_of(_seen(finished(name, LOOPS[name] | grid, seeds, RETRAININGS, out), seeds), name, seeds)
    grown, few = GROWN | {"grid": {"data.n": SIZES, "mixing": REGIMES[:3]}}, max(10, seeds // 3)
    looked = _seen(finished("grown", grown, few, RETRAININGS, out), few)
    said += [row for row in said_of(looked, "scaling", few) if row[1].endswith(f"n = {SIZES[-1]}")]
    return false, said


def _seen(found: Run, seeds: int) -> Looked:
    curves = read(found)
    return look(curves, verdict.judged(curves, found.metrics), found, found.metrics, curves.settings, seeds)


def main() -> None:
    """Run the loops and print the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.profile", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/profile"), help="where the runs go")
    parser.add_argument("--seeds", type=int, default=100, help="of every loop")
    parser.add_argument("--only", nargs="*", default=list(LOOPS), help="names of loops")
    parser.add_argument("--markdown", type=Path, help="where the page goes, in place of the terminal")
    options = parser.parse_args()
    text = page(*tables(options.out, options.seeds, options.only), options.seeds)
    if options.markdown is None:
        print(text)
    else:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
