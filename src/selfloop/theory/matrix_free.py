"""The leading eigenvalues of the loop's Jacobian for models of many parameters, by Hessian-vector products.

:mod:`selfloop.theory.contraction` forms A and B, p × p each. Here neither is: Lanczos' method (ARPACK, through SciPy)
asks only for products with −B and −A and for solutions of −A x = b, which conjugate gradients find from products with
−A. A product costs about two gradients: with −A a gradient of the log-likelihood, and its derivative in reverse mode,
the Hessian being symmetric; with −B = E s sᵀ the scores along a vector, and a gradient weighted by them.

Legend: θ parameters, p of them; s score; A expected Hessian on data, −B information on the model's own samples; μ, v
generalised eigenvalues and vectors of (−B, −A); δ weight decay; λ synthetic rows per real row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, cg, eigsh
from torch import Tensor

from selfloop.core.samples import State
from selfloop.theory.contraction import Doubles, LogProb, Measure, check_centred, eigenvalues, scores

Product = Callable[[Doubles], Doubles]


def flatten(params: State) -> tuple[Tensor, Callable[[Tensor], State]]:
    """Return the parameters of one model as a vector (p,), and the way back, which gradients pass.

    Args:
        params: leaves without a replica axis.
    """
    shapes = {name: leaf.shape for name, leaf in params.items()}

    def unflatten(theta: Tensor) -> State:
        pieces = torch.split(theta, [shape.numel() for shape in shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}

    return torch.cat([leaf.reshape(-1) for leaf in params.values()]), unflatten


@dataclass(frozen=True)
class Leading:
    """The largest μ of (−B, −A), and how well they are known.

    Attributes:
        mu: (k,) eigenvalues, descending.
        vectors: (p, k) their eigenvectors, of length 1.
        residual: (k,) an eigenvalue of the given samples is no further than this from each.
        quotient: (k,) Rayleigh quotients of the vectors on the samples held out. They fall short of the true μ on
            average, because the vectors were chosen for other samples, as ``mu`` exceeds it for having chosen.
        error: (k,) standard errors of the quotients.
    """

    mu: Doubles
    vectors: Doubles
    residual: Doubles
    quotient: Doubles
    error: Doubles

    def spectrum(self, lam: float) -> Doubles:
        """Return the leading eigenvalues λμ/(1 + λμ) of J, descending, 1 for λ = inf."""
        return eigenvalues(self.mu, lam)

    def rate(self, lam: float) -> float:
        """Return ρ, the spectral radius of J, below 1 for finite λ."""
        return float(self.spectrum(lam)[0])


def leading(
    log_prob: LogProb,
    theta: Tensor,
    data: Measure,
    model: Measure,
    *,
    held_out: tuple[Measure, Measure] | None = None,
    count: int = 1,
    weight_decay: float = 0.0,
    batch_size: int = 1024,
    tolerance: float = 1e-6,
    most_products: int = 20_000,
) -> Leading:
    """Find the largest generalised eigenvalues of (−B, −A) at θ*.

    A model with more parameters than its data determine has flat directions, in which A is singular: then the fit needs
    a weight decay to have a strict maximum, E log p_θ − δ/2 ‖θ‖², and A becomes A − δI. The expected samples should
    outnumber the parameters they are to determine, or the largest μ of the samples is far above the true one; quotients
    on samples held out say so.

    Args:
        log_prob: twice differentiable in θ.
        theta: (p,) θ*, float32 or float64.
        data: points and weights of the data distribution.
        model: the same of p_θ*.
        held_out: more of both, for ``quotient`` and its error; None takes ``data`` and ``model`` again.
        count: k, of the largest μ.
        weight_decay: δ.
        batch_size: points at a time, so that memory does not grow with the samples.
        tolerance: relative, of the eigenvalues and of the linear systems.
        most_products: with −A, in one linear system.

    Raises:
        ValueError: A has a direction of no or upward curvature, a system was not solved, Lanczos did not converge, or
            the model's scores along a vector found do not average to zero.
    """
    downward = curvature(log_prob, theta, data, batch_size, weight_decay)
    fisher = information(log_prob, theta, model, batch_size)
    solve = solver(downward, 0.1 * tolerance, most_products)
    p = theta.numel()
    if count >= p:
        raise ValueError(f"there are {p} parameters: {count} eigenvalues are for selfloop.theory.contraction")
    # ARPACK's own start is random; this one is not orthogonal to anything but by accident.
    start = np.cos(np.arange(p, dtype=np.float64) ** 2)
    solve(start)  # sees upward curvature in directions too of which the model's samples tell nothing
    operators = [LinearOperator((p, p), matvec=f, dtype=np.float64) for f in (fisher, downward, solve)]
    try:
        mu, vectors = eigsh(
            operators[0],
            k=count,
            M=operators[1],
            Minv=operators[2],
            which="LA",
            v0=start,
            ncv=min(p, max(2 * count + 1, 12)),
            tol=tolerance,
        )
    except ArpackNoConvergence as error:
        raise ValueError("Lanczos' method did not converge: ask for fewer eigenvalues or a larger tolerance") from error
    order = np.argsort(-mu)
    mu, vectors = mu[order], vectors[:, order] / np.linalg.norm(vectors[:, order], axis=0)
    for v in vectors.T:
        along, weights = _scores_along(log_prob, theta, model, v, batch_size), model[1].double().numpy()
        square = float(weights @ along**2)
        check_centred(float(weights @ along) ** 2 / square if square else 0.0, model[1], 1)
    known = [_known(fisher, downward, solve, value, v) for value, v in zip(mu, vectors.T, strict=True)]
    pair = held_out or (data, model)
    judged = [rayleigh(log_prob, theta, *pair, v, weight_decay=weight_decay, batch_size=batch_size) for v in vectors.T]
    quotients, errors = np.array(judged).T
    return Leading(mu, vectors, np.array(known), quotients, errors)


def curvature(
    log_prob: LogProb, theta: Tensor, measure: Measure, batch_size: int, weight_decay: float = 0.0
) -> Product:
    """Return v (p,) ↦ −(∇²E log p_θ) v + δ v, (p,) float64, over batches of a measure."""
    batches = _batches(measure, batch_size)

    def product(v: Doubles) -> Doubles:
        tangent = torch.from_numpy(np.ascontiguousarray(v)).to(theta)
        total = sum((_bent(log_prob, theta, batch, tangent) for batch in batches), torch.zeros_like(theta))
        found: Doubles = total.double().numpy() + weight_decay * v
        return found

    return product


def _bent(log_prob: LogProb, theta: Tensor, batch: Measure, tangent: Tensor) -> Tensor:
    """Return −∇²(Σ w log p_θ) v of one batch, (p,)."""
    points, weights = batch
    slope = torch.func.grad(lambda parameters: -(weights @ log_prob(parameters, points)))
    product: Tensor = torch.func.vjp(slope, theta)[1](tangent)[0]
    return product


def information(log_prob: LogProb, theta: Tensor, model: Measure, batch_size: int) -> Product:
    """Return v (p,) ↦ E_{p_θ} s sᵀ v, (p,) float64, over batches of points of the model."""
    batches = _batches(model, batch_size)

    def product(v: Doubles) -> Doubles:
        tangent, total = torch.from_numpy(np.ascontiguousarray(v)).to(theta), torch.zeros_like(theta)
        for points, weights in batches:
            weighted = weights.to(theta) * scores(log_prob, theta, points)(tangent).detach()
            total = total + _pulled(log_prob, theta, points, weighted)
        found: Doubles = total.double().numpy()
        return found

    return product


def _pulled(log_prob: LogProb, theta: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Return Σ w s, (p,), of points (N, *event) and weights (N,)."""
    summed: Tensor = torch.func.grad(lambda parameters: weights @ log_prob(parameters, points))(theta)
    return summed


def _scores_along(log_prob: LogProb, theta: Tensor, model: Measure, v: Doubles, batch_size: int) -> Doubles:
    """Return sᵀv of every point of a measure, (N,) float64."""
    tangent = torch.from_numpy(np.ascontiguousarray(v)).to(theta)
    parts = [scores(log_prob, theta, points)(tangent).detach() for points, _ in _batches(model, batch_size)]
    return np.asarray(torch.cat(parts).double().numpy())


def _batches(measure: Measure, batch_size: int) -> list[Measure]:
    """Cut points and weights into parts of nearly equal size."""
    points, weights = measure
    parts = math.ceil(len(points) / batch_size)
    return list(zip(points.tensor_split(parts), weights.tensor_split(parts), strict=True))


def solver(product: Product, tolerance: float, most_products: int) -> Product:
    """Return b ↦ x with M x = b for the symmetric positive definite M of ``product``, by conjugate gradients.

    Raises:
        ValueError: by the function returned, where M is not positive definite or too many products are needed.
    """

    def checked(v: Doubles) -> Doubles:
        found = product(v)
        if float(v @ found) <= 0 < float(v @ v):
            raise ValueError("the expected loss does not curve upwards in every direction: θ is no strict optimum")
        return found

    def solve(b: Doubles) -> Doubles:
        operator = LinearOperator((len(b), len(b)), matvec=checked, dtype=np.float64)
        x, status = cg(operator, b, rtol=tolerance, maxiter=most_products)
        if status != 0:
            raise ValueError(f"conjugate gradients did not solve a system in {most_products} products with the Hessian")
        return np.asarray(x, np.float64)

    return solve


def _known(fisher: Product, downward: Product, solve: Product, mu: float, v: Doubles) -> float:
    """Return √(rᵀM⁻¹r / vᵀMv), r = −Bv − μMv, M = −A: an eigenvalue is no further from μ (Parlett, Section 15.9)."""
    weighted = downward(v)
    r = fisher(v) - mu * weighted
    return math.sqrt(max(float(r @ solve(r)), 0.0) / float(v @ weighted)) if r.any() else 0.0


def _squared(log_prob: LogProb, theta: Tensor, batch: Measure, tangent: Tensor) -> Tensor:
    """Return Σ w (sᵀv)² of one batch, ()."""
    points, weights = batch
    return (weights.double() * scores(log_prob, theta, points)(tangent).detach().double().square()).sum()


def rayleigh(
    log_prob: LogProb,
    theta: Tensor,
    data: Measure,
    model: Measure,
    v: Doubles,
    *,
    weight_decay: float = 0.0,
    batch_size: int = 1024,
) -> tuple[float, float]:
    """Return vᵀ(−B)v / vᵀ(−A)v and its standard error, by the delta method over at least 8 batches of each measure.

    The arguments are those of :func:`leading`, ``v`` (p,) besides. The error is that of independent samples.
    """
    tangent = torch.from_numpy(np.ascontiguousarray(v)).to(theta)

    def parts(measure: Measure) -> list[Measure]:
        return _batches(measure, min(batch_size, max(1, len(measure[0]) // 8)))

    below = np.array([float(tangent @ _bent(log_prob, theta, batch, tangent)) for batch in parts(data)])
    above = np.array([float(_squared(log_prob, theta, batch, tangent)) for batch in parts(model)])
    bottom = below.sum() + weight_decay * float(v @ v)
    ratio = above.sum() / bottom
    if min(len(below), len(above)) < 2:
        return float(ratio), math.nan
    variance = len(above) * above.var(ddof=1) + ratio**2 * len(below) * below.var(ddof=1)
    return float(ratio), float(math.sqrt(variance) / abs(bottom))
