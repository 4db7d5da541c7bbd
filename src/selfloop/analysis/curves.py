"""The records of a run as arrays: a curve per arm and metric; arms that differ only in seed are one setting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfloop.experiment import Arm
from selfloop.store import Run

Array = NDArray[np.float64]

NO_SYNTHETIC = "No Synth. Data (λ = 0)"
FULLY_SYNTHETIC = "Fully Synthetic (λ = ∞)"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Arms that differ only in seed.

    Attributes:
        label: what distinguishes it from the other settings, for people.
        arms: indices of its arms.
        lam: λ of its mixing, NaN where the mixing has none.
    """

    label: str
    arms: tuple[int, ...]
    lam: float


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Every metric of A arms over T generations; NaN where an arm diverged or a value was not measured.

    Attributes:
        settings: the groups of arms, in the order of their first arm.
        seeds: the seed of every arm.
        values: by metric, (A, T), in the order of the experiment.
        floors: by metric, (A,): its value between real training rows and held-out rows.
        diverged: (A,) first generation with status "diverged", −1 for none.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    values: dict[str, Array]
    floors: dict[str, Array]
    diverged: NDArray[np.int64]

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


def band(curves: Curves, setting: Setting, metric: str, log: bool) -> tuple[Array, Array]:
    """Return mean − std and mean + std, (T,) each; for a log scale cut at half of the lowest mean in the chart."""
    seeds = curves.of(setting, metric)
    middle, width = mean(seeds), std(seeds)
    low = middle - width
    if log:
        means = np.stack([mean(curves.of(other, metric)) for other in curves.settings])
        low = np.maximum(low, 0.5 * np.min(means, where=means > 0, initial=np.inf))
    return low, middle + width


def read(run: Run) -> Curves:
    """Arrange the records of a run; one may lack a metric, hold None, or be missing after a divergence."""
    arms = list(run.arms)
    row = {arm.index: i for i, arm in enumerate(arms)}
    records = list(run.records())
    recorded = dict.fromkeys(name for record in records for name in record["metrics"])
    names = [name for name in run.experiment.metrics if name in recorded]
    length = max((int(record["generation"]) + 1 for record in records), default=0)
    values = {name: np.full((len(arms), length), np.nan) for name in names}
    floors = {name: np.full(len(arms), np.nan) for name in names}
    diverged = np.full(len(arms), -1, dtype=np.int64)
    for record in records:
        i, t = row[record["arm"]], int(record["generation"])
        for name, value in record["metrics"].items():
            values[name][i, t] = math.nan if value is None else value
        for name, value in (record.get("reference") or {}).items():
            if name in floors and value is not None:
                floors[name][i] = value
        if record["status"] == "diverged" and diverged[i] < 0:
            diverged[i] = t
    return Curves(
        settings=group(arms),
        seeds=tuple(arm.seed for arm in arms),
        values=values,
        floors=floors,
        diverged=diverged,
    )


def group(arms: Sequence[Arm]) -> tuple[Setting, ...]:
    """Group arms, named by their place in the sequence, that differ only in seed."""
    members: dict[str, list[int]] = {}
    for i, arm in enumerate(arms):
        members.setdefault(json.dumps(_settings(arm), sort_keys=True, default=str), []).append(i)
    heads = [arms[rows[0]] for rows in members.values()]
    varying = [
        key
        for key in dict.fromkeys(key for head in heads for key in head.settings if key != "seed")
        if len({repr(head.settings.get(key)) for head in heads}) > 1
    ]
    lams = [_lam(head) for head in heads]
    return tuple(
        Setting(label=_label(head, varying, lam), arms=tuple(rows), lam=lam)
        for head, rows, lam in zip(heads, members.values(), lams, strict=True)
    )


def _settings(arm: Arm) -> dict[str, Any]:
    return {key: value for key, value in arm.settings.items() if key != "seed"}


def _lam(arm: Arm) -> float:
    lam = getattr(getattr(arm.experiment, "mixing", None), "lam", None)
    return float(lam) if isinstance(lam, int | float) else math.nan


def _label(arm: Arm, varying: Sequence[str], lam: float) -> str:
    """Return "λ = 0.5", the paper's words for λ = 0 and ∞, or what else varies: "n = 10, dim = 2"."""
    others = [key for key in varying if key != "mixing.lam"]
    short = [key.rsplit(".", 1)[-1] for key in others]
    words = [
        f"{name if short.count(name) == 1 else key} = {value_text(arm.settings.get(key))}"
        for key, name in zip(others, short, strict=True)
    ]
    if "mixing.lam" in varying or not words:
        words.insert(0, lam_text(lam, alone=not others))
    return ", ".join(words)


def lam_text(lam: float, alone: bool = True) -> str:
    """Return λ in words, the paper's where it stands alone."""
    if math.isnan(lam):
        return "all arms"
    if alone and lam == 0:
        return NO_SYNTHETIC
    if alone and math.isinf(lam):
        return FULLY_SYNTHETIC
    return f"λ = {value_text(lam)}"


def value_text(value: object) -> str:
    """Return a setting's value, short."""
    if isinstance(value, float):
        return "∞" if math.isinf(value) else f"{value:g}"
    if isinstance(value, Mapping):
        return json.dumps(value, default=str)
    return str(value)
