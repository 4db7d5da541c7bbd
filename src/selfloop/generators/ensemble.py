"""Several models that feed one loop, each of which learns from all their samples or from the others' alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.errors import ConfigError
from selfloop.core.events import Events, Kind
from selfloop.core.registry import Named
from selfloop.core.samples import Samples, State, stack
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Density, Generator, Sampler
from selfloop.learning.training import FAILED, Budget

_ULPS = 1e-9  # by which shares may miss 1
_PASSED_ON: frozenset[Capability] = frozenset(("density", "parameters", "devices", "temperature"))


@GENERATORS.register
class Ensemble(Sampler):
    """M models of one family, whose samples are one set: each has made its share of it, of any first rows too.

    As a density it is the mixture of its models by their shares. Every model has the whole budget, and random streams
    of its own; those of the first are the arm's, so that an ensemble of one is its only model, to the bit.

    State: the leaves of the family's, (R, M, …), but for ``failed`` (R,), the first step at which one has failed;
    leaves as long as a training set are padded with zeros to the longest.

    Attributes:
        of: the family that all models are of, and its settings.
        models: M.
        learn_from: whose samples a model's training set keeps, of those that the regime takes: those of "all" models,
            or of the "others" than itself. Rows that are left out take their weight with them; real rows stay.
        shares: what share of the samples each model makes; None is equal ones.
    """

    name: Literal["ensemble"] = "ensemble"
    of: Annotated[Generator, Named(GENERATORS, whole=True)] = Field(
        default_factory=lambda: GENERATORS.parse("gaussian")
    )
    models: int = Field(default=2, ge=1, le=1000)
    learn_from: Literal["all", "others"] = "all"
    shares: list[Annotated[float, Field(gt=0, le=1)]] | None = None

    @model_validator(mode="after")
    def _sound(self) -> Ensemble:
        if isinstance(self.of, Ensemble):
            raise ValueError("of: an ensemble is of models, not of ensembles")
        if self.of.starts_from is not None:
            raise ValueError("of: models of an ensemble begin untrained, and not from a file: leave out checkpoint")
        if "labels" in self.of.offers:
            raise ValueError("of: models of an ensemble are told of no classes: leave out conditional")
        if self.learn_from == "others" and self.models == 1:
            raise ValueError("learn_from: a single model has no others to learn from: raise models")
        if self.shares is not None and len(self.shares) != self.models:
            raise ValueError(f"shares: there are {len(self.shares)} of them and {self.models} models")
        if self.shares is not None and abs(sum(self.shares) - 1) > _ULPS:
            raise ValueError(f"shares: they add up to {sum(self.shares):g}, and must add up to 1")
        return self

    @property
    def trained(self) -> bool:  # type: ignore[override]
        """Whether its models are."""
        return self.of.trained

    @property
    def makes(self) -> frozenset[Kind]:  # type: ignore[override]
        """What its models make."""
        return self.of.makes

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What a mixture of models has that each of them has."""
        return self.of.offers & _PASSED_ON

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Of its models' samples."""
        return self.of.dtype

    @property
    def stack(self) -> int:  # type: ignore[override]
        """As many arms as a single model of each would be trained together."""
        return self.of.stack

    @property
    def libraries(self) -> tuple[str, ...]:  # type: ignore[override]
        """What its models need."""
        return self.of.libraries

    @property
    def fits(self) -> int:
        """M."""
        return self.models

    @property
    def batch_size(self) -> int | None:
        """Of its models, where they have one."""
        return getattr(self.of, "batch_size", None)

    def lacks(self, events: Events) -> Mapping[Capability, str]:
        """Return what its models lack."""
        return self.of.lacks(events) if isinstance(self.of, Sampler) else {}

    def refuse(self, x: Tensor) -> None:
        """Refuse real rows that none of its models makes."""
        if isinstance(self.of, Sampler):
            self.of.refuse(x)

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of M states."""
        return self.models * self.of.state_size(event) if isinstance(self.of, Sampler) else 0

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return the bytes of one model's step: they take theirs in turn."""
        return self.of.step_size(event, n) if isinstance(self.of, Sampler) else 0

    @property
    def _shares(self) -> list[float]:
        return self.shares or [1 / self.models] * self.models

    def makers(self, n: int) -> Tensor:
        """Return which model makes each of n rows, (n,) int16, so that any first k of them keep the shares.

        The j-th row of a model with the share s would be due at (j + ½)/s; rows stand in this order (Webster's method
        of apportionment). Of k rows a model has made ks, but for ½ + Ms/2 at most.
        """
        due = [(np.arange(math.ceil(share * n) + self.models) + 0.5) / share for share in self._shares]
        order = np.argsort(np.concatenate(due), kind="stable")[:n]
        edges = list(itertools.accumulate(map(len, due)))
        return torch.from_numpy(np.searchsorted(edges, order, side="right").astype(np.int16))

    def given(self, data: Samples) -> Tensor:
        """Return how many rows the model of each arm that has the fewest may learn from, (R,)."""
        if self.learn_from == "all" or data.maker is None:
            return data.count
        use = torch.arange(data.x.shape[1]) < data.count.unsqueeze(1)
        if data.weight is not None:
            use &= data.weight > 0
        return torch.stack([(use & (data.maker != m)).sum(1) for m in range(self.models)]).amin(0)

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return M untrained models of each arm."""
        return _together([self.of.init(event, streams.of_model(m)) for m in range(self.models)])

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Fit every model to its rows.

        Raises:
            ConfigError: models learn from others, and it is not known who has made some row.
        """
        fitted = [
            self.of.fit(
                _model(state, m),
                self._rows_of(m, data),
                budget,
                streams.of_model(m),
                device.after(m * len(streams.seeds)),
            )
            for m in range(self.models)
        ]
        return _together(fitted)

    def _rows_of(self, m: int, data: Samples) -> Samples:
        """Return the rows that the m-th model of each arm learns from."""
        if self.learn_from == "others":
            data = stack([_of_others(m, data.select([r])) for r in range(len(data.count))])
        return replace(data, maker=None)

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw each model's rows, where :meth:`makers` has them, at a temperature if its models have one."""
        makers, drawn, tempered = self.makers(n), [], {} if temperature == 1 else {"temperature": temperature}
        for m in range(self.models):
            own = torch.nonzero(makers == m).squeeze(1)
            if len(own):
                # A row's place may mean something, as that of kept x does, which a closed form is to keep: it draws all
                # n. To networks a place means nothing, and a row costs much.
                count = len(own) if self.trained else n
                x = self.of.sample(_model(state, m), count, streams.of_model(m), device, **tempered)
                drawn.append(x if self.trained else x[:, own])
        return torch.cat(drawn, 1)[:, makers.argsort(stable=True).argsort()]

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log density of the mixture of its models by their shares.

        Raises:
            ConfigError: they have none.
        """
        if not isinstance(self.of, Density):
            raise ConfigError(f"generator ensemble: {GENERATORS.name_of(self.of)} has no log_prob")
        parts = [math.log(share) + self.of.log_prob(_model(state, m), x) for m, share in enumerate(self._shares)]
        return torch.stack(parts).logsumexp(0) if len(parts) > 1 else parts[0]


def _of_others(m: int, arm: Samples) -> Samples:
    """Return the rows of one arm that model m has not made.

    Raises:
        ConfigError: a row is a sample of unknown origin.
    """
    made = torch.full_like(arm.born, -1) if arm.maker is None else arm.maker
    if ((arm.born > 0) & (made < 0))[:, : int(arm.count[0])].any():
        raise ConfigError(
            "generator ensemble: models learn from others, and the mixing has samples of which it does not say who "
            "made them: let it pass on those of pool.generated by first, keep, take or union"
        )
    return arm.keep(made != m)


def _model(state: State, m: int) -> State:
    """Return the m-th model of every arm, as it would be alone: not a view, whose strides would be others."""
    dense = torch.contiguous_format
    return {k: leaf if k == FAILED else leaf[:, m].clone(memory_format=dense) for k, leaf in state.items()}


def _together(models: Sequence[State]) -> State:
    """Return the state of an ensemble."""
    return {name: (_first if name == FAILED else _side_by_side)([each[name] for each in models]) for name in models[0]}


def _first(failed: Sequence[Tensor]) -> Tensor:
    """Return the first step at which a model of each arm has failed, (R,); −1 where none has."""
    steps = torch.stack(list(failed))
    never = torch.iinfo(steps.dtype).max
    first = steps.masked_fill(steps < 0, never).amin(0)
    return first.masked_fill(first == never, -1)


def _side_by_side(leaves: Sequence[Tensor]) -> Tensor:
    """Return the leaves (R, …) of M models as one, (R, M, …): those that differ in length are ended by zeros."""
    if len({leaf.shape for leaf in leaves}) > 1:
        longest = max(leaf.shape[1] for leaf in leaves)
        leaves = [
            torch.cat([leaf, leaf.new_zeros(len(leaf), longest - leaf.shape[1], *leaf.shape[2:])], 1) for leaf in leaves
        ]
    return torch.stack(list(leaves), 1)
