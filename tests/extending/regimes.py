"""Runs three regimes of one's own on a Gaussian and on two moons, and shows what they trained on and came to.

python tests/extending/regimes.py [folder]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from accumulate import Accumulate
from filtered import Filtered
from half_fresh import HalfFresh

from selfloop import Experiment, run

MODELS = {
    "gaussian": {"data": {"name": "gaussian", "n": 200}, "generator": "gaussian"},
    "moons": {
        "data": {"name": "two_moons", "n": 200},
        "generator": {"name": "otcfm", "width": 32, "batch_size": 64},
        "budget": {"steps": 200},
    },
}


def show(folder: Path) -> None:
    """Run every regime with every model for 4 generations, and print a line a generation."""
    for model, settings in MODELS.items():
        for mixing in (Accumulate(), HalfFresh(), Filtered(radius=1.5)):
            experiment = Experiment(
                name=f"{model}-{type(mixing).__name__}",
                mixing=mixing,
                generations=4,
                metrics=["w2_held_out", "variance_ratio"],
                **settings,
            )
            print(f"{model}, {mixing.label}")
            for generation in run(experiment, folder / experiment.name):
                (record,) = generation.records
                born = ", ".join(f"{g}: {count}" for g, count in record["born"].items())
                values = ", ".join(f"{name} {value:.3f}" for name, value in record["metrics"].items())
                print(f"  {generation.t}  born {born}; {values}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        show(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            show(Path(folder))
