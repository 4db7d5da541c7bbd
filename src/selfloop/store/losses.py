"""The losses of the fits of a run."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from selfloop.engines.journal import width
from selfloop.store.schema import stack_file

if TYPE_CHECKING:
    from selfloop.store.run import Run


@dataclass(frozen=True)
class Losses:
    """The losses of one fit of one arm.

    Attributes:
        arm: its index.
        fit: its number among those of the arm in the generation, which an ensemble has several of.
        step: (p,) int64, how many steps were taken up to each point.
        loss: (p,) float32, the mean over the steps since the point before; NaN where the fit had ended.
    """

    arm: int
    fit: int
    step: Tensor
    loss: Tensor


def of_generation(run: Run, t: int, arms: Container[int] | None = None) -> list[Losses]:
    """Return the losses of the fits of generation t, by arm and fit, see :meth:`selfloop.store.run.Run.losses`.

    Args:
        run: whose they are.
        t: the generation.
        arms: indices of those asked for; None is all of them.

    Raises:
        RunError: a file is missing or damaged.
    """
    found = []
    for s, members in run._stored.items():
        files = run.manifest(t)["stacks"].get(f"{s:03d}", {"files": {}})["files"]
        if stack_file("losses", s) not in files:
            continue
        stored = run.tensors(t, "losses", s)
        for row, arm in enumerate(members):
            if arms is not None and arm.index not in arms:
                continue
            for fit, steps in enumerate(stored["steps"][row].tolist()):
                if steps:
                    step = (torch.arange(math.ceil(steps / width(steps))) + 1) * width(steps)
                    loss = stored["loss"][row, fit, : len(step)]
                    found.append(Losses(arm.index, fit, step.clamp(max=steps)[: len(loss)], loss))
    return sorted(found, key=lambda each: (each.arm, each.fit))


def points(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the points of all losses, with what tells them apart.

    Raises:
        RunError: a file is missing or damaged.
    """
    for t in range(run.last + 1):
        for each in of_generation(run, t):
            arm = run.arms[each.arm]
            about = {"arm": arm.index, "seed": arm.seed, **arm.settings, "generation": t, "fit": each.fit}
            for step, loss in zip(each.step.tolist(), each.loss.tolist(), strict=True):
                yield about | {"step": step, "loss": loss}
