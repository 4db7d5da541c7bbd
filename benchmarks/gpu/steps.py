"""What a training step takes, of ours and of plain modules, once it is warm and without what a fit takes once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.gpu.place import Place
from benchmarks.images import STREAMS, Case, Plain, denoise
from selfloop.core.samples import State
from selfloop.engines.device import Device
from selfloop.generators import EDM
from selfloop.generators.network import Draws, Net
from selfloop.learning.training import Budget

_WARM, _MOST = 3, 20
_SECONDS = 3.0  # that one thing is timed for, about


class Ticks:
    """Moments between steps, taken without waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._events, self._times = device, list[torch.cuda.Event](), list[float]()

    def tick(self) -> None:
        """Take the time, on a GPU of its own clock, in the order of its work."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def per_step(self) -> float:
        """Return the mean seconds of the steps after the first ones, which compile and allocate."""
        count = len(self._events or self._times)
        first = min(_WARM, count - 2)
        if self._events:
            self._events[-1].synchronize()
            return self._events[first].elapsed_time(self._events[-1]) / 1e3 / (count - 1 - first)
        return (self._times[-1] - self._times[first]) / (count - 1 - first)


def _count(once: float) -> int:
    return max(2, min(_MOST, int(_SECONDS / once)))


def timed(generator: EDM, case: Case, state: State, place: Place) -> float:
    """Return the seconds of a step of a fit: batches, random numbers, network, gradient, Adam, average."""

    class Ticking(EDM):
        def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
            ticks.tick()
            return super().loss(net, batch, draws)

    told, data, device = Ticking.model_validate(generator.model_dump()), case.data(), Device(place.team)

    def fit(steps: int) -> float:
        told.fit(state, data, Budget(steps=steps), STREAMS, device)
        return ticks.per_step()

    ticks = Ticks(place.device)
    once = fit(2 if place.small else _WARM + 1)
    ticks = Ticks(place.device)
    return fit(_WARM + _count(once) if not place.small else 3)


def repeated(step: Callable[[], object], place: Place) -> float:
    """Return the seconds of one call among many."""
    for _ in range(1 if place.small else _WARM):
        once = place.seconds(step)
    ticks = Ticks(place.device)
    for _ in range(3 if place.small else _WARM + _count(once)):
        ticks.tick()
        step()
    return ticks.per_step()


def plain_step(
    case: Case,
    plain: Plain,
    place: Place,
    fused: bool = False,
    dtype: torch.dtype | None = None,
    by_pixel: bool = False,
) -> Callable[[], None]:
    """Return a training step of the network in plain modules as the original takes it in eager mode.

    Args:
        case: its size.
        plain: the network, which is copied.
        place: where it runs.
        fused: whether Adam is torch's fused one.
        dtype: of products and convolutions under autocast; None computes in float32.
        by_pixel: whether images and weights lie in memory pixel by pixel.
    """
    layout = torch.channels_last if by_pixel else torch.contiguous_format
    net = copy.deepcopy(plain).to(place.device, memory_format=layout)
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused or None)
    images, b = case.data().x[0], case.batch
    if place.device.type == "cuda":
        images = images.pin_memory()  # as a DataLoader does

    def step() -> None:
        rows = torch.randint(len(images), (b,))
        y = images[rows].to(place.device, non_blocking=True).float() / 127.5 - 1
        y = y.contiguous(memory_format=layout)
        sigma = (1.2 * torch.randn(b, 1, 1, 1, device=y.device) - 1.2).exp()
        weight = (sigma.square() + 0.25) / (0.5 * sigma).square()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(y.device.type, dtype=dtype, enabled=dtype is not None):
            error = denoise(net, y + sigma * torch.randn_like(y), sigma) - y
        ((weight * error.float().square()).sum() / b).backward()
        for leaf in net.parameters():
            if leaf.grad is not None:
                torch.nan_to_num(leaf.grad, nan=0, posinf=1e5, neginf=-1e5, out=leaf.grad)
        optimizer.step()
        with torch.no_grad():
            for mean, leaf in zip(average.parameters(), net.parameters(), strict=True):
                mean.copy_(leaf.lerp(mean, 0.999))

    return step


def network_step(generator: EDM, case: Case, state: State, place: Place) -> Callable[[], None]:
    """Return our network forwards and backwards on inputs that are there: a bound for every loop around it."""
    params = {name: leaf.to(place.device).requires_grad_() for name, leaf in state.items()}
    event = (3, case.side, case.side)
    net, leaves = generator.network(params, event), list(params.values())
    x = torch.randn(1, case.batch, *event, device=place.device)
    t = torch.randn(1, case.batch, device=place.device)

    def step() -> None:
        torch.autograd.grad(net(x, t).square().sum(), leaves, allow_unused=True)

    return step


def as_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Return a step as one CUDA graph, replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
