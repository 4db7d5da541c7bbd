"""From inert records to what a user of a checkpoint wants: state dicts, optimiser tensors, plain settings.

Records share and may contain themselves, so every walk counts its steps and how deep it is.

Source of the names: ``torch.nn.Module.state_dict`` (parameters, then buffers, then children, joined by dots). A
wrapper that trains a module on several devices, or compiles it, adds its own child's name to those of all parameters;
the original's loaders take it off again, and so is done here, on whichever module the wrapper was put.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from selfloop.core.errors import quoted
from selfloop.interop.limits import Budget, Refusal, damaged, unsafe
from selfloop.interop.pickles import Record

DEPTH = 32
"""The deepest nesting of modules or settings."""

NAME = 512
"""The longest name of a parameter."""

WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""The child's names of ``DataParallel`` and its distributed kin, ``torch.compile``, FSDP, activation checkpointing."""


def state_dict(module: Record, budget: Budget) -> dict[str, Tensor]:
    """Return the tensors of a pickled module under the names that its ``state_dict`` would give them."""
    return _unwrapped(_tensors(module, budget, "", DEPTH))


def _unwrapped(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors by the names that they have without wrappers."""
    found: dict[str, Tensor] = {}
    for wrapped, tensor in named:
        *modules, own = wrapped.split(".")
        name = ".".join([*(module for module in modules if module not in WRAPPERS), own])
        if name in found:
            raise damaged(f"two tensors are called {quoted(name[:NAME])}")
        found[name] = tensor
    return found


def _tensors(module: Record, budget: Budget, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if not depth:
        raise unsafe(f"nests modules more than {DEPTH} deep")
    hidden = module.state.get("_non_persistent_buffers_set", set())
    if not isinstance(hidden, set):
        raise unsafe(f"has a module whose hidden buffers are a {type(hidden).__name__}")
    for group in ("_parameters", "_buffers"):
        for name, tensor in _items(module, group, budget, prefix):
            if isinstance(tensor, Tensor) and not (group == "_buffers" and name in hidden):
                yield f"{prefix}{name}", tensor
            elif not (tensor is None or isinstance(tensor, Tensor)):
                raise unsafe(f"has a {type(tensor).__name__} where a tensor belongs")
    for name, child in _items(module, "_modules", budget, prefix):
        if isinstance(child, Record):
            yield from _tensors(child, budget, f"{prefix}{name}.", depth - 1)
        elif child is not None:
            raise unsafe(f"has a {type(child).__name__} where a module belongs")


def _items(module: Record, group: str, budget: Budget, prefix: str) -> Iterator[tuple[str, object]]:
    """Yield the named entries of one of a module's dicts."""
    entries = module.state.get(group, {})
    if not isinstance(entries, dict):
        raise unsafe(f"has a module whose {group} is a {type(entries).__name__}")
    budget.work(1 + len(entries))
    for name, value in entries.items():
        if not isinstance(name, str) or len(prefix) + len(name) > NAME:
            raise unsafe(f"has a module with a name that is no text or longer than {NAME}")
        yield name, value


def named_tensors(entries: dict[Any, Any], what: str) -> dict[str, Tensor]:
    """Return a pickled state dict after checking that it is one, without the names of wrappers."""
    for name, tensor in entries.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor)):
            raise Refusal(f"has something else than named tensors in {what}; save its state_dict there")
    return _unwrapped(entries.items())


def optimizer_tensors(state: object, budget: Budget) -> dict[str, Tensor]:
    """Return the tensors of a ``torch.optim`` state dict as "INDEX.NAME", index as in ``parameters()``.

    Steps counted as plain numbers, as before torch 1.12, become float32 tensors, as since.
    """
    found: dict[str, Tensor] = {}
    groups = state.get("state") if isinstance(state, dict) else None
    if not isinstance(groups, dict):
        raise Refusal("has an optimiser without a state; save the optimiser's state_dict")
    for index, entries in groups.items():
        if not (isinstance(index, int) and isinstance(entries, dict)):
            raise unsafe("has an optimiser state that is not per parameter")
        budget.work(1 + len(entries))
        for name, value in entries.items():
            if isinstance(value, Tensor):
                found[f"{index}.{str(name)[:NAME]}"] = value
            elif isinstance(value, int | float):
                found[f"{index}.{str(name)[:NAME]}"] = torch.tensor(float(value))
            elif value is not None:
                raise unsafe(f"has a {type(value).__name__} in its optimiser state")
    return found


def plain(value: object, budget: Budget, depth: int = DEPTH) -> Any:
    """Return a setting as numbers, text, lists and dicts; a tensor of one number is that number.

    A record becomes its class's name, the arguments it was made with, and its plain attributes.
    """
    budget.work()
    if not depth:
        raise unsafe(f"nests settings more than {DEPTH} deep")
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [plain(item, budget, depth - 1) for item in value]
        case set():
            return sorted((plain(item, budget, depth - 1) for item in value), key=str)
        case dict():
            return {name: plain(item, budget, depth - 1) for name, item in value.items()}
        case Tensor() if value.numel() == 1:
            return value.item()
        case Record(name=name, state=state):
            return {"class": name} | _described(state, budget, depth - 1)
    raise unsafe(f"has a {type(value).__name__} among its settings")


def _described(state: dict[Any, Any], budget: Budget, depth: int) -> dict[str, Any]:
    """Return the arguments and plain attributes of a persistent object; EDM keeps the arguments apart."""
    budget.work(len(state))
    attributes = {
        name: value
        for name, value in state.items()
        if isinstance(name, str)
        and not name.startswith("_")
        and name != "training"
        and isinstance(value, bool | int | float | str | list | tuple)
    }
    positional = plain(state.get("_init_args", ()), budget, depth)
    return {
        "arguments": plain(state.get("_init_kwargs", {}), budget, depth),
        **({"positional": positional} if positional else {}),
        "attributes": plain(attributes, budget, depth),
    }
