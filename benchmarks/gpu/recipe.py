"""Stage f: the recipe ``cifar10-edm`` for the time that is left, in a run directory that goes on next time."""

from __future__ import annotations

import time

from benchmarks.gpu.place import Place
from selfloop import Experiment, Run, run
from selfloop.features.efficientnet import installed

_TRIED = (
    *("generations=1", "budget={steps: 2}", "pretrain={steps: 2}", "generator.steps=2", "generator.sample_batch=64"),
    *("data.n=64", "data.held_out=32", "seeds=1", "grid={mixing.lam: [1]}", "features={name: identity}"),
)
_MARGIN = 1.3  # what a generation may take more than the one before


def stage(place: Place) -> None:
    """Report a row a generation."""
    name, told = "cifar10-edm", [f"data.path={place.data.resolve()}"]
    if not place.data.is_dir():
        name, told = "digits-edm", []
        place.say("cifar10-edm", note=f"there are no pictures in {place.data}: the digits are run instead")
    elif not installed():
        place.say("cifar10-edm", note="EfficientNet is not installed: its distances are those of pixel levels")
        told.append("features={name: identity}")
    else:
        told.append(f"features={{name: efficientnet, device: '{place.device}'}}")
    if place.small:
        told = [*told[:1], *_TRIED, *(["data.side=8"] if place.data.is_dir() else [])]
    place.attempt(name, lambda: _run(place, name, told), good=False)


def _run(place: Place, name: str, told: list[str]) -> None:
    experiment, out = Experiment.load(name).override(*told), place.out / name
    begun, last = time.monotonic(), 0.0
    for generation in run(experiment, out, team=place.team):
        ended = time.monotonic()
        well = all(record["status"] == "ok" for record in generation.records)
        arms = [
            f"{record['regime']}: " + ", ".join(f"{k} {v:.3g}" for k, v in record["metrics"].items() if v is not None)
            for record in generation.records[:4]
        ]
        title = f"{name}, generation {generation.t}"
        place.say(title, value=generation.seconds, unit="s", good=well, note="; ".join(arms)[:400])
        last, begun = ended - begun, ended
        if place.left < _MARGIN * last:
            break
    opened = Run.open(out)
    opened.verify()
    place.say(f"{name}, generations that are there", value=opened.present, note="the same command goes on from here")
    if opened.present:
        from selfloop.report import write_report

        write_report(opened)
