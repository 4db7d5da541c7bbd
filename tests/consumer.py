"""A program that uses what selfloop exports, written as a user would who has types checked: never run, only read.

``tests/test_package.py`` has it checked in strict mode against the installed wheel, whose ``py.typed`` makes its types
count. A line ending in ``# refused: CODE`` is a mistake that the checker must find.
"""

from pathlib import Path
from typing import assert_type

from selfloop import Experiment, Generation, Judgement, Run, Samples, SelfloopError, Streams, judge, recipes, run
from selfloop.metrics import METRICS, Metric, wasserstein
from selfloop.mixing import MIXINGS, Pool, Regime


@MIXINGS.register
class Filtered(Regime):
    """All real rows, and the samples of the last generation that lie within ``radius`` of the real mean."""

    radius: float = 2.0

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return n rows and more, as many as are near enough."""
        last, centre = pool.generated(t - 1), pool.real.arm(0).mean(0)
        return Samples.union([pool.real, last.keep((last.arm(0) - centre).norm(dim=1) <= self.radius)])


def whole(out: Path) -> list[Generation]:
    """Run a recipe, changed, and return its generations."""
    assert_type(recipes(), list[str])
    experiment = Experiment.load("fig4-small").override("generations=5")
    assert_type(experiment, Experiment)
    return list(run(experiment, out=out, workers=2))


def read(out: Path) -> float:
    """Return the distance of the last samples from the first arm's real rows."""
    try:
        opened = Run.open(out)
    except SelfloopError as error:
        raise SystemExit(str(error)) from error
    assert_type(opened, Run)
    assert_type(opened.last, int)
    real, generated = opened.split(0).train[0], opened.samples(opened.last, 0)
    return wasserstein(real, generated, p=1)


def judged(folder: str) -> int:
    """Judge a loop that was run elsewhere."""
    found = judge(f"{folder}/real.npy", f"{folder}/generated", every=2, metrics=["variance_ratio"])
    assert_type(found, Judgement)
    assert_type(found.sentence, str)
    assert_type(METRICS["w2_held_out"], Metric)
    return found.code


def mistaken(out: Path) -> None:
    """Make the mistakes that types are for."""
    run(Experiment.load("demo"), out, workers="2")  # refused: arg-type
    Streams((0,)).at("1")  # refused: arg-type
    Run.open(out).sample(3, 0)  # refused: attr-defined
    wasserstein([0.0], [1.0], p=3)  # refused: arg-type
