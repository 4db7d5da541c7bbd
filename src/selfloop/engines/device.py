"""Where a fit runs, and the file that a killed one goes on from."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from selfloop.core.errors import RunError
from selfloop.core.files import write_bytes
from selfloop.engines.team import Team

Tensors = dict[str, Tensor]


class Checkpoint:
    """A fit under way, as a file: written every so often, read when the same fit is begun again.

    Args:
        path: of the file; there is none before the first time it is due.
        every: seconds between two writes.
    """

    def __init__(self, path: Path, every: float) -> None:
        self._path, self._every, self._last = path, every, time.monotonic()

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._last >= self._every

    def write(self, tensors: Tensors) -> None:
        """Replace what the file holds, in one piece."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
        write_bytes(self._path, safetensors.torch.save(tensors, metadata={"sha256": _digest(tensors)}))
        self._last = time.monotonic()

    def read(self) -> Tensors | None:
        """Return what was last written; None where nothing was.

        Raises:
            RunError: the file is damaged.
        """
        if not self._path.exists():
            return None
        try:
            tensors = safetensors.torch.load(self._path.read_bytes())
            with safe_open(self._path, "pt") as file:
                expected = (file.metadata() or {}).get("sha256")
        except (OSError, SafetensorError) as error:
            raise self._damaged() from error
        if _digest(tensors) != expected:
            raise self._damaged()
        return dict(tensors)

    def _damaged(self) -> RunError:
        return RunError(f"{str(self._path)!r} is damaged: delete it, and the fit that it belongs to begins again")


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Device:
    """Where a fit runs.

    Attributes:
        team: this process and those that share its fits; its device is that of networks of images, and all else is
            computed on the CPU.
        checkpoints: how the names of files begin in which fits under way are kept, one an arm; None keeps none.
        every: seconds between two writes of such a file.
    """

    team: Team = field(default_factory=Team)
    checkpoints: Path | None = None
    every: float = 600.0

    def checkpoint(self, arm: int) -> Checkpoint | None:
        """Return the file of one arm's fit, by its row in the stack."""
        if self.checkpoints is None:
            return None
        # Only one process of a team writes; all read, and none writes before all have taken a step.
        every = self.every if self.team.rank == 0 else math.inf
        return Checkpoint(self.checkpoints.with_name(f"{self.checkpoints.name}-{arm:03d}.safetensors"), every)


HERE = Device()
"""This process alone, on the CPU; a killed fit begins again."""
