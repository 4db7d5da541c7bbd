"""Regimes and judges of one's own are asked once before the first fit, with real rows in place of samples.

What they do wrong is then said before anything is fitted or written. What only real samples show is said when it comes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from pydantic import BaseModel
from torch import Tensor

from selfloop.arms import Arm
from selfloop.core.errors import ConfigError, SelfloopError
from selfloop.core.events import Text
from selfloop.core.registry import FAMILIES, within
from selfloop.core.samples import Samples
from selfloop.core.seeding import seeded
from selfloop.core.streams import Streams
from selfloop.data.base import first_fresh
from selfloop.data.real import Real
from selfloop.generators.base import GENERATORS, attributed
from selfloop.mixing.base import MIXINGS, Pool, draws, label, needs, ratio, sampling_temperature, training_set

_SOME = 1000
"""Real rows that are enough to see whether code runs; where it does not, all of them have to agree that it is wrong."""

_LAST = 2
"""The last generation that is rehearsed: the first that can ask for samples of two."""


def rehearse(arm: Arm, real: Real) -> None:
    """Ask an arm's regime for the training sets of the first generations, if code of the user's or a plugin's is in it.

    Few rows may be too few, and rows that are real ones to the bit too near to these: what is wrong with them has to be
    wrong, too, with as many as there are, and with rows between real ones. Random streams are drawn from by key, and
    global generators are given back as they were: no number of the run depends on it.

    Args:
        arm: whose regime it is.
        real: what is kept of its real rows.

    Raises:
        ConfigError, DataError: what the regime, or a judge that it asks, does wrong.
    """
    mixing = arm.experiment.mixing
    ratio(mixing), label(mixing)  # refuse what they are no number or text of
    _refuse_temperature(arm)
    code = [("mixing", MIXINGS.name_of(mixing)), *within(cast(BaseModel, mixing))]
    if all(FAMILIES[word].origin(name).what == "built-in" for word, name in code):
        return
    refusals: list[SelfloopError] = []
    for rows, samples in _sets(arm, real):
        try:
            with seeded(0), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they come again, of real samples
                for t in range(1, min(_LAST, arm.experiment.generations) + 1):
                    found = training_set(mixing, _pool(arm, (real.mean, real.std), rows, samples, t))
                    if isinstance(real.events, Text):
                        real.events.snap(found.x.flatten(0, 1))  # which refuses what is no token
            return
        except SelfloopError as error:
            refusals.append(error)
    said = f"{refusals[-1]} (asked before the first fit, with real rows in place of samples)"
    raise type(refusals[-1])(said) from refusals[-1]


def _refuse_temperature(arm: Arm) -> None:
    """Refuse samples at a temperature that the generator does not have, in the first generations."""
    generator, mixing = arm.experiment.generator, arm.experiment.mixing
    if "temperature" in generator.offers:
        return
    for t in (0, 1, arm.experiment.generations):
        if (temperature := sampling_temperature(mixing, t)) != 1:
            raise ConfigError(
                f"mixing {MIXINGS.name_of(mixing)!r} asks for samples of generation {t} at temperature "
                f"{temperature:g}, which generator {GENERATORS.name_of(generator)} does not have: let "
                f"sampling_temperature({t}) be 1, or use another generator"
            )


def _sets(arm: Arm, real: Real) -> Iterator[tuple[Samples, Samples]]:
    """Yield real rows (1, n, *event) and what stands for samples: some as they are, then all, moved and as they are."""
    typed = real.events.typed(real.rows, arm.experiment.generator.dtype)
    labels = real.label if "labels" in arm.experiment.generator.offers else None

    def rows(x: Tensor) -> Samples:
        label = None if labels is None else labels[torch.arange(len(x)) % len(labels)]
        return Samples.full(x[None], born=0, label=None if label is None else label[None])

    some = typed[: min(real.n, _SOME)].clone()
    yield rows(some), rows(some)
    every = typed[torch.arange(real.n) % len(typed)]
    yield rows(every), rows(((every.double() + every.roll(1, 0).double()) / 2).to(every.dtype))
    yield rows(every), rows(every)


def trained_on(arm: Arm, rows: Samples, t: int) -> float:
    """Return how many rows the fit of a generation t ≥ 1 has for every real one, by asking with a few rows for all.

    Args:
        arm: whose regime is asked.
        rows: (1, n, *event), in place of real rows and of samples.
        t: the generation.

    Raises:
        SelfloopError: the regime refuses them, as one may whose judge wants real rows or more of them.
    """
    x = rows.x.flatten(2).double()
    with seeded(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = training_set(arm.experiment.mixing, _pool(arm, (x.mean((0, 1)), x.std((0, 1))), rows, rows, t))
    return int(found.count[0]) / rows.x.shape[1]


def _pool(arm: Arm, moments: tuple[Tensor, Tensor], rows: Samples, samples: Samples, t: int) -> Pool:
    """Return what generation t may train on, the density being that of independent normals of these moments (d,)."""
    experiment, n = arm.experiment, rows.x.shape[1]

    def history(g: int) -> Samples:
        taken = samples.take((torch.arange(draws(experiment.mixing, g, n)) + g + 1) % n)
        born = torch.full_like(taken.born, g + 1)
        return attributed(experiment.generator, replace(taken, born=born))

    def fresh(k: int) -> Tensor:
        there = getattr(experiment.data, "fresh_rows", None)
        if isinstance(there, int):
            first_fresh(there, t, k)
        return rows.x[0, torch.arange(k) % n]

    labels = rows.classes(0)
    needed = needs(experiment.mixing)
    return Pool(
        t,
        rows,
        Streams((arm.seed,), t),
        history,
        fresh if "fresh" in needed else None,
        (lambda x: _density(*moments, x, experiment.generator.dtype)) if "density" in needed else None,
        experiment.data.modes(),
        fresh_label=None if labels is None else lambda k: labels[torch.arange(k) % n],
    )


def _density(mean: Tensor, std: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the log density (N,) of rows (N, *event) under independent normals."""
    std = torch.where(std > 0, std, 1.0)
    z = (x.flatten(1).double() - mean) / std
    return -(z.square() / 2 + std.log() + math.log(2 * math.pi) / 2).sum(1).to(dtype)
