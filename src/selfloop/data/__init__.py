"""Real data: toys, digits and tables, each a frozen set of settings with ``load(seeds) -> Split``."""

from typing import Annotated

from pydantic import Field

from selfloop.data.base import Dataset, Split, split_rows
from selfloop.data.toy import (
    Checkerboard,
    Circles,
    EightGaussians,
    Gaussian,
    Pinwheel,
    Rings,
    SwissRoll,
    TwoMoons,
    TwoSpirals,
)
from selfloop.data.vectors import Digits, Table

ALL: tuple[type[Dataset], ...] = (
    Gaussian,
    TwoMoons,
    EightGaussians,
    Checkerboard,
    Pinwheel,
    TwoSpirals,
    Rings,
    Circles,
    SwissRoll,
    Digits,
    Table,
)

Data = Annotated[
    Gaussian
    | TwoMoons
    | EightGaussians
    | Checkerboard
    | Pinwheel
    | TwoSpirals
    | Rings
    | Circles
    | SwissRoll
    | Digits
    | Table,
    Field(discriminator="name"),
]

__all__ = [
    "ALL",
    "Checkerboard",
    "Circles",
    "Data",
    "Dataset",
    "Digits",
    "EightGaussians",
    "Gaussian",
    "Pinwheel",
    "Rings",
    "Split",
    "SwissRoll",
    "Table",
    "TwoMoons",
    "TwoSpirals",
    "split_rows",
]
