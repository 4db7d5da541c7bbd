"""Denoisers, and the losses that train them, at the noise levels of EDM and VP and at the times of DDPM.

A raw network F maps (x, c_noise), (R, B, *event) and (R, B), to the shape of x. EDM's view of diffusion (Karras et al.
2022, Table 1) makes of it the denoiser D(x; σ) = c_skip x + c_out F(c_in x, c_noise), whose best value is E[y | y + n]
for data y and noise n ~ N(0, σ²). Everything is per image, so no copy sees another. Symbols are that table's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from selfloop.learning.schedule import Schedule

Network = Callable[[Tensor, Tensor], Tensor]  # (x (R, B, *event), c_noise (R, B)) → (R, B, *event)


class Coefficients(NamedTuple):
    """What makes a denoiser of a network, each of the shape of σ."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Preconditioning(Protocol):
    """A column of Table 1: how a network becomes a denoiser, and at which noise levels it is trained."""

    @property
    def sigma_min(self) -> float:
        """The least noise level that the denoiser is meant for."""

    @property
    def sigma_max(self) -> float:
        """The greatest."""

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return the coefficients at noise levels of any shape."""

    def levels(self, draws: Tensor) -> Tensor:
        """Return the training noise levels that follow from draws of any shape."""

    def weight(self, sigma: Tensor) -> Tensor:
        """Return the loss weight λ(σ)."""


@dataclass(frozen=True)
class EDM:
    """EDM's own column (Karras et al. 2022, Table 1 and App. B.6); training draws are standard normals.

    Attributes:
        sigma_data: standard deviation of the data.
        P_mean: mean of ln σ in training.
        P_std: standard deviation of ln σ in training.
    """

    sigma_data: float = 0.5
    P_mean: float = -1.2
    P_std: float = 1.2

    sigma_min = 0.0
    sigma_max = math.inf

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return coefficients with which F's input and target have unit variance."""
        total = sigma.square() + self.sigma_data**2
        return Coefficients(
            c_skip=self.sigma_data**2 / total,
            c_out=sigma * self.sigma_data / total.sqrt(),
            c_in=1 / total.sqrt(),
            c_noise=sigma.log() / 4,
        )

    def levels(self, draws: Tensor) -> Tensor:
        """Return σ with ln σ ~ N(P_mean, P_std²) from standard normals."""
        return (draws * self.P_std + self.P_mean).exp()

    def weight(self, sigma: Tensor) -> Tensor:
        """Return λ = 1/c_out², with which the loss of F has unit weight at every σ."""
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()


@dataclass(frozen=True)
class VP:
    """The variance preserving column (Song et al. 2021; Karras et al. 2022, Table 1); draws are uniform on [0, 1).

    σ² = exp(½ β_d t² + β_min t) − 1 is computed as the original does: in float32 a level below 0.05 is off by more than
    a hundred thousandth, and the least, at t = 1e-5, is 2⁻¹⁰ where 0.0010005 would be exact.

    Attributes:
        beta_d: slope of β(t).
        beta_min: β(0).
        M: times that the network was made for: c_noise runs to M − 1.
        epsilon_t: the least t of training.
    """

    beta_d: float = 19.9
    beta_min: float = 0.1
    M: int = 1000
    epsilon_t: float = 1e-5

    def sigma(self, t: Tensor) -> Tensor:
        """Return σ(t)."""
        return ((0.5 * self.beta_d * t.square() + self.beta_min * t).exp() - 1).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        """Return t(σ)."""
        return ((self.beta_min**2 + 2 * self.beta_d * (1 + sigma.square()).log()).sqrt() - self.beta_min) / self.beta_d

    @property
    def sigma_min(self) -> float:
        """σ(ε_t) in float32."""
        return float(self.sigma(torch.tensor(self.epsilon_t, dtype=torch.float32)))

    @property
    def sigma_max(self) -> float:
        """σ(1) in float32."""
        return float(self.sigma(torch.tensor(1.0, dtype=torch.float32)))

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Return coefficients with which F predicts the noise, negated, at times 0 … M − 1."""
        return Coefficients(
            c_skip=torch.ones_like(sigma),
            c_out=-sigma,
            c_in=1 / (sigma.square() + 1).sqrt(),
            c_noise=(self.M - 1) * self.time(sigma),
        )

    def levels(self, draws: Tensor) -> Tensor:
        """Return σ(t) with t uniform between 1 and ε_t."""
        return self.sigma(1 + draws * (self.epsilon_t - 1))

    def weight(self, sigma: Tensor) -> Tensor:
        """Return λ = 1/σ²."""
        return 1 / sigma.square()


def wide(numbers: Tensor, x: Tensor) -> Tensor:
    """Return one number an image, (R, B) or (R, 1), as what broadcasts against x (R, B, *event)."""
    return numbers.view(*numbers.shape, *[1] * (x.ndim - numbers.ndim))


def denoise(preconditioning: Preconditioning, net: Network, x: Tensor, sigma: Tensor) -> Tensor:
    """Return D(x; σ) in float32, whatever the precision of x (Karras et al. 2022, Eq. 7).

    Args:
        preconditioning: EDM's or VP's.
        net: F.
        x: (R, B, *event) noisy data.
        sigma: positive noise levels, (R, B), or (R, 1) where all images of a copy share one.
    """
    x, sigma = x.to(torch.float32), sigma.to(x.device, torch.float32)
    c = preconditioning.coefficients(sigma)
    return wide(c.c_skip, x) * x + wide(c.c_out, x) * net(wide(c.c_in, x) * x, c.c_noise)


def denoising_loss(preconditioning: Preconditioning, net: Network, y: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Return λ(σ) (D(y + σ ε; σ) − y)² element by element, (R, B, *event) (Karras et al. 2022, Eq. 2 and Section 5).

    EDM trains on its sum over an event and mean over a batch.

    Args:
        preconditioning: EDM's or VP's.
        net: F.
        y: (R, B, *event) data.
        sigma: (R, B) noise levels, :meth:`Preconditioning.levels`.
        noise: (R, B, *event) standard normals ε.
    """
    error = denoise(preconditioning, net, y + wide(sigma, y) * noise, sigma) - y
    return wide(preconditioning.weight(sigma), y) * error.square()


def prediction_loss(
    schedule: Schedule, net: Network, x0: Tensor, t: Tensor, noise: Tensor, target: Literal["eps", "x_0"] = "eps"
) -> Tensor:
    """Return (target − F(x_t, t))² element by element, (R, B, *event) (Ho et al. 2020, Eq. 14).

    Args:
        schedule: how much noise there is at a time.
        net: F, whose second argument is t.
        x0: (R, B, *event) data.
        t: (R, B) int64 times 0 … T − 1.
        noise: (R, B, *event) standard normals ε.
        target: what F predicts: the noise, or the data.
    """
    predicted = net(schedule.diffuse(x0, t, noise), t.to(x0.device, non_blocking=True))
    return ((noise if target == "eps" else x0) - predicted).square()
