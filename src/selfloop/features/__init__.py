"""What metrics look at: rows as they are, or the features of images by a network that tells them apart."""

from typing import Annotated

from pydantic import Field

from selfloop.features.base import Features, Progress, cached
from selfloop.features.classifier import Classifier
from selfloop.features.identity import Identity
from selfloop.features.torch_fidelity import TorchFidelity
from selfloop.features.torchscript import TorchScript

ALL: tuple[type[Features], ...] = (Identity, Classifier, TorchScript, TorchFidelity)

AnyFeatures = Annotated[Identity | Classifier | TorchScript | TorchFidelity, Field(discriminator="name")]

__all__ = [
    "ALL",
    "AnyFeatures",
    "Classifier",
    "Features",
    "Identity",
    "Progress",
    "TorchFidelity",
    "TorchScript",
    "cached",
]
