"""Loops in memory: Algorithm 1 of :mod:`selfloop.loop`, of which an entry reads a few numbers an arm and generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from selfloop.arms import Arm, arms, stacks
from selfloop.core.samples import Samples, State
from selfloop.data.base import Split
from selfloop.experiment import Experiment
from selfloop.ledger.row import Doubles
from selfloop.loop import advance, load
from selfloop.mixing.parts import Composed


@dataclass(frozen=True)
class Turn:
    """A generation of the R arms of a stack.

    Attributes:
        t: its number, 0 for the fit to real rows alone.
        state: what was fitted.
        samples: drawn from it.
        split: their real data.
        metrics: the experiment's, (R,) each.
    """

    t: int
    state: State
    samples: Samples
    split: Split
    metrics: Mapping[str, Doubles]


Read = Callable[[Turn], Tensor | Doubles]


def trajectories(read: Read, **settings: Any) -> Doubles:
    """Run an experiment and return what is read of every generation, (V, S, T + 1, …).

    Args:
        read: returns (R, …) of the R arms of a generation.
        settings: of :class:`~selfloop.experiment.Experiment` but for its name, with a grid of V combinations (1 without
            a grid) and S seeds. Metrics are none unless they are named.
    """
    experiment = Experiment.build({"name": "ledger", "metrics": ["mean_error"], **settings})
    every = arms(experiment)
    found: dict[int, Doubles] = {}
    for stack in stacks(every):
        values = _run(stack, read)
        found |= {arm.index: values[:, r] for r, arm in enumerate(stack)}
    table = np.stack([found[arm.index] for arm in every])
    variants = len(experiment.variants())
    return table.reshape(variants, len(every) // variants, *table.shape[1:])


def metric(name: str) -> Read:
    """Return what reads a metric of the experiment."""
    return lambda turn: turn.metrics[name]


def _run(stack: Sequence[Arm], read: Read) -> Doubles:
    """Return what is read of a stack, (T + 1, R, …)."""
    split, last = load(stack), stack[0].experiment.generations
    kept = any(_remembers(arm) for arm in stack)
    history: dict[int, Samples] = {}
    state: State | None = None
    first: State | None = None
    found: list[Doubles] = []
    for t in range(last + 1):
        outcome = advance(stack, split, t, state, history.__getitem__, first)
        state = outcome.state
        first = state if first is None else first
        history = {**history, t: outcome.samples} if kept else {t: outcome.samples}
        records = {record["arm"]: record["metrics"] for record in outcome.records}
        names = stack[0].experiment.metrics
        metrics = {name: np.array([records[arm.index][name] for arm in stack], np.float64) for name in names}
        found.append(np.asarray(read(Turn(t, state, outcome.samples, split, metrics)), np.float64))
    return np.stack(found)


def _remembers(arm: Arm) -> bool:
    """Whether a regime looks further back than the last generation, as far as is known."""
    mixing = arm.experiment.mixing
    return not isinstance(mixing, Composed) or any(part.source in ("earlier", "all") for part in mixing.made_of())
