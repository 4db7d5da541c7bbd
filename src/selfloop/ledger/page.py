"""The ledger as a page of Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from selfloop.ledger.row import COARSE, LIMIT, Entry, Row, Seen, Verdict

HEADINGS = ("statement", "where", "seen in", "theirs", "ours ± s.e.", "exact", "z", "verdict")
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
    return row.statement, row.where, row.seen, theirs, ours, exact, z, verdict


def counted(rows: Sequence[Row]) -> str:
    """Return how many rows came to which verdict, in words."""
    counts = Counter(row.verdict for row in rows)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]) or "nothing"


def read_in(rows: Sequence[Row]) -> str:
    """Return how many rows were read in what, in words."""
    counts = Counter(row.seen for row in rows)
    return ", ".join(f"{seen} {counts[seen]}" for seen in Seen if counts[seen])


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
[the theory](regimes-theory.md) says, where it says something.

*How often the rule errs.* It takes ±{limit:g} as if errors were known; with few seeds they are not.
`python -m studies.ledger` draws 10,000 rows of each kind, with normal errors (95 % intervals):

| what is so | seeds | the rule errs | in theory |
|---|---|---|---|
| a number, its error known | – | 0.24% (0.16% to 0.36%) | 0.27% |
| a number | 6 | 2.92% (2.61% to 3.27%) | 3.01% |
| a number | 12 | 1.29% (1.09% to 1.53%) | 1.21% |
| a number | 14 | 1.01% (0.83% to 1.23%) | 1.02% |
| a number | 24 | 0.62% (0.48% to 0.79%) | 0.64% |
| a number | 200 | 0.28% (0.19% to 0.40%) | 0.30% |
| one run | 14 | 1.06% (0.88% to 1.28%) | 1.02% |
| a bound, just attained | 14 | 0.52% (0.40% to 0.68%) | 0.51% |
| nothing | 6 | 1.40% (1.19% to 1.65%) | 1.50% |

A right number or bound is called not reproduced; "nothing", a statement that one is larger where both are the same, is
called reproduced.

*What was seen of the papers.* *Where* is the place in the paper, *seen in* what it was read in: the paper; its
abstract; its authors' files, which are their code and the runs that they stored; others' notes, which name the place
and were held against no page of the paper; or it was not seen, and is taken over without its source. Rows by that:
{seen}.
Of Bertrand et al. the text was read. Of all others the pages that could be had end before the numbers. The logs of
Dey & Donoho (apd1995/model_collapse_universality on GitHub) were read digit by digit; the means over the runs of
Kazdan et al. are of an earlier reading. The notes on Shumailov et al., Gerstgrasser et al., Dohmatob et al. and Feng
et al. are one reader's (lonj7798/mylearning_2026, llm-training, chapter 23), who names version and equation; these
papers give formulas, and the sizes at which the rows evaluate them are that reader's. Those on Seddik et al. and
Ferbach et al. are summaries and a review, those on Khelifa et al. an audit of its source. The bounds of Suresh et al.
were read in a summary that was not found again. Not seen are the four numbers of Suresh et al.'s Poisson model and
the expression of He, Xu & Cheng for other proportions than one to one: the theory gives them, whoever printed them.

*What else to hold against it.* Sizes, and the rules that put words into numbers, were settled after first runs. Figure
8's rule here (a quarter, from the first generation, 7 retrainings) replaced one that left four of its six rows
undecided; for the maximum of the reward 12 retrainings were too few and became 60; the seeds of the two tables were 10
and became 14.

Not reproduced, for reasons that stand in the entries' sections:

{missed}

"""


def page(entries: Mapping[str, tuple[Entry, Sequence[Row]]]) -> str:
    """Return the whole page, entries with their rows by name."""
    every = [row for _, rows in entries.values() for row in rows]
    head = _HEAD.format(
        papers=len(entries),
        rows=len(every),
        counts=counted(every),
        limit=LIMIT,
        coarse=COARSE,
        missed=_missed(entries),
        seen=read_in(every),
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
