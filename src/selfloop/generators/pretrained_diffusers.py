"""Weights of a UNet2DModel of diffusers, held against the network that images and settings ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from selfloop.core.errors import DataError, quoted
from selfloop.core.samples import State
from selfloop.interop.diffusers import read_config, read_weights

_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What layers of attention were called before diffusers 0.15, and are in weights published then."""


def pretrained(path: Path, skeleton: nn.Module, event: Sequence[int], classes: int | None) -> State:
    """Return the parameters of a network, float32 and without a replica axis.

    Args:
        path: a folder or a file, see :mod:`selfloop.interop.diffusers`.
        skeleton: the network that they are for.
        event: (C, H, W) of its images.
        classes: of which it is told; None where it is told of none.

    Raises:
        DataError: they cannot be read, or are another network's; with the sizes of both.
    """
    source = f"checkpoint {quoted(path, 300)}"
    config = read_config(path) if path.is_dir() else None
    if config is not None:
        channels, *sides = event
        here = f"{' × '.join(map(str, sides))} in {channels} channels"
        there = f"{' × '.join(map(str, config.sides or sides))} in {config.channels} channels"
        if here != there:
            raise DataError(f"{source} is of images of {there}, and the data's are {here}: let both be alike")
        if config.classes is not None and config.classes != classes:
            told = "the generator of none" if classes is None else f"the generator of {classes}"
            raise DataError(
                f"{source} knows of {config.classes} classes, and {told}: set generator.conditional.classes"
            )
    theirs = {_renamed(name): leaf for name, leaf in read_weights(path).items()}
    wanted = {name: tuple(leaf.shape) for name, leaf in skeleton.named_parameters()}
    if (why := _difference(wanted, theirs)) is not None:
        raise DataError(f"{source} holds another network: {why}")
    return {name: theirs[name].float().contiguous() for name in wanted}


def _renamed(name: str) -> str:
    parts = name.split(".")
    if "attentions" in parts and len(parts) > 1:
        parts[-2] = _OLD.get(parts[-2], parts[-2])
    return ".".join(parts)


def _difference(wanted: Mapping[str, tuple[int, ...]], theirs: Mapping[str, Tensor]) -> str | None:
    """Return the first parameter in which two networks differ, and how; None where they are alike."""
    for name in (name for name in wanted if name in theirs):  # a size says more than a layer that another size has not
        if tuple(theirs[name].shape) != wanted[name]:
            return f"{name} has shape {tuple(theirs[name].shape)} where {wanted[name]} is expected"
        if not theirs[name].is_floating_point():
            return f"{name} holds {theirs[name].dtype}, not floating numbers"
    unknown, missing = ([name for name in a if name not in b] for a, b in ((theirs, wanted), (wanted, theirs)))
    if unknown:
        return f"{quoted(unknown[0], 120)} is not a parameter of this network"
    return f"the parameter {missing[0]} is missing" if missing else None
