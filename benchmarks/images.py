"""EDM's U-Net: training steps and sampling beside the same network in plain modules, and what surrounds a step.

The peer is written the way the original runs on this device: norms, convolutions and resampling by grouped convolutions
one after the other, attention by two einsums and a softmax, torch's Adam, and an average kept leaf by leaf.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.timing import Row, compare, seconds_per_call
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import Checkpoint
from selfloop.generators import EDM
from selfloop.generators.images import Size
from selfloop.generators.network import Draws, Net
from selfloop.learning.nets.architecture import Step, UNet
from selfloop.learning.nets.blocks import embed
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import Budget, averaged, parameters

_SAVE_EVERY = 600.0
_CURVE_STEPS = 30
_EMPTY_STEPS = 20  # what a fit does once, copying its state, is spread over so many


@dataclass(frozen=True)
class Case:
    """What is trained: square images of ``side`` pixels with 3 colours."""

    side: int
    net: Size
    batch: int
    steps: int  # in a call
    rounds: int

    @property
    def words(self) -> str:
        """What the rows say of it."""
        net = self.net
        size = f"{net.channels} × {net.multipliers}, {net.blocks} blocks"
        return f"{self.side}×{self.side}×3, {size}, batch {self.batch}"

    def generator(self, **settings: object) -> EDM:
        """Return EDM of this size, without augmentation."""
        plain = {"net": self.net, "batch_size": self.batch, "optimizer": Adam(), "augment": 0.0, "resume": "last"}
        return EDM.model_validate(plain | settings)

    def data(self) -> Samples:
        """Return 4 batches of uint8 noise."""
        shape = (1, 4 * self.batch, 3, self.side, self.side)
        return Samples.full(torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)), born=0)


def _size(channels: int, blocks: int) -> Size:
    return Size(channels=channels, multipliers=(2, 2, 2), blocks=blocks, attention=(16,), dropout=0.0)


SMALL = Case(16, _size(32, 2), 64, steps=3, rounds=3)
MIDDLE = Case(32, _size(64, 2), 32, steps=2, rounds=3)
FULL = Case(32, _size(128, 4), 8, steps=1, rounds=3)
STREAMS = Streams((0,))


class _Block(nn.Module):
    """A residual block of DDPM++, perhaps with a change of resolution before its first convolution, and attention."""

    def __init__(self, unet: UNet, step: Step) -> None:
        super().__init__()
        old, new, style = step.inputs, step.outputs, unet.style
        self.resample, self.scale, self.heads = step.resample, style.skip_scale, style.heads_of(new)
        self.norm1 = nn.GroupNorm(style.groups(old), old, eps=style.eps)
        self.conv1 = nn.Conv2d(old, new, 3, padding=1)
        self.embed = nn.Linear(unet.embedding, new)
        self.norm2 = nn.GroupNorm(style.groups(new), new, eps=style.eps)
        self.conv2 = nn.Conv2d(new, new, 3, padding=1)
        self.skip = nn.Conv2d(old, new, 1) if old != new or step.resample else None
        self.attention = nn.ModuleDict()
        if step.attention:
            self.attention["norm"] = nn.GroupNorm(style.groups(new), new, eps=style.eps)
            self.attention["qkv"] = nn.Conv2d(new, 3 * new, 1)
            self.attention["out"] = nn.Conv2d(new, new, 1)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample is None:
            return x
        kernel = x.new_full((x.shape[1], 1, 2, 2), 0.25 if self.resample == "down" else 1.0)
        convolve = F.conv2d if self.resample == "down" else F.conv_transpose2d
        return convolve(x, kernel, stride=2, groups=x.shape[1])

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(self._resampled(F.silu(self.norm1(x))))
        h = h + self.embed(embedding)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        x = self._resampled(x)
        x = (h + (x if self.skip is None else self.skip(x))) * self.scale
        return (x + self._attended(x)) * self.scale if self.attention else x

    def _attended(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        three = self.attention["qkv"](self.attention["norm"](x))
        q, k, v = three.reshape(b * self.heads, c // self.heads, 3, height * width).unbind(2)
        weights = torch.einsum("ncq,nck->nqk", q, k / (c // self.heads) ** 0.5).softmax(2)
        return self.attention["out"](torch.einsum("nqk,nck->ncq", weights, v).reshape(b, c, height, width))


class Plain(nn.Module):
    """DDPM++ as plain modules; the names of its parameters are ours, but that a step's begin with dashes for dots."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet
        self.embed = nn.ModuleList(
            [nn.Linear(unet.channels, unet.embedding), nn.Linear(unet.embedding, unet.embedding)]
        )
        self.stem = nn.Conv2d(unet.image_channels, unet.stem, 3, padding=1)
        self.steps = nn.ModuleDict({step.name.replace(".", "-"): _Block(unet, step) for step in unet.steps})
        width = unet.steps[-1].outputs
        norm = nn.GroupNorm(unet.style.groups(width), width, eps=unet.style.eps)
        self.out = nn.ModuleDict({"norm": norm, "conv": nn.Conv2d(width, unet.out_channels, 3, padding=1)})

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map images (B, C, H, W) at noise labels (B,)."""
        e = embed(t, self.unet.channels, self.unet.frequencies)
        for layer in self.embed:
            e = F.silu(layer(e))
        h = self.stem(x)
        skips = [h]
        for step, block in zip(self.unet.steps, self.steps.values(), strict=True):
            h = block(torch.cat([h, skips.pop()], 1) if step.joins else h, e)
            if step.stage == "down":
                skips.append(h)
        return self.out["conv"](F.silu(self.out["norm"](h)))

    def take(self, params: State) -> None:
        """Copy the weights of the first of our copies."""
        names = {step.name: f"steps.{step.name.replace('.', '-')}" for step in self.unet.steps}

        def theirs(name: str) -> str:
            first = ".".join(name.split(".")[:3])
            return name.replace(first, names[first]) if first in names else name

        self.load_state_dict({theirs(name): leaf[0] for name, leaf in params.items()})


def denoise(net: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
    """Return EDM's denoiser, for (B, 1, 1, 1) noise levels (Karras et al. 2022, Table 1)."""
    total = sigma.square() + 0.25
    raw = net(x / total.sqrt(), sigma.flatten().log() / 4)
    return 0.25 / total * x + 0.5 * sigma / total.sqrt() * raw


def apart(case: Case, state: State) -> tuple[Plain, float]:
    """Return the peer with our weights, and its largest difference to us over the largest output.

    Raises:
        RuntimeError: it is not the same network.
    """
    generator, event = case.generator(), (3, case.side, case.side)
    # The last layer of every branch begins near zero, where an error would not show.
    params = {k: v + 0.05 * STREAMS.normal(f"shift/{k}", v.shape[1:]) for k, v in parameters(state).items()}
    plain = Plain(generator.unet(event))
    plain.take(params)
    x, t = STREAMS.normal("images", (4, *event)), STREAMS.normal("times", (4,))
    with torch.no_grad():
        ours, theirs = generator.network(params, event)(x, t)[0], plain(x[0], t[0])
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    if not difference < 1e-4:
        raise RuntimeError(f"the peer is another network: outputs differ by {difference:.2g} of the largest")
    plain.take(parameters(state))
    return plain, difference


def fits(case: Case, state: State, generator: EDM) -> Callable[[], object]:
    """Return a call that takes the case's steps, as the loop does."""
    data, budget = case.data(), Budget(steps=case.steps)
    return lambda: generator.fit(state, data, budget, STREAMS)


def plain_steps(case: Case, net: Plain) -> Callable[[], object]:
    """Return a call that takes as many steps with the peer."""
    images, average = case.data().x[0], copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def run() -> None:
        for _ in range(case.steps):
            y = images[torch.randint(len(images), (case.batch,))].float() / 127.5 - 1
            sigma = (1.2 * torch.randn(case.batch, 1, 1, 1) - 1.2).exp()
            weight = (sigma.square() + 0.25) / (0.5 * sigma).square()
            optimizer.zero_grad(set_to_none=True)
            error = denoise(net, y + sigma * torch.randn_like(y), sigma) - y
            ((weight * error.square()).sum() / case.batch).backward()
            optimizer.step()
            with torch.no_grad():
                for mean, leaf in zip(average.parameters(), net.parameters(), strict=True):
                    mean.copy_(leaf.lerp(mean, 0.999))

    return run


def plain_images(net: Plain, case: Case, count: int) -> Callable[[], object]:
    """Return a call that draws images by Heun's method in float64, 35 evaluations in 18 steps, as the original does."""
    k = torch.arange(18, dtype=torch.float64) / 17
    levels = torch.cat([(80 ** (1 / 7) + k * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7, k.new_zeros(1)])

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        told = sigma.float().expand(count).view(-1, 1, 1, 1)
        return (x - denoise(net, x.float(), told).double()) / sigma

    @torch.no_grad()
    def run() -> Tensor:
        x = torch.randn(count, 3, case.side, case.side, dtype=torch.float64) * levels[0]
        for now, then in itertools.pairwise(levels):
            first = slope(x, now)
            moved = x + (then - now) * first
            x = x + (then - now) * (first + slope(moved, then)) / 2 if then > 0 else moved
        return (x * 127.5 + 128).clamp(0, 255).to(torch.uint8)

    return run


class _NoNetwork(EDM):
    """A fit in which the loss asks no network: what is left is data, moments, average and checkpoints' clock."""

    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        draws.normal("levels", ())
        draws.normal("noise", tuple(batch[0].shape[2:]))
        return net.params["out.conv.bias"].sum() * 0 + torch.zeros(batch[0].shape[:2])


def around(case: Case, state: State) -> Row:
    """Compare a step with the same step without its network."""
    generator, longer = case.generator(), dataclasses.replace(case, steps=_EMPTY_STEPS)
    empty = _NoNetwork.model_validate(generator.model_dump())
    row = compare(
        f"training step, {case.words}",
        fits(case, state, generator),
        "everything but the network: data, Adam, average",
        fits(longer, state, empty),
        per=case.steps,
        peer_per=longer.steps,
        rounds=case.rounds,
    )
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "fit", _SAVE_EVERY)
        begun = time.perf_counter()
        checkpoint.write(state)
        written = time.perf_counter() - begun
    share = row.peer_s / row.ours_s + written / _SAVE_EVERY
    note = f"{share:.1%} of a step, a checkpoint of {written * 1e3:.0f} ms every {_SAVE_EVERY:.0f} s included"
    return dataclasses.replace(row, note=f"{note}. {row.note}".strip(". "))


def curves(case: Case) -> str:
    """Return how far the losses of fits in bfloat16 and in float32 are apart, over equal random numbers."""
    losses = {}
    for precision in ("float32", "bfloat16"):
        generator = case.generator(precision=precision)
        recorded: list[float] = []

        class Recorded(EDM):
            def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws, into: list[float] = recorded) -> Tensor:
                found = super().loss(net, batch, draws)
                into.append(float(found.detach().mean()))
                return found

        told = Recorded.model_validate(generator.model_dump())
        start = told.init((3, case.side, case.side), STREAMS)
        told.fit(start, case.data(), Budget(steps=_CURVE_STEPS), STREAMS)
        losses[precision] = np.array(recorded)
    difference = np.abs(losses["bfloat16"] / losses["float32"] - 1).max()
    fall = losses["float32"][-1] / losses["float32"][0]
    return (
        f"loss within {difference:.2%} of float32's at every one of {_CURVE_STEPS} steps of batch {case.batch}, "
        f"in which it falls to {fall:.0%}"
    )


def versus_plain(case: Case, state: State) -> Row:
    """Compare float32 training steps."""
    plain, difference = apart(case, state)
    return compare(
        f"training step, float32, {case.words}",
        fits(case, state, case.generator()),
        "plain modules, Adam, average",
        plain_steps(case, plain),
        per=case.steps,
        peer_per=case.steps,
        rounds=case.rounds,
        note=f"outputs agree to {difference:.0e}",
    )


def versus_float32(case: Case, state: State, what: str, note: str = "", **settings: object) -> Row:
    """Compare a training step of ours under other settings with one under the defaults."""
    return compare(
        f"training step, {what}, {case.words}",
        fits(case, state, case.generator(**settings)),
        "ours, float32, defaults",
        fits(case, state, case.generator()),
        per=case.steps,
        peer_per=case.steps,
        rounds=case.rounds,
        note=note,
    )


def in_bfloat16(states: dict[Case, State]) -> Row:
    """Compare bfloat16 with float32 at 64 channels, or in small where the processor only emulates it."""
    a, rates = torch.ones(512, 512), []
    for dtype in (torch.float32, torch.bfloat16):
        b = a.to(dtype)
        rates.append(1 / min(seconds_per_call(lambda b=b: b @ b, 1) for _ in range(3)))
    if rates[1] > rates[0]:
        curve = curves(dataclasses.replace(MIDDLE, batch=8))
        return versus_float32(MIDDLE, states[MIDDLE], "bfloat16", curve, precision="bfloat16")
    case = dataclasses.replace(SMALL, batch=4, steps=1, rounds=1)
    note = f"emulated: its products run at {rates[1] / rates[0]:.1%} of float32's rate here; {curves(case)}"
    return versus_float32(case, states[SMALL], "bfloat16", note, precision="bfloat16")


def sampling(case: Case, state: State, count: int) -> Row:
    """Compare drawing images with 35 evaluations."""
    generator = case.generator(sample_batch=count)
    plain, _ = apart(case, state)
    plain.take(averaged(state))
    row = compare(
        f"an image of {case.words.rsplit(',', 1)[0]}, 35 evaluations, {count} at once",
        lambda: generator.sample(state, count, STREAMS),
        "plain modules, Heun in float64",
        plain_images(plain, case, count),
        per=count,
        peer_per=count,
        rounds=3,
    )
    return dataclasses.replace(row, note=f"{1 / row.ours_s:.3g} images/s. {row.note}".strip(". "))


def rows(full: bool = False) -> Iterator[Row]:
    """Yield the comparisons; ``full`` adds the network of CIFAR-10 and torch.compile, which take minutes."""
    states = {}
    for case in (SMALL, MIDDLE, *([FULL] if full else [])):
        states[case] = case.generator().init((3, case.side, case.side), STREAMS)
        yield versus_plain(case, states[case])
    yield in_bfloat16(states)
    yield versus_float32(SMALL, states[SMALL], "channels_last", channels_last=True)
    if full:
        try:
            yield versus_float32(SMALL, states[SMALL], "torch.compile", compile=True)
        except Exception as error:  # there is no compiler here, or it cannot do this network
            print(f"torch.compile is left out: {' '.join(str(error).split())[:200]}")
    yield sampling(SMALL, states[SMALL], 16)
    yield around(SMALL, states[SMALL])
    yield around(dataclasses.replace(MIDDLE, steps=1, rounds=2), states[MIDDLE])
