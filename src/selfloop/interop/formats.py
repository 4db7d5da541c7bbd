"""The four checkpoints that the paper's experiments start from or write, told apart by their keys.

Sources: ``training_loop.py`` of NVlabs/edm, ``examples/images/cifar10/train_cifar10.py`` of torchcfm, and
``Trainer.save_checkpoint`` of tqch/ddpm-torch.
"""

from __future__ import annotations

import itertools
import os
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from selfloop.core.errors import DataError, quoted
from selfloop.core.paths import expanded
from selfloop.interop.archives import read_file
from selfloop.interop.limits import Budget, Refusal
from selfloop.interop.modules import named_tensors, optimizer_tensors, plain, state_dict
from selfloop.interop.pickles import Record

Kind = Literal["edm-snapshot", "edm-training-state", "torchcfm", "ddpm-torch"]

KINDS: dict[Kind, str] = {
    "edm-snapshot": "EDM network snapshot",
    "edm-training-state": "EDM training state",
    "torchcfm": "torchcfm checkpoint",
    "ddpm-torch": "ddpm-torch checkpoint",
}

ROWS = 200
"""The most rows that :func:`describe` gives to settings; it leaves out the rest."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What a checkpoint holds, under the names that its project gave, without those of wrappers.

    Tensors have the dtype of the file, lie on the CPU, and share memory where they shared a storage.

    Attributes:
        kind: which project's, and which of its files.
        networks: parameters and buffers by name: "ema" of an EDM snapshot, "net" of its training state, "net_model"
            and "ema_model" of torchcfm, "model" and "ema" (parameters only) of ddpm-torch.
        optimizer: "INDEX.NAME" → tensor, INDEX counts the network's parameters; empty where the file has none.
        settings: all else, by the file's keys, as numbers, text, lists and dicts.
        step: training steps taken, where the file says.
    """

    kind: Kind
    networks: dict[str, dict[str, Tensor]]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    step: int | None = None


def read_checkpoint(path: str | os.PathLike[str]) -> Imported:
    """Read a checkpoint of EDM, torchcfm or ddpm-torch; nothing in it is executed.

    The file is read whole, and memory for about three times its size is needed.

    Raises:
        DataError: the file cannot be read, is damaged, unsafe, or of none of the kinds; one line that says which.
    """
    source = f"checkpoint {quoted(os.fspath(path), 300)}"
    file = expanded(path)
    if not file.is_file():  # also keeps a pipe from blocking
        raise DataError(f"{source} is not a file" if file.exists() else f"{source} does not exist")
    try:
        value, budget = read_file(file)
        return _recognised(value, budget)
    except Refusal as refusal:
        raise DataError(f"{source} {refusal}") from refusal
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error
    except MemoryError as error:
        raise DataError(f"{source} does not fit into memory; import it on a larger machine") from error


def _recognised(value: object, budget: Budget) -> Imported:
    if not isinstance(value, dict):
        value = {}
    match value:
        case {"ema": Record() as ema}:
            settings = {str(key): plain(item, budget) for key, item in value.items()}
            return Imported(kind="edm-snapshot", networks={"ema": state_dict(ema, budget)}, settings=settings)
        case {"net": Record() as net, "optimizer_state": optimizer}:
            return Imported(
                kind="edm-training-state",
                networks={"net": state_dict(net, budget)},
                optimizer=optimizer_tensors(optimizer, budget),
                settings=_settings(value, budget, "optimizer_state"),
            )
        case {"net_model": dict() as net, "ema_model": dict() as ema, "optim": optimizer, "step": int() as step}:
            return Imported(
                kind="torchcfm",
                networks={"net_model": named_tensors(net, "net_model"), "ema_model": named_tensors(ema, "ema_model")},
                optimizer=optimizer_tensors(optimizer, budget),
                settings=_settings(value, budget, "optim", "net_model", "ema_model", "step"),
                step=step,
            )
        case {"model": dict(), "optimizer": dict(), "epoch": int()}:
            return _ddpm(value, budget)
    raise Refusal(f"is none of: {', '.join(KINDS.values())}; import one of these")


def _ddpm(value: dict[Any, Any], budget: Budget) -> Imported:
    """Read the checkpoint of ddpm-torch, whose average and scheduler are optional."""
    networks = {"model": named_tensors(value["model"], "model")}
    match value:
        case {"ema": {"shadow": dict() as shadow, **rest}}:
            networks["ema"] = named_tensors(shadow, "ema.shadow")
            value = value | {"ema": rest}
    settings = _settings(value, budget, "optimizer", "model")
    scheduler = settings.get("scheduler")
    step = scheduler.get("last_epoch") if isinstance(scheduler, dict) else None
    return Imported(
        kind="ddpm-torch",
        networks=networks,
        optimizer=optimizer_tensors(value["optimizer"], budget),
        settings=settings,
        step=step if isinstance(step, int) else None,
    )


def _settings(value: dict[Any, Any], budget: Budget, optimizer: str, *apart: str) -> dict[str, Any]:
    """Return all that is neither a network nor a tensor of the optimiser."""
    groups = {key: item for key, item in value[optimizer].items() if key != "state"}
    rest = {key: item for key, item in value.items() if key not in apart}
    return {str(key): plain(item, budget) for key, item in (rest | {optimizer: groups}).items()}


def export(imported: Imported, network: str) -> dict[str, Tensor]:
    """Return one network as the ``state_dict`` that its project loads: its names, in its order, nothing shared.

    Raises:
        DataError: there is no such network.
    """
    if network not in imported.networks:
        raise DataError(
            f"the {KINDS[imported.kind]} has no network {quoted(network)}; it has {', '.join(imported.networks)}"
        )
    tensors = imported.networks[network].items()
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors}


def describe(imported: Imported) -> list[tuple[str, str]]:
    """Return rows (what, value) on a checkpoint; text from the file is escaped, so that it is safe to print."""
    rows = [("kind", KINDS[imported.kind])]
    if imported.step is not None:
        rows.append(("step", f"{imported.step:,}"))
    rows += [(f"network {name}", _size(tensors)) for name, tensors in imported.networks.items()]
    if imported.optimizer:
        rows.append(("optimizer", _size(imported.optimizer)))
    return rows + list(itertools.islice(_flat(imported.settings, ""), ROWS))


def _size(tensors: dict[str, Tensor]) -> str:
    count = sum(tensor.numel() for tensor in tensors.values())
    dtypes = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}))
    return f"{len(tensors)} tensors, {count:,} numbers, {dtypes or 'none'}"


def _flat(settings: dict[Any, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, value) of every setting that is no dict."""
    for key, value in settings.items():
        name = f"{prefix}{quoted(str(key)[:40])[1:-1]}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, _SHORT.repr(value)
