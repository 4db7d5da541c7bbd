"""The records of a run as arrays: a curve per arm and metric; arms that differ only in seed are one setting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfloop.arms import Arm
from selfloop.core.controls import of_mixing
from selfloop.core.records import Record
from selfloop.core.settings import told_apart
from selfloop.store import Run

Array = NDArray[np.float64]

NO_SYNTHETIC = "No Synth. Data"
FULLY_SYNTHETIC = "Fully Synthetic"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Arms that differ only in seed.

    Attributes:
        label: what distinguishes it from the other settings, for people.
        arms: indices of its arms.
        ratio: synthetic rows per real one in its regime (λ of the paper's), inf without real ones, NaN where the
            regime has no such number.
        settings: the grid's keys and values.
    """

    label: str
    arms: tuple[int, ...]
    ratio: float
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Every metric of A arms over T generations; NaN where an arm has ended or a value was not measured.

    Attributes:
        settings: the groups of arms, in the order of their first arm.
        seeds: the seed of every arm.
        values: by metric, (A, T), in the order of the experiment.
        floors: by metric, (A,): its value between real training rows and held-out rows.
        ended: (A,) first generation from which on an arm has diverged, starved or been stopped, −1 for none.
        endings: "diverged", "starved" or "stopped" of every arm that has ended, "" of the others.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    values: dict[str, Array]
    floors: dict[str, Array]
    ended: NDArray[np.int64]
    endings: tuple[str, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in the order of the experiment."""
        return tuple(self.values)

    @property
    def generations(self) -> int:
        """Number of generations recorded, generation 0 among them."""
        return max((v.shape[1] for v in self.values.values()), default=0)

    def of(self, setting: Setting, metric: str) -> Array:
        """Return the curves of one setting, (seeds, T)."""
        return self.values[metric][list(setting.arms)]

    def floor(self, setting: Setting, metric: str) -> float:
        """Return the mean floor over the seeds of a setting, NaN where there is none."""
        return float(mean(self.floors[metric][list(setting.arms)]))


def mean(x: Array) -> Array:
    """Return the mean over the first axis of what is finite, NaN where nothing is."""
    finite = np.isfinite(x)
    count = finite.sum(0)
    with np.errstate(over="ignore"):
        total = np.where(finite, x, 0.0).sum(0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def std(x: Array) -> Array:
    """Return the standard deviation (n − 1 below) over the first axis of what is finite, NaN for less than 2."""
    finite = np.isfinite(x)
    freedom = finite.sum(0) - 1
    with np.errstate(over="ignore", invalid="ignore"):
        square = (np.where(finite, x - mean(x), 0.0) ** 2).sum(0)
    variance = np.divide(square, freedom, out=np.full(square.shape, np.nan), where=freedom > 0)
    return np.asarray(np.sqrt(variance))


def median(x: Array) -> Array:
    """Return the median over the first axis of what is finite, NaN where nothing is."""
    columns = [column[np.isfinite(column)] for column in x.T]
    return np.array([np.median(column) if column.size else np.nan for column in columns], dtype=np.float64)


def spread(middle: float, width: float) -> str:
    """Return "mean ± std", the std dropped where it is unknown and the whole a dash where the mean is."""
    if not math.isfinite(middle):
        return "–"
    return f"{middle:.4g}" + (f" ± {width:.2g}" if math.isfinite(width) else "")


def band(curves: Curves, setting: Setting, metric: str, log: bool) -> tuple[Array, Array]:
    """Return mean − std and mean + std, (T,) each; for a log scale cut at half of the lowest mean in the chart."""
    seeds = curves.of(setting, metric)
    middle, width = mean(seeds), std(seeds)
    low = middle - width
    if log:
        means = np.stack([mean(curves.of(other, metric)) for other in curves.settings])
        low = np.maximum(low, 0.5 * np.min(means, where=means > 0, initial=np.inf))
    return low, middle + width


def bounds(curves: Curves, metric: str, unit: str) -> tuple[float, float]:
    """Return between which values a metric can be: shares and probabilities from 0 to 1, if all that was seen is."""
    seen = curves.values[metric][np.isfinite(curves.values[metric])]
    if unit in ("share", "probability") and seen.size and seen.min() >= 0 and seen.max() <= 1:
        return 0.0, 1.0
    return -math.inf, math.inf


def read(run: Run) -> Curves:
    """Arrange the records of a run; one may lack a metric, hold None, or be missing after an arm's end."""
    arms, length = list(run.arms), run.last + 1
    row = {arm.index: i for i, arm in enumerate(arms)}
    names = run.recorded if length else ()
    values = {name: np.full((len(arms), length), np.nan) for name in names}
    floors = {name: np.full(len(arms), np.nan) for name in names}
    ended, endings = np.full(len(arms), -1, dtype=np.int64), [""] * len(arms)
    first: dict[int, Record] = {}
    for t in range(length):
        for record in run.of_generation(t):  # all of them at once would be gigabytes of a long run of many arms
            i = row[record["arm"]]
            first.setdefault(record["arm"], record)
            for name, value in record["metrics"].items():
                if value is not None:
                    values[name][i, t] = value
            for name, value in record.get("reference", {}).items():
                if value is not None:
                    floors[name][i] = value
            if record["status"] != "ok" and ended[i] < 0:
                ended[i], endings[i] = t, record["status"]
    return Curves(
        settings=group(run.arms, first),
        seeds=tuple(arm.seed for arm in arms),
        values=values,
        floors=floors,
        ended=ended,
        endings=tuple(endings),
    )


@dataclass(frozen=True)
class _Head:
    """What is known of the arms of a setting besides their curves."""

    settings: dict[str, Any]
    regime: str
    ratio: float
    arms: list[int]


def group(arms: Sequence[Arm], first: Mapping[int, Record]) -> tuple[Setting, ...]:
    """Group arms that differ only in seed, each named by its place; ``first`` has a record of each by its index."""
    return grouped([(arm.settings, first.get(arm.index)) for arm in arms])


def final(curves: Curves, setting: int, metric: str) -> str:
    """Return "mean ± std" over the seeds of a setting at the last generation."""
    last = curves.of(curves.settings[setting], metric)[:, -1:]
    return spread(float(mean(last)[0]), float(std(last)[0]))


def grouped(arms: Sequence[tuple[Mapping[str, Any], Record | None]]) -> tuple[Setting, ...]:
    """Group arms, each given by its settings and a record of it, that differ only in seed; they are counted from 0."""
    heads: dict[str, _Head] = {}
    for i, (given, record) in enumerate(arms):
        settings = {name: value for name, value in given.items() if name != "seed"}
        key = json.dumps(settings, sort_keys=True, default=str)
        heads.setdefault(key, _Head(settings, record["regime"] if record else "", _ratio(record), [])).arms.append(i)
    labels = _labels(list(heads.values()))
    return tuple(
        Setting(label=label, arms=tuple(head.arms), ratio=head.ratio, settings=head.settings)
        for label, head in zip(labels, heads.values(), strict=True)
    )


def _ratio(record: Record | None) -> float:
    value = None if record is None else record["ratio"]
    return math.nan if value is None else float(value)


def _labels(heads: Sequence[_Head]) -> list[str]:
    """Return what tells settings from each other: a regime in the words of its records, and what else varies."""
    columns = {
        key: [head.settings.get(key) for head in heads] for key in dict.fromkeys(k for h in heads for k in h.settings)
    }
    varying = {key: column for key, column in columns.items() if len(set(map(repr, column))) > 1}
    others = {key: column for key, column in varying.items() if not of_mixing(key)}
    words = _assigned(others) or [""] * len(heads)
    if len(others) == len(varying) > 0:
        return words
    labels = [
        ", ".join(filter(None, (_regime(head, alone=not others), text)))
        for head, text in zip(heads, words, strict=True)
    ]
    if len(set(labels)) < len(labels):  # a regime of the user's own may be called the same whatever its settings
        regimes = _assigned({key: column for key, column in varying.items() if of_mixing(key)})
        labels = [f"{label}, {text}" for label, text in zip(labels, regimes, strict=True)]
    return labels


def _assigned(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return settings row by row, "n = 10, dim = 2", given each key's values: by its last part where that is enough."""
    short = [key.rsplit(".", 1)[-1] for key in columns]
    named = [name if short.count(name) == 1 else key for key, name in zip(columns, short, strict=True)]
    texts = [
        [f"{name} = {text}" for text in told_apart(column)]
        for name, column in zip(named, columns.values(), strict=True)
    ]
    return [", ".join(row) for row in zip(*texts, strict=True)]


def _regime(head: _Head, alone: bool) -> str:
    """Return a regime in words, with the paper's for λ = 0 and ∞ before it where it stands alone."""
    words = head.regime or "all arms"
    if alone and head.ratio == 0:
        return f"{NO_SYNTHETIC} ({words})"
    if alone and math.isinf(head.ratio):
        return f"{FULLY_SYNTHETIC} ({words})"
    return words
