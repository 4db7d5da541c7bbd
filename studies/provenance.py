"""Does the interval of the share of generated rows hold it?

``python -m studies.provenance [--repetitions N] [--out DIR] [--markdown FILE]`` goes on where it was stopped. It draws
real, generated and unknown rows, 500 each, of kinds that are told apart well, hardly and not at all, with a share π of
generated rows in the unknown set, and counts how often the 95 % interval holds π, how often generated rows are found,
and what else is said.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from selfloop.analysis.provenance import Classifier, Provenance
from selfloop.core.streams import generator
from selfloop.data.base import DATA
from studies.stability import percent, table

ROWS = 500
SHARES = (0.0, 0.05, 0.2, 0.5, 1.0)

Draw = Callable[[np.random.Generator, int], np.ndarray]


def _moons(rng: np.random.Generator, n: int) -> np.ndarray:
    return DATA.parse({"name": "two_moons"}).draw(rng, n)  # type: ignore[no-any-return]


def _their_normal(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw what a Gaussian model of the moons draws."""
    rows = _moons(generator(0, "their normal"), 1000)
    return rng.multivariate_normal(rows.mean(0), np.cov(rows.T), n)


def _shrunk(rng: np.random.Generator, n: int, *, dim: int, by: float) -> np.ndarray:
    return by * rng.normal(size=(n, dim))


def _off(rng: np.random.Generator, n: int) -> np.ndarray:
    return 0.15 + rng.normal(size=(n, 5))


KINDS: dict[str, tuple[Draw, Draw]] = {
    "moons and a Gaussian fitted to them": (_moons, _their_normal),
    "normal rows in 10 dimensions and 0.8 of such": (
        functools.partial(_shrunk, dim=10, by=1.0),
        functools.partial(_shrunk, dim=10, by=0.8),
    ),
    "normal rows in 5 dimensions and ones 0.15 off": (functools.partial(_shrunk, dim=5, by=1.0), _off),
    "normal rows and other normal rows": (
        functools.partial(_shrunk, dim=5, by=1.0),
        functools.partial(_shrunk, dim=5, by=1.0),
    ),
}
"""Real and generated rows, from those told apart best to those that are the same."""


@dataclass(frozen=True)
class Counted:
    """What was said of a kind and a share over the repetitions."""

    kind: str
    share: float
    covered: float
    found: float
    none: float
    cannot: float
    strange: float
    width: float
    separation: float
    detectable: float


def once(kind: str, repetition: int) -> list[Provenance]:
    """Return what is said of one draw, share by share; the known rows are the same for all of them."""
    real, made = KINDS[kind]
    rng = generator(repetition, "provenance", kind)
    told = Classifier.of(real(rng, ROWS), made(rng, ROWS))
    said = []
    for share in SHARES:
        k = rng.binomial(ROWS, share)  # of a population of which the share is generated
        said.append(told.share(np.concatenate([real(rng, ROWS - k), made(rng, k)])))
    return said


def count(kind: str, said: Sequence[Sequence[Provenance]]) -> Iterator[Counted]:
    """Yield a row per share."""
    for place, share in enumerate(SHARES):
        of = [each[place] for each in said]
        words = [each.word for each in of]
        yield Counted(
            kind=kind,
            share=share,
            covered=float(np.mean([each.low <= share <= each.high for each in of])),
            found=words.count("generated rows found") / len(of),
            none=words.count("none found") / len(of),
            cannot=words.count("cannot tell") / len(of),
            strange=words.count("no mixture of the two") / len(of),
            width=float(np.median([each.high - each.low for each in of])),
            separation=float(np.mean([each.separation for each in of])),
            detectable=float(np.median([each.detectable for each in of])),
        )


def page(counted: Sequence[Counted], repetitions: int) -> str:
    """Return the table as Markdown."""
    rows = [
        [
            each.kind,
            f"{each.separation:.2f}",
            f"{each.share:g}",
            percent(each.covered),
            f"{each.width:.2f}",
            *map(percent, (each.found, each.none, each.cannot, each.strange)),
            f"{each.detectable:.2f}" if np.isfinite(each.detectable) else "none",
        ]
        for each in counted
    ]
    heads = ("real and generated rows", "AUC", "π", "interval holds π", "median width")
    said = ("found", "none found", "cannot tell", "no mixture", "π found in 4 of 5")
    lines = [
        "# Provenance, checked",
        "",
        "How often the 95 % interval of the [share of generated rows](../../provenance.md) holds it. This page is the",
        f"output of `python -m studies.provenance --repetitions {repetitions} --markdown FILE`. Every repetition draws",
        f"{ROWS} real, {ROWS} generated and {ROWS} unknown rows anew and trains its classifiers on the first two.",
        f"Standard error of a share near 95 %: {100 * np.sqrt(0.95 * 0.05 / repetitions):.1f} %.",
        "",
        *table((*heads, *said), rows),
        "",
    ]
    return "\n".join(lines)


def counts(kinds: Sequence[str], repetitions: int, out: Path) -> list[Counted]:
    """Draw, judge and count; what is said of each draw is a line of a file of its kind, and is not asked again."""
    out.mkdir(parents=True, exist_ok=True)
    files = {kind: out / f"{kind.replace(' ', '-')}.jsonl" for kind in kinds}
    done = {kind: len(file.read_text().splitlines()) if file.exists() else 0 for kind, file in files.items()}
    for repetition in range(repetitions):
        for kind, file in files.items():
            if repetition >= done[kind]:
                with file.open("a") as lines:
                    lines.write(json.dumps([dataclasses.asdict(each) for each in once(kind, repetition)]) + "\n")
    found: list[Counted] = []
    for kind, file in files.items():
        said = [json.loads(line) for line in file.read_text().splitlines()[:repetitions]]
        found += count(kind, [[Provenance(**each) for each in of] for of in said])
    return found


def main() -> None:
    """Draw, and print the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.provenance", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/provenance"), help="where what is said of draws goes")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--markdown", type=Path, help="where the page goes, in place of the terminal")
    options = parser.parse_args()
    text = page(counts(list(KINDS), options.repetitions, options.out), options.repetitions)
    if options.markdown is None:
        print(text)
    else:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
