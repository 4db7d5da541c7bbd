"""Generative models, one family a file."""

from typing import Annotated

from pydantic import Field

from selfloop.generators.base import Density, Generator
from selfloop.generators.ddpm import DDPM
from selfloop.generators.ddpm_images import DDPMImages
from selfloop.generators.diffusers import Diffusers
from selfloop.generators.edm import EDM
from selfloop.generators.estimator import Estimator
from selfloop.generators.gaussian import Gaussian
from selfloop.generators.otcfm import OTCFM
from selfloop.generators.otcfm_images import OTCFMImages

AnyGenerator = Annotated[
    Gaussian | OTCFM | DDPM | Estimator | OTCFMImages | DDPMImages | EDM | Diffusers,
    Field(discriminator="name"),
]

ALL: tuple[type[Gaussian | OTCFM | DDPM | Estimator | OTCFMImages | DDPMImages | EDM | Diffusers], ...] = (
    Gaussian,
    OTCFM,
    DDPM,
    Estimator,
    OTCFMImages,
    DDPMImages,
    EDM,
    Diffusers,
)

__all__ = [
    "ALL",
    "DDPM",
    "EDM",
    "OTCFM",
    "AnyGenerator",
    "DDPMImages",
    "Density",
    "Diffusers",
    "Estimator",
    "Gaussian",
    "Generator",
    "OTCFMImages",
]
