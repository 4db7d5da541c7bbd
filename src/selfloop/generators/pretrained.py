"""States that begin with the weights of another project's checkpoint."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from selfloop.core.errors import DataError, quoted
from selfloop.core.samples import State
from selfloop.interop import read_checkpoint
from selfloop.interop.formats import KINDS, Imported
from selfloop.learning.nets.architecture import UNet
from selfloop.learning.nets.names import Original, from_original, table
from selfloop.learning.training import MOMENTS, OPTIMIZER, SHADOW, fresh

_LAST_AND_AVERAGE = {
    # EDM's --transfer takes a snapshot's average for both.
    "edm-snapshot": ("ema", "ema"),
    "edm-training-state": ("net", "net"),
    "torchcfm": ("net_model", "ema_model"),
    "ddpm-torch": ("model", "ema"),
}


def pretrained(path: Path, project: str, original: Original, unet: UNet, ema: bool) -> State:
    """Return the state, R = 1, of the network in a checkpoint, with its optimiser's moments where the file has them.

    Args:
        path: of the checkpoint.
        project: how the names of the kinds begin that are its family's.
        original: how the project names parameters.
        unet: the settings that the network must have.
        ema: whether an average is kept; it begins with the file's, or with the weights where the file has none.

    Raises:
        DataError: the file cannot be read, or holds another network; the message names the file.
    """
    imported = read_checkpoint(path)
    if not imported.kind.startswith(project):
        raise DataError(f"checkpoint {quoted(path, 300)} is a {KINDS[imported.kind]}, not one of {project}")
    last, average = _LAST_AND_AVERAGE[imported.kind]
    try:
        params = _network(imported, last, original, unet)
        state = fresh(params, ema=ema)
        if ema and average in imported.networks:
            averages = _network(imported, average, original, unet)
            state |= {f"{SHADOW}{name}": leaf.clone() for name, leaf in averages.items()}
        return state | _moments(imported, original, unet)
    except ValueError as error:
        raise DataError(f"checkpoint {quoted(path, 300)} holds another network: {error}") from error


def _network(imported: Imported, name: str, original: Original, unet: UNet) -> State:
    theirs = {key: tensor.float().unsqueeze(0) for key, tensor in imported.networks[name].items()}
    return {key: leaf.contiguous() for key, leaf in from_original(original, unet, theirs).items()}


def _moments(imported: Imported, original: Original, unet: UNet) -> State:
    """Return Adam's moments and step count under our names; nothing where the file has none."""
    state: State = {}
    for index, leaf in enumerate(table(original, unet).values()):
        for moment in MOMENTS:
            if (found := imported.optimizer.get(f"{index}.{moment}")) is not None:
                if tuple(found.shape) != leaf.shape:
                    raise ValueError(f"moment {index} of the optimiser has shape {tuple(found.shape)}")
                state[f"{OPTIMIZER}{moment}.{leaf.name}"] = found.float().reshape(1, *unet.shapes[leaf.name])
        step: Tensor | None = imported.optimizer.get(f"{index}.step")
        if step is not None:
            state[f"{OPTIMIZER}step"] = step.float().reshape(1)
    return state
