"""How fast a loop of likelihood fits returns to its fixed point (Bertrand et al. 2024, Section 3.1 and Appendix E).

Near the best model θ* on the data the retraining map G of infinitely many samples is linear, with the Jacobian

    J = (I + λ A⁻¹B)⁻¹ λ A⁻¹B,      A = ∇² E_data log p_θ (θ*),   B = −E_{p_θ*} s sᵀ,   s = ∇ log p_θ (θ*).

−A is assumed positive definite, and −B is Fisher's information, positive semi-definite; where differentiation and
expectation may be exchanged it is −E_{p_θ*} ∇² log p_θ as well. So the generalised eigenvalues μ of (−B, −A) are real
and not negative, J has the eigenvalues λμ/(1 + λμ) in [0, 1), and the loop is locally stable for every finite λ:
Theorem 1 asks for λ(1 + εL/α) < 1/2, which is sufficient and not necessary. The proof and its assumptions are in the
documentation.

Information is taken from scores and not from Hessians: the mean of sampled Hessians need not be definite, and gives
rates that no loop can have.

Legend: θ parameters, p of them; λ synthetic rows per real row; μ, v generalised eigenvalues and vectors; α least
curvature of the likelihood at θ*; εL the most that misspecification moves the Hessian; s score, N of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import betainccinv
from torch import Tensor

Doubles = NDArray[np.float64]
LogProb = Callable[[Tensor, Tensor], Tensor]  # (θ (p,), x (N, *event)) → (N,) nats
Measure = tuple[Tensor, Tensor]  # points (N, *event) and weights (N,) that sum to 1

_FLAT = 1e-5  # how far from zero the gradient at a maximum may be, in units of √curvature
_CENTRED = 1e-4  # how far from zero a quadrature's mean score may be, in standard deviations of the score
_BY_CHANCE = 1e-6  # how often a sample of the model is refused
_AT_ONCE = 20_000  # points whose scores are held at a time
_ROUNDING = 1e-12  # of a form, against its largest eigenvalue


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
            ValueError: they are not symmetric matrices of one size, A is not negative definite, or B not negative
                semi-definite, to rounding.
        """
        a, b = np.asarray(data_hessian, np.float64), np.asarray(model_hessian, np.float64)
        if a.ndim != 2 or a.shape != b.shape or a.shape[0] != a.shape[1]:
            raise ValueError(f"A and B must be square matrices of one size, not {a.shape} and {b.shape}")
        if not all(np.isfinite(x).all() and np.abs(x - x.T).max() <= 1e-8 * np.abs(x).max() for x in (a, b)):
            raise ValueError("A and B must be symmetric and finite")
        scale = _curvature_scale(a)
        mu = eigh(-b * scale, -a * scale, eigvals_only=True)
        if mu[0] < -1e-8 * np.abs(mu).max():
            raise ValueError("B is not negative semi-definite: −B is no information of a model")
        return cls(a, b, np.where(mu > _ROUNDING * mu[-1], mu, 0.0))

    def jacobian(self, lam: float) -> Doubles:
        """Return J (p, p) for 0 ≤ λ < inf."""
        ratio = lam * np.linalg.solve(self.data_hessian, self.model_hessian)
        return np.linalg.solve(np.eye(len(ratio)) + ratio, ratio)

    def spectrum(self, lam: float) -> Doubles:
        """Return the eigenvalues λμ/(1 + λμ) of J, ascending; for λ = inf their limits, 1 wherever μ > 0."""
        return eigenvalues(self.mu, lam)

    def rate(self, lam: float) -> float:
        """Return ρ, the spectral radius of J, below 1 for finite λ: errors shrink by it in the long run."""
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
        """Return 1/√(1 − ρ²), what independent errors of all retrainings add up to in sizes of one, at most.

        It is in the norm ‖x‖² = xᵀ(−A)x, in which J is symmetric.
        """
        slowest = lam * float(self.mu[-1])
        # From μ, since 1 − ρ² is lost to rounding for large λ.
        return (1 + slowest) / math.sqrt(1 + 2 * slowest) if math.isfinite(slowest) else math.inf

    def added(self, lam: float) -> float:
        """Return Σ λμ/(1 + 2λμ): n times the mean square that synthetic rows add to the error of n real ones, settled.

        It is in the norm ‖x‖² = xᵀ(−A)x, the likelihood lost twice, to first order in 1/n. A retraining's own error has
        the covariance λ/n (A + λB)⁻¹(−B)(A + λB)⁻¹, that of the scores of λn rows of the model; for no finite λ does it
        settle above p/2. Of a well-specified model real rows alone have p.
        """
        if math.isinf(lam):
            return math.inf
        with np.errstate(divide="ignore", over="ignore"):
            return float((1 / (2 + 1 / (lam * self.mu))).sum())

    def added_covariance(self, lam: float) -> Doubles:
        """Return C⁻ᵀV diag(λμ/(1 + 2λμ)) VᵀC⁻¹ (p, p): n times the covariance that :meth:`added` is the size of.

        −A = CCᵀ, and V holds the eigenvectors of C⁻¹(−B)C⁻ᵀ. In the coordinates VᵀCᵀx both J and a retraining's own
        covariance are diagonal, λμ/(1 + λμ) and λμ/(1 + λμ)², and the latter over 1 − J² is λμ/(1 + 2λμ).

        Args:
            lam: λ, finite: for λ = inf errors add up for ever.
        """
        scale = _curvature_scale(self.data_hessian)
        # Vectors W with Wᵀ(−A)W = I, which are C⁻ᵀV, in the units of the scale.
        mu, vectors = eigh(-self.model_hessian * scale, -self.data_hessian * scale)
        mu = np.where(mu > _ROUNDING * mu[-1], mu, 0.0)
        return np.asarray((vectors * (lam * mu / (1 + 2 * lam * mu))) @ vectors.T * scale, np.float64)


def _curvature_scale(a: Doubles) -> Doubles:
    """Return what brings A (p, p) to units in which each parameter has curvature 1: what is definite has no units.

    Raises:
        ValueError: A is not negative definite, or only by rounding.
    """
    curvature = -a.diagonal()
    if curvature.min() > 0:
        scale: Doubles = 1 / np.sqrt(np.outer(curvature, curvature))
        if eigh(-a * scale, eigvals_only=True)[0] > _ROUNDING * len(a):
            return scale
    raise ValueError("A is not negative definite: θ is no strict maximum of the likelihood")


def eigenvalues(mu: Doubles, lam: float) -> Doubles:
    """Return λμ/(1 + λμ) for 0 ≤ μ, below 1 for every finite λ; for λ = inf 1 wherever μ > 0."""
    if np.isinf(lam):
        return (mu > 0).astype(np.float64)
    with np.errstate(over="ignore", divide="ignore"):
        return np.minimum(1 / (1 + 1 / (lam * mu)), np.nextafter(1.0, 0.0))


def equal(x: Tensor) -> Measure:
    """Return rows with equal weights: a sample."""
    return x, torch.full((len(x),), 1 / len(x), dtype=x.dtype)


def contraction(log_prob: LogProb, theta: Tensor, data: Measure, model: Measure) -> Contraction:
    """Linearise the loop of a small model at θ*: by the exact Hessian on the data, and by the model's own scores.

    Args:
        log_prob: twice differentiable in θ.
        theta: (p,) float64 θ*, the maximiser of the expected log-likelihood of ``data``.
        data: points and weights of what the model is trained on: a quadrature, or a sample with equal weights.
        model: the same of p_θ*.

    Raises:
        ValueError: the gradient at θ* is not zero, θ* is no strict maximum, or the model's scores do not average to
            zero.
    """
    points, weights = data

    def expected(parameters: Tensor) -> Tensor:
        return weights @ log_prob(parameters, points)

    hessian = _hessian(expected)(theta).detach().numpy()
    hessian = (hessian + hessian.T) / 2
    slope = torch.func.grad(expected)(theta).detach().numpy()
    scale = _curvature_scale(hessian)
    # Newton's step in the likelihood's own units: what is left to gain is half its square.
    gain = float(slope @ (np.linalg.solve(-hessian * scale, np.diag(scale) ** 0.5 * slope) * np.diag(scale) ** 0.5))
    if not gain < _FLAT**2:
        raise ValueError(
            f"θ is no maximum of the expected log-likelihood: a Newton step would still gain {gain / 2:.2g}"
        )
    return Contraction.of_hessians(hessian, -information(log_prob, theta, model))


def information(log_prob: LogProb, theta: Tensor, model: Measure) -> Doubles:
    """Return Fisher's information E_{p_θ} s sᵀ (p, p) of a small model.

    Args:
        log_prob: differentiable in θ.
        theta: (p,) θ.
        model: points and weights of p_θ: a quadrature, or a sample with equal weights.

    Raises:
        ValueError: the scores do not average to zero, within 1e-4 of their standard deviations for a quadrature, and
            within what chance leaves of a sample; the points are then not of this model, or its tails are cut off.
    """
    points, weights = model
    fisher, mean = np.zeros((len(theta), len(theta))), np.zeros(len(theta))
    parts = zip(torch.split(points, _AT_ONCE), torch.split(weights.double(), _AT_ONCE), strict=True)
    for x, part in parts:
        along, w = scores(log_prob, theta, x), part.numpy()
        with torch.no_grad():
            each = torch.stack([along(unit) for unit in torch.eye(len(theta), dtype=theta.dtype)]).double().numpy()
        fisher, mean = fisher + (each * w) @ each.T, mean + each @ w
    check_centred(_off_centre(mean, fisher), weights, len(theta))
    return fisher


def scores(log_prob: LogProb, theta: Tensor, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v (p,) ↦ s(x)ᵀv, (N,), of points x (N, *event): the derivative of log p_θ(x) along v.

    It is the transpose of a gradient, itself a gradient, so that forward mode is not needed.
    """
    gradient = torch.func.vjp(lambda parameters: log_prob(parameters, x), theta)[1]
    transposed = torch.func.vjp(lambda u: gradient(u)[0], x.new_zeros(len(x), dtype=theta.dtype))[1]

    def along(v: Tensor) -> Tensor:
        found: Tensor = transposed(v)[0]
        return found

    return along


def _off_centre(mean: Doubles, fisher: Doubles) -> float:
    """Return mᵀ F⁻¹ m for a mean score m, which F = E s sᵀ keeps within [0, 1]."""
    spread = np.sqrt(fisher.diagonal())
    unit = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    return float(unit * mean @ np.linalg.lstsq(fisher * np.outer(unit, unit), unit * mean, rcond=_ROUNDING)[0])


def check_centred(off: float, weights: Tensor, directions: int) -> None:
    """Refuse a model's points whose mean score m is not zero, mᵀ F⁻¹ m = ``off`` in so many directions.

    Equal weights are those of a sample. Then ``off`` is Beta(p/2, (N − p)/2) of normal scores.

    Raises:
        ValueError: it is too large.
    """
    n = len(weights)
    sampled = bool((weights == weights[0]).all())
    if sampled and n <= directions:
        return  # so few rows tell nothing of the mean
    most = float(betainccinv(directions / 2, (n - directions) / 2, _BY_CHANCE)) if sampled else _CENTRED**2
    if not off <= most:
        raise ValueError(
            f"the model's scores do not average to zero: their mean is {off**0.5:.2g} standard deviations, "
            f"{most**0.5:.2g} at most: its points are of another model, too few, or without its tails"
        )


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
