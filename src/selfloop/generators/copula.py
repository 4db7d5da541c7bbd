"""The Gaussian copula: every column as it is distributed, and one normal distribution behind the ranks of all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.samples import Samples, State, category_numbers, numbered_categories
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.generators.gaussian import symmetric_root
from selfloop.learning.training import CATEGORY, ROWS, Budget

_X, _COUNT, _WEIGHT = (f"{ROWS}{name}" for name in ("x", "count", "weight"))
Floats = NDArray[np.float64]

_ORDER = 64  # of the last Hermite polynomial in which scores are expanded
_HALVINGS = 52  # until the bisection is as fine as a float


@GENERATORS.register
class Copula(Sampler):
    """Rows of quantiles F_j⁻¹(Φ(z_j)) of normal z with correlations ρ; F_j is the empirical distribution of column j.

    A category is one column: its latent z_j is cut at the cumulated shares of its levels, in the order of their
    coordinates. So is every column with equal numbers: a value stands for the interval of z_j that its rows have, and
    is scored by the mean of z_j in it. ρ_ij is the correlation of the latents under which scores i and j are correlated
    as they are in the rows, found by Mehler's expansion; without equal numbers it is that of normal scores. Where a
    number is missing neither its distribution nor its correlations know of the row.

    Samples have values that occur in the rows alone. Of rows that count w_i everything is weighted by w_i.

    State: ``correlation`` (R, d, d), that of a category at its first coordinate, the others being uncorrelated; the
    training rows ``rows.x`` (R, N, d) and ``rows.weight`` (R, N), float64, padded with zeros to the most that an arm
    has, and ``rows.count`` (R,) how many there are; ``buffers.category`` (R, d) int64, which category a coordinate is
    of, counted from 1, 0 of a number's.
    """

    name: Literal["copula"] = "copula"
    offers: ClassVar[frozenset[Capability]] = frozenset(("parameters",))
    dtype: ClassVar[torch.dtype] = torch.float64
    # Alone, an arm's state is as long as its own training set.
    stack: ClassVar[int] = 1

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the correlations."""
        return self.dtype.itemsize * math.prod(event) ** 2

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return the bytes of the scores, and of correlations, observed and latent, and of their eigenvectors."""
        return self.dtype.itemsize * math.prod(event) * (2 * n + 5 * math.prod(event))

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return no rows, which sample NaN."""
        (d,), r = event, len(streams.seeds)
        return {
            "correlation": torch.eye(d, dtype=self.dtype).repeat(r, 1, 1),
            _X: torch.zeros(r, 0, d, dtype=self.dtype),
            _COUNT: torch.zeros(r, dtype=torch.int64),
            _WEIGHT: torch.zeros(r, 0, dtype=self.dtype),
            CATEGORY: torch.zeros(r, d, dtype=torch.int64),
        }

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return the rows and their correlations; neither ``state`` nor ``budget`` plays a part."""
        arms = [data.rows(r, self.dtype) for r in range(len(data.count))]
        category = category_numbers(data.categories, data.x.shape[2])
        return {
            "correlation": torch.stack([_correlation(x, weight, category) for x, weight in arms]),
            _X: torch.nn.utils.rnn.pad_sequence([x for x, _ in arms], batch_first=True),
            _COUNT: torch.tensor([len(x) for x, _ in arms]),
            _WEIGHT: torch.nn.utils.rnn.pad_sequence([weight for _, weight in arms], batch_first=True),
            CATEGORY: category.repeat(len(arms), 1),
        }

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> Tensor:
        """Draw z = √ρ ε and take its quantiles; NaN of an arm without rows, or of rows that are not finite."""
        z = streams.normal("latents", (n, state[_X].shape[2]), dtype=self.dtype) @ symmetric_root(state["correlation"])
        return torch.stack([_quantiles(each, state, r) for r, each in enumerate(z)])


class _Column(NamedTuple):
    """Numbers, or the levels of a category.

    Attributes:
        at: its coordinates, of which the first has its latent.
        values: (n,) a number, or the number of the level, of each row.
        known: (n,) bool, in which rows it is not missing.
    """

    at: range
    values: Tensor
    known: Tensor

    def distribution(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return its values (m,) in rows that count ``weight`` (n,), rising, their shares, and which each row has."""
        weight = weight * self.known
        distinct, which = torch.unique(self.values, return_inverse=True)
        return distinct, torch.zeros_like(distinct).index_add_(0, which, weight) / weight.sum(), which


def _columns(x: Tensor, category: Tensor) -> list[_Column]:
    """Return the columns of rows (n, d), whose coordinates are of categories (d,)."""
    categories = {at.start: at for at in numbered_categories(category)}
    every = torch.ones(len(x), dtype=torch.bool)
    found: list[_Column] = []
    end = 0
    while end < x.shape[1]:
        at = categories.get(end, range(end, end + 1))
        if len(at) == 1 and end in categories:  # where the number before it is missing
            found[-1] = found[-1]._replace(known=x[:, end] < 0.5)
        own = x[:, end] if len(at) == 1 else x[:, end : at.stop].argmax(1).to(x.dtype)
        found.append(_Column(at, own, every))
        end = at.stop
    return found


def _correlation(x: Tensor, weight: Tensor, category: Tensor) -> Tensor:
    """Return the correlations (d, d) of the latents of rows (n, d) that count ``weight`` (n,)."""
    d = x.shape[1]
    if not torch.isfinite(x).all():
        return torch.full((d, d), math.nan, dtype=x.dtype)
    scores, known = torch.zeros_like(x), torch.ones_like(x)
    expansions = torch.zeros(_ORDER, d, dtype=x.dtype)
    for column in _columns(x, category):
        j = column.at[0]
        _, share, which = column.distribution(weight)
        score, expansions[:, j] = _scores(share)
        known[:, j] = column.known.to(x.dtype)
        scores[:, j] = score[which] * known[:, j]
    both = known.T @ (weight.unsqueeze(1) * known)
    observed = (scores.T @ (weight.unsqueeze(1) * scores) / both).nan_to_num(0.0)
    found = _latent(observed, expansions).fill_diagonal_(1.0)
    for j in torch.nonzero(~known.bool().all(0)).flatten().tolist():
        # No row tells how a number goes with its being missing: as both go with all else.
        rest = [i for i in range(d) if i not in (j, j + 1)]
        way = torch.linalg.pinv(found[rest][:, rest], hermitian=True) @ found[rest, j + 1]
        found[j, j + 1] = found[j + 1, j] = (found[j, rest] @ way).clamp(-1, 1)
    return _positive(found)


def _scores(share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores of m values with shares (m,), (m,), and their Hermite coefficients (_ORDER,).

    A score is E[z | z in the value's interval] of a standard normal z. The k-th coefficient is E[score(z) h_k(z)] of
    the orthonormal polynomial h_k, and ∫_a^b h_k φ = g_k(a) − g_k(b) with g_k = φ h_{k−1} / √k.
    """
    cuts = torch.from_numpy(ndtri(share.cumsum(0)[:-1].clamp(0, 1).numpy()))
    inner = torch.isfinite(cuts)  # of a value that no row has there is no interval
    t = torch.where(inner, cuts, torch.zeros_like(cuts))
    density = torch.where(inner, torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi), torch.zeros_like(t))
    edge = torch.zeros(1, dtype=share.dtype)
    score = (-torch.diff(density, prepend=edge, append=edge) / share).nan_to_num(0.0, 0.0, 0.0)
    steps = torch.diff(score) * density
    before, polynomial = torch.zeros_like(t), torch.ones_like(t)  # h_{k−2} and h_{k−1} at the cuts
    found = []
    for k in range(1, _ORDER + 1):
        found.append((steps * polynomial).sum() / math.sqrt(k))
        before, polynomial = polynomial, (t * polynomial - math.sqrt(k - 1) * before) / math.sqrt(k)
    return score, torch.stack(found)


def _latent(observed: Tensor, expansions: Tensor) -> Tensor:
    """Return the ρ (d, d) for which E[score_i score_j] = Σ_k ρ^k f_ik f_jk is what was observed (Mehler 1866).

    Args:
        observed: (d, d).
        expansions: f, (_ORDER, d).
    """
    free = torch.nonzero((expansions != 0).any(0)).flatten()  # others are of one value, or not a column's first
    f, pairs = expansions[:, free].contiguous(), torch.meshgrid(free, free, indexing="ij")
    found = np.zeros((len(free), len(free)))
    _bisect(observed[pairs].numpy(), f.numpy(), found)
    latent = torch.zeros_like(observed)
    latent[pairs] = torch.from_numpy(found)
    return latent


@njit(cache=True, nogil=True)
def _bisect(observed: Floats, f: Floats, found: Floats) -> None:
    """Write ρ of m columns, (m, m), row by row of pairs below the diagonal, so that little is held at once."""
    order, m = f.shape
    for i in range(m):
        low, high, middle, value = -np.ones(i), np.ones(i), np.zeros(i), np.zeros(i)
        for _ in range(_HALVINGS):
            for j in range(i):
                middle[j] = (low[j] + high[j]) / 2
                value[j] = 0.0
            for k in range(order - 1, -1, -1):
                own = f[k, i]
                for j in range(i):
                    value[j] = (value[j] + own * f[k, j]) * middle[j]
            for j in range(i):
                if value[j] > observed[i, j]:
                    high[j] = middle[j]
                else:
                    low[j] = middle[j]
        for j in range(i):
            found[i, j] = found[j, i] = (low[j] + high[j]) / 2


def _positive(correlation: Tensor) -> Tensor:
    """Return a matrix (d, d) with unit diagonal without its negative eigenvalues, its diagonal 1 again."""
    values, vectors = torch.linalg.eigh(correlation)
    if values.min() >= 0:
        return correlation
    found = vectors * values.clamp_min(0) @ vectors.T
    deviation = found.diagonal().sqrt()
    unit: Tensor = found / torch.outer(deviation, deviation)
    return unit


def _quantiles(z: Tensor, state: State, r: int) -> Tensor:
    """Return the rows (n, d) of an arm that latents (n, d) stand for."""
    k = int(state[_COUNT][r])
    x, weight = state[_X][r, :k], state[_WEIGHT][r, :k]
    if not len(x) or not torch.isfinite(x).all():
        return torch.full_like(z, math.nan)
    drawn = torch.zeros_like(z)
    # One number at a time, in SciPy: a vectorised Φ may round a number by where it stands.
    u = torch.from_numpy(np.asarray(ndtr(z.numpy())))
    for column in _columns(x, state[CATEGORY][r]):
        values, share, _ = column.distribution(weight)
        edges, latent = share.cumsum(0), u[:, column.at[0]].contiguous()
        chosen = values[torch.searchsorted(edges, latent * edges[-1], right=True).clamp_max(len(values) - 1)]
        if len(column.at) == 1:
            drawn[:, column.at[0]] = chosen
        else:
            drawn[torch.arange(len(z)), column.at[0] + chosen.long()] = 1.0
    return drawn
