"""What a metric is, and the evidence that every metric is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.errors import FOREIGN, ConfigError, SelfloopError, said
from selfloop.core.events import DATA_UNITS, Events
from selfloop.core.registry import Family, unknown_code
from selfloop.core.samples import State
from selfloop.features.base import FEATURE_UNITS
from selfloop.generators.base import Generator
from selfloop.metrics.demand import Demand, Sizes

Shared = TypeVar("Shared")
Which = Literal["train", "held_out", "generated"]
Scale = Literal["ratio", "log", "difference"]
_LABELLED = (("FD∞", "FD∞"), ("Fréchet distance", "FD"), ("KID", "KD"))
"""Words of titles that are taken for numbers on Inception's features, and what they are on others, before the label."""

NUMBERS: frozenset[Capability] = frozenset(("numbers",))
"""What metrics need that look at the numbers of rows themselves, of which text has none."""

WORDS = {"train": "the real training set", "held_out": "the held-out real set"}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of R arms at one generation; tensors lead with R.

    Attributes:
        generator: the family.
        state: after this generation's fit.
        first: the state after generation 0.
        untrained: the state before generation 0, the random initialisation.
        train: (R, n, *event) real training rows.
        held_out: (R, m, *event) real rows that no model trains on.
        generated: (R, n, *event) samples of this generation.
        features: maps (N, *event) rows to (N, k) features; the flag says that they are real, and so worth keeping.
        modes: centres (K, *event) of the real distribution and their standard deviation, where they are known.
        coefficients: (d − 1,) by which one column of the real rows was made of the others, where they are known.
        classes: how many there are, 0 where rows have no labels.
        train_label: (R, n) int64, the classes of the real training rows; None where there are none.
        held_out_label: (R, m), of the held-out rows.
        generated_label: (R, n), of the samples.
        named: maps features (N, k) to the classes (N,) int64 that they show, where these features name classes.
        events: what a row is, where that is known; of data that offer "columns", rows are its ``table``.
        target: the column of that table which is to be predicted, of data that offer a "target".
    """

    generator: Generator
    state: State
    first: State
    untrained: State
    train: Tensor
    held_out: Tensor
    generated: Tensor
    features: Callable[[Tensor, bool], Tensor] = lambda x, real: x.flatten(1)
    modes: tuple[Tensor, float] | None = None
    coefficients: Tensor | None = None
    classes: int = 0
    train_label: Tensor | None = None
    held_out_label: Tensor | None = None
    generated_label: Tensor | None = None
    named: Callable[[Tensor], Tensor] | None = None
    events: Events | None = None
    target: str | None = None
    _shared: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def shared(self, key: Any, compute: Callable[[], Shared]) -> Shared:
        """Return ``compute()``, computed once for all metrics that ask for it by this key."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]  # type: ignore[no-any-return]

    def featured(self, which: Which) -> list[Tensor]:
        """Return the features of one of the three sets, (n, k) for every arm."""
        rows: Tensor = getattr(self, which)
        return self.shared(which, lambda: [self.features(arm, which != "generated") for arm in rows])

    def labels(self, which: Which) -> Tensor:
        """Return the classes (R, n) of one of the three sets.

        Raises:
            ValueError: its rows have none.
        """
        found: Tensor | None = getattr(self, f"{which}_label")
        if found is None:
            raise ValueError(f"the rows of {which} have no labels")
        return found


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number per arm and generation.

    Attributes:
        name: the key in records and configurations.
        title: a short label for charts.
        definition: what is computed, in one sentence.
        version: rises whenever the same samples would give another number.
        unit: of the value; "data units" are those of the events, whatever these are, and "feature units" of features.
        compute: maps the evidence to (R,) float64.
        goal: "lower" or "higher" where that is better, the best value where there is one, None where none is better.
        note: what else there is to say of the goal.
        scale: on which changes are compared: a "ratio" of positive values; the values are a "log" of such; or, where
            they scatter about zero, a "difference" as a share of their size.
        floor: whether the value between training and held-out rows is a floor worth recording beside it.
        needs: what generator, data and features must offer.
        classes: whether the target of the data must be a category.
        weights: whether it looks at the weights too, so that saved samples alone do not give it.
        demand: maps the sizes of the sets to what it needs of them.
    """

    name: str
    title: str
    definition: str
    version: int
    unit: str
    compute: Callable[[Evidence], Tensor]
    goal: Literal["lower", "higher"] | float | None = None
    note: str = ""
    scale: Scale = "ratio"
    floor: bool = False
    needs: frozenset[Capability] = frozenset()
    classes: bool = False
    weights: bool = False
    demand: Callable[[Sizes], Demand] = lambda sizes: Demand()

    @property
    def direction(self) -> str:
        """What better means, in words: "lower is better", "1 is best"."""
        if self.goal is None:
            return "no direction"
        words = f"{self.goal} is better" if isinstance(self.goal, str) else f"{self.goal:g} is best"
        return f"{words}, {self.note}" if self.note else words

    def measured(self, data: str, features: str, label: str = "") -> Metric:
        """Return the same metric in true words: the units of events and features, and of which features it is.

        Args:
            data: the unit of the events.
            features: that of the features looked at.
            label: of the features, "" where distances need none.
        """
        if label:
            general, short = next((pair for pair in _LABELLED if pair[0] in self.title), ("", ""))
            title = self.title.replace(general, f"{short}-{label}") if general else self.title
            return replace(self, title=title).measured(data, features)
        for general, true in ((DATA_UNITS, data), (FEATURE_UNITS, features)):
            if self.unit.startswith(general):
                power = self.unit.removeprefix(general)
                return replace(self, unit=f"({true}){power}" if power and true[0].isdigit() else true + power)
        return self

    def badness(self, value: float) -> float:
        """Return what grows as samples get worse: the value, its negative, or how far it is from the goal.

        From a goal above 0 that is |ln(value / goal)|, as such metrics are ratios; NaN where none is better.
        """
        if self.goal is None or math.isnan(value):
            return math.nan
        if isinstance(self.goal, str):
            return value if self.goal == "lower" else -value
        return abs(math.log(max(value, 1e-300) / self.goal)) if self.goal > 0 else abs(value - self.goal)

    def plain(self) -> dict[str, Any]:
        """Return all but the function, as JSON takes it: what a reader needs who lacks the metric."""
        return {
            "title": self.title,
            "definition": self.definition,
            "version": self.version,
            "unit": self.unit,
            "goal": self.goal,
            "note": self.note,
            "scale": self.scale,
            "floor": self.floor,
            "weights": self.weights,
        }

    @classmethod
    def recorded(cls, name: str, plain: Mapping[str, Any]) -> Metric:
        """Return what :meth:`plain` wrote, as a metric that can be shown and not computed."""

        def absent(evidence: Evidence) -> Tensor:
            raise unknown_code("metric", name)

        return cls(name=name, compute=absent, **plain)


METRICS: Family[Metric] = Family("metric", "selfloop.metrics", {"compute": 1}, instances=True)


def computed(name: str, evidence: Evidence) -> list[float]:
    """Return a metric's values, one an arm.

    Raises:
        ConfigError: it fails, or returns something else.
    """
    try:
        found = METRICS[name].compute(evidence)
    except SelfloopError:
        raise
    except FOREIGN as error:  # whatever the metric's own code raises
        raise ConfigError(f"metric {name!r} failed: {said(error)}") from error
    r = len(evidence.train)
    if not isinstance(found, Tensor) or tuple(found.shape) != (r,):
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"metric {name!r} returned {what}: a tensor ({r},) is wanted, a value an arm")
    values: list[float] = found.double().tolist()
    return values


def per_arm(value: Callable[..., float], *sets: Sequence[Any]) -> Tensor:
    """Return ``value`` of every arm's sets, (R,) float64."""
    return torch.tensor([value(*arm) for arm in zip(*sets, strict=True)], dtype=torch.float64)


def compared(
    name: str,
    title: str,
    definition: str,
    unit: str,
    value: Callable[[Any, Any], float],
    version: int = 1,
    scale: Scale = "ratio",
    note: str = "",
    least: int = 1,
    memory: Callable[[Sizes], int] = lambda sizes: 0,
    sets: Callable[[Evidence, Which], Sequence[Any]] = Evidence.featured,
    needs: frozenset[Capability] = frozenset(),
) -> tuple[Metric, Metric]:
    """Return a distance as two metrics: of the generated features to those of the training and of the held-out set.

    Args:
        name: to which ``_train`` and ``_held_out`` are added.
        title: to which the set is added.
        definition: with "{real}" where the set is named.
        unit: of the value.
        value: maps (n, k) real and generated features to the distance.
        version: as of :class:`Metric`.
        scale: as of :class:`Metric`.
        note: as of :class:`Metric`.
        least: rows that either set must have.
        memory: as of :class:`Demand`, by the sizes.
        sets: maps the evidence to one of the sets, as ``value`` takes it, for every arm.
        needs: as of :class:`Metric`.
    """
    train, held_out = (
        Metric(
            name=f"{name}_{against}",
            title=f"{title} to {'training' if against == 'train' else 'held-out'} data",
            definition=definition.format(real=WORDS[against]),
            version=version,
            unit=unit,
            goal="lower",
            scale=scale,
            note=note,
            compute=lambda e, against=against: per_arm(value, sets(e, against), sets(e, "generated")),  # type: ignore[misc]
            floor=against == "held_out",
            needs=needs,
            demand=lambda sizes, against=against: Demand(  # type: ignore[misc]
                memory=memory(sizes), rows={against: least, "generated": least}
            ),
        )
        for against in ("train", "held_out")
    )
    return train, held_out
