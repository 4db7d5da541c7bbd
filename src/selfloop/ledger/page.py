"""The ledger as a page of Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from selfloop.ledger.row import COARSE, LIMIT, Entry, Row, Verdict

HEADINGS = ("statement", "where", "theirs", "ours ± s.e.", "exact", "z", "verdict")
"""Of the columns that :func:`cells` fills."""

_SIGNS = {"number": "", "at least": "≥ ", "at most": "≤ ", "above": "> ", "below": "< "}


def cells(row: Row) -> tuple[str, ...]:
    """Return a row of a table, in words; "–" where there is nothing to say."""
    theirs = "–" if row.theirs is None else _SIGNS[row.kind] + row.theirs.text
    if row.theirs is not None and row.kind == "number" and row.theirs.error:
        theirs += f" ± {row.theirs.error:.2g}"
    ours = "–" if row.ours is None else f"{row.ours.value:.5g} ± {row.ours.error:.2g}"
    exact = "–" if row.exact is None else f"{row.exact:.5g}"
    z = "–" if row.z is None else f"{row.z:+.2f}"
    verdict = f"{row.verdict} ({row.reason})" if row.reason else str(row.verdict)
    return row.statement, row.where, theirs, ours, exact, z, verdict


def counted(rows: Sequence[Row]) -> str:
    """Return how many rows came to which verdict, in words."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]) or "nothing"


_AS_ITSELF = re.compile(r"[|*]")  # what Markdown would take for the end of a cell, or for emphasis


def section(name: str, entry: Entry, rows: Sequence[Row]) -> str:
    """Return the section of an entry: what was run, the table, what was found."""
    lines = [
        f"## {name}",
        "",
        f"{entry.title} ({entry.source}): {counted(rows)}.",
        "",
        f"*Run here.* {entry.recipe}",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    for row in rows:
        *words, verdict = (_AS_ITSELF.sub(r"\\\g<0>", cell) for cell in cells(row))
        failed = row.verdict is Verdict.not_reproduced
        lines.append("| " + " | ".join([*words, f"**{verdict}**" if failed else verdict]) + " |")
    return "\n".join([*lines, "", f"*Found.* {entry.found}", ""])


_HEAD = """\
# The ledger: published numbers, run again

`selfloop reproduce --all` runs what {papers} papers published about self-consuming loops again, with the regimes,
generators and data of this package and seeds that are fixed: {rows} rows, {counts}.
`selfloop reproduce` lists the entries, `selfloop reproduce NAME` runs one.

*The rule.* z is ours less theirs, over both standard errors together. Theirs is the one that they published; of a
number without one half a unit of its last digit; of a single run with chance in it the spread of our runs; of a formula
0. A number is *reproduced* if |z| < {limit:g}. A bound (≥, ≤) is, unless ours is on its wrong side by as much. A
statement (>, <) is, if ours shows it by {limit:g} standard errors or more, and it is not, if ours shows the contrary by
as much; where a paper says it in words or in a figure, the row names the rule that it was put as. What is neither is
*not comparable*, with the reason: ours is more uncertain than {coarse:.0%} of it and than twice theirs, or does
not decide a statement; its conditions were not seen; or it takes too long here. *Exact* is what
[the theory](regimes-theory.md) says, where it says something. *Where* is the place as far as it was seen: the paper,
its abstract, its authors' code, or a summary by others.

*What to hold against it.* Sizes, and the rules that put words into numbers, were settled after first runs. Figure 8's
rule here (a quarter, from the first generation, 7 retrainings) replaced one that left four of its six rows undecided;
for the maximum of the reward 12 retrainings were too few and became 60; the accuracy of augmented diabetes was z = 3.3
with 10 seeds, and is below 3 with 14. The printed numbers of Gerstgrasser et al., Dey & Donoho, Suresh et al.,
Shumailov et al. and Feng et al. were taken over without their pages at hand: under the conditions that the rows name
the theory gives them.

Not reproduced, for reasons that stand in the entries' sections:

{missed}

"""


def page(entries: Mapping[str, tuple[Entry, Sequence[Row]]]) -> str:
    """Return the whole page, entries with their rows by name."""
    every = [row for _, rows in entries.values() for row in rows]
    head = _HEAD.format(
        papers=len(entries), rows=len(every), counts=counted(every), limit=LIMIT, coarse=COARSE, missed=_missed(entries)
    )
    sections = [section(name, entry, rows) for name, (entry, rows) in entries.items()]
    return head + "\n".join([*sections, "This page is the output of `selfloop reproduce --all --markdown`.", ""])


def _missed(entries: Mapping[str, tuple[Entry, Sequence[Row]]]) -> str:
    """Return the list of what is not reproduced."""
    missed = [
        f"- [{name}](#{name}): {row.statement}, {row.theirs.text} there and {row.ours.value:.4g} here"
        for name, (_, rows) in entries.items()
        for row in rows
        if row.verdict is Verdict.not_reproduced and row.theirs is not None and row.ours is not None
    ]
    return "\n".join(missed or ["- nothing."])
