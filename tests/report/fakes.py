"""A run directory that never ran: curves of plausible shape, samples that shrink where λ = ∞."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfloop.arms import arms
from selfloop.core.errors import ConfigError
from selfloop.core.records import Record
from selfloop.data.real import Real, RealRows
from selfloop.experiment import Experiment
from selfloop.metrics import METRICS
from selfloop.metrics.base import Metric
from selfloop.mixing.base import label, ratio

LAMBDAS: list[float] = [0.0, 0.5, 1.0, math.inf]
MOONS = {"name": "two_moons", "n": 400}
DIGITS = {"name": "digits"}
LINE = {"name": "gaussian", "n": 20, "dim": 1}


def experiment(data: dict[str, Any], generations: int = 10, seeds: int = 3, **changes: Any) -> Experiment:
    """Return four λ by three seeds of the Gaussian, or what ``changes`` says."""
    settings = {
        "name": "fake",
        "description": "A run that never ran.",
        "data": data,
        "generator": {"name": "gaussian"},
        "generations": generations,
        "seeds": seeds,
        "grid": {"mixing.lam": LAMBDAS},
        "metrics": ["w1_held_out", "w2_held_out", "variance_ratio", "parameter_distance"],
    }
    return Experiment.build(settings | changes)


@dataclass
class FakeRun:
    """Has what the report reads of ``selfloop.store.Run``.

    Attributes:
        path, experiment, last, environment: as of a run.
        diverge: maps an arm to the generation it ends at.
        unknown: metrics of which nothing is known.
    """

    path: Path
    experiment: Experiment
    last: int = 10
    diverge: dict[int, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=lambda: {"torch": "2.13.0", "host": {"cores": 2}})
    unknown: tuple[str, ...] = ()
    elsewhere: bool = False

    def __post_init__(self) -> None:
        self.arms = arms(self.experiment)
        self._real = RealRows.gather((arm.data_key, arm.experiment.data, arm.seed) for arm in self.arms)

    @property
    def metrics(self) -> dict[str, Metric]:
        """What is known of the metrics."""
        return {name: METRICS[name] for name in self.experiment.metrics if name not in self.unknown}

    def failures(self) -> list[str]:
        """No model raised anything."""
        return []

    @property
    def view(self) -> str:
        """What is seen, as a digest of its length."""
        return f"{self.last:064x}"

    def labels(self, t: int, arm: int) -> None:
        """There are none."""

    def metric(self, name: str) -> Metric:
        """Return what is known of a metric."""
        if name not in self.metrics:
            raise ConfigError(f"did not record metric {name!r}")
        return self.metrics[name]

    def _ended(self, t: int, arm: int) -> bool:
        return t >= self.diverge.get(arm, self.last + 1)

    @property
    def recorded(self) -> tuple[str, ...]:
        """Names of the metrics that every generation has."""
        return tuple(self.experiment.metrics)

    def records(self) -> list[Record]:
        """Return the records, with None from a divergence on."""
        return [record for t in range(self.last + 1) for record in self.of_generation(t)]

    def of_generation(self, t: int) -> list[Record]:
        """Return the records of one generation."""
        return [self._record(t, i) for i in range(len(self.arms))]

    def _record(self, t: int, i: int) -> Record:
        arm = self.arms[i]
        mixing = arm.experiment.mixing
        of = ratio(mixing)
        value = {name: None if self._ended(t, i) else self._value(name, t, i) for name in self.experiment.metrics}
        record = Record(
            generation=t,
            arm=i,
            seed=arm.seed,
            settings=arm.plain,
            regime=label(mixing),
            ratio="inf" if of == math.inf else of,
            status="diverged" if self._ended(t, i) else "ok",
            n_real=400,
            n_synthetic=0,
            born={"0": 400},
            metrics=value,
        )
        if t == 0:
            record["reference"] = {name: 0.3 for name in self.experiment.metrics if name.startswith("w")}
        return record

    def _value(self, name: str, t: int, i: int) -> float:
        arm = self.arms[i]
        lam = arm.experiment.mixing.lam
        pull = 1.0 if math.isinf(lam) else 0.05 * lam
        noise = np.random.default_rng([arm.seed, t, len(name)]).normal()
        if name in ("variance_ratio", "sqrt_covariance_ratio"):
            return 1.0 if t == 0 and name.startswith("sqrt") else math.exp(-0.15 * pull * t + 0.02 * noise)
        if name.startswith("parameter"):
            return 1e-3 * math.sqrt(t) * (1 + pull)
        return 0.5 + 0.12 * pull * t + 0.03 * noise

    def samples(self, t: int, arm: int) -> torch.Tensor:
        """Return real rows, drawn towards their mean."""
        rows = self.arms[arm].experiment.data.load([self.arms[arm].seed]).train[0]
        lam = self.arms[arm].experiment.mixing.lam
        shrink = math.exp(-0.15 * t * (math.isinf(lam)))
        return rows.mean(0) + shrink * (rows - rows.mean(0)) + 0.05 * t**0.5 * torch.sin(37 * rows)

    def real(self, arm: int) -> Real:
        """Return what a run keeps of the real rows of one arm."""
        return self._real.of(self.arms[arm].data_key)
