"""A mixture of Gaussians with full covariances, fitted by expectation–maximisation (Dempster, Laird & Rubin 1977)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveFloat
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler, latents
from selfloop.generators.gaussian import Gaussian, symmetric_root
from selfloop.learning.training import Budget


@GENERATORS.register
class GaussianMixture(Sampler):
    """Σ_j w_j N(μ_j, Σ_j), a local maximum of the likelihood near the state that the fit goes on from.

    State: ``weights`` (R, k), ``means`` (R, k, d) and ``covariances`` (R, k, d, d), float64. Untrained components
    coincide, which is a saddle of the likelihood that expectation–maximisation never leaves; from there a fit starts at
    centres drawn by k-means++, and from everywhere else at the state itself.

    The likelihood is maximised under Σ_j ⪰ ``floor`` I: without it a component on a single row makes it infinite.
    Weights have no floor. A component to which no row belongs is gone: it keeps its place with weight 0.

    Attributes:
        components: k.
        floor: least eigenvalue of a covariance, in squared units of the data.
        tolerance: nats per row; the fit ends once an iteration gains less.
        iterations: at most, whether or not the tolerance is reached.
    """

    name: Literal["mixture"] = "mixture"
    components: Count = 2
    floor: PositiveFloat = 1e-6
    tolerance: PositiveFloat = 1e-9
    iterations: Count = 1000

    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "parameters", "parametric", "temperature"))
    dtype: ClassVar[torch.dtype] = torch.float64

    def refuse(self, x: Tensor) -> None:
        """Refuse fewer rows than components."""
        if len(x) < self.components:
            raise ValueError(f"{self.components} components need as many rows at least, and there are {len(x)}")

    def parametric(self, state: State) -> Mixtures:
        """Return the family of mixtures that a state is one of."""
        return Mixtures(*state["means"].shape[1:])

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the weights, means and covariances."""
        (d,) = event
        return self.dtype.itemsize * self.components * (1 + d + d**2)

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Return k times N(0, I), with equal weights."""
        (d,) = event
        r, k = len(streams.seeds), self.components
        return {
            "weights": torch.full((r, k), 1 / k, dtype=self.dtype),
            "means": torch.zeros(r, k, d, dtype=self.dtype),
            "covariances": torch.eye(d, dtype=self.dtype).repeat(r, k, 1, 1),
        }

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return the bytes of all rows about all components."""
        return self.dtype.itemsize * self.components * n * math.prod(event)

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Return a maximum of the likelihood near ``state``; ``budget`` plays no part."""
        # One arm at a time: they need different numbers of iterations, and get the bits that they have alone.
        fitted = [
            self._fit(_arm(state, r), *data.rows(r, self.dtype), rng)
            for r, rng in enumerate(streams.numpy("k-means++"))
        ]
        return {name: torch.stack([arm[name] for arm in fitted]) for name in fitted[0]}

    def _fit(self, arm: State, x: Tensor, weight: Tensor, rng: np.random.Generator) -> State:
        if not torch.isfinite(x).all():
            return {name: torch.full_like(leaf, math.nan) for name, leaf in arm.items()}
        if all(torch.equal(leaf, leaf[:1].expand_as(leaf)) for leaf in arm.values()):
            arm = self._start(x, weight, rng)
        before = -math.inf
        for _ in range(self.iterations):
            joint = log_joint(arm, x)
            total = joint.logsumexp(0)
            gained = float((weight * total).sum() / weight.sum())
            if not gained - before >= self.tolerance:
                break
            arm, before = self._maximised(arm, (joint - total).exp() * weight, x), gained
        return arm

    def _start(self, x: Tensor, weight: Tensor, rng: np.random.Generator) -> State:
        """Choose rows as centres by k-means++ (Arthur & Vassilvitskii 2007), with the spread that is left about them.

        One covariance for all: those of the single clusters may be of too few rows, and lead to a spike.
        """
        chosen = [_chosen(weight, rng)]
        for _ in range(1, self.components):
            away = weight * (x[:, None] - x[chosen]).square().sum(2).min(1).values
            chosen.append(_chosen(away if away.sum() > 0 else weight, rng))
        nearest = (x[:, None] - x[chosen]).square().sum(2).min(1).indices
        left = x - x[chosen][nearest]
        k = self.components
        return {
            "weights": torch.full((k,), 1 / k, dtype=self.dtype),
            "means": x[chosen],
            "covariances": self._floored(((weight.unsqueeze(1) * left).T @ left / weight.sum()).repeat(k, 1, 1)),
        }

    def _maximised(self, arm: State, belongs: Tensor, x: Tensor) -> State:
        """Return the most likely mixture of rows that count ``belongs`` (k, N) in a component.

        That is how probably they are of it, times what they count.
        """
        rows = belongs.sum(1)
        alive = rows > torch.finfo(self.dtype).eps
        share = belongs / rows.clamp_min(torch.finfo(self.dtype).eps).unsqueeze(1)
        means = share @ x
        centred = x - means.unsqueeze(1)
        covariances = self._floored((share.unsqueeze(2) * centred).transpose(1, 2) @ centred)
        return {
            "weights": torch.where(alive, rows, torch.zeros_like(rows)) / rows[alive].sum(),
            "means": torch.where(alive.view(-1, 1), means, arm["means"]),
            "covariances": torch.where(alive.view(-1, 1, 1), covariances, arm["covariances"]),
        }

    def _floored(self, covariances: Tensor) -> Tensor:
        """Raise eigenvalues to the floor, which is what maximises the likelihood under it."""
        least = self.floor * torch.eye(covariances.shape[-1], dtype=self.dtype)
        if not torch.linalg.cholesky_ex(covariances - least).info.any():
            return covariances
        values, vectors = torch.linalg.eigh(covariances)
        raised: Tensor = (vectors * values.clamp_min(self.floor).unsqueeze(1)) @ vectors.mT
        return raised

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw a component for each row, and x = μ + √(τΣ) z with the symmetric root.

        A temperature τ changes the spread of every component, and not how many rows it has. NaN where a weight is
        negative.
        """
        k, d = state["means"].shape[1:]
        z = latents(streams, (n, d), temperature, dtype=self.dtype)
        edges = state["weights"].cumsum(1)
        drawn = streams.uniform("components", (n,)).to(self.dtype) * edges[:, -1:]
        component = torch.searchsorted(edges, drawn, right=True).clamp_max(k - 1).unsqueeze(2)
        x = torch.full_like(z, math.nan)
        for j in range(k):
            of_j = state["means"][:, j].unsqueeze(1) + z @ symmetric_root(state["covariances"][:, j])
            x = torch.where(component == j, of_j, x)
        sound = (state["weights"] >= 0).all(1)
        return torch.where(sound.view(-1, 1, 1), x, torch.full_like(x, math.nan))

    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return log Σ_j w_j N(x; μ_j, Σ_j)."""
        rows = x.to(self.dtype)
        return torch.stack([log_joint(_arm(state, r), own.clone()).logsumexp(0) for r, own in enumerate(rows)])


def log_joint(arm: State, x: Tensor) -> Tensor:
    """Return log w_j + log N(x_i; μ_j, Σ_j), (k, N), of one arm's leaves (k, …) and rows (N, d)."""
    component = {"mean": arm["means"], "covariance": arm["covariances"]}
    return arm["weights"].log().unsqueeze(1) + Gaussian().log_prob(component, x.unsqueeze(0))


def _arm(state: State, r: int) -> State:
    return {name: leaf[r].clone() for name, leaf in state.items()}


def _chosen(weight: Tensor, rng: np.random.Generator) -> int:
    """Draw one of n rows by weight (n,)."""
    alike = bool((weight == weight[0]).all())
    return int(rng.choice(len(weight), p=None if alike else (weight / weight.sum()).numpy()))


@dataclass(frozen=True)
class Mixtures:
    """The family of k Gaussians in d dimensions as a function of θ (p,).

    θ = (k − 1 log odds against the last component, k means, k factors L of Σ = L Lᵀ, the logarithms of their
    diagonals), p = k − 1 + k d + k d(d + 1)/2 numbers, all free.
    """

    k: int
    d: int

    @property
    def parameters(self) -> int:
        """p."""
        return self.k * (1 + self.d + self.d * (self.d + 1) // 2) - 1

    def _parts(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log weights (k,), means (k, d) and factors (k, d, d)."""
        k, d = self.k, self.d
        odds, means, entries = torch.split(theta, [k - 1, k * d, k * d * (d + 1) // 2])
        i, j = torch.tril_indices(d, d)
        entries = torch.where(i == j, entries.view(k, -1).exp(), entries.view(k, -1))
        # Placed by a product, which can be differentiated any number of times in reverse.
        place = torch.nn.functional.one_hot(i * d + j, d * d).to(theta)
        log_weights = torch.log_softmax(torch.cat([odds, odds.new_zeros(1)]), 0)
        return log_weights, means.view(k, d), (entries @ place).view(k, d, d)

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log Σ_j w_j N(x; μ_j, Σ_j), (N,), of θ (p,) and points (N, d)."""
        log_weights, means, factors = self._parts(theta)
        centred = (x - means.unsqueeze(1)).mT
        whitened = torch.linalg.solve_triangular(factors, centred, upper=False)
        log_root = factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * self.d * math.log(2 * math.pi)
        log_prob: Tensor = ((log_weights - log_root).unsqueeze(1) - 0.5 * whitened.square().sum(1)).logsumexp(0)
        return log_prob

    def theta(self, state: State) -> Tensor:
        """Return θ (p,) of one arm's fitted leaves, (1, k, …).

        Raises:
            ValueError: a component has weight 0, so that the mixture is on the edge of the family.
        """
        weights, means, covariances = (state[name][0] for name in ("weights", "means", "covariances"))
        if not bool((weights > 0).all()):
            raise ValueError("a component is gone: the mixture is on the edge of its family")
        factors = torch.linalg.cholesky(covariances)
        i, j = torch.tril_indices(self.d, self.d)
        entries = factors[:, i, j]
        entries = torch.where(i == j, entries.log(), entries)
        return torch.cat([(weights[:-1] / weights[-1]).log(), means.flatten(), entries.flatten()])

    def state(self, theta: Tensor) -> State:
        """Return the leaves of one arm, (1, k, …), that :meth:`theta` takes."""
        log_weights, means, factors = self._parts(theta)
        leaves = {"weights": log_weights.exp(), "means": means, "covariances": factors @ factors.mT}
        return {name: leaf.detach().unsqueeze(0) for name, leaf in leaves.items()}
