"""Shards of a run: each has some of its stacks, and they are joined to the run that one machine would have made."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from selfloop.core.errors import ConfigError, RunError, as_known
from selfloop.core.files import disk_errors
from selfloop.core.records import Record
from selfloop.experiment import Experiment
from selfloop.store import Run, Writer
from selfloop.store.remote import working

_WORD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True)
class Shard:
    """The stacks whose number leaves ``number`` − 1 when it is divided by ``of``.

    Attributes:
        number: of the shard, from 1.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, word: str) -> Shard:
        """Return what "3/16" stands for.

        Raises:
            ConfigError: it stands for none.
        """
        found = _WORD.fullmatch(word)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"--shard {word}: write it as 3/16, the third of sixteen shards")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def among(self, stacks: Sequence[int]) -> list[int]:
        """Return its own of some stacks."""
        return [s for s in stacks if s % self.of == self.number - 1]

    def refuse(self, experiment: Experiment, stacks: int) -> None:
        """Refuse an experiment that has no stack for it, or whose arms decide about each other.

        Raises:
            ConfigError: it is one.
        """
        if experiment.alarm is not None and experiment.alarm.action == "stop":
            raise ConfigError(f"--shard {self}: alarms that stop arms hold them against others, which are not here")
        if self.of > stacks:
            are = "there is 1 stack" if stacks == 1 else f"there are {stacks} stacks"
            raise ConfigError(f"--shard {self}: {are} of arms, which run in one piece each: make no more shards")


def merge(shards: Sequence[Path], out: Path) -> Run:
    """Join shards to the run that one machine would have made, to the byte.

    Args:
        shards: run directories of the same experiment, which together have every stack of every generation.
        out: a new directory.

    Raises:
        RunError: they do not fit together, something is lacking or damaged, or ``out`` is not new.
    """
    with working(out):
        _join(shards, out)
    merged = Run.open(out)
    merged.verify()
    return merged


def _join(shards: Sequence[Path], out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{str(out)!r} is not empty: choose another --out")
    runs = [Run.open(path) for path in shards]
    for run in runs:
        run.verify()
        _fits(runs[0], run)
    whole = runs[0]
    holders = _holders(runs)
    with disk_errors(out), Writer.lock(out, whole.experiment, whole.environment, whole._real) as writer:
        for t in range(whole.experiment.generations + 1):
            folder, notes, records = writer.begin(t), {}, list[Record]()
            for s, run in holders[t].items():
                notes[s] = run.manifest(t)["stacks"][f"{s:03d}"]["files"]
                for name in notes[s]:
                    if (there := run.folder(t) / name).exists():  # weights of no more use are gone everywhere
                        shutil.copyfile(there, folder / name)
                of = {arm.index for arm in run.stacks[s]}
                records += [record for record in run.everything_of(t) if record["arm"] in of]
            writer.commit(t, notes, sorted(records, key=lambda record: record["arm"]))
        writer.log(as_known(f"merged from {', '.join(map(str, shards))}"))


def _fits(first: Run, other: Run) -> None:
    """Refuse a shard that is another run's.

    Raises:
        RunError: it is.
    """
    where = f"{str(other.path)!r} and {str(first.path)!r} do not fit together"
    if other.identity != first.identity or other.experiment.model_dump() != first.experiment.model_dump():
        raise RunError(f"{where}: they are of different experiments")
    if not other._real.agrees(first._real):
        raise RunError(f"{where}: their real data differ")
    for name in ("libraries", "python", "machine", "features", "checkpoint", "code"):
        if other.environment.get(name) != first.environment.get(name):
            raise RunError(f"{where}: their {name} differ, and so may their bits")


def _holders(runs: Sequence[Run]) -> list[dict[int, Run]]:
    """Return for every generation the run that has each stack.

    Raises:
        RunError: none has one, or two have it differently.
    """
    found: list[dict[int, Run]] = []
    for t in range(runs[0].experiment.generations + 1):
        holders: dict[int, Run] = {}
        for run in runs:
            there = run.manifest(t)["stacks"] if t < run.present else {}
            for s in map(int, there):
                if s in holders and holders[s].manifest(t)["stacks"][f"{s:03d}"] != there[f"{s:03d}"]:
                    raise RunError(
                        f"{str(run.path)!r} and {str(holders[s].path)!r} do not fit together: both have stack {s} of "
                        f"generation {t}, and differ in it"
                    )
                holders.setdefault(s, run)
        if lacking := [s for s in range(len(runs[0].stacks)) if s not in holders]:
            raise RunError(
                f"stack {lacking[0]} of generation {t} is in none of the shards, {len(lacking)} of "
                f"{len(runs[0].stacks)} stacks in all: finish or add the shard that has it"
            )
        found.append(dict(sorted(holders.items())))
    return found
