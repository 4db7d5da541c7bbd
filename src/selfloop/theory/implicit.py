"""The local rate of a loop whose loss is no likelihood: flow matching, denoising, any differentiable ℓ_θ(x).

The retraining map G_λ(θ) = argmin_θ′ L(θ, θ′), L(θ, θ′) = E_data ℓ_θ′ + λ E_{x∼p_θ} ℓ_θ′(x), has by the implicit
function theorem (Lemma E.1 i of Bertrand et al. 2024, which uses no likelihood) the Jacobian

    J = −λ H⁻¹ C,      H = ∂²L/∂θ′²,      C = ∂θ′ ∂θ E_{x∼p_θ} ℓ_θ′(x)      at θ′ = G_λ(θ).

For a likelihood C = −∂²/∂θ′² E_{p_θ} ℓ_θ′ at θ = θ′, an information; for another loss it is not, and its derivative
goes through the sampler, x = x(θ, z) with the latents z held fixed. Two things are lost with the likelihood: J need not
have real eigenvalues below 1, and the fixed point moves with λ, since a model's samples need not be best explained by
that model.

Everything here is in reverse mode: the spectrum of J is that of Jᵀ = −λ Cᵀ H⁻¹, and Cᵀu is one gradient through loss
and sampler.

Legend: θ parameters of the model that is sampled, θ′ of the one that is trained, p of them; λ synthetic rows per real
row, weights (1, λ), or (0, 1) for λ = inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs
from torch import Tensor

from selfloop.theory.contraction import Doubles, ascend
from selfloop.theory.matrix_free import solver

_ARRIVED = 1e-10  # a Newton step this short, against the parameters, ends the search for a fixed point


@dataclass(frozen=True)
class Retraining:
    """A retraining map with its random numbers fixed, so that it is a smooth function of θ.

    Attributes:
        real: θ′ (p,) ↦ mean loss over real rows, (); a weight decay belongs here.
        synthetic: θ′ (p,), rows x (N, *event) ↦ their mean loss, ().
        sample: θ (p,) ↦ rows (N, *event) of p_θ, differentiable in θ.
    """

    real: Callable[[Tensor], Tensor]
    synthetic: Callable[[Tensor, Tensor], Tensor]
    sample: Callable[[Tensor], Tensor]

    def objective(self, theta: Tensor, after: Tensor, lam: float) -> Tensor:
        """Return L(θ, θ′), ()."""
        return self._mixed(after, self.sample(theta), lam)

    def _mixed(self, after: Tensor, x: Tensor, lam: float) -> Tensor:
        if lam == 0:
            return self.real(after)
        synthetic = self.synthetic(after, x)
        return synthetic if math.isinf(lam) else self.real(after) + lam * synthetic

    def __call__(self, theta: Tensor, lam: float) -> Tensor:
        """Return G_λ(θ), (p,): the local minimum that Newton's method reaches from θ; for models of few parameters.

        Raises:
            ValueError: it reaches none.
        """
        x = self.sample(theta).detach()
        return ascend(lambda after: -self._mixed(after, x, lam), theta)

    def _slope(self, theta: Tensor, after: Tensor, lam: float) -> Tensor:
        """Return ∂L/∂θ′ (p,)."""
        x = self.sample(theta)
        slope: Tensor = torch.func.grad(lambda a: self._mixed(a, x, lam))(after)
        return slope

    def _hessian(self, theta: Tensor, after: Tensor, lam: float) -> Doubles:
        """Return H (p, p)."""
        return _square(lambda a: self._slope(theta, a, lam), after)

    def _cross(self, theta: Tensor, after: Tensor, lam: float) -> Doubles:
        """Return λC (p, p); C for λ = inf."""
        return _square(lambda before: self._slope(before, after, lam), theta)

    def fixed_point(self, theta: Tensor, lam: float, steps: int = 50) -> Tensor:
        """Return a θ (p,) with G_λ(θ) = θ near a start, by Newton's method on ∂L/∂θ′(θ, θ) = 0.

        Unlike iterating G it finds unstable fixed points too.

        Raises:
            ValueError: it does not arrive.
        """
        for _ in range(steps):
            slope = self._slope(theta, theta, lam).detach().double().numpy()
            step = np.linalg.solve(self._hessian(theta, theta, lam) + self._cross(theta, theta, lam), slope)
            theta = (theta - torch.from_numpy(step).to(theta)).detach()
            if float(np.linalg.norm(step)) < _ARRIVED * (1 + float(theta.norm())):
                return theta
        raise ValueError(f"no fixed point was reached in {steps} Newton steps: start nearer to one")

    def jacobian(self, theta: Tensor, lam: float, after: Tensor | None = None) -> Doubles:
        """Return J (p, p) at θ, formed entry by entry: for models of few parameters.

        Args:
            theta: (p,), a fixed point unless ``after`` says otherwise.
            lam: λ > 0.
            after: (p,) G_λ(θ); None is θ itself.

        Raises:
            ValueError: ``after`` is no strict minimum of the objective.
        """
        after = theta if after is None else after
        hessian = self._hessian(theta, after, lam)
        if np.linalg.eigvalsh(hessian)[0] <= 0:
            raise ValueError("the loss does not curve upwards in every direction: θ′ is no strict minimum")
        return np.asarray(-np.linalg.solve(hessian, self._cross(theta, after, lam)))

    def leading(
        self, theta: Tensor, lam: float, *, count: int = 1, tolerance: float = 1e-6, most_products: int = 20_000
    ) -> Modes:
        """Find the eigenvalues of J of largest modulus at a fixed point, by Arnoldi's method, without forming J.

        Args:
            theta: (p,), a fixed point, float64 unless p is large.
            lam: λ > 0.
            count: how many, below p − 1.
            tolerance: relative, of the eigenvalues and of the linear systems.
            most_products: with H, in one linear system.

        Raises:
            ValueError: H has a direction of no or downward curvature, a system was not solved, or Arnoldi's method did
                not converge.
        """
        p = theta.numel()
        if count >= p - 1:
            raise ValueError(f"there are {p} parameters: jacobian() gives all eigenvalues")
        x = self.sample(theta).detach()

        def mixed(after: Tensor) -> Tensor:
            return self._mixed(after, x, lam)

        def slope(before: Tensor) -> Tensor:
            return self._slope(before, theta, lam)

        bend = torch.func.vjp(torch.func.grad(mixed), theta)[1]
        cross = torch.func.vjp(slope, theta)[1]

        def product(of: Callable[[Tensor], tuple[Tensor]], v: Doubles) -> Doubles:
            return np.asarray(of(torch.from_numpy(np.ascontiguousarray(v)).to(theta))[0].detach().double().numpy())

        solve = solver(lambda v: product(bend, v), 0.1 * tolerance, most_products)

        def transposed(u: Doubles) -> Doubles:
            return -product(cross, solve(np.real(u)))

        start = np.cos(np.arange(p, dtype=np.float64) ** 2)
        operator = LinearOperator((p, p), matvec=transposed, dtype=np.float64)
        try:
            values, vectors = eigs(operator, k=count, v0=start, ncv=min(p, max(2 * count + 1, 20)), tol=tolerance)
        except ArpackNoConvergence as error:
            raise ValueError("Arnoldi's method did not converge: ask for fewer eigenvalues") from error
        order = np.argsort(-np.abs(values))
        values, vectors = values[order], vectors[:, order]
        moved = [transposed(v.real) + 1j * transposed(v.imag) for v in vectors.T]
        residual = [np.linalg.norm(m - value * v) for m, value, v in zip(moved, values, vectors.T, strict=True)]
        return Modes(values, np.array(residual, np.float64))


@dataclass(frozen=True)
class Modes:
    """Eigenvalues of J.

    Attributes:
        values: (k,) complex, by falling modulus.
        residual: (k,) ‖Jᵀv − νv‖ / ‖v‖; J is not symmetric, so that an eigenvalue may be further off than this.
    """

    values: np.ndarray
    residual: Doubles

    @property
    def rate(self) -> float:
        """ρ, the largest modulus."""
        return float(np.abs(self.values[0]))


def _square(function: Callable[[Tensor], Tensor], at: Tensor) -> Doubles:
    """Return the Jacobian (p, p) of a function of θ, float64."""
    return np.asarray(torch.func.jacrev(function)(at).detach().double().numpy())
