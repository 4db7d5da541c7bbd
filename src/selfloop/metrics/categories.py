"""What drift takes from categorical rows: heterozygosity, and how many categories are left."""

from __future__ import annotations

import torch
from torch import Tensor

from selfloop.metrics.base import METRICS, Metric, per_arm


def heterozygosity(x: Tensor) -> float:
    """Return H = 1 − Σ_k p_k², how probably two rows drawn with replacement differ; p_k are the shares of equal rows.

    Args:
        x: (N, *event) rows of categories, of one category where they agree in all numbers.

    Examples:
        >>> import torch
        >>> from selfloop.metrics import heterozygosity
        >>> heterozygosity(torch.tensor([[0.0], [0.0], [1.0], [1.0]]))
        0.5
    """
    share = torch.unique(x.flatten(1), dim=0, return_counts=True)[1].double() / len(x)
    return float(1 - share.square().sum())


def categories_kept(real: Tensor, generated: Tensor) -> float:
    """Return the share of the categories among the real rows that are among the generated ones, (N, *event) both.

    Examples:
        >>> import torch
        >>> from selfloop.metrics import categories_kept
        >>> categories_kept(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([[0.0], [0.0], [2.0]]))
        0.5
    """
    here, there = (torch.unique(x.flatten(1).double(), dim=0) for x in (real, generated))
    times = torch.unique(torch.cat([here, there]), dim=0, return_counts=True)[1]
    return float((times == 2).sum()) / len(here)


def _heterozygosity_ratio(train: Tensor, generated: Tensor) -> float:
    return heterozygosity(generated) / whole if (whole := heterozygosity(train)) else float("nan")


METRICS.register(
    Metric(
        name="heterozygosity_ratio",
        title="Heterozygosity H_t / H",
        definition=(
            "How probably two generated rows, drawn with replacement, are of different categories, over the same of "
            "the real training rows; rows are of one category where they agree in all numbers."
        ),
        goal=1.0,
        version=1,
        unit="ratio",
        compute=lambda e: per_arm(_heterozygosity_ratio, list(e.train), list(e.generated)),
    ),
    Metric(
        name="categories_kept",
        title="Categories kept",
        definition=(
            "Share of the categories among the real training rows that are among the generated rows too; rows are of "
            "one category where they agree in all numbers."
        ),
        goal="higher",
        version=1,
        unit="share",
        compute=lambda e: per_arm(categories_kept, list(e.train), list(e.generated)),
    ),
)
