"""Generative models, one family a file."""

from typing import Annotated

from pydantic import Field

from selfloop.generators.base import Density, Generator
from selfloop.generators.ddpm import DDPM
from selfloop.generators.gaussian import Gaussian
from selfloop.generators.otcfm import OTCFM

ALL: tuple[type[Gaussian] | type[OTCFM] | type[DDPM], ...] = (Gaussian, OTCFM, DDPM)

AnyGenerator = Annotated[Gaussian | OTCFM | DDPM, Field(discriminator="name")]

__all__ = ["ALL", "DDPM", "OTCFM", "AnyGenerator", "Density", "Gaussian", "Generator"]
