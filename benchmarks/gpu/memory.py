"""Stage e: what training and sampling take of the device's memory, and what is said where it is not enough."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.gpu.cases import cases
from benchmarks.gpu.place import Place
from benchmarks.images import STREAMS, Case
from selfloop.core.errors import ConfigError
from selfloop.core.samples import State
from selfloop.engines.device import Device
from selfloop.learning.training import Budget

_FRACTION = 0.06  # of the device's memory, which a batch of CIFAR-10's network does not fit into


def stage(place: Place) -> None:
    """Report the rows."""
    for named in cases(place):
        state = named.case.generator().init((3, named.case.side, named.case.side), STREAMS)
        for settings in ({}, {"accumulate": 2}, {"precision": "bfloat16", "channels_last": True}):
            words = ", ".join(f"{name} {value}" for name, value in settings.items()) or "float32"
            title = f"{named.name}, a step of batch {named.case.batch}, {words}"
            place.attempt(title, lambda s=settings, t=title, c=named.case, n=state: _step(place, t, c, n, s), seconds=5)
    place.attempt("too little memory", lambda: _refused(place), seconds=5, good=False)


def _step(place: Place, title: str, case: Case, state: State, settings: dict[str, object]) -> None:
    generator = case.generator(**settings)
    place.free()
    generator.fit(state, case.data(), Budget(steps=2), STREAMS, Device(place.team))
    trained = place.peak()
    place.free()
    count = case.batch
    generator.model_copy(update={"sample_batch": count, "steps": 2}).sample(state, count, STREAMS, Device(place.team))
    place.say(title, note=f"{trained}; {count} images drawn at once, {place.peak()}")


def _refused(place: Place) -> None:
    if place.device.type != "cuda":
        place.say("too little memory", note="left out: there is no GPU")
        return
    case = replace(cases(place)[0].case, batch=256)
    generator = case.generator()
    state = generator.init((3, case.side, case.side), STREAMS)
    torch.cuda.set_per_process_memory_fraction(_FRACTION, place.device.index)
    try:
        generator.fit(state, case.data(), Budget(steps=1), STREAMS, Device(place.team))
    except ConfigError as error:
        place.say("too little memory", good=True, note=str(error))
    else:
        place.say("too little memory", note=f"{_FRACTION:.0%} of the device's were enough")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, place.device.index)
