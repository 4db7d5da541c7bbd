"""Processes that share one fit: several GPUs, or on CPUs several processes, each with its part of every batch.

Starting them and moving tensors between them is Lightning Fabric's; see ``docs/dependencies.md``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selfloop.core.errors import ConfigError, quoted, to_install


class Team:
    """This process and those beside it; by default it is alone.

    Attributes:
        rank: of this process; the first is 0 and alone writes the run directory.
        size: processes in all.
        device: of this one.
    """

    def __init__(self, device: torch.device | None = None, fabric: Any = None) -> None:
        self._fabric = fabric
        self.rank: int = fabric.global_rank if fabric is not None else 0
        self.size: int = fabric.world_size if fabric is not None else 1
        self.device: torch.device = fabric.device if fabric is not None else device or torch.device("cpu")

    @classmethod
    def start(cls, device: str, processes: int) -> Team:
        """Join the processes that ``torchrun`` started, or start ``processes`` of the present command.

        Args:
            device: "cpu", "cuda", …, as torch names it; with several processes each takes a GPU of its own.
            processes: of this machine, this one included.

        Raises:
            ConfigError: there is no such device here, or Lightning Fabric is not installed.
        """
        started = int(os.environ.get("WORLD_SIZE", "1"))
        if max(started, processes) == 1:
            return cls(available(device))
        try:
            from lightning_fabric import Fabric
        except ImportError as error:
            raise ConfigError(to_install("a fit on several devices", "lightning-fabric", "devices")) from error
        kind = torch.device(device).type
        local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        if kind == "cuda" and torch.cuda.device_count() < local:
            raise ConfigError(f"{local} processes need as many GPUs, and there are {torch.cuda.device_count()}")
        fabric = Fabric(accelerator=kind, devices=local, num_nodes=max(1, started // local), strategy="ddp")
        fabric.launch()
        return cls(fabric=fabric)

    @property
    def name(self) -> str | None:
        """What the device is called by its maker, or else by torch; None for the CPU."""
        if self.device.type == "cpu":
            return None
        one = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return one if self.size == 1 else f"{self.size} × {one}"

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one number type by their sums over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        total = self._fabric.all_reduce(flat, reduce_op="sum")
        for tensor, part in zip(tensors, total.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, said: Any) -> Any:
        """Return what the first process says; the others' own words do not matter."""
        return said if self.size == 1 else self._fabric.broadcast(said, src=0)

    def end(self) -> None:
        """Leave the others in order: threads of theirs that a process takes with it when it exits abort it."""
        if self.size > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def available(device: str) -> torch.device:
    """Return a device by its name.

    Raises:
        ConfigError: torch knows none of that name, or this machine has none.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"torch knows no device {quoted(device)}: give cpu, cuda, cuda:1 or mps") from error
    try:
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return found
