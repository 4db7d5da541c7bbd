"""The numbers behind the charts, as CSV and as rows of the page's tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np

from selfloop.analysis.curves import Curves, mean, std


def arms_csv(curves: Curves, metric: str) -> str:
    """Return one line per arm and generation; an empty value was not measured or not finite."""
    rows = (
        [setting.label, arm, curves.seeds[arm], t, _exact(value)]
        for setting in curves.settings
        for arm in setting.arms
        for t, value in enumerate(curves.values[metric][arm])
    )
    return _csv(["setting", "arm", "seed", "generation", metric], rows)


def summary_csv(curves: Curves, metric: str) -> str:
    """Return one line per setting and generation: mean and std (n − 1) over the seeds with a finite value."""
    rows = (
        [setting.label, t, _exact(middle), _exact(width), int(count), floor]
        for setting in curves.settings
        for seeds, floor in [(curves.of(setting, metric), _exact(curves.floor(setting, metric)))]
        for t, (middle, width, count) in enumerate(zip(mean(seeds), std(seeds), np.isfinite(seeds).sum(0), strict=True))
    )
    return _csv(["setting", "generation", "mean", "std", "seeds", "floor"], rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""
