"""What EDM, torchcfm and ddpm-torch call the parameters of their U-Nets, and what we call them, in both directions.

An original is a few rules; :func:`table` applies them to every parameter of a network, in the order of the original's
``parameters()``, which is also that of its optimiser's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from selfloop.learning.nets.architecture import Step, UNet, layers_of
from selfloop.learning.nets.mlp import Params


@dataclass(frozen=True)
class Original:
    """How a project names the parameters of its U-Net.

    Attributes:
        outside: names of the layers outside of steps, by ours.
        inside: names of a step's layers within it, by ours; where convolutions resample, by "down" and "up".
        place: what those begin with, given the network, the step and whether the layer is one of attention.
        up_by_level: whether the steps up are listed from the finest level, not as they are taken.
        flat_attention: whether the 1×1 convolutions of attention are one-dimensional.
        buffers: names, within a step that changes the resolution, of its constant 2×2 filters.
    """

    outside: Mapping[str, str]
    inside: Mapping[str, str]
    place: Callable[[UNet, Step, bool], str]
    up_by_level: bool = False
    flat_attention: bool = False
    buffers: tuple[str, ...] = ()


class Leaf(NamedTuple):
    """A parameter's name with us, and its shape in the original."""

    name: str
    shape: tuple[int, ...]


def edm(size: int) -> Original:
    """Return the names of EDM's preconditioned ``SongUNet``, which depend on the height of its images."""

    def place(unet: UNet, step: Step, attention: bool) -> str:
        if step.stage == "middle":
            return f"model.dec.{size >> step.level}x{size >> step.level}_in{step.index}."
        part = "enc" if step.stage == "down" else "dec"
        # Theirs counts a change of resolution to the level that it arrives at.
        arrived = {"down": step.level + 1, "up": step.level - 1, None: step.level}[step.resample]
        return f"model.{part}.{size >> arrived}x{size >> arrived}_{step.resample or f'block{step.index}'}."

    finest = f"{size}x{size}"
    return Original(
        outside={
            "embed.label": "model.map_label",
            "embed.augment": "model.map_augment",
            "embed.0": "model.map_layer0",
            "embed.1": "model.map_layer1",
            "stem": f"model.enc.{finest}_conv",
            "out.norm": f"model.dec.{finest}_aux_norm",
            "out.conv": f"model.dec.{finest}_aux_conv",
        },
        inside={
            "norm1": "norm0",
            "conv1": "conv0",
            "embed": "affine",
            "norm2": "norm1",
            "conv2": "conv1",
            "skip": "skip",
            "attention.norm": "norm2",
            "attention.qkv": "qkv",
            "attention.out": "proj",
        },
        place=place,
        buffers=("conv0.resample_filter", "skip.resample_filter"),
    )


def _torchcfm_place(unet: UNet, step: Step, attention: bool) -> str:
    if step.stage == "middle":
        return f"middle_block.{1 if attention else 2 * step.index}."
    if step.stage == "down":
        return f"input_blocks.{1 + step.level * (unet.blocks + 1) + step.index}.{int(attention)}."
    above = len(unet.multipliers) - 1 - step.level
    if step.resample:
        # Theirs lies in the same list as the level's last block, behind that block's attention.
        return f"output_blocks.{above * (unet.blocks + 1) + unet.blocks}.{2 if step.level in unet.attention else 1}."
    return f"output_blocks.{above * (unet.blocks + 1) + step.index}.{int(attention)}."


def _ddpm_torch_place(unet: UNet, step: Step, attention: bool) -> str:
    if step.stage == "middle":
        return f"middle.{1 if attention else 2 * step.index}."
    place = f"{step.stage}samples.level_{step.level}.{step.index}."
    return f"{place}{int(attention)}." if step.attention else place


TORCHCFM = Original(
    outside={
        "embed.0": "time_embed.0",
        "embed.1": "time_embed.2",
        "stem": "input_blocks.0.0",
        "out.norm": "out.0",
        "out.conv": "out.2",
    },
    inside={
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "embed": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "skip": "skip_connection",
        "attention.norm": "norm",
        "attention.qkv": "qkv",
        "attention.out": "proj_out",
        "down": "op",
        "up": "conv",
    },
    place=_torchcfm_place,
    flat_attention=True,
)

DDPM_TORCH = Original(
    outside={
        "embed.0": "embed.0",
        "embed.1": "embed.2",
        "stem": "in_conv",
        "out.norm": "out_conv.0",
        "out.conv": "out_conv.2",
    },
    inside={
        "norm1": "norm1",
        "conv1": "conv1",
        "embed": "fc",
        "norm2": "norm2",
        "conv2": "conv2",
        "skip": "skip",
        "attention.norm": "norm",
        "attention.qkv": "project_in",
        "attention.out": "project_out",
        "down": "1",
        "up": "1",
    },
    place=_ddpm_torch_place,
    up_by_level=True,
)


def _layers(original: Original, unet: UNet) -> Iterator[tuple[str, str]]:
    """Yield the names of all layers, theirs and ours, in their order."""
    outside = {ours: theirs for ours, theirs in original.outside.items() if ours in unet.layers}
    yield from ((theirs, ours) for ours, theirs in outside.items() if not ours.startswith("out."))
    steps = list(unet.steps)
    if original.up_by_level:
        steps.sort(key=lambda step: (step.stage == "up", step.level if step.stage == "up" else 0))
    for step in steps:
        for layer in layers_of(unet.style, step, unet.embedding):
            theirs = original.inside.get(step.resample if layer == "conv" and step.resample else layer)
            if theirs is not None:
                yield original.place(unet, step, layer.startswith("attention.")) + theirs, f"{step.name}.{layer}"
    yield from ((theirs, ours) for ours, theirs in outside.items() if ours.startswith("out."))


def table(original: Original, unet: UNet) -> dict[str, Leaf]:
    """Return our name and their shape of each of the original's parameters.

    Raises:
        ValueError: the original has no such network.
    """
    found: dict[str, Leaf] = {}
    for theirs, layer in _layers(original, unet):
        for kind in ("weight", "bias"):
            if (name := f"{layer}.{kind}") in unet.shapes:
                flat = (
                    original.flat_attention and kind == "weight" and layer.endswith(("attention.qkv", "attention.out"))
                )
                found[f"{theirs}.{kind}"] = Leaf(name, unet.shapes[name][:-1] if flat else unet.shapes[name])
    if nameless := unet.shapes.keys() - {leaf.name for leaf in found.values()}:
        raise ValueError(f"the original has no name for our parameter {min(nameless)}")
    return found


def _buffers(original: Original, unet: UNet) -> set[str]:
    """Return the names of the original's constants."""
    resampling = [step for step in unet.steps if step.resample]
    return {original.place(unet, step, False) + name for step in resampling for name in original.buffers}


def _check_names(given: Mapping[str, Tensor], known: Mapping[str, object]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{name} is not a parameter of this network")
    for name in known:
        if name not in given:
            raise ValueError(f"the parameter {name} is missing")


def from_original(original: Original, unet: UNet, theirs: Mapping[str, Tensor]) -> Params:
    """Return an original's parameters as ours, the same numbers in the same memory.

    Args:
        original: whose names they have.
        unet: the settings of the network that they were made for.
        theirs: leaves that lead with R, constants included.

    Raises:
        ValueError: a name is unknown or missing, or a tensor has another shape or, being a constant, other values.
    """
    leaves, buffers = table(original, unet), _buffers(original, unet)
    _check_names(theirs, leaves | dict.fromkeys(buffers))
    for name, leaf in leaves.items():
        if theirs[name].shape[1:] != leaf.shape:
            raise ValueError(f"{name} has shape {tuple(theirs[name].shape[1:])} where {leaf.shape} is expected")
    for name in buffers:
        if theirs[name].shape[1:] != (1, 1, 2, 2) or not torch.all(theirs[name] == 0.25):
            raise ValueError(f"{name} is not the filter that averages 2×2 pixels")
    return {leaf.name: theirs[name].reshape(-1, *unet.shapes[leaf.name]) for name, leaf in leaves.items()}


def to_original(original: Original, unet: UNet, ours: Params) -> dict[str, Tensor]:
    """Return our parameters as the original's, constants included: what undoes :func:`from_original`.

    Raises:
        ValueError: a name is unknown or missing.
    """
    leaves = table(original, unet)
    _check_names(ours, {leaf.name: None for leaf in leaves.values()})
    theirs = {name: ours[leaf.name].reshape(-1, *leaf.shape) for name, leaf in leaves.items()}
    some = next(iter(ours.values()))
    filters = {name: some.new_full((len(some), 1, 1, 2, 2), 0.25) for name in sorted(_buffers(original, unet))}
    return theirs | filters
