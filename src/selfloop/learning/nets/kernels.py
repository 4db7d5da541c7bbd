"""Layers of small networks on a CPU, forwards and backwards, compiled: one call does a whole stack of copies.

torch pays for every copy's every operation, and rounds by a copy's place in the stack: in a batched product by the
kernel chosen for R and by alignment, in an activation by where vectors end. Here each product is one BLAS call on a
copy's own matrices and the rest is arithmetic in a fixed order, so that a copy's bits are those it has alone. Copy
comes after copy, so that what a layer wrote is still in the cache when the next one reads it.

All arrays are float32 and contiguous and lead with R. For L layers of a perceptron: ``weights`` are L of (R, out, in);
``biases`` L of (R, out), or (R, 0) for none; ``outputs`` L of (R, B, out), after SELU in all layers but the last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  numba's products come from here: load it before threads are limited
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[Any]

# SELU(x) = s x for x > 0 and s α (eˣ − 1) below (Klambauer et al. 2017, Eq. 2).
_S = np.float32(1.0507009873554805)
_S_ALPHA = np.float32(1.7580993408473766)
_ZERO, _ONE = np.float32(0), np.float32(1)
# eˣ − 1 = 2ⁿ (eʳ − 1) + (2ⁿ − 1) with x = n ln 2 + r, |r| ≤ ln 2 / 2, and the series of eʳ, whose tail is below 1e-9.
_LOWEST = np.float32(-80)  # −1 to the last bit
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # sum to ln 2; n times the first is exact
_ROUND = np.float32(1.5 * 2**23)  # adding and subtracting it rounds to an integer
_SERIES = tuple(np.float32(1 / factorial) for factorial in (5040, 720, 120, 24, 6, 2))
_EPSILON = np.float32(1e-5)  # of layer norm
_BIAS, _MANTISSA = np.int32(127), np.int32(23)


@njit(cache=True, nogil=True)
def mlp(x: Floats, weights: tuple[Floats, ...], biases: tuple[Floats, ...], outputs: tuple[Floats, ...]) -> None:
    """Write the layers' outputs for x (R, B, in)."""
    for r in range(len(x)):
        h = x[r]
        for layer in range(len(weights)):
            y = outputs[layer][r]
            np.dot(h, weights[layer][r].T.copy(), y)  # BLAS is a quarter slower where it transposes
            if biases[layer].shape[1]:
                _add(y, biases[layer][r])
            if layer < len(weights) - 1:
                selu(y.reshape(-1))
            h = y


@njit(cache=True, nogil=True)
def mlp_backward(
    gradient: Floats,
    x: Floats,
    weights: tuple[Floats, ...],
    outputs: tuple[Floats, ...],
    to_x: Floats,
    to_weights: tuple[Floats, ...],
    to_biases: tuple[Floats, ...],
) -> None:
    """Write the gradients in x, or none if ``to_x`` is empty, weights and biases from that in the last output."""
    for r in range(len(x)):
        g = gradient[r]
        for layer in range(len(weights) - 1, -1, -1):
            h = outputs[layer - 1][r] if layer else x[r]
            np.dot(g.T, h, to_weights[layer][r])
            if to_biases[layer].shape[1]:
                _sum(g, to_biases[layer][r])
            if layer:
                below = np.empty_like(h)
                np.dot(g, weights[layer][r], below)
                selu_backward(below.reshape(-1), h.reshape(-1))
                g = below
            elif to_x.size:
                np.dot(g, weights[layer][r], to_x[r])


@njit(cache=True, nogil=True)
def _add(y: Floats, bias: Floats) -> None:
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += bias[j]


@njit(cache=True, nogil=True)
def _sum(g: Floats, total: Floats) -> None:
    total[:] = 0
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            total[j] += g[i, j]


@njit(cache=True, nogil=True, fastmath={"contract"})
def selu(x: Floats) -> None:
    """Turn a vector into its SELU, within 2 units in the last place; NaN stays NaN."""
    c7, c6, c5, c4, c3, c2 = _SERIES
    for i in range(x.size):
        v = x[i]
        low = v if v < _ZERO else _ZERO
        low = low if low > _LOWEST else _LOWEST
        n = (low * _LOG2_E + _ROUND) - _ROUND
        r = (low - n * _LN2_HIGH) - n * _LN2_LOW
        series = ((((c7 * r + c6) * r + c5) * r + c4) * r + c3) * r + c2
        power = np.int32((np.int32(n) + _BIAS) << _MANTISSA).view(np.float32)
        x[i] = _S_ALPHA * (power * (series * (r * r) + r) + (power - _ONE)) if v <= _ZERO else _S * v


@njit(cache=True, nogil=True, fastmath={"contract"})
def selu_backward(gradient: Floats, y: Floats) -> None:
    """Turn the gradient in y = SELU(x) into that in x, both vectors."""
    for i in range(y.size):
        gradient[i] *= _S if y[i] > _ZERO else y[i] + _S_ALPHA


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def norm(x: Floats, weight: Floats, bias: Floats, slope: np.float32, y: Floats, scale: Floats) -> None:
    """Write layer norm and leaky ReLU of x (R, B, width), with weights (R, width), and the rows' 1/σ, (R, B)."""
    width = np.float32(x.shape[2])
    for r in range(x.shape[0]):
        w, b = weight[r], bias[r]
        for i in range(x.shape[1]):
            row, out = x[r, i], y[r, i]
            mean = _total(row) / width
            square = _ZERO
            for j in range(row.size):
                square += (row[j] - mean) * (row[j] - mean)
            inverse = _ONE / np.sqrt(square / width + _EPSILON)
            scale[r, i] = inverse
            for j in range(row.size):
                v = (row[j] - mean) * inverse * w[j] + b[j]
                out[j] = v * slope if v <= _ZERO else v


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def norm_backward(
    gradient: Floats,
    x: Floats,
    weight: Floats,
    y: Floats,
    scale: Floats,
    slope: np.float32,
    to_x: Floats,
    to_weight: Floats,
    to_bias: Floats,
) -> None:
    """Write the gradients in x, weights and biases from that in y."""
    width = np.float32(x.shape[2])
    g, z = np.empty(x.shape[2], np.float32), np.empty(x.shape[2], np.float32)
    to_weight[:] = 0
    to_bias[:] = 0
    for r in range(x.shape[0]):
        w, dw, db = weight[r], to_weight[r], to_bias[r]
        for i in range(x.shape[1]):
            row, out, inverse, mean = x[r, i], y[r, i], scale[r, i], _total(x[r, i]) / width
            sum_g, sum_gz = _ZERO, _ZERO
            for j in range(row.size):
                above = gradient[r, i, j] * (slope if out[j] <= _ZERO else _ONE)
                z[j] = (row[j] - mean) * inverse
                dw[j] += above * z[j]
                db[j] += above
                g[j] = above * w[j]
            for j in range(row.size):
                sum_g += g[j]
                sum_gz += g[j] * z[j]
            for j in range(row.size):
                to_x[r, i, j] = inverse * (g[j] - sum_g / width - z[j] * (sum_gz / width))


@njit(fastmath={"reassoc"})
def _total(x: Floats) -> np.float32:
    total = _ZERO
    for j in range(x.size):
        total += x[j]
    return total
