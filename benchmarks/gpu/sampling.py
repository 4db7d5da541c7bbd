"""Stage c: images a second of the three samplers, with networks of CIFAR-10's size and random weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from benchmarks.gpu.cases import families, moved
from benchmarks.gpu.place import Place, rounding
from benchmarks.images import STREAMS
from selfloop.engines.device import Device
from selfloop.generators.images import UNetModel

_WORDS = {"EDM": "Heun, 18 steps", "DDPM": "DDIM, 100 steps", "OT-CFM": "dopri5"}
_SETTINGS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("bfloat16", {"precision": "bfloat16"}, False),
    ("float32", {}, False),
    ("TF32", {}, True),
)
_SECONDS = 6.0


def stage(place: Place) -> None:
    """Report the rows: every sampler in one precision before any in the next."""
    made = families(place)
    side = 8 if place.small else 32
    states = {name: moved(generator.init((3, side, side), STREAMS)) for name, generator in made.items()}
    for words, settings, tf32 in _SETTINGS:
        for name, generator in made.items():
            title = f"{name}, {_WORDS[name]}, {words}"
            told = generator.model_copy(update={"sample_batch": 4 if place.small else 256} | settings)

            def part(told: UNetModel = told, title: str = title, name: str = name, tf32: bool = tf32) -> None:
                with rounding(tf32):
                    _timed(place, title, told, states[name])

            place.attempt(title, part, _SECONDS)


def _timed(place: Place, title: str, generator: UNetModel, state: dict[str, Tensor]) -> None:
    calls = [0]
    evaluate = generator._evaluate

    def counted(*arguments: Any, **told: Any) -> Tensor:
        calls[0] += 1
        return evaluate(*arguments, **told)

    counting = generator.model_copy()
    counting.__dict__["_evaluate"] = counted  # where the cached property keeps it
    device, count = Device(place.team), generator.sample_batch
    generator.sample(state, min(count, 4), STREAMS, device)
    place.free()
    calls[0] = 0
    seconds = place.seconds(lambda: counting.sample(state, count, STREAMS, device))
    note = f"{count} at once, {calls[0]} evaluations, {seconds / max(calls[0], 1) * 1e3:.4g} ms each, {place.peak()}"
    place.say(title, value=count / seconds, unit="images/s", note=note)
