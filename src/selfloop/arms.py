"""The arms of an experiment, and which of them train together."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selfloop.core.errors import ConfigError
from selfloop.core.registry import Absent
from selfloop.experiment import Experiment
from selfloop.mixing.base import Mixing, draws, sampling_temperature

_PROBES = (0, 1, 2, 10, 100)  # generations at which regimes are compared by how many samples they need
_MANY = 1_000_000  # and how many real rows they are told of then


@dataclass(frozen=True)
class Arm:
    """One chain of retrainings.

    Attributes:
        index: its number among the experiment's arms.
        seed: of all its random streams.
        settings: the grid's keys and this arm's values.
        experiment: the experiment with these values filled in and no grid.

    Examples:
        >>> from selfloop import Experiment
        >>> from selfloop.arms import arms
        >>> [(arm.seed, arm.settings) for arm in arms(Experiment.load("fig4-small"))]
        [(0, {'mixing.lam': inf}), (0, {'mixing.lam': 1.0})]
    """

    index: int
    seed: int
    settings: dict[str, Any]
    experiment: Experiment

    @functools.cached_property
    def plain(self) -> dict[str, Any]:
        """The settings as JSON takes them, infinity as "inf", also within a member of a family."""
        return {key: _finite(value) for key, value in self.settings.items()}

    @functools.cached_property
    def key(self) -> str:
        """What tells it from the experiment's other arms, however many there come to be."""
        return key(self.plain, self.seed)

    @functools.cached_property
    def but_for_mixing(self) -> str:
        """The settings without the regime, the seed not among them, but for how many samples it needs; as text."""
        return self._but_for("mixing")

    def _but_for(self, *without: str) -> str:
        plain, mixing = self.experiment.model_dump(exclude=set(without)), self.experiment.mixing
        needs = None if isinstance(mixing, Absent) else [_wanted(mixing, t) for t in _PROBES]
        return json.dumps([plain, needs], sort_keys=True)

    @functools.cached_property
    def at_first(self) -> tuple[str, int, float]:
        """What generation 0 is made of, the real rows among it: arms of which it is the same share it."""
        return self._but_for("mixing", "update"), self.seed, sampling_temperature(self.experiment.mixing, 0)

    @functools.cached_property
    def data_key(self) -> str:
        """What tells its real rows from those of other arms of the experiment: arms of the same key share them.

        Where a file of rows lies is no part of it, unless arms differ in that.
        """
        return key({name: value for name, value in self.plain.items() if name.split(".")[0] == "data"}, self.seed)


def infinite(value: Any) -> Any:
    """Return settings as they were before :attr:`Arm.plain` made them JSON."""
    if isinstance(value, dict):
        return {key: infinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [infinite(item) for item in value]
    return math.inf if value == "inf" else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return "inf" if value == math.inf else value


def _wanted(mixing: Mixing, t: int) -> int | None:
    """Return how many rows a regime wants, None where it does not say, as of generations that it does not know."""
    try:
        return draws(mixing, t, _MANY)
    except ConfigError:
        return None


def key(settings: dict[str, Any], seed: int) -> str:
    """Return the key of an arm by its plain settings and its seed."""
    return _PLAIN.encode([settings, seed])


_PLAIN = json.JSONEncoder(sort_keys=True)  # json.dumps would make one for every key, of which long runs have millions


def arms(experiment: Experiment) -> list[Arm]:
    """Return the arms: every combination of grid values, each with every seed.

    Raises:
        ConfigError: a grid key names no setting, or a value is not valid there.
    """
    seeds = list(range(experiment.seeds)) if isinstance(experiment.seeds, int) else experiment.seeds
    pairs = itertools.product(experiment.variants(), seeds)
    return [Arm(i, seed, settings, resolved) for i, ((settings, resolved), seed) in enumerate(pairs)]


def stacks(chosen: Sequence[Arm]) -> list[list[Arm]]:
    """Group the arms that train together: equal but for seed and regime, and drawing equally many samples.

    The grouping depends on the arms alone, never on how many processes share the work: none larger than the generator
    asks for, and of arms that are trained an even number, so that two cores have as much to do. Arms of a seed are
    together, as they share generation 0: so its fits are spread over all stacks.
    """
    groups: dict[str, list[Arm]] = {}
    for arm in sorted(chosen, key=lambda arm: arm.seed):
        groups.setdefault(arm.but_for_mixing, []).append(arm)
    return [part for group in groups.values() for part in _parts(group, len(groups) == 1)]


def _parts(group: list[Arm], alone: bool) -> Iterator[list[Arm]]:
    generator = group[0].experiment.generator
    parts = math.ceil(len(group) / generator.stack)
    if generator.trained and alone:
        parts = min(parts + parts % 2, len(group))
    edges = [round(i * len(group) / parts) for i in range(parts + 1)]
    yield from (group[a:b] for a, b in itertools.pairwise(edges))


def twins(members: Sequence[Arm]) -> list[int]:
    """Return for every arm of a stack the place of the first one of which generation 0 is the same, to the bit."""
    first: dict[tuple[str, int, float], int] = {}
    return [first.setdefault(arm.at_first, i) for i, arm in enumerate(members)]


def first_alike(groups: Sequence[Sequence[Arm]]) -> list[int]:
    """Return for every stack the first one whose arms differ from its own in what generation 0 does not see alone.

    Both train on the same real rows, so that their fits and samples are the same, to the bit.
    """
    first: dict[tuple[tuple[str, int, float], ...], int] = {}
    return [first.setdefault(tuple(arm.at_first for arm in group), i) for i, group in enumerate(groups)]
