"""A run directory that never ran: curves of plausible shape, samples that shrink where λ = ∞."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfloop.experiment import Experiment

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
    """Has what the report reads of ``selfloop.store.Run``; ``diverge`` maps an arm to the generation it ends at."""

    path: Path
    experiment: Experiment
    last: int = 10
    diverge: dict[int, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=lambda: {"torch": "2.13.0", "host": {"cores": 2}})

    def __post_init__(self) -> None:
        self.arms = self.experiment.arms()

    def _ended(self, t: int, arm: int) -> bool:
        return t >= self.diverge.get(arm, self.last + 1)

    def records(self) -> list[dict[str, Any]]:
        """Return the records, with None from a divergence on."""
        return [self._record(t, i) for t in range(self.last + 1) for i in range(len(self.arms))]

    def _record(self, t: int, i: int) -> dict[str, Any]:
        arm = self.arms[i]
        value = {name: None if self._ended(t, i) else self._value(name, t, i) for name in self.experiment.metrics}
        record = {
            "generation": t,
            "arm": i,
            "seed": arm.seed,
            "settings": {k: "inf" if v == math.inf else v for k, v in arm.settings.items()},
            "status": "diverged" if self._ended(t, i) else "ok",
            "n_real": 400,
            "n_synthetic": 0,
            "metrics": value,
        }
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
        rows = self.split(arm).train[0]
        lam = self.arms[arm].experiment.mixing.lam
        shrink = math.exp(-0.15 * t * (math.isinf(lam)))
        return rows.mean(0) + shrink * (rows - rows.mean(0)) + 0.05 * t**0.5 * torch.sin(37 * rows)

    def split(self, arm: int) -> Any:
        """Return the real rows of one arm."""
        return self.arms[arm].experiment.data.load([self.arms[arm].seed])
