"""Real data: toys, digits, tables and images, each a frozen set of settings with ``load(seeds) -> Split``."""

from typing import Annotated

from pydantic import Field

from selfloop.data.base import Dataset, Split, split_rows
from selfloop.data.cifar10 import CIFAR10
from selfloop.data.digit_images import DigitImages
from selfloop.data.digits import Digits
from selfloop.data.image_files import ImageFiles
from selfloop.data.table import Table
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
    DigitImages,
    CIFAR10,
    ImageFiles,
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
    | Table
    | DigitImages
    | CIFAR10
    | ImageFiles,
    Field(discriminator="name"),
]

__all__ = [
    "ALL",
    "CIFAR10",
    "Checkerboard",
    "Circles",
    "Data",
    "Dataset",
    "DigitImages",
    "Digits",
    "EightGaussians",
    "Gaussian",
    "ImageFiles",
    "Pinwheel",
    "Rings",
    "Split",
    "SwissRoll",
    "Table",
    "TwoMoons",
    "TwoSpirals",
    "split_rows",
]
