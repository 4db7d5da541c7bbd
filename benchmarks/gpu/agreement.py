"""Stage a: what there is, whether networks compute on the device what they do on the CPU, and conformance."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
import time

import torch

from benchmarks.gpu.__main__ import ROOT
from benchmarks.gpu.cases import families, moved
from benchmarks.gpu.place import Place, rounding
from benchmarks.images import STREAMS
from selfloop.core.samples import Samples
from selfloop.engines.device import Device
from selfloop.generators.images import UNetModel
from selfloop.learning.training import Budget, averaged, parameters

_EVENT = (3, 8, 8)
_STEPS, _SAMPLES = 3, 4
_NETWORK = 1e-4  # largest difference of an output over the largest output, float32
_LOSS = 1e-3  # relative difference of the losses
_LEVELS = 1.0  # mean difference of a drawn image, of 255 levels


def stage(place: Place) -> None:
    """Report the rows."""
    place.attempt("environment", lambda: _environment(place))
    for name, generator in families(place, side=_EVENT[1]).items():
        for what, part in (("network", _network), ("fit", _fit), ("samples", _samples)):
            title = f"{name}: {what} on the device and on the CPU"
            place.attempt(title, lambda part=part, title=title, g=generator: part(place, title, g), good=False)
    for precision in ("bfloat16", "float16"):
        title = f"EDM: a fit in {precision}, with dropout, channels_last"
        place.attempt(title, lambda precision=precision, title=title: _reduced(place, title, precision), good=False)
    place.attempt("conformance", lambda: _conformance(place))


def _environment(place: Place) -> None:
    words = [f"torch {torch.__version__}", f"Python {platform.python_version()}", f"{os.cpu_count()} cores"]
    name = platform.processor() or platform.machine()
    if place.device.type == "cuda":
        about = torch.cuda.get_device_properties(place.device)
        name = about.name
        words += [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
        words += [f"{about.total_memory / 2**30:.1f} GiB", f"{about.multi_processor_count} multiprocessors"]
    place.say("environment", note=f"{name}; {', '.join(words)}")
    for words, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        with rounding(tf32):
            place.say(f"matrix product, {words}", value=place.product_rate(dtype) / 1e12, unit="TFLOP/s")


def _network(place: Place, title: str, generator: UNetModel) -> None:
    params = parameters(moved(generator.init(_EVENT, STREAMS)))
    x, t = STREAMS.normal("images", (4, *_EVENT)), STREAMS.uniform("times", (4,))
    outputs, gradients = [], []
    for device in (torch.device("cpu"), place.device):
        leaves = {name: leaf.to(device).requires_grad_() for name, leaf in params.items()}
        with rounding(tf32=False):
            output = generator.network(leaves, _EVENT)(x.to(device), t.to(device))
            found = torch.autograd.grad(output.square().sum(), list(leaves.values()), allow_unused=True)
        outputs.append(output.detach().cpu())
        gradients.append(torch.cat([g.flatten().cpu() for g in found if g is not None]))
    apart, wide = (float((b - a).abs().max() / a.abs().max()) for a, b in (outputs, gradients))
    note = f"largest difference {apart:.1e} of the largest output and {wide:.1e} of the largest gradient"
    place.say(title, good=max(apart, wide) < _NETWORK, note=note)


def _data(generator: UNetModel) -> Samples:
    levels = STREAMS.integers("levels", 256, (4 * generator.batch_size, *_EVENT)).to(torch.uint8)
    return Samples.full(levels, born=0)


def _fit(place: Place, title: str, generator: UNetModel) -> None:
    state, data, devices = moved(generator.init(_EVENT, STREAMS)), _data(generator), (Device(), Device(place.team))
    with rounding(tf32=False):
        fits = [generator.fit(state, data, Budget(steps=_STEPS), STREAMS, device) for device in devices]
    here, there = (torch.cat([leaf.flatten() for leaf in averaged(fitted).values()]) for fitted in fits)
    losses, moved_by = [float(fitted["loss"]) for fitted in fits], float((here - there).abs().max())
    note = f"losses {losses[0]:.6g} and {losses[1]:.6g} of {_STEPS} steps; weights differ by up to {moved_by:.1e}"
    place.say(title, good=abs(losses[1] / losses[0] - 1) < _LOSS, note=note)


def _samples(place: Place, title: str, generator: UNetModel) -> None:
    state = moved(generator.init(_EVENT, STREAMS))
    with rounding(tf32=False):
        here, there = (
            generator.sample(state, _SAMPLES, STREAMS, device).float() for device in (Device(), Device(place.team))
        )
    apart = (here - there).abs()
    note = f"levels differ by {float(apart.mean()):.2g} in the mean and {float(apart.max()):.0f} at most"
    place.say(title, good=float(apart.mean()) < _LEVELS, note=note)


def _reduced(place: Place, title: str, precision: str) -> None:
    plain = families(place, side=_EVENT[1])["EDM"]
    net = plain.net.model_copy(update={"dropout": 0.1})
    generator = plain.model_copy(update={"net": net, "precision": precision, "channels_last": True})
    state = generator.init(_EVENT, STREAMS)
    fitted = generator.fit(state, _data(generator), Budget(steps=_STEPS), STREAMS, Device(place.team))
    finite = all(bool(torch.isfinite(leaf).all()) for leaf in parameters(fitted).values())
    place.say(title, good=finite, note=f"loss {float(fitted['loss']):.5g} after {_STEPS} steps")


def _conformance(place: Place) -> None:
    title = "conformance with the originals"
    if importlib.util.find_spec("pytest") is None:
        place.say(title, note="pytest is not installed: left out")
        return
    begun, log = time.perf_counter(), place.out / "conformance.log"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance"]
    with log.open("wb") as said:  # a pipe would be waited for as long as any child of pytest lives
        done = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        try:
            done.wait(max(place.left, 1))
        except subprocess.TimeoutExpired:
            done.kill()
            done.wait()
            place.say(title, note=f"cut off after {time.perf_counter() - begun:.0f} s")
            return
    last = (log.read_text(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
    note = f"{re.sub(r' in [0-9.]+s.*', '', last.strip('= '))}, {time.perf_counter() - begun:.0f} s, on the CPU"
    # pytest ends with 5 where it finds no test, and with 4 where it cannot begin: no verdict on numbers.
    place.say(title, good={0: True, 1: False}.get(done.returncode), note=note)
