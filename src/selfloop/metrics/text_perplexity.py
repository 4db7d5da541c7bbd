"""How well models predict the next token: of held-out text, and of what a loop generates."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.generators.base import Density
from selfloop.metrics.base import METRICS, Evidence, Metric, Which
from selfloop.metrics.text_rows import TEXT, rows_of, told

_NEEDS: frozenset[Capability] = TEXT | {"density"}


def token_loss(evidence: Evidence, which: Which, model: Literal["state", "first"] = "state") -> Tensor:
    """Return the mean negative log-likelihood of a token in nats, (R,) float64.

    All tokens of a set weigh the same, the edge that ends a row among them.

    Args:
        evidence: of R arms.
        which: of the sets.
        model: that of this generation, or that of generation 0.

    Raises:
        TypeError: the generator has no log_prob.
    """
    generator = evidence.generator
    if not isinstance(generator, Density):
        raise TypeError("the generator has no log_prob")

    def compute() -> Tensor:
        total = generator.log_prob(getattr(evidence, model), getattr(evidence, which)).double().sum(1).cpu()
        return -total / torch.tensor([float(told(x).sum()) for x in rows_of(evidence, which)], dtype=torch.float64)

    return evidence.shared(("token_loss", which, model), compute)


METRICS.register(
    Metric(
        name="token_loss_held_out",
        title="Held-out loss a token",
        definition="Mean negative log-likelihood of a token of the held-out real rows under the model, edges included.",
        goal="lower",
        note="down to that of generation 0",
        version=1,
        unit="nats a token",
        scale="log",
        floor=True,
        compute=lambda e: token_loss(e, "held_out"),
        needs=_NEEDS,
        weights=True,
    ),
    *(
        Metric(
            name=f"perplexity_{which}",
            title=f"{word} perplexity",
            definition=f"Exponential of the mean negative log-likelihood of a token of {rows} under the model.",
            goal="lower",
            note="down to that of generation 0",
            version=1,
            unit="tokens",
            floor=which == "held_out",
            compute=lambda e, which=which: token_loss(e, which).exp(),  # type: ignore[misc]
            needs=_NEEDS,
            weights=True,
        )
        for which, word, rows in (
            ("train", "Training", "the real training rows"),
            ("held_out", "Held-out", "the held-out real rows"),
        )
    ),
    Metric(
        name="perplexity_first_ratio",
        title="Perplexity of samples under generation 0",
        definition=(
            "Perplexity a token of the generated rows under the model of generation 0, over that of the held-out real "
            "rows under the same model."
        ),
        goal=1.0,
        note="below 1 for samples more predictable than real text",
        version=1,
        unit="ratio",
        floor=True,
        compute=lambda e: (token_loss(e, "generated", "first") - token_loss(e, "held_out", "first")).exp(),
        needs=_NEEDS,
        weights=True,
    ),
)
