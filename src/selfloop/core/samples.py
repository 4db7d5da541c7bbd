"""Samples: a stack of data sets, one per arm, with the generation in which each row was born and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from selfloop.core.errors import ConfigError, quoted, refuse_unlike
from selfloop.core.streams import Streams

State = dict[str, Tensor]
"""What a model is, by name; every leaf leads with R."""


def category_numbers(categories: Sequence[range], d: int) -> Tensor:
    """Return of which category each of d coordinates is, (d,) int64 counted from 1, 0 of a number's, for states."""
    numbers = torch.zeros(d, dtype=torch.int64)
    for number, coordinates in enumerate(categories, 1):
        numbers[list(coordinates)] = number
    return numbers


def numbered_categories(numbers: Tensor) -> tuple[range, ...]:
    """Return the coordinates of each category, of which :func:`category_numbers` are (d,)."""
    each = [torch.nonzero(numbers == k).flatten() for k in range(1, int(numbers.max()) + 1)]
    return tuple(range(int(at[0]), int(at[-1]) + 1) for at in each)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """R data sets of up to N rows; arms of different regimes share one stack because ``count`` may differ.

    Attributes:
        x: (R, N, *event) rows; those at and after ``count[r]`` are padding, zero, and mean nothing.
        born: (R, N) int16, 0 for a real row and t for one sampled from the model of generation t − 1,
            that is one that first enters the training set of generation t.
        count: (R,) int64, rows in use.
        weight: (R, N) float64, what each row counts, 0 or more; None where all rows count alike.
        maker: (R, N) int16, which of an arm's models has made each row, −1 for a real one; None where nothing is known,
            as where there is a single model. It is not stored: a generator knows which of its rows are whose.
        label: (R, N) int64, the class of each row, from 0; None where rows have none.
        categories: of vectors, the coordinates of each category, one of which is 1 in every row and the others 0; a
            single coordinate is 1 where the number before it is missing. It is not stored: the events know it, and the
            loop tells it to the fit.

    Examples:
        >>> import torch
        >>> from selfloop import Samples
        >>> real, made = Samples.full(torch.zeros(1, 4, 2), born=0), Samples.full(torch.ones(1, 2, 2), born=3)
        >>> Samples.union([real, made]).born
        tensor([[0, 0, 0, 0, 3, 3]], dtype=torch.int16)
    """

    x: Tensor
    born: Tensor
    count: Tensor
    weight: Tensor | None = None
    maker: Tensor | None = None
    label: Tensor | None = None
    categories: tuple[range, ...] = ()

    def __post_init__(self) -> None:
        rows = tuple(self.x.shape[:2])
        more = {"weight": self.weight, "maker": self.maker, "label": self.label}
        shapes = {name: tuple(each.shape) for name, each in more.items() if each is not None}
        if (
            tuple(self.born.shape) != rows
            or tuple(self.count.shape) != rows[:1]
            or any(s != rows for s in shapes.values())
        ):
            further = "".join(f", {name} {shape}" for name, shape in shapes.items())
            raise ValueError(
                f"x {tuple(self.x.shape)}, born {tuple(self.born.shape)} and count {tuple(self.count.shape)}{further} "
                "disagree"
            )

    @classmethod
    def full(cls, x: Tensor, born: int, label: Tensor | None = None) -> Samples:
        """Wrap (R, N, *event) rows that are all in use and all born in one generation, with their classes (R, N).

        Raises:
            ConfigError: they are no tensor, or ``born`` is no whole number.
            ValueError: they have no such shape.
        """
        refuse_unlike("x", x, Tensor, "a tensor of rows (R, N, *event)")
        refuse_unlike("born", born, Integral, "the whole number of a generation")
        if x.ndim < 3:
            raise ValueError(f"rows are (R, N, *event), R = 1 in a regime, and these are {tuple(x.shape)}")
        r, n = x.shape[:2]
        return cls(x=x, born=torch.full((r, n), born, dtype=torch.int16), count=torch.full((r,), n), label=label)

    @classmethod
    def union(cls, parts: Sequence[Samples], weights: Sequence[float] | None = None) -> Samples:
        """Join sets of the same arms one behind the other.

        Args:
            parts: sets without padding, as all of a single arm's pool are.
            weights: one for each part, what every row of it counts; None leaves the parts' own.

        Raises:
            ConfigError: a part is no Samples.
            ValueError: there is no part, rows are not alike, some have classes and others none, weights are not as many
                as parts, or a part has padding, which would come to stand between rows.
        """
        if not isinstance(parts, list | tuple) or not all(isinstance(part, Samples) for part in parts):
            raise ConfigError(f"parts: give a list of Samples, not {quoted(parts)}")
        if not parts:
            raise ValueError("there is no set to join")
        if len({(len(part.x), part.x.shape[2:], part.x.dtype) for part in parts}) > 1:
            kinds = ", ".join(f"{part.x.dtype} {tuple(part.x.shape)}" for part in parts[:8])
            raise ValueError(f"sets of different rows cannot be joined: {kinds}")
        if any((part.count < part.born.shape[1]).any() for part in parts):
            raise ValueError("a set with padding cannot be joined with others: select one arm and take its first rows")
        if weights is not None:
            if len(weights) != len(parts):
                raise ValueError(f"{len(weights)} weights for {len(parts)} sets: give one weight a set")
            parts = [part.weighed(w) for part, w in zip(parts, weights, strict=True)]
        weight, maker, label = _weights(parts), _makers(parts), _labels(parts)
        return cls(
            x=torch.cat([part.x for part in parts], 1),
            born=torch.cat([part.born for part in parts], 1),
            count=torch.stack([part.count for part in parts]).sum(0),
            weight=None if weight is None else torch.cat(weight, 1),
            maker=None if maker is None else torch.cat(maker, 1),
            label=None if label is None else torch.cat(label, 1),
        )

    def stored(self) -> State:
        """Return what a run keeps of samples, by name: their labels where they have some."""
        kept = {"x": self.x, "born": self.born, "count": self.count}
        return kept if self.label is None else kept | {"label": self.label}

    def arm(self, r: int) -> Tensor:
        """Return the rows in use of arm r, (count[r], *event)."""
        return self.x[r, : int(self.count[r])]

    def classes(self, r: int) -> Tensor | None:
        """Return the classes of the rows in use of arm r, (count[r],) int64; None where rows have none."""
        return None if self.label is None else self.label[r, : int(self.count[r])]

    def rows(self, r: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the rows of arm r that count, (k, *event), and what each counts, (k,), both of ``dtype``.

        They are copies: the order of a sum over them does not depend on where in the stack they lay.
        """
        if self.weight is None:
            x = self.arm(r).to(dtype, copy=True)
            return x, torch.ones(len(x), dtype=dtype)
        rows, weight = self.counting(r)
        return self.x[r, rows].to(dtype), weight.to(dtype)

    def select(self, rows: list[int]) -> Samples:
        """Return the stack of the arms ``rows``; those that follow each other are a view, not a copy."""
        follow = rows == list(range(rows[0], rows[-1] + 1))
        of = slice(rows[0], rows[-1] + 1) if follow else rows
        return self._cut(self.count[of], lambda each: each[of])

    def first(self, k: int) -> Samples:
        """Return the first k rows of every arm, a view.

        Raises:
            ValueError: an arm has fewer.
        """
        if k > (least := int(self.count.min())):
            raise ValueError(f"{k} rows are asked for, and there are {least}")
        return self._cut(torch.full_like(self.count, k), lambda each: each[:, :k])

    def take(self, rows: Tensor) -> Samples:
        """Return the given rows of a single arm, (k,) int64, in that order."""
        return self._cut(torch.tensor([len(rows)]), lambda each: each[:, rows])

    def keep(self, use: Tensor) -> Samples:
        """Return the rows of a single arm of which ``use``, (N,) bool, is true, in their order.

        Raises:
            ValueError: it is something else than a truth value a row.
        """
        true, n = torch.as_tensor(use), int(self.count[0])
        if true.dtype != torch.bool or true.numel() not in (n, self.born.shape[1]):
            what = f"{true.dtype} {tuple(true.shape)} for {n} rows"
            raise ValueError(f"keep wants a truth value a row, ({n},), not {what}; take(rows) picks rows by number")
        return self.take(torch.nonzero(true.reshape(-1)[:n]).squeeze(1))

    def _cut(self, count: Tensor, of: Callable[[Tensor], Tensor]) -> Samples:
        """Return what ``of`` makes of everything that there is of each row."""
        weight = None if self.weight is None else of(self.weight)
        maker = None if self.maker is None else of(self.maker)
        label = None if self.label is None else of(self.label)
        return replace(self, x=of(self.x), born=of(self.born), count=count, weight=weight, maker=maker, label=label)

    def weighed(self, weight: Any) -> Samples:
        """Return the same rows, counting ``weight``: (R, N), or (N,) for every arm, or a number for all.

        Raises:
            ValueError: they are not as many as the rows.
        """
        given = torch.as_tensor(weight, dtype=torch.float64)
        if given.ndim > 2 or (given.ndim and given.shape[-1] != self.born.shape[1]):
            raise ValueError(
                f"weights {tuple(given.shape)} for {self.born.shape[1]} rows: give one a row, or one for all"
            )
        return replace(self, weight=given.expand(self.born.shape).clone() if given.ndim < 2 else given)

    def alike(self, r: int) -> bool:
        """Whether all rows of arm r count alike: the scale of weights means nothing."""
        if self.weight is None:
            return True
        weight = self.weight[r, : int(self.count[r])]
        return bool((weight == weight[:1]).all())

    def counting(self, r: int) -> tuple[Tensor, Tensor]:
        """Return which rows of arm r count, (k,) int64, and what each counts, (k,) float64 with mean 1.

        Rows of weight 0 are left out; the scale of weights means nothing.
        """
        n = int(self.count[r])
        if self.weight is None:
            return torch.arange(n), torch.ones(n, dtype=torch.float64)
        rows = torch.nonzero(self.weight[r, :n]).squeeze(1)
        weight = self.weight[r, rows]
        weight = weight / weight.max()  # so that the sum of the largest ones there are is finite
        return rows, weight / weight.mean()


def stack(parts: Sequence[Samples]) -> Samples:
    """Stack arms whose training sets differ in size, padding the shorter ones with zeros; one alone is not copied."""
    if len(parts) == 1:
        return parts[0]
    arms, longest = sum(len(part.x) for part in parts), max(part.x.shape[1] for part in parts)

    def padded(sets: Sequence[Tensor]) -> Tensor:
        out = sets[0].new_zeros(arms, longest, *sets[0].shape[2:])
        for rows, those in zip(torch.split(out, [len(x) for x in sets]), sets, strict=True):
            rows[:, : those.shape[1]] = those
        return out

    weight, maker, label = _weights(parts), _makers(parts), _labels(parts)
    return Samples(
        x=padded([part.x for part in parts]),
        born=padded([part.born for part in parts]),
        count=torch.cat([part.count for part in parts]),
        weight=None if weight is None else padded(weight),
        maker=None if maker is None else padded(maker),
        label=None if label is None else padded(label),
    )


def _weights(parts: Sequence[Samples]) -> list[Tensor] | None:
    """Return the weights of several sets, ones where one has none; None where none has any."""
    if all(part.weight is None for part in parts):
        return None
    return [torch.ones_like(p.born, dtype=torch.float64) if p.weight is None else p.weight for p in parts]


def _makers(parts: Sequence[Samples]) -> list[Tensor] | None:
    """Return who made the rows of several sets, −1 where one does not say; None where none does."""
    if all(part.maker is None for part in parts):
        return None
    return [torch.full_like(p.born, -1) if p.maker is None else p.maker for p in parts]


def _labels(parts: Sequence[Samples]) -> list[Tensor] | None:
    """Return the classes of several sets, None where none has any.

    Raises:
        ValueError: some have classes and others none: what a class is worth depends on all rows having one.
    """
    there = [part.label for part in parts if part.label is not None]
    if there and len(there) < len(parts):
        raise ValueError("some sets have classes and others none: give every set labels, or none")
    return there or None


def resampled(samples: Samples, streams: Streams) -> Samples:
    """Return as many rows of every arm, each about as often as it counts, for models that know no weights.

    With weights of mean 1, one of w puts a row there ⌊w⌋ or ⌈w⌉ times, and w times in expectation: rows are taken at
    equidistant points of the cumulated weights, which one number of the arm's own stream shifts (systematic resampling;
    Kitagawa 1996). Weights that are all alike give every row once.

    Args:
        samples: the training sets of R arms; without weights they are returned as they are.
        streams: of the same arms.
    """
    if samples.weight is None:
        return samples
    x, born = samples.x.clone(), samples.born.clone()
    label = None if samples.label is None else samples.label.clone()
    for r, rng in enumerate(streams.numpy("resampled")):
        rows, weight = samples.counting(r)
        n = int(samples.count[r])
        edges = weight.cumsum(0) * (n / len(rows))
        points = torch.arange(n, dtype=torch.float64) + rng.random()
        taken = rows[torch.searchsorted(edges, points, right=True).clamp_max(len(rows) - 1)]
        x[r, :n], born[r, :n] = samples.x[r, taken], samples.born[r, taken]
        if label is not None and samples.label is not None:
            label[r, :n] = samples.label[r, taken]
    return replace(samples, x=x, born=born, weight=None, maker=None, label=label)
