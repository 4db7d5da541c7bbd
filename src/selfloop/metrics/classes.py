"""Classes of labelled samples: how balanced they are, how true each is by itself, and whether samples look their part.

Legend: p_k the share of class k among labels; q_k the same among real ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from selfloop.metrics.base import METRICS, WORDS, Evidence, Metric, per_arm
from selfloop.metrics.categories import heterozygosity
from selfloop.metrics.demand import Demand
from selfloop.metrics.frechet import frechet

_LEAST = 2  # rows of a class of which there is a covariance


def class_shares(labels: Tensor, classes: int) -> Tensor:
    """Return p, (classes,) float64, of labels (N,) int64.

    Examples:
        >>> import torch
        >>> from selfloop.metrics import class_shares
        >>> class_shares(torch.tensor([0, 0, 1, 2]), 3)
        tensor([0.5000, 0.2500, 0.2500], dtype=torch.float64)
    """
    return torch.bincount(labels, minlength=classes).double() / len(labels)


def class_tv(real: Tensor, generated: Tensor, classes: int) -> float:
    """Return the total variation ½ Σ_k |p_k − q_k| of two sets of labels, (N,) and (M,): by which share p is off q.

    Examples:
        >>> import torch
        >>> from selfloop.metrics import class_tv
        >>> class_tv(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), 2)
        0.25
    """
    return float((class_shares(real, classes) - class_shares(generated, classes)).abs().sum() / 2)


def effective_classes(labels: Tensor) -> float:
    """Return the exponential of the entropy of p, of labels (N,): k where k classes are equally common (Hill 1973).

    Examples:
        >>> import torch
        >>> from selfloop.metrics import effective_classes
        >>> round(effective_classes(torch.tensor([0, 1, 2, 3])), 6)
        4.0
    """
    share = class_shares(labels, 1)
    return math.exp(-float(torch.xlogy(share, share).sum()))


def class_frechet(
    real: Tensor, generated: Tensor, real_label: Tensor, generated_label: Tensor, classes: int
) -> dict[int, float]:
    """Return the Fréchet distance of features within each class that has at least two rows in both sets.

    Args:
        real: (N, k) features.
        generated: (M, k).
        real_label: (N,) their classes.
        generated_label: (M,).
        classes: how many there are.

    Examples:
        >>> import torch
        >>> from selfloop.metrics import class_frechet
        >>> x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        >>> label = torch.arange(40) % 2
        >>> sorted(class_frechet(x, x + 1, label, label, classes=2))
        [0, 1]
    """
    found = {}
    for k in range(classes):
        both = real[real_label == k], generated[generated_label == k]
        if min(map(len, both)) >= _LEAST:
            found[k] = frechet(*both)
    return found


def _within(e: Evidence, against: Literal["train", "held_out"]) -> list[dict[int, float]]:
    """Return the distances within the classes of every arm, computed once for the mean and the worst."""
    sets = e.featured(against), e.featured("generated"), e.labels(against), e.labels("generated")
    compute = lambda: [class_frechet(*arm, e.classes) for arm in zip(*sets, strict=True)]  # noqa: E731
    return e.shared(("class_frechet", against), compute)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _over_classes(of: Callable[[Sequence[float]], float], found: dict[int, float]) -> float:
    return of(list(found.values())) if found else math.nan


def _over_training(of: Callable[[Tensor], float]) -> Callable[[Evidence], Tensor]:
    """Return what maps evidence to a number of the samples' labels over the same of the training rows', (R,)."""

    def ratio(real: Tensor, generated: Tensor) -> float:
        return of(generated) / whole if (whole := of(real)) else math.nan

    return lambda e: per_arm(ratio, list(e.labels("train")), list(e.labels("generated")))


def _agreement(e: Evidence) -> Tensor:
    if e.named is None:
        raise ValueError("these features name no classes")
    right = [e.named(x) == y for x, y in zip(e.featured("generated"), e.labels("generated"), strict=True)]
    return torch.stack([each.double().mean() for each in right])


for _against in ("train", "held_out"):
    _title = f"{'training' if _against == 'train' else 'held-out'} data"
    METRICS.register(
        Metric(
            name=f"class_tv_{_against}",
            title=f"Class imbalance to {_title}",
            definition=(
                "Total variation, half the sum over classes of how far the share of generated rows of a class is off "
                f"that of {WORDS[_against]}."
            ),
            goal="lower",
            version=1,
            unit="share",
            compute=lambda e, against=_against: per_arm(  # type: ignore[misc]
                lambda real, generated: class_tv(real, generated, e.classes),
                list(e.labels(against)),
                list(e.labels("generated")),
            ),
            floor=_against == "held_out",
            needs=frozenset(("labels",)),
        )
    )
    for _which, _of, _words in (("mean", _mean, "Mean"), ("worst", max, "Greatest")):
        METRICS.register(
            Metric(
                name=f"class_frechet_{_which}_{_against}",
                title=f"Fréchet distance within classes, {_which}, to {_title}",
                definition=(
                    f"{_words} over the classes of the squared Fréchet distance between Gaussians fitted to the "
                    f"features of a class's generated rows and of its rows in {WORDS[_against]}; classes with fewer "
                    "than two rows in either set are left out."
                ),
                goal="lower",
                version=1,
                unit="feature units²",
                compute=lambda e, against=_against, of=_of: per_arm(  # type: ignore[misc]
                    lambda found: _over_classes(of, found), _within(e, against)
                ),
                floor=_against == "held_out",
                needs=frozenset(("labels",)),
                demand=lambda sizes, against=_against: Demand(  # type: ignore[misc]
                    memory=64 * sizes.features * min(sizes.features, getattr(sizes, against)),
                    rows={against: _LEAST, "generated": _LEAST},
                ),
            )
        )

METRICS.register(
    Metric(
        name="effective_classes_ratio",
        title="Effective classes ratio",
        definition=(
            "Effective number of classes among the generated rows, the exponential of the entropy of their shares, "
            "over that of the real training rows."
        ),
        goal=1.0,
        version=1,
        unit="ratio",
        compute=_over_training(effective_classes),
        needs=frozenset(("labels",)),
    ),
    Metric(
        name="class_heterozygosity_ratio",
        title="Class heterozygosity H_t / H",
        definition=(
            "How probably two generated rows, drawn with replacement, are of different classes, over the same of the "
            "real training rows."
        ),
        goal=1.0,
        version=1,
        unit="ratio",
        compute=_over_training(lambda y: heterozygosity(y.unsqueeze(1))),
        needs=frozenset(("labels",)),
    ),
    Metric(
        name="class_agreement",
        title="Class agreement",
        definition=(
            "Share of the generated rows of which the features' classifier names the class that they were made as; "
            "beside it the same share of the real training rows."
        ),
        goal="higher",
        version=1,
        unit="share",
        compute=_agreement,
        floor=True,
        needs=frozenset(("labels", "naming")),
    ),
)
