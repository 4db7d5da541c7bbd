"""How far the parameters have moved (Figure 9), and how likely held-out data are under the model."""

from __future__ import annotations

import torch
from torch import Tensor

from selfloop.core.replicas import add
from selfloop.core.samples import State
from selfloop.generators.base import Density
from selfloop.learning.training import parameters
from selfloop.metrics.base import METRICS, Evidence, Metric


def parameter_distance(a: State, b: State) -> Tensor:
    """Return ‖θ_a − θ_b‖₂ / p per arm, (R,) float64, with p the number of parameters of one arm (Figure 9).

    NaN where the two have not the same parameters, as before a fit that makes them.

    Examples:
        >>> import torch
        >>> from selfloop.metrics import parameter_distance
        >>> parameter_distance({"weight": torch.zeros(1, 3, 4)}, {"weight": torch.ones(1, 3, 4)})
        tensor([0.2887], dtype=torch.float64)
    """
    copies = len(next(iter(a.values())))
    a, b = parameters(a), parameters(b)
    if not a or {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
        return torch.full((copies,), torch.nan, dtype=torch.float64)
    square = add([(a[k].double() - b[k].double()).reshape(copies, -1).square().sum(1) for k in a])
    return square.sqrt() / sum(leaf[0].numel() for leaf in a.values())


def _negative_log_likelihood(evidence: Evidence) -> Tensor:
    if not isinstance(evidence.generator, Density):
        raise TypeError("the generator has no log_prob")
    return -evidence.generator.log_prob(evidence.state, evidence.held_out).double().mean(1)


METRICS.register(
    Metric(
        name="parameter_distance",
        title="‖θ_t − θ_0‖ / p",
        definition="Euclidean distance of the parameters to those after generation 0, over their number p (Figure 9).",
        version=1,
        unit="parameter units",
        compute=lambda e: parameter_distance(e.state, e.first),
        needs=frozenset(("parameters",)),
        weights=True,
    ),
    Metric(
        name="parameter_distance_random",
        title="‖θ_t − θ_random‖ / p",
        definition="Euclidean distance of the parameters to their random initialisation, over their number p.",
        version=1,
        unit="parameter units",
        compute=lambda e: parameter_distance(e.state, e.untrained),
        needs=frozenset(("parameters",)),
        weights=True,
    ),
    Metric(
        name="nll",
        title="Held-out NLL",
        definition="Mean negative log-likelihood of the held-out real rows under the model.",
        goal="lower",
        version=1,
        unit="nats",
        scale="log",
        compute=_negative_log_likelihood,
        needs=frozenset(("density",)),
        weights=True,
    ),
)
