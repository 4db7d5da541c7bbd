"""How often tokens are by their rank: real rows beside those of some generations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfloop.analysis.curves import Curves, Setting
from selfloop.analysis.profile import Rows
from selfloop.core.events import Text
from selfloop.metrics.text_rows import Ids, counts, ids
from selfloop.report.style import spaced

_GENERATIONS = 4
_POINTS = 80  # of a curve, equally far apart on its logarithmic axis


@dataclass(frozen=True, eq=False)
class Ranked:
    """Shares of the tokens of a set by rank, the commonest first, on some ranks.

    Attributes:
        generation: of which it is; None of real rows.
        rank: (k,) from 1.
        share: (k,) of all tokens of the set.
    """

    generation: int | None
    rank: Ids
    share: NDArray[np.float64]


def ranked(x: Ids, generation: int | None = None) -> Ranked:
    """Return the shares of the tokens of (N, L) rows, edges not counted."""
    count = np.sort(counts(x))[::-1]
    count = count[count > 0]
    last = max(len(count), 1)
    at = np.unique(np.rint(np.geomspace(1, last, _POINTS)).astype(np.int64))[: len(count)] - 1
    return Ranked(generation, at + 1, count[at] / max(count.sum(), 1))


def frequencies(rows: Rows, curves: Curves, setting: Setting) -> list[Ranked]:
    """Return the curves of a setting's first arm: of its real rows and of some generations; [] where rows are no text.

    Arms that have ended, and sets without a token, have none.
    """
    arm = setting.arms[0]
    real = rows.real(arm)
    if not isinstance(real.events, Text):
        return []
    living = [t for t in range(curves.generations) if not 0 <= curves.ended[arm] <= t]
    made = [ranked(ids(rows.samples(t, arm)), t) for t in spaced(living, _GENERATIONS)]
    return [curve for curve in (ranked(ids(real.rows)), *made) if len(curve.rank)]
