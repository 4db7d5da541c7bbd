"""Generative models, one family a file."""

from typing import Annotated

from pydantic import Field

from selfloop.generators.base import Density, Generator
from selfloop.generators.ddpm import DDPM
from selfloop.generators.ddpm_images import DDPMImages
from selfloop.generators.diffusers import Diffusers
from selfloop.generators.edm import EDM
from selfloop.generators.estimator import Estimator
from selfloop.generators.flow import Flow
from selfloop.generators.gaussian import Gaussian
from selfloop.generators.mixture import GaussianMixture
from selfloop.generators.otcfm import OTCFM
from selfloop.generators.otcfm_images import OTCFMImages
from selfloop.generators.vae import VAE

AnyGenerator = Annotated[
    Gaussian | GaussianMixture | Flow | VAE | OTCFM | DDPM | Estimator | OTCFMImages | DDPMImages | EDM | Diffusers,
    Field(discriminator="name"),
]

ALL: tuple[
    type[
        Gaussian | GaussianMixture | Flow | VAE | OTCFM | DDPM | Estimator | OTCFMImages | DDPMImages | EDM | Diffusers
    ],
    ...,
] = (
    Gaussian,
    GaussianMixture,
    Flow,
    VAE,
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
    "VAE",
    "AnyGenerator",
    "DDPMImages",
    "Density",
    "Diffusers",
    "Estimator",
    "Flow",
    "Gaussian",
    "GaussianMixture",
    "Generator",
    "OTCFMImages",
]
