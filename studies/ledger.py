"""How often the rule of the ledger is wrong about what is so.

``python -m studies.ledger`` draws 10,000 rows of each kind, with normal errors and from a fixed seed, and prints how
often the rule errs, with Wilson's 95 % interval, beside what Student's t says it must be:

- a number that is right, called "not reproduced": with a standard error that is known, or that ours is the mean of R
  seeds and has theirs;
- a single run of theirs, which is one more of ours;
- a bound that is just attained, called "not reproduced";
- a statement that something is larger where both are the same, called "reproduced".

The rule takes ±3 as if errors were known, so that it errs more often the fewer seeds there are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import binomtest, norm, t

from selfloop.ledger.row import LIMIT, Doubles, Kind, Measured, Published, Row, Seen, Verdict
from studies.stability import table

DRAWS = 10_000
SEEDS = (6, 12, 14, 24, 200)
HEADINGS = ("what is so", "seeds", "the rule errs", "in theory")
_SPREAD = 0.01  # of the mean, in units of the number


def verdict(theirs: Published, ours: Measured, kind: Kind = "number") -> Verdict:
    """Return what the rule says."""
    return Row(statement="", where="", seen=Seen.paper, theirs=theirs, ours=ours, kind=kind).verdict


def errs(what: str, seeds: int, rng: np.random.Generator) -> bool:
    """Draw one row of a kind, and return whether the rule errs."""
    if what == "a number, its error known":
        theirs, ours = rng.normal(1, _SPREAD, 2)
        return verdict(Published(theirs, _SPREAD, ""), Measured(float(ours), _SPREAD)) is Verdict.not_reproduced
    values: Doubles = rng.normal(0.0 if what == "nothing" else 1.0, _SPREAD * np.sqrt(seeds), seeds)
    ours = Measured.mean(values)
    if what == "one run":
        run = rng.normal(1, _SPREAD * np.sqrt(seeds))
        return verdict(Published.one_run(f"{run:.9f}", values), ours) is Verdict.not_reproduced
    kinds: dict[str, Kind] = {"a number": "number", "a bound, just attained": "at most", "nothing": "above"}
    wrong = Verdict.reproduced if what == "nothing" else Verdict.not_reproduced
    return verdict(Published.formula(0.0 if what == "nothing" else 1.0), ours, kinds[what]) is wrong


def expected(what: str, seeds: int) -> float:
    """Return how often the rule errs in theory."""
    tail = float(norm.sf(LIMIT) if what == "a number, its error known" else t.sf(LIMIT, seeds - 1))
    return tail if what in ("a bound, just attained", "nothing") else 2 * tail


def rates(draws: int = DRAWS) -> Iterator[tuple[str, int, int]]:
    """Yield each kind, its seeds, and of how many of the draws the rule errs."""
    few = SEEDS[2]
    cases = [("a number, its error known", 1), *(("a number", seeds) for seeds in SEEDS)]
    cases += [("one run", few), ("a bound, just attained", few), ("nothing", SEEDS[0])]
    for (what, seeds), rng in zip(cases, np.random.default_rng(0).spawn(len(cases)), strict=True):
        yield what, seeds, sum(errs(what, seeds, rng) for _ in range(draws))


def lines(draws: int = DRAWS) -> Iterator[str]:
    """Yield the lines of the table."""
    rows = []
    for what, seeds, wrong in rates(draws):
        low, high = binomtest(wrong, draws).proportion_ci(method="wilson")
        known = what == "a number, its error known"
        rows.append(
            (
                what,
                "–" if known else seeds,
                f"{wrong / draws:.2%} ({low:.2%} to {high:.2%})",
                f"{expected(what, seeds):.2%}",
            )
        )
    return table(HEADINGS, rows)


def main() -> None:
    """Print the table."""
    print("\n".join(lines()))


if __name__ == "__main__":
    main()
