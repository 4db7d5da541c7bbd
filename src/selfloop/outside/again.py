"""A loop that is judged again: what its directory has of it, and what of it is not as it was, in the user's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from selfloop.arms import Arm
from selfloop.core.errors import RunError, counted, listed
from selfloop.core.events import Events, Mixed, Vectors
from selfloop.data.arrays import Held, ScaledArray
from selfloop.features.base import FEATURES, Extractor
from selfloop.outside.given import Key, Loop
from selfloop.store import Run
from selfloop.store.schema import stack_file


class Source(NamedTuple):
    """Where a generation that a run has came from."""

    name: str
    sha256: str


def key_of(arm: Arm) -> Key:
    """Return the sequence whose generations an arm has."""
    return arm.settings["mixing.sequence"], arm.seed


def known(run: Run) -> dict[tuple[Key, int], Source]:
    """Return where everything that a run has came from, by sequence and generation.

    Raises:
        RunError: it was not run elsewhere.
    """
    if not run.elsewhere:
        raise RunError(f"{str(run.path)!r} is a run of selfloop's own: use another --out")
    found: dict[tuple[Key, int], Source] = {}
    by_key = {arm.key: arm for arm in run.arms}
    for t in range(run.present):
        for s, held in run.manifest(t)["stacks"].items():
            sources = held["files"][stack_file("samples", int(s))]["sources"]
            for of, each in zip(held["arms"], sources, strict=True):
                found[key_of(by_key[of]), t] = Source(each["name"], each["sha256"])
    return found


def refuse_changed(
    run: Run, loop: Loop, digests: Mapping[Key, Sequence[str]], there: Mapping[tuple[Key, int], Source]
) -> None:
    """Refuse generations that are not what they were.

    Raises:
        RunError: with the first of them.
    """
    for key, some in loop.generations.items():
        for t, (each, digest) in enumerate(zip(some, digests[key], strict=True)):
            before = there.get((key, t), Source(each.name, digest))
            if before.sha256 == digest:
                continue
            if before.name != each.name:
                raise RunError(
                    f"generation {t} of the {key[0]} is {each.name!r}, and was {before.name!r} when "
                    f"{str(run.path)!r} was made: name the same generations (--every), or use another --out"
                )
            raise RunError(
                f"{each.name!r} is not what generation {t} of the {key[0]} was when {str(run.path)!r} was made: put "
                "that back, or use another --out"
            )


def refuse_other(run: Run, loop: Loop, data: Held, events: Events, features: Extractor) -> None:
    """Refuse a loop that is judged by something else than a run was, where an option or what is named makes it so.

    Args:
        run: of a loop that was judged.
        loop: that is to be judged.
        data: its real rows.
        events: what they are.
        features: that metrics look at.

    Raises:
        RunError: with the first difference, and what to give.
    """
    before, length = run.experiment.data, run.present
    if not isinstance(before, Held):
        return
    columns = _columns_apart(run.real(run.arms[0].index).events, events)
    apart = before.held_out_sha256, data.held_out_sha256
    targets = [each.predicted() or "none" for each in (before, data)]
    names = [FEATURES.name_of(each) for each in (run.experiment.features, features)]
    kinds, seeds = ({of[i] for of in map(key_of, run.arms)} for i in (0, 1))
    lost = sorted(seeds - set(loop.repetitions))
    differences = (
        (columns, f"by other columns ({columns})", "--leave-out"),
        (apart[0] != apart[1], f"against {_held_out(*apart)}", "--held-out"),
        (before.sha256 != data.sha256, "against other real rows", "real rows"),
        (before.n != data.n, f"by {before.n} real rows, now by {data.n}", "--rows"),
        (before.held_out != data.held_out, f"by {before.held_out} held-out rows, now by {data.held_out}", "--rows"),
        (_scale(before) != _scale(data), "in other units", "--raw"),
        (targets[0] != targets[1], f"for another target ({targets[0]}, now {targets[1]})", "--target"),
        (names[0] != names[1], f"by other features ({names[0]}, now {names[1]})", "--features"),
        (kinds - set(loop.kinds), "beside a control, now without", "--control"),
        (lost, f"with repetitions {', '.join(map(str, lost))}, now without", "ones"),
        (loop.length < length, f"with {counted(length, 'generation')}, now with {loop.length}", "ones"),
    )
    for differs, how, what in differences:
        if differs:
            raise RunError(f"{str(run.path)!r} was judged {how}: give the same {what}, or another --out")


def _columns_apart(before: Events, now: Events) -> str:
    """Return by which columns rows differ, "" where by none, or where some have no columns."""
    there, here = _columns(before), _columns(now)
    gone, new = ([name for name in a if name not in b] for a, b in ((there, here), (here, there)))
    if not there or not here:
        return ""
    words = [f"with {listed(gone)}, now without"] if gone else []
    return "; ".join([*words, f"without {listed(new)}, now with"] if new else words)


def _held_out(before: str | None, now: str | None) -> str:
    if before is None:
        return "a part of the real rows, now against held-out rows that are given"
    return "held-out rows that were given, now against " + ("a part of the real rows" if now is None else "others")


def _columns(events: Events) -> Sequence[str]:
    """Return the names of columns, () of what has none."""
    if isinstance(events, Mixed):
        return [part.name for part in events.parts]
    return events.columns if isinstance(events, Vectors) else ()


def _scale(data: Held) -> tuple[list[float], list[float]] | None:
    return (data.shift, data.scale) if isinstance(data, ScaledArray) else None
