"""How fast a loop of likelihood fits returns to its fixed point (Bertrand et al. 2024, Section 3.1 and Appendix E).

Near the best model θ* on the data the retraining map G of infinitely many samples is linear, with the Jacobian

    J = (I + λ A⁻¹B)⁻¹ λ A⁻¹B,      A = ∇² E_data log p_θ (θ*),   B = E_{p_θ*} ∇² log p_θ (θ*).

−A is positive definite where θ* is a strict maximum, and −B is a Fisher information, positive semi-definite. So the
generalised eigenvalues μ of (−B, −A) are real and not negative, J has the eigenvalues λμ/(1 + λμ) in [0, 1), and the
loop is locally stable for every finite λ: Theorem 1 asks for λ(1 + εL/α) < 1/2, which is sufficient and not necessary.
The proof and its assumptions are in the documentation.

Legend: θ parameters, p of them; λ synthetic rows per real row; μ, v generalised eigenvalues and vectors; α least
curvature of the likelihood at θ*; εL the most that misspecification moves the Hessian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

Doubles = NDArray[np.float64]
LogProb = Callable[[Tensor, Tensor], Tensor]  # (θ (p,), x (N, *event)) → (N,) nats
Measure = tuple[Tensor, Tensor]  # points (N, *event) and weights (N,) that sum to 1

_FLAT = 1e-5  # how far from zero the gradient at a maximum may be, in units of √curvature


@dataclass(frozen=True)
class Contraction:
    """The linearised loop at a fixed point.

    Attributes:
        data_hessian: A (p, p).
        model_hessian: B (p, p).
        mu: (p,) generalised eigenvalues of (−B, −A), ascending; all 1 for a well-specified model.
    """

    data_hessian: Doubles
    model_hessian: Doubles
    mu: Doubles

    @classmethod
    def of_hessians(cls, data_hessian: Doubles, model_hessian: Doubles) -> Contraction:
        """Take A and B as they are.

        Raises:
            ValueError: they are not symmetric matrices of one size, or A is not negative definite.
        """
        a, b = np.asarray(data_hessian, np.float64), np.asarray(model_hessian, np.float64)
        if a.ndim != 2 or a.shape != b.shape or a.shape[0] != a.shape[1]:
            raise ValueError(f"A and B must be square matrices of one size, not {a.shape} and {b.shape}")
        if not (np.allclose(a, a.T) and np.allclose(b, b.T)):
            raise ValueError("A and B must be symmetric")
        try:
            mu = eigh(-b, -a, eigvals_only=True)
        except np.linalg.LinAlgError as error:
            raise ValueError("A is not negative definite: θ is no strict maximum of the likelihood") from error
        return cls(a, b, mu)

    def jacobian(self, lam: float) -> Doubles:
        """Return J (p, p) for 0 ≤ λ < inf."""
        ratio = lam * np.linalg.solve(self.data_hessian, self.model_hessian)
        return np.linalg.solve(np.eye(len(ratio)) + ratio, ratio)

    def spectrum(self, lam: float) -> Doubles:
        """Return the eigenvalues λμ/(1 + λμ) of J, ascending; for λ = inf their limits, 1 wherever μ > 0."""
        if np.isinf(lam):
            return (self.mu > 0).astype(np.float64)
        return lam * self.mu / (1 + lam * self.mu)

    def rate(self, lam: float) -> float:
        """Return ρ, the spectral radius of J: errors shrink by it a retraining in the long run."""
        return float(self.spectrum(lam).max())

    def operator_norm(self, lam: float) -> float:
        """Return ‖J‖₂, what one retraining can do to an error at most; it can be above ρ, and above 1."""
        return float(np.linalg.norm(self.jacobian(lam), 2))

    @property
    def alpha(self) -> float:
        """α, the least curvature of the expected log-likelihood at θ* (Assumption 2)."""
        return float(np.linalg.eigvalsh(-self.data_hessian)[0])

    @property
    def misfit(self) -> float:
        """‖A − B‖₂, which Assumption 1 bounds by εL; 0 for a well-specified model."""
        return float(np.linalg.norm(self.data_hessian - self.model_hessian, 2))

    def bound(self, lam: float) -> float:
        """Return Theorem 1's bound on ‖J‖₂ (Eq. 11) with ‖A − B‖ for εL; inf where it does not hold."""
        top = lam * (self.alpha + self.misfit)
        return top / (self.alpha - top) if top < self.alpha else float("inf")

    @property
    def critical_lam(self) -> float:
        """The λ below which Theorem 1 promises stability, λ(1 + εL/α) < 1/2."""
        return 0.5 / (1 + self.misfit / self.alpha)

    def amplification(self, lam: float) -> float:
        """Return 1/√(1 − ρ²): an independent error of size s at every retraining grows to this times s at worst."""
        return float(1 / np.sqrt(1 - self.rate(lam) ** 2)) if np.isfinite(lam) else float("inf")


def equal(x: Tensor) -> Measure:
    """Return rows with equal weights."""
    return x, torch.full((len(x),), 1 / len(x), dtype=x.dtype)


def contraction(log_prob: LogProb, theta: Tensor, data: Measure, model: Measure) -> Contraction:
    """Linearise the loop of a small model at θ*, by exact Hessians.

    Args:
        log_prob: twice differentiable in θ.
        theta: (p,) float64 θ*, the maximiser of the expected log-likelihood of ``data``.
        data: points and weights of the data distribution: a quadrature, or a sample with equal weights.
        model: the same of p_θ*.

    Raises:
        ValueError: the gradient at θ* is not zero, or θ* is no strict maximum.
    """

    def expected(measure: Measure) -> Callable[[Tensor], Tensor]:
        points, weights = measure
        return lambda parameters: weights @ log_prob(parameters, points)

    hessians = [_hessian(expected(measure))(theta).detach().numpy() for measure in (data, model)]
    slope = torch.func.grad(expected(data))(theta).detach().numpy()
    found = Contraction.of_hessians(*((h + h.T) / 2 for h in hessians))
    # Newton's step in the likelihood's own units: what is left to gain is half its square.
    gain = float(slope @ np.linalg.solve(-found.data_hessian, slope))
    if not gain < _FLAT**2:
        raise ValueError(
            f"θ is no maximum of the expected log-likelihood: a Newton step would still gain {gain / 2:.2g}"
        )
    return found


def _hessian(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    # Reverse over reverse: torch.func.hessian's forward mode compiles with what torch itself calls deprecated.
    # So many rows of it at a time: memory grows with them and with the points.
    return torch.func.jacrev(torch.func.grad(function), chunk_size=8)


def maximise(log_prob: LogProb, theta: Tensor, data: Measure, steps: int = 100) -> Tensor:
    """Climb from a start to a local maximum of the expected log-likelihood, by damped Newton steps.

    Args:
        log_prob: twice differentiable in θ.
        theta: (p,) float64 start.
        data: points and weights.
        steps: at most.

    Raises:
        ValueError: it has not arrived after ``steps``.
    """
    points, weights = data
    return ascend(lambda parameters: weights @ log_prob(parameters, points), theta, steps)


def ascend(function: Callable[[Tensor], Tensor], theta: Tensor, steps: int = 100) -> Tensor:
    """Climb from a start (p,) to a local maximum of a twice differentiable function, by damped Newton steps.

    Raises:
        ValueError: it has not arrived after ``steps``.
    """
    value, before = function(theta), float("inf")
    for _ in range(steps):
        slope, hessian = torch.func.grad(function)(theta), _hessian(function)(theta)
        values, vectors = torch.linalg.eigh(hessian)
        # Every eigenvalue counts as downward: away from a saddle, and never too far along what is flat.
        step = vectors @ ((vectors.T @ slope) / values.abs().clamp_min(1e-8 * float(values.abs().max())))
        gain = float(slope @ step)
        # Values do not resolve the last steps, so that these are taken unseen, as long as they get shorter.
        unseen = gain < 1e-12 * (1 + abs(float(value)))
        if gain < 1e-24 or (unseen and gain >= before):
            return theta.detach()
        if unseen:
            theta, before = theta + step, gain
            continue
        size = 1.0
        while size > 1e-12 and not (trial := function(theta + size * step)) > value:
            size /= 2
        if size <= 1e-12:  # nothing to gain but rounding
            return theta.detach()
        theta, value = theta + size * step, trial
    raise ValueError(f"no maximum was reached in {steps} Newton steps")
