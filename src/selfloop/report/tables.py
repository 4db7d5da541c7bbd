"""The numbers behind the charts, as CSV and as rows of the page's tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np

from selfloop.analysis.curves import Curves, Setting, mean, std
from selfloop.core.columns import no_formula


def arms_csv(curves: Curves, metric: str) -> str:
    """Return one line per arm and generation; an empty value was not measured or not finite.

    The ratio is λ of the paper's regime as a number, inf without real rows; empty where a regime has no such number.
    """
    rows = (
        [label, ratio, arm, curves.seeds[arm], t, _exact(value)]
        for setting in curves.settings
        for label, ratio in [(no_formula(setting.label), _ratio(setting))]
        for arm in setting.arms
        for t, value in enumerate(curves.values[metric][arm].tolist())
    )
    return _csv(["setting", "ratio", "arm", "seed", "generation", no_formula(metric)], rows)


def summary_csv(curves: Curves, metric: str) -> str:
    """Return one line per setting and generation: mean and std (n − 1) over the seeds with a finite value.

    The ratio is as in :func:`arms_csv`.
    """
    rows = (
        [no_formula(setting.label), _ratio(setting), t, _exact(middle), _exact(width), int(count), floor]
        for setting in curves.settings
        for seeds, floor in [(curves.of(setting, metric), _exact(curves.floor(setting, metric)))]
        for t, (middle, width, count) in enumerate(zip(mean(seeds), std(seeds), np.isfinite(seeds).sum(0), strict=True))
    )
    return _csv(["setting", "ratio", "generation", "mean", "std", "seeds", "floor"], rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((head, *rows))
    return text.getvalue()


def _ratio(setting: Setting) -> str:
    return "" if math.isnan(setting.ratio) else repr(float(setting.ratio))


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""
