"""Networks that are told of which class an event is: what they learn of the classes, and of which they make samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Frozen, newer
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.learning.training import SHARES

if TYPE_CHECKING:
    from selfloop.generators.network import Draws, NetworkModel

    _Base = NetworkModel
else:
    _Base = object

UNKNOWN = -1
"""The label of an event whose class a network is not told."""


class Classes(Frozen):
    """The classes that a network is told of.

    Attributes:
        classes: how many there are, as many as the data have.
        labels: of which classes samples are: drawn by the shares of the classes in what the model was "trained" on, so
            that the classes drift with the loop, or each as likely as any other, "uniform", as EDM's ``generate.py``
            draws them.
        dropout: the probability that an event's class is kept from the network in training (EDM's ``label_dropout``).
    """

    classes: int = Field(ge=1, le=10_000)
    labels: Literal["trained", "uniform"] = "trained"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def untrained(self, copies: int) -> Tensor:
        """Return the shares of the classes in no data, (R, classes) float64: equal ones."""
        return torch.full((copies, self.classes), 1 / self.classes, dtype=torch.float64)

    def shares(self, data: Samples) -> Tensor:
        """Return the shares of the classes in training sets, (R, classes) float64, rows counting by their weights.

        Raises:
            ValueError: rows have no labels.
        """
        if data.label is None:
            raise ValueError("a network of classes learns from rows with labels, and these have none")
        found = []
        for r, label in enumerate(data.label):
            rows, weight = data.counting(r)
            found.append(torch.bincount(label[rows], weight, minlength=self.classes) / weight.sum())
        return torch.stack(found)

    def told(self, labels: Tensor, draws: Draws) -> Tensor:
        """Return the labels (1, B) of training events, some of them unknown."""
        if self.dropout == 0:
            return labels
        return torch.where(draws.uniform("label/dropout") < self.dropout, UNKNOWN, labels)

    def drawn(self, shares: Tensor, n: int, streams: Streams) -> Tensor:
        """Return the classes (R, n) of samples; the first k of n are those of k.

        Args:
            shares: (R, classes) of the classes in what was trained on.
            n: samples of each arm.
            streams: of the arms.
        """
        found = []
        for share, rng in zip(shares.cpu(), streams.numpy("labels"), strict=True):
            edges = (torch.ones_like(share) if self.labels == "uniform" else share).cumsum(0)
            points = torch.from_numpy(rng.random(n)) * edges[-1]
            last = int(torch.searchsorted(edges, edges[-1:]))  # rounding may carry a number to the last edge
            found.append(torch.searchsorted(edges, points, right=True).clamp_max(last))
        return torch.stack(found)


class OfClasses(_Base):
    """What is the same for all networks that may be told of classes; stands before the family's own base.

    Attributes:
        conditional: the classes; None is a network that is not told of any.
    """

    conditional: Classes | None = newer(None)

    @property
    def told(self) -> Classes | None:
        """The classes."""
        return self.conditional

    @property
    def classes(self) -> int | None:
        """How many there are."""
        return None if self.conditional is None else self.conditional.classes

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What the family has, and labels where it is told of classes."""
        return super().offers | ({"labels"} if self.conditional is not None else set())

    def labels(self, state: State, n: int, streams: Streams) -> Tensor:
        """Return the classes (R, n) of the samples that the same streams draw.

        Raises:
            ValueError: the network is not told of classes.
        """
        if self.conditional is None:
            raise ValueError("a network that is not told of classes has no labels")
        return self.conditional.drawn(state[SHARES], n, streams)
