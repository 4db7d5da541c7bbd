"""The local rate of a loop of Gaussian mixtures: their free parameters, and A and B estimated at a fitted state.

Legend: k components in d dimensions; θ = (k − 1 log odds against the last component, k means, k factors L of Σ = L Lᵀ,
the logarithms of their diagonals), p = k − 1 + k d + k d(d + 1)/2 numbers, all free. μ does not depend on the choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.mixture import GaussianMixture
from selfloop.theory.contraction import Contraction, contraction, equal, maximise

_DRAWN = 20_000  # rows of the model that stand for its expectation


@dataclass(frozen=True)
class Mixtures:
    """The family of k Gaussians in d dimensions as a function of θ."""

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


def plug_in(state: State, data: Tensor, streams: Streams) -> Contraction:
    """Estimate the linearised loop: A on the given rows, at their maximum near a fit, and B on rows of that model.

    Args:
        state: one arm's fitted leaves, (1, k, …).
        data: (N, d) real rows.
        streams: of one seed, from which the model's 20,000 rows are drawn.

    Raises:
        ValueError: there is no strict maximum near the state, such as when a covariance is at its floor.
    """
    family = Mixtures(*state["means"].shape[1:])
    theta = maximise(family.log_prob, family.theta(state), equal(data))
    drawn = GaussianMixture(components=family.k).sample(family.state(theta), _DRAWN, streams)[0]
    return contraction(family.log_prob, theta, equal(data), equal(drawn))
