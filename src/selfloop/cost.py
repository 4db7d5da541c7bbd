"""What an experiment would take at least, by its settings and the shape of its data: refused where that is too much.

Lower bounds all of them: what is not refused may still fail, and what is cannot run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from selfloop.arms import Arm, arms, stacks
from selfloop.core.config import one_line
from selfloop.core.errors import ConfigError, said
from selfloop.core.events import row_in_words, row_size
from selfloop.core.memory import in_words, refuse_beyond_memory
from selfloop.core.settings import from_yaml
from selfloop.experiment import Experiment
from selfloop.generators.base import GENERATORS, Generator, Sampler
from selfloop.learning.nets.architecture import UNet
from selfloop.mixing.base import draws

_MOST_STEPS = 10**10
"""Gradient steps of one fit: a week or two of the smallest networks."""


Extent = Callable[[Arm], tuple[tuple[int, ...], int]]  # the space of an arm's events, and how many train


def refuse_excess(experiment: Experiment, extent: Extent) -> None:
    """Refuse an experiment that takes more memory than there is, or steps without end.

    Raises:
        ConfigError: with what would take how much, where the generator does not go with the shape of the events, or
            where the settings are more than will be read again.
    """
    from_yaml(experiment.yaml(), "what would be recorded of the settings")
    seen: set[tuple[object, ...]] = set()
    for members in stacks(arms(experiment)):
        event, n = extent(members[0])
        most = max(draws(arm.experiment.mixing, t, n) for arm in members for t in (1, experiment.generations))
        key = (str(GENERATORS.plain(members[0].experiment.generator)), event, n, most, len(members))
        if key not in seen:
            seen.add(key)
            _refuse_stack(members, event, n, most)


def refuse_beyond_disk(members: Sequence[Arm], extent: Extent, out: Path) -> None:
    """Refuse arms whose samples alone, all of which are kept, are more than there is space for.

    Raises:
        ConfigError: with what they would take, and what there is.
    """
    size = 0
    for arm in members:
        experiment, (event, n) = arm.experiment, extent(arm)
        least = min(draws(experiment.mixing, t, n) for t in (0, experiment.generations))
        row = row_size(experiment.data.holds, event, experiment.generator.dtype)
        size += least * (experiment.generations + 1) * row
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    disk = shutil.disk_usage(there)
    if size > disk.free and disk.total:  # which some file systems do not tell
        raise ConfigError(
            f"the samples would take {in_words(size)} on disk, and {str(there)!r} has {in_words(disk.free)}"
        )


def _refuse_stack(members: Sequence[Arm], event: tuple[int, ...], n: int, most: int) -> None:
    """Refuse arms that train together on ``n`` real rows each and draw up to ``most`` rows."""
    experiment, many = members[0].experiment, len(members)
    generator = experiment.generator
    name, of = GENERATORS.name_of(generator), f"of {many} arms at once" if many > 1 else "of an arm"
    row = row_size(experiment.data.holds, event, generator.dtype)
    what = row_in_words(experiment.data.holds, event)
    refuse_beyond_memory(many * n * row, f"{n:.6g} real rows of {what} {of}")
    refuse_beyond_memory(many * most * row, f"mixing: {most:.6g} samples of {what} {of} in a generation")
    state = _state_size(generator, event)
    refuse_beyond_memory(many * state, f"generator {name}: what it has learned, {of},")
    step, shared = _beside_states(generator, event, n)
    refuse_beyond_memory(step, f"generator {name}: a step of its fit of an arm")  # arms may take theirs in turn
    refuse_beyond_memory(
        many * (row * (n + most) + state) + shared, f"generator {name}: rows, samples and weights {of}"
    )
    batch = getattr(generator, "batch_size", None)
    for budget in (experiment.budget, experiment.pretrain):
        if generator.trained and isinstance(batch, int) and budget is not None:
            _refuse_endless(budget.resolve(n).count(batch))


def _beside_states(generator: Generator, event: tuple[int, ...], n: int) -> tuple[int, int]:
    """Return the bytes of a step of one arm's fit, and of what all arms share, at least."""
    if not isinstance(generator, Sampler):
        return 0, 0
    return generator.step_size(event, n), generator.shared_size(event)


def _refuse_endless(steps: int) -> None:
    if steps > _MOST_STEPS:
        raise ConfigError(f"budget: a fit would take {steps:.6g} gradient steps, more than {_MOST_STEPS:.0e}")


def _state_size(generator: Generator, event: tuple[int, ...]) -> int:
    """Return the bytes of one arm's state at least.

    Raises:
        ConfigError: the generator has no model of events of this shape.
    """
    try:
        return generator.state_size(event) if isinstance(generator, Sampler) else 0
    except ValueError as error:
        what = one_line(error, UNet) if isinstance(error, ValidationError) else said(error)
        raise ConfigError(f"generator {GENERATORS.name_of(generator)} does not fit events {event}: {what}") from error
