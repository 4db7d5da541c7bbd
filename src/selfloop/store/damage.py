"""What is wrong with a run as it lies on the disk."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from selfloop.core.errors import RunError, SelfloopError
from selfloop.core.files import check_size, missing
from selfloop.store import remote

if TYPE_CHECKING:
    from selfloop.store.run import Run

_LOOKS = 3  # at a run that somebody else may be writing to


def found(run: Run, contents: bool, goes_on: bool) -> list[str]:
    """Return what is wrong with a run, a line each, see :meth:`selfloop.store.run.Run.damage`."""
    lines: list[str] = []
    for _ in range(_LOOKS):
        before, lines = lines, _once(run, contents, goes_on)
        if not lines or lines == before:  # what comes and goes is somebody else at work
            break
    return lines


def _once(run: Run, contents: bool, goes_on: bool) -> list[str]:
    from selfloop.store.run import Run  # which imports this module

    lines: list[str] = []

    def sound(check: Callable[[], object]) -> bool:
        try:
            check()
        except SelfloopError as error:
            if str(error) not in lines:  # one file can stand in the way of several checks
                lines.append(str(error))
            return False
        return True

    told: list[bytes] = []
    sound(lambda: told.append(run._metrics()))
    opened: list[Run] = []
    if not sound(lambda: opened.append(Run.open(run.path))):
        return lines
    now = opened[0]
    if not goes_on:
        sound(lambda: now._real.verify(now.path))
        sound(lambda: [now._real.of(key) for key in {arm.data_key for arm in now.arms}])
    if not sound(lambda: now.present):
        return lines
    manifests = [t for t in range(now.present) if sound(lambda t=t: _consistent(now, t))]  # type: ignore[misc]
    for t in manifests:
        for stack, held in now.manifest(t)["stacks"].items():
            for name, note in held["files"].items():
                if goes_on and 0 < t == now.present - 2 and name.startswith("state"):
                    continue
                sound(lambda t=t, s=stack, name=name, note=note: _check(now, t, int(s), name, note, contents))  # type: ignore[misc]
    if told and not lines:
        sound(lambda: _tells(now, told[0]))
    return lines


def _consistent(run: Run, t: int) -> None:
    """Check that the arms of a generation are those of the run, stored as in generation 0.

    Raises:
        RunError: they are not, or the manifest is damaged.
    """
    first, held = run._stored, run.manifest(t)["stacks"]
    for name, stack in held.items():
        if stack["arms"] != [arm.key for arm in first.get(int(name), ())]:
            where = str(run.folder(t) / "manifest.json")
            raise RunError(f"{where!r} is damaged: the arms of stack {name} are not those of the run")
    if t <= run.last:
        run.of_generation(t)


def _check(run: Run, t: int, stack: int, name: str, note: dict[str, Any], contents: bool) -> None:
    path, kept = run.folder(t) / name, not name.startswith("state") or run.keeps_state(t)
    there = remote.size_there(run.path, path)
    try:
        if there is not None and (there < 0 or (contents and kept and not remote.bring(run.path, path, again=True))):
            raise missing(path)
        if not contents:
            check_size(path, note, there)
        elif name.startswith("samples"):
            run.stack_samples(t, stack)
        else:
            run.tensors(t, name.partition("-")[0], stack)
    except RunError:
        # Weights that are not kept are no loss, and a run at work may just have dropped them.
        if kept or (there is None and path.exists()):
            raise


def _tells(run: Run, told: bytes) -> None:
    """Check that metrics.jsonl says what the manifests do.

    Raises:
        RunError: it does not.
    """
    # A run killed between commit and append leaves a shorter file, which is no damage.
    lines = run._lines()
    if not lines.startswith(told):
        pairs = zip_longest(told.splitlines(), lines.splitlines())
        at = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 1)
        raise RunError(
            f"{str(run.path / 'metrics.jsonl')!r} is damaged: from line {at} on it contradicts the manifests, which "
            "all commands read in its place; the same run command writes it again"
        )
