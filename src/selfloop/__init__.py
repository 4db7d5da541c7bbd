"""selfloop: self-consuming training of generative models, run and judged."""

from selfloop.errors import ConfigError, DataError, RunError, SelfloopError, StorageFull
from selfloop.experiment import Arm, Experiment, recipes
from selfloop.runner import Generation, run
from selfloop.samples import Samples
from selfloop.store import Run
from selfloop.streams import Streams

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
