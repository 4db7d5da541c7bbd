"""Rows of tokens: which of them a model is asked for, and what it is told before each.

A row is x_1 … x_L, whole numbers from 0. Token 0 is the edge: it ends a row and pads it, and it is what a model is
given before the first token. So the law of a row is the product over its tokens up to the first edge, that one
included, or over all L where there is none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from selfloop.core.tokens import EDGE


def scored(x: Tensor) -> Tensor:
    """Return which tokens of rows (…, L) their law is a product over, (…, L) bool: all up to the first edge."""
    return ((x == EDGE).cumsum(-1) - (x == EDGE).to(torch.int64)) == 0


def before(x: Tensor) -> Tensor:
    """Return what a model is given to predict each token of rows (…, L): the edge, and all tokens but the last."""
    return torch.nn.functional.pad(x[..., :-1], (1, 0), value=EDGE)


def ended(x: Tensor) -> Tensor:
    """Return rows (…, L) with edges in place of all that follows the first."""
    return torch.where(scored(x), x, EDGE)


def lengths(x: Tensor) -> Tensor:
    """Return how many tokens rows (…, L) hold before the first edge, (…,) int64."""
    return (x != EDGE).long().cumprod(-1).sum(-1)
