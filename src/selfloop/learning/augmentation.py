"""Augmentations that do not leak into samples: an image is moved about, and the network is told how.

The geometric part of ADA's pipe (Karras et al. 2020, App. B) as EDM trains with it (Karras et al. 2022, App. F.2):
mirror images are exact; scaling, rotation, stretching and shifting are one affine map, under which an image is
resampled at twice its resolution between the low-pass filters of an orthogonal wavelet. Random numbers are passed in.

Symbols: w what is drawn, zero where nothing is done to an image; p probability of an operation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

UNIFORMS, NORMALS = 11, 4  # random numbers of an image
LABELS = 9

_SCALE_STD = 0.2  # of log₂ of the scale, and of the stretch
_SHIFT_STD = 0.125  # of the image's size
_ALONG_AXES = 0.5  # probability that an image is stretched along its axes

# Low-pass filter of the least asymmetric orthogonal wavelet with six vanishing moments, "sym6" (Daubechies 1992,
# Table 6.3): Σ_k h_k h_{k+2n} = δ_n, so that what goes up and straight down again is unchanged.
_H = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_BORDER = len(_H) // 4  # pixels that the filter reaches


@dataclass(frozen=True, kw_only=True)
class Multiples:
    """What p is multiplied with for the probability of each operation; names and defaults are EDM's."""

    xflip: float = 1e8  # certain, so that every image is mirrored with probability ½
    yflip: float = 1.0
    scale: float = 1.0
    rotate_frac: float = 1.0
    aniso: float = 1.0
    translate_frac: float = 1.0


@dataclass(frozen=True)
class Augmentation:
    """What is done to B images, zero being nothing.

    Attributes:
        xflip: (B,) 1 where left and right are exchanged.
        yflip: (B,) 1 where top and bottom are.
        scale: (B,) w: the image is enlarged by 2^(w/5).
        angle: (B,) radians by which it is turned.
        stretch: (B,) w: it is enlarged by 2^(w/5) along ``axis`` and reduced as much across.
        axis: (B,) radians.
        shift: (B, 2) w: it is shifted by w/8 of its width and of its height.
    """

    xflip: Tensor
    yflip: Tensor
    scale: Tensor
    angle: Tensor
    stretch: Tensor
    axis: Tensor
    shift: Tensor

    @property
    def moved(self) -> Tensor:
        """Whether more is done to an image than mirroring it, (B,) bool; an axis alone does nothing."""
        return (self.scale != 0) | (self.angle != 0) | (self.stretch != 0) | (self.shift != 0).any(1)

    @property
    def labels(self) -> Tensor:
        """What the network is told, (B, 9) float32, zero for an image to which nothing is done."""
        turn = [self.angle.cos() - 1, self.angle.sin()]
        stretch = [self.stretch * self.axis.cos(), self.stretch * self.axis.sin()]
        return torch.stack([self.xflip, self.yflip, self.scale, *turn, *stretch, *self.shift.unbind(1)], dim=1)


def draw(uniform: Tensor, normal: Tensor, p: float, multiples: Multiples | None = None) -> Augmentation:
    """Return the augmentation of B images that random numbers stand for, on the CPU.

    Args:
        uniform: (B, 11) on [0, 1), in the order in which EDM draws them: mirrored or not and whether at all, in x and
            then in y; whether scaled; the angle and whether turned; the axis, whether stretched and whether along it;
            whether shifted.
        normal: (B, 4) of the scale, the stretch and the shift in x and y.
        p: EDM's ``augment``.
        multiples: None means EDM's.
    """
    m = multiples or Multiples()
    u, w = uniform.float().cpu().unbind(1), normal.float().cpu().unbind(1)
    nothing = torch.zeros(())
    shifted = (u[10] < m.translate_frac * p).unsqueeze(1)
    return Augmentation(
        xflip=torch.where(u[1] < m.xflip * p, (2 * u[0]).floor(), nothing),
        yflip=torch.where(u[3] < m.yflip * p, (2 * u[2]).floor(), nothing),
        scale=torch.where(u[4] < m.scale * p, w[0], nothing),
        angle=torch.where(u[6] < m.rotate_frac * p, (2 * u[5] - 1) * math.pi, nothing),
        stretch=torch.where(u[8] < m.aniso * p, w[1], nothing),
        axis=torch.where(u[9] < _ALONG_AXES, (2 * u[7] - 1) * math.pi, nothing),
        shift=torch.where(shifted, torch.stack(w[2:], dim=1), nothing),
    )


def apply(images: Tensor, augmentation: Augmentation) -> Tensor:
    """Return augmented images, float32, on their device; (B, C, H, W) of one copy.

    An image that is at most mirrored keeps its values exactly. Beyond its edges an image goes on as its reflection,
    once on every side, and is zero behind that. EDM reflects as few pixels as its batch needs, which makes no
    difference but in rounding; here an image does not depend on its batch.
    """
    x = images.float()
    for flip, dim in ((augmentation.xflip, 3), (augmentation.yflip, 2)):
        x = torch.where((flip == 1).view(-1, 1, 1, 1).to(x.device, non_blocking=True), x.flip(dim), x)
    height, width = x.shape[2:]
    moved = augmentation.moved
    if moved.any():
        rows = moved.nonzero().squeeze(1).to(x.device, non_blocking=True)
        x = x.index_copy(0, rows, _resample(x[rows], _inverse(augmentation, width, height)[moved]))
    return x


def _inverse(a: Augmentation, width: int, height: int) -> Tensor:
    """Return the maps from where a pixel is to where it was, from the centre in pixels; (B, 3, 3) float64."""
    scale, stretch = ((_SCALE_STD * w.double()).exp2() for w in (a.scale, a.stretch))
    shift = a.shift.double() * _SHIFT_STD * torch.tensor([width, height])
    angle, axis = a.angle.double(), a.axis.double()
    stretched = _rotation(-axis) @ _scaling(1 / stretch, stretch) @ _rotation(axis)
    return _scaling(1 / scale, 1 / scale) @ _rotation(angle) @ stretched @ _translation(-shift)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: Tensor) -> Tensor:
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=1).view(-1, 3, 3)


def _translation(shift: Tensor) -> Tensor:
    matrix = torch.eye(3, dtype=shift.dtype).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix


def _resample(images: Tensor, inverse: Tensor) -> Tensor:
    """Return images (B, C, H, W) under affine maps; filters along x and y are matrices that hold the reflections."""
    height, width = images.shape[2:]
    up_x, up_y, down_x, down_y = (
        make(size).to(images, non_blocking=True) for make in (_up, _down) for size in (width, height)
    )
    fine = up_y @ (images @ up_x.T)
    moved = F.grid_sample(fine, _grid(inverse, width, height, images), align_corners=True)
    return down_y @ (moved @ down_x.T)


def _up(size: int) -> Tensor:
    """Return what takes pixels to samples half a pixel apart: sample k is at pixel k/2 of the reflected image."""
    pixels = torch.arange(1 - size, 2 * size - 1)
    reflected = (size - 1) - ((size - 1) - pixels.abs()).abs()
    taps = torch.arange(2 * len(pixels)).unsqueeze(1) - 2 * torch.arange(len(pixels)) + len(_H) // 2 - 1
    matrix = torch.zeros(2 * len(pixels), size, dtype=torch.float64)
    return matrix.index_add_(1, reflected, _filter(taps))


def _down(size: int) -> Tensor:
    """Return what takes samples half a pixel apart, of which the first is ``_BORDER`` before the image, to pixels."""
    return _filter(torch.arange(2 * (size + 2 * _BORDER)) - 2 * torch.arange(size).unsqueeze(1) - 1)


def _filter(taps: Tensor) -> Tensor:
    """Return h_k for integers k of any shape, 0 beyond the filter."""
    inside = (taps >= 0) & (taps < len(_H))
    return torch.tensor(_H, dtype=torch.float64)[taps.clamp(0, len(_H) - 1)] * inside


def _grid(inverse: Tensor, width: int, height: int, images: Tensor) -> Tensor:
    """Return where each sample of the moved images comes from, (B, 2 (H + 6), 2 (W + 6), 2), −1 … 1 being the ends."""
    sizes = torch.tensor([width, height], dtype=torch.float64)
    centre, last = (sizes - 1) / 2, 2 * (3 * sizes - 2) - 1
    # From a sample's number to its place about the centre, to where that was, to the number of the fine sample there.
    per_sample = inverse[:, :2, :2] / 2
    first = inverse[:, :2, 2] - inverse[:, :2, :2] @ (centre + _BORDER) + centre + sizes - 1
    steps, start = (
        (per_sample * (4 / last).unsqueeze(1)).to(images, non_blocking=True),
        (first * 4 / last - 1).to(images, non_blocking=True),
    )
    x = torch.arange(2 * (width + 2 * _BORDER), device=images.device).view(1, 1, -1, 1)
    y = torch.arange(2 * (height + 2 * _BORDER), device=images.device).view(1, -1, 1, 1)
    return x * steps[:, None, None, :, 0] + y * steps[:, None, None, :, 1] + start[:, None, None]
