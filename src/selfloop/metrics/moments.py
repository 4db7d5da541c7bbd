"""Mean, covariance and spread of the generated rows against the real training rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from selfloop.metrics.arrays import ArrayLike, level, pair
from selfloop.metrics.base import METRICS, NUMBERS, Evidence, Metric, per_arm
from selfloop.metrics.demand import Demand, matrices

_COLUMNS = 1024
"""Values of an event that are float64 at once."""


def _by_columns(x: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what ``reduce`` makes of (R, N, *event) as float64 (R, N, d), (R, d), some columns at a time.

    So many images are never all in float64, which is eight times their size.
    """
    return torch.cat([reduce(columns.double()) for columns in torch.split(x.flatten(2), _COLUMNS, 2)], 1)


def _mean(x: Tensor) -> Tensor:
    return _by_columns(x, lambda columns: columns.mean(1))


def covariance(x: Tensor) -> Tensor:
    """Return the unbiased covariances (R, d, d) float64 of (R, N, *event) rows.

    Examples:
        >>> import torch
        >>> from selfloop.metrics import covariance
        >>> covariance(torch.tensor([[[0.0, 0.0], [2.0, 2.0]]]))
        tensor([[[2., 2.],
                 [2., 2.]]], dtype=torch.float64)
    """
    x = x.double().flatten(2)
    centred = x - x.mean(1, keepdim=True)
    return centred.transpose(1, 2) @ centred / (x.shape[1] - 1)


def _total_variance(x: Tensor) -> Tensor:
    # One arm at a time: of a single column torch adds in an order that depends on how many arms there are.
    return torch.cat([_by_columns(arm, lambda columns: columns.var(1)) for arm in torch.split(x, 1)]).sum(1)


def _trace_root(covariances: Tensor) -> Tensor:
    """Return tr √Σ, the sum of the principal standard deviations, of (R, d, d) covariances."""
    return torch.stack([torch.linalg.eigvalsh(c).clamp_min(0).sqrt().sum() for c in covariances])


def leading_variance_ratio(train: ArrayLike, generated: ArrayLike, share: float = 0.9) -> float:
    """Return the smallest ratio of variances along the leading principal directions of ``train``.

    Args:
        train: (n, d) real features.
        generated: (m, d) features.
        share: of the real variance that the directions hold together.

    Raises:
        ValueError: fewer than 2 rows, an entry that is not finite, or events of different sizes.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import leading_variance_ratio
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> round(leading_variance_ratio(real, generated), 1)
        0.3
    """
    (train, generated), _ = level(*pair(train, generated, ("train", "generated"), least=2))
    values, vectors = torch.linalg.eigh(covariance(train[None])[0])
    values, vectors = values.flip(0), vectors.flip(1)
    leading = int((values.cumsum(0) < share * values.sum()).sum()) + 1
    along = (vectors[:, :leading].T @ covariance(generated[None])[0] * vectors[:, :leading].T).sum(1)
    return float((along / values[:leading]).min())


def _levelled(evidence: Evidence) -> tuple[Tensor, Tensor, float]:
    """Return the generated and the training rows of all arms, (R, N, d) and (R, n, d), and the factor of size."""
    sets = (evidence.generated.flatten(2), evidence.train.flatten(2))
    flat, scale = level(*(x.flatten(0, 1) for x in sets))
    generated, train = (x.view_as(like) for x, like in zip(flat, sets, strict=True))
    return generated, train, scale


def _mean_error(evidence: Evidence) -> Tensor:
    generated, train, scale = _levelled(evidence)
    return scale * (_mean(generated) - _mean(train)).square().sum(1).sqrt()


def _covariance_error(evidence: Evidence) -> Tensor:
    generated, train, scale = _levelled(evidence)
    return scale * (covariance(generated) - covariance(train)).flatten(1).square().sum(1).sqrt() * scale


def _variance_ratio(evidence: Evidence) -> Tensor:
    generated, train, _ = _levelled(evidence)
    return _total_variance(generated) / _total_variance(train)


def _root_ratio(evidence: Evidence) -> Tensor:
    if "covariance" not in evidence.state:  # a model without Σ is judged by its samples
        generated, train, _ = _levelled(evidence)
        return _trace_root(covariance(generated)) / _trace_root(covariance(train))
    return _trace_root(evidence.state["covariance"]) / _trace_root(evidence.first["covariance"])


METRICS.register(
    Metric(
        name="mean_error",
        title="Mean error",
        definition="Euclidean distance between the means of the generated and of the real training rows.",
        goal="lower",
        needs=NUMBERS,
        version=1,
        unit="data units",
        compute=_mean_error,
    ),
    Metric(
        name="covariance_error",
        title="Covariance error",
        definition="Frobenius norm of the difference of the unbiased covariances of generated and real training rows.",
        goal="lower",
        needs=NUMBERS,
        version=1,
        unit="data units²",
        compute=_covariance_error,
        demand=lambda sizes: Demand(memory=matrices(4, sizes.event), rows={"train": 2, "generated": 2}),
    ),
    Metric(
        name="variance_ratio",
        title="Variance ratio",
        definition="Total variance tr Cov of the generated rows over that of the real training rows.",
        goal=1.0,
        needs=NUMBERS,
        version=1,
        unit="ratio",
        compute=_variance_ratio,
        demand=lambda sizes: Demand(rows={"train": 2, "generated": 2}),
    ),
    Metric(
        name="leading_variance_ratio",
        title="Variance along leading directions",
        definition=(
            "Smallest ratio of the generated to the real variance along the principal directions of the real training "
            "features that together hold 90 % of their variance."
        ),
        goal=1.0,
        version=1,
        unit="ratio",
        compute=lambda e: per_arm(leading_variance_ratio, e.featured("train"), e.featured("generated")),
        demand=lambda sizes: Demand(memory=matrices(6, sizes.features), rows={"train": 2, "generated": 2}),
    ),
    Metric(
        name="sqrt_covariance_ratio",
        title="tr √Σ_t / tr √Σ_0",
        definition=(
            "Sum of the principal standard deviations of the model over that at generation 0; "
            "for a model without Σ, of the generated over the real training rows."
        ),
        goal=1.0,
        needs=NUMBERS,
        version=1,
        unit="ratio",
        compute=_root_ratio,
        demand=lambda sizes: Demand(memory=matrices(4, sizes.event), rows={"train": 2, "generated": 2}),
        weights=True,
    ),
)
