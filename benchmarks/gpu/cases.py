"""The networks that are timed: those of the paper's images, and small ones with which the stages are tried."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.place import Place
from benchmarks.images import FULL, STREAMS, Case
from selfloop.core.samples import State
from selfloop.generators import EDM, DDPMImages, OTCFMImages
from selfloop.generators.images import Size, UNetModel
from selfloop.generators.network import Draws
from selfloop.learning.pixels import to_interval
from selfloop.learning.training import parameters

_FFHQ = Size(channels=128, multipliers=(1, 2, 2, 2), blocks=4, attention=(16,), dropout=0.0)
_ORIGINAL = Size(channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,), dropout=0.0)
_TINY = Size(channels=16, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.0, group_channels=4)


@dataclass(frozen=True)
class Named:
    """A case of :mod:`benchmarks.images` and what the table calls it."""

    name: str
    case: Case


def cases(place: Place) -> list[Named]:
    """Return EDM's networks of CIFAR-10 and FFHQ-64, or small ones."""
    cifar, ffhq = replace(FULL, batch=256), Case(64, _FFHQ, 128, steps=1, rounds=1)
    if place.small:
        cifar, ffhq = Case(8, _TINY, 4, steps=1, rounds=1), Case(16, _TINY, 2, steps=1, rounds=1)
    return [Named("CIFAR-10", cifar), Named("FFHQ-64", ffhq)]


def families(place: Place, side: int | None = None) -> dict[str, UNetModel]:
    """Return a generator of each family of images: the original's networks of CIFAR-10, or where small, tiny ones."""
    if place.small or side is not None:
        return {
            "EDM": EDM(net=_TINY, batch_size=4, augment=0.5, sample_batch=4),
            "DDPM": DDPMImages(net=_TINY, batch_size=4, sample_batch=4, steps=20),
            "OT-CFM": OTCFMImages(net=_TINY, batch_size=4, sample_batch=4, tolerance=1e-3),
        }
    return {
        "EDM": EDM(net=FULL.net),
        "DDPM": DDPMImages(net=_ORIGINAL),
        "OT-CFM": OTCFMImages(net=_ORIGINAL),
    }


def moved(state: State) -> State:
    """Return a state whose weights, those that sample too, are not at their beginning.

    The last layer of every branch begins near zero, where an error would not show, and a sampler would have nothing to
    do.
    """
    names = set(parameters(state)) | {name for name in state if name.startswith("ema.")}
    shift = {name: STREAMS.normal(f"shift/{name.removeprefix('ema.')}", state[name].shape[1:]) for name in names}
    return {name: leaf + 0.02 * shift[name] if name in names else leaf for name, leaf in state.items()}


def step_flops(case: Case) -> int:
    """Return the floating-point operations of a step's products and convolutions, counted on one image."""
    generator, event = case.generator(), (3, case.side, case.side)
    shapes = generator.architecture(event).shapes
    params = {name: torch.zeros(1, *shape).requires_grad_() for name, shape in shapes.items()}
    batch = (to_interval(case.data().x[:, :1]),)
    with FlopCounterMode(display=False) as counter:
        net = generator.network(params, event)
        total = generator.loss(net, batch, Draws(STREAMS, range(1))).sum()
        torch.autograd.grad(total, list(params.values()), allow_unused=True)
    return int(counter.get_total_flops()) * case.batch
