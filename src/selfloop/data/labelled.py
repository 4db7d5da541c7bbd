"""Two labelled tables that come with scikit-learn: breast cancer, and diabetes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from selfloop.core.errors import DataError
from selfloop.core.events import Vectors
from selfloop.data.base import DATA, Parts, Split, divide
from selfloop.data.finite import Finite


class Labelled(Finite):
    """Rows of a table of scikit-learn in its own units, with the label as last column.

    Attributes:
        n: how many train; None is all that are neither held out nor set aside.
        held_out: how many are held out; None is 30 %, rounded up as scikit-learn's ``train_test_split`` does.
        random_state: of ``train_test_split``, whose split all seeds then have, and of which the first n rows train;
            None lets every seed have its own.
    """

    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)
    random_state: Annotated[int, Field(ge=0, lt=2**32)] | None = None

    @model_validator(mode="after")
    def _one_split(self) -> Labelled:
        if self.random_state is not None and self.fresh_rows:
            raise ValueError("random_state is a split without fresh rows: leave one of the two out")
        return self

    @abstractmethod
    def table(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return the features (N, k), the labels (N,) and the names of the columns of both."""

    def load(self, seeds: Sequence[int]) -> Split:
        """Split the rows, events (k + 1,)."""
        x, y, columns = self.table()
        rows = np.column_stack([x, y]).astype(np.float64)
        held_out = -(-3 * len(rows) // 10) if self.held_out is None else self.held_out
        source = DATA.name_of(self)
        if self.random_state is None:
            parts = divide(rows, self.n, held_out, seeds, source, fresh_rows=self.fresh_rows)
        else:
            parts = self._split(rows, held_out, len(seeds), self.random_state)
        return Split(train=parts.train, held_out=parts.held_out, events=Vectors.unscaled(columns), aside=parts.aside)

    def _split(self, rows: np.ndarray, held_out: int, r: int, random_state: int) -> Parts:
        """Return scikit-learn's split, the same for R seeds and in its order."""
        from sklearn.model_selection import train_test_split

        if (self.n or 2) + held_out > len(rows):
            asked = (self.n or 2) + held_out
            raise DataError(f"{DATA.name_of(self)} has {len(rows)} rows, fewer than n + held_out = {asked}: lower them")
        train, test = train_test_split(rows, test_size=held_out, random_state=random_state)
        train, test = (torch.from_numpy(np.ascontiguousarray(part)) for part in (train[: self.n], test))
        return Parts(train.expand(r, *train.shape), test.expand(r, *test.shape))


@DATA.register
class BreastCancer(Labelled):
    """Scikit-learn's 569 rows of the Wisconsin data on breast cancer: 30 features, and whether a tumour is benign."""

    name: Literal["breast_cancer"] = "breast_cancer"

    def table(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return the features, and 1 for benign, 0 for malignant."""
        from sklearn.datasets import load_breast_cancer  # takes a second that only this data set should cost

        return _columns(load_breast_cancer(), "benign")


@DATA.register
class Diabetes(Labelled):
    """Scikit-learn's 442 rows on diabetes (Efron et al. 2004): 10 features, and how far it progressed in a year.

    Attributes:
        threshold: makes the label 1 above it and 0 elsewhere; None leaves the number.
    """

    name: Literal["diabetes"] = "diabetes"
    threshold: float | None = None

    def table(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return the features as scikit-learn scales them, and the label."""
        from sklearn.datasets import load_diabetes

        x, y, columns = _columns(load_diabetes(), "progression")
        return x, y if self.threshold is None else y > self.threshold, columns


def _columns(bunch: Any, label: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    return bunch.data, bunch.target, (*map(str, bunch.feature_names), label)
