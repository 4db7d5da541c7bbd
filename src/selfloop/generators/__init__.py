"""Generative models, one family a file."""

from typing import Annotated

from pydantic import Field

from selfloop.generators.base import Density, Generator
from selfloop.generators.ddpm import DDPM
from selfloop.generators.gaussian import Gaussian
from selfloop.generators.otcfm import OTCFM
from selfloop.generators.otcfm_images import OTCFMImages

AnyGenerator = Annotated[Gaussian | OTCFM | DDPM | OTCFMImages, Field(discriminator="name")]

ALL: tuple[type[Gaussian | OTCFM | DDPM | OTCFMImages], ...] = (Gaussian, OTCFM, DDPM, OTCFMImages)

__all__ = ["ALL", "DDPM", "OTCFM", "AnyGenerator", "Density", "Gaussian", "Generator", "OTCFMImages"]
