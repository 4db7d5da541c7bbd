"""Stage b: training images a second of the paper's networks, ours beside the same network in plain modules."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu.cases import Named, cases, step_flops
from benchmarks.gpu.place import NoMemory, Place, rounding
from benchmarks.gpu.steps import as_graph, network_step, plain_step, repeated, timed
from benchmarks.images import STREAMS, Case, Plain, apart
from selfloop.core.samples import State
from selfloop.engines.device import Device
from selfloop.learning.training import Budget, parameters

Step = Callable[[Case], float]  # seconds of a step of such a batch

_BY_PIXEL = {"precision": "bfloat16", "channels_last": True}
_Tried = tuple[str, dict[str, Any], bool, bool]
# What is tried of ours, by how much it tells, with whether float32 rounds to TF32 and whether cuDNN searches.
_FIRST: tuple[_Tried, ...] = (
    ("bfloat16", {"precision": "bfloat16"}, False, False),
    ("bfloat16, channels_last", _BY_PIXEL, False, False),
)
_COMPILED: _Tried = ("bfloat16, channels_last, compile", _BY_PIXEL | {"compile": True}, False, False)
_FLOAT: _Tried = ("float32", {}, False, False)
_MORE: tuple[_Tried, ...] = (
    ("TF32", {}, True, False),
    ("bfloat16, cuDNN searches", {"precision": "bfloat16"}, False, True),
    ("float16", {"precision": "float16"}, False, False),
)
_PLAIN: tuple[tuple[str, dict[str, Any], bool], ...] = (
    ("TF32", {}, True),
    ("bfloat16, channels_last, fused Adam", {"dtype": torch.bfloat16, "by_pixel": True, "fused": True}, False),
    ("float32, fused Adam", {"fused": True}, False),
)
_SECONDS, _COMPILING = 8.0, 80.0


def stage(place: Place) -> None:
    """Report the rows, what counts most first."""
    compared = [_Compared(place, named) for named in cases(place)]
    for each in compared:
        each.plain("float32, eager", {}, tf32=False, reference=True)
        for told in _FIRST:
            each.ours(*told)
    first, second = compared
    first.ours(*_FLOAT)
    first.waits()
    first.alone()
    first.profile()
    for what, settings, tf32 in _PLAIN:
        first.plain(what, settings, tf32)
    for told in _MORE:
        first.ours(*told)
    second.ours(*_FLOAT)
    for each in compared:  # last: on a bare machine it takes more than a minute
        each.ours(*_COMPILED)


class _Compared:
    """A network, ours and in plain modules, and what its float32 step of plain modules takes."""

    def __init__(self, place: Place, named: Named) -> None:
        self._place, self._named, self._case = place, named, named.case
        self._state: State | None = None
        self._net: Plain | None = None
        self._rate: float | None = None  # images a second of the reference
        self._flops: int | None = None

    def _made(self) -> tuple[State, Plain]:
        if self._state is None or self._net is None:
            self._state = self._case.generator().init((3, self._case.side, self._case.side), STREAMS)
            self._net, _ = apart(self._case, self._state)  # raises where it is another network
            self._flops = step_flops(self._case) // self._case.batch
        return self._state, self._net

    def plain(self, what: str, settings: Mapping[str, Any], tf32: bool, reference: bool = False) -> None:
        """Time a step of plain modules."""
        title = f"{self._named.name}, plain modules, {what}"
        bfloat16 = settings.get("dtype") is torch.bfloat16

        def step(case: Case) -> float:
            return repeated(plain_step(case, self._made()[1], self._place, **settings), self._place)

        self._place.attempt(title, lambda: self._timed(title, step, bfloat16, tf32, reference=reference), _SECONDS)

    def ours(self, what: str, settings: Mapping[str, Any], tf32: bool, search: bool) -> None:
        """Time a step of ours."""
        seconds = _COMPILING if settings.get("compile") else _SECONDS
        if self._place.small and settings.get("compile"):
            return  # on a CPU compiling takes minutes, and tells nothing of a GPU
        title = f"{self._named.name}, ours, {what}"
        half = settings.get("precision", "float32") != "float32"

        def step(case: Case) -> float:
            return timed(case.generator(**settings), case, self._made()[0], self._place)

        self._place.attempt(title, lambda: self._timed(title, step, half, tf32, search), seconds)

    def alone(self) -> None:
        """Time our network without all that is around it, and the same as one CUDA graph."""
        for what in ("network and gradient alone", "the same, a CUDA graph"):
            title, graph = f"{self._named.name}, {what}, bfloat16, channels_last", "graph" in what
            if graph and self._place.device.type != "cuda":
                self._place.say(title, note="left out: there is no GPU")
                continue

            def step(case: Case, graph: bool = graph) -> float:
                call = network_step(case.generator(**_BY_PIXEL), case, parameters(self._made()[0]), self._place)
                return repeated(as_graph(call) if graph else call, self._place)

            self._place.attempt(
                title, lambda step=step, title=title: self._timed(title, step, half=True, tf32=False), _SECONDS
            )

    def _timed(
        self, title: str, step: Step, half: bool, tf32: bool, search: bool = False, reference: bool = False
    ) -> None:
        self._made()
        self._place.free()
        with rounding(tf32, search):
            case, seconds = self._of_a_batch_that_fits(step)
            peak = self._place.product_rate(torch.bfloat16 if half else torch.float32)
        rate = case.batch / seconds
        if reference:
            self._rate = rate
        self._place.say(
            title,
            value=rate,
            unit="images/s",
            ratio=None if self._rate is None else rate / self._rate,
            share=(self._flops or 0) * rate / peak,
            note=f"batch {case.batch}, {seconds * 1e3:.4g} ms a step, {self._place.peak()}",
        )

    def _of_a_batch_that_fits(self, step: Step) -> tuple[Case, float]:
        """Return the case with the largest batch, halved and halved again, that there is memory for, and its time."""
        case = self._case
        while True:
            try:
                return case, step(case)
            except NoMemory:
                if case.batch < 16:
                    raise
            self._place.free()  # the traceback, which holds what was allocated, is gone here
            case = replace(case, batch=case.batch // 2)

    def waits(self) -> None:
        """Count the calls of a step that make the host wait for the device."""
        title = f"{self._named.name}, ours, calls of a step that wait for the device"
        self._place.attempt(title, lambda: self._waits(title), _SECONDS)

    def _waits(self, title: str) -> None:
        if self._place.device.type != "cuda":
            self._place.say(title, note="left out: there is no GPU")
            return
        generator, state = self._case.generator(**_BY_PIXEL), self._made()[0]
        counts = []
        for steps in (1, 2, 4):  # the first allocates, and is not counted
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    generator.fit(state, self._case.data(), Budget(steps=steps), STREAMS, Device(self._place.team))
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            calls = [f"{w.filename.rsplit('/', 1)[-1]}:{w.lineno}" for w in heard if "synchroniz" in str(w.message)]
            counts.append(calls)
        _, fewer, more = counts
        where = ", ".join(sorted(set(more)))[:200]
        note = f"the calls of a fit, most before and after its steps: {where}"
        self._place.say(title, value=(len(more) - len(fewer)) / 2, note=note)

    def profile(self) -> None:
        """Say which share of our best step the device works, and keep what it works on."""
        title = f"{self._named.name}, ours, bfloat16, channels_last: time that the device works"
        self._place.attempt(title, lambda: self._profile(title), 2 * _SECONDS)

    def _profile(self, title: str) -> None:
        generator, state = self._case.generator(**_BY_PIXEL), self._made()[0]
        kinds = [torch.profiler.ProfilerActivity.CPU]
        gpu = self._place.device.type == "cuda"
        if gpu:
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        steps = 6

        def fit() -> None:
            generator.fit(state, self._case.data(), Budget(steps=steps), STREAMS, Device(self._place.team))

        fit()
        with torch.profiler.profile(activities=kinds) as profiler:
            seconds = self._place.seconds(fit)
        order = "self_device_time_total" if gpu else "self_cpu_time_total"
        found = profiler.key_averages()
        (self._place.out / "profile.txt").write_text(found.table(sort_by=order, row_limit=40), encoding="utf-8")
        busy = sum(getattr(event, order) for event in found) / 1e6
        self._place.say(
            title,
            share=None,
            value=100 * busy / seconds,
            unit="%",
            note=f"of a fit of {steps} steps, copies of its state included; profile.txt",
        )
