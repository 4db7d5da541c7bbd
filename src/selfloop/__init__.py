"""selfloop: self-consuming training of generative models, run and judged."""

from selfloop.arms import Arm
from selfloop.core.errors import ConfigError, DataError, RunError, SelfloopError, StorageFull
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.experiment import Experiment, recipes
from selfloop.runner import Generation, run
from selfloop.store import Run

__version__ = "0.1.0"

__all__ = [
    "Arm",
    "ConfigError",
    "DataError",
    "Experiment",
    "Generation",
    "Run",
    "RunError",
    "Samples",
    "SelfloopError",
    "StorageFull",
    "Streams",
    "recipes",
    "run",
]
