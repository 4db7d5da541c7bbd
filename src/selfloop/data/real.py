"""What a run keeps of its real data: units, moments, some rows, and the hashes by which all of them are known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt
from torch import Tensor

from selfloop.core.errors import DataError, RunError
from selfloop.core.events import Events, read_events
from selfloop.core.files import load_sealed, save_sealed
from selfloop.core.samples import State
from selfloop.data.base import DATA, Dataset, Split

_SOME = 1 << 22
"""Bytes of the rows that are kept of each data set, unless 64 take more."""

BESIDE = f"data-{'[0-9a-f]' * 16}.safetensors"
"""Pattern of the names of files that are kept beside it."""

_AT_ONCE = 16  # seeds that are loaded together
_CHUNK = 1024  # rows that are float64 at once


@dataclass(frozen=True, kw_only=True)
class Real:
    """What is kept of the real data of one arm.

    Attributes:
        events: what a row is.
        rows: (k, *event) the first of the training rows, of the first seed of these data.
        n: training rows.
        mean: (d,) float64, of the arm's own training rows in model units.
        std: (d,) float64, their standard deviation (n below).
        sha256: of all of the arm's own real rows, as of :func:`fingerprint`.
        label: (k,) int64, the classes of ``rows``; None where they have none.
    """

    events: Events
    rows: Tensor
    n: int
    mean: Tensor
    std: Tensor
    sha256: str
    label: Tensor | None = None


class _Set(BaseModel):
    """What is noted of an arm's data: which data set, which row of its moments, the hash of its rows, how many."""

    model_config = ConfigDict(strict=True)

    data: NonNegativeInt
    row: NonNegativeInt
    sha256: str
    n: PositiveInt


class _About(BaseModel):
    """What real.safetensors says besides its tensors."""

    model_config = ConfigDict(strict=True)

    sets: dict[str, _Set]
    events: list[dict[str, Any]]
    descriptions: list[dict[str, Any]] = []  # none in runs made before there were any
    files: list[Annotated[str, Field(pattern="^data-[0-9a-f]{16}[.]safetensors$")]] = []


@dataclass
class RealRows:
    """What is kept of the real data of all arms, by the key of the data and the seed.

    Attributes:
        sets: by an arm's data key: which data set, which row of its moments, the hash, and n.
        events: of each data set.
        descriptions: of these events; {} in runs made before there were any.
        tensors: ``rows-000``, ``mean-000`` (seeds, d), ``std-000`` and so on, of each data set; ``label-000``, the
            classes of the rows, where these have some.
        files: what is kept beside it because nothing else has it, by file name; {} of files that are there already.
        extents: by an arm's data key: rows to train on, rows held out, numbers of a row; of data that were loaded.
    """

    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    descriptions: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    files: dict[str, State] = field(default_factory=dict)
    extents: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def gather(
        cls, wanted: Iterable[tuple[str, Dataset, int]], check: Callable[[str, Tensor], None] | None = None
    ) -> RealRows:
        """Load the data of arms, given as (data key, data, seed), and keep what there is to keep.

        Args:
            wanted: the data.
            check: is shown each arm's data key and its rows to train on, (n, *event).

        Raises:
            DataError: some cannot be loaded.
        """
        found = cls()
        groups: dict[str, tuple[Dataset, dict[int, str]]] = {}
        for key, data, seed in wanted:
            groups.setdefault(json.dumps(DATA.plain(data), sort_keys=True), (data, {}))[1][seed] = key
        for data, keys in groups.values():
            found._add(data, keys, check)
            found.files |= data.files()
        return found

    def _add(self, data: Dataset, keys: Mapping[int, str], check: Callable[[str, Tensor], None] | None) -> None:
        number, seeds = len(self.events), list(keys)
        moments: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(seeds), _AT_ONCE):
            some = seeds[start : start + _AT_ONCE]
            split = data.load(some)
            _refuse_unsound(split, len(some), DATA.name_of(data))
            if split.train.shape[2:] != split.held_out.shape[2:]:
                raise DataError(
                    f"data {DATA.name_of(data)}: rows to train on have shape {tuple(split.train.shape[2:])}, held-out "
                    f"ones {tuple(split.held_out.shape[2:])}: they must be alike"
                )
            if start == 0:
                self.events.append(split.events.plain())
                self.descriptions.append(split.events.description())
                rows = self.tensors[f"rows-{number:03d}"] = _some(split.train[0])
                if split.train_label is not None:
                    self.tensors[f"label-{number:03d}"] = split.train_label[0, : len(rows)].clone()
            extent = (split.train.shape[1], split.held_out.shape[1], split.train[0, 0].numel())
            for r, seed in enumerate(some):
                if check is not None:
                    check(keys[seed], split.train[r])
                self.extents[keys[seed]] = extent
                moments.append(_moments(split.train[r]))
                self.sets[keys[seed]] = {
                    "data": number,
                    "row": start + r,
                    "sha256": fingerprint(split, r),
                    "n": split.train.shape[1],
                }
        self.tensors[f"mean-{number:03d}"] = torch.stack([mean for mean, _ in moments])
        self.tensors[f"std-{number:03d}"] = torch.stack([std for _, std in moments])

    def write(self, path: Path) -> None:
        """Write it, whole or not at all, after the files beside it."""
        hidden = path.parent.glob(f".{BESIDE}.tmp")
        for leftover in (*path.parent.glob(BESIDE), *hidden):
            if leftover.name not in self.files:  # of another run, killed before it began
                leftover.unlink()
        for name, tensors in self.files.items():
            save_sealed(path.with_name(name), tensors, {})
        about = {"sets": self.sets, "events": self.events, "descriptions": self.descriptions}
        save_sealed(path, self.tensors, about | {"files": sorted(self.files)})

    @classmethod
    def read(cls, path: Path) -> RealRows:
        """Read what :meth:`write` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        tensors, about = load_sealed(path)
        try:
            noted = _About.model_validate(about)
            found = cls(
                about["sets"],
                about["events"],
                noted.descriptions or [{}] * len(noted.events),
                tensors,
                {name: {} for name in noted.files},
            )
            if len(found.descriptions) != len(noted.events):
                raise ValueError("descriptions of other data sets")
            for number in range(len(noted.events)):
                events = found._events(number)
                if tensors[f"rows-{number:03d}"].shape[1:] != events.shape:
                    raise ValueError("rows of other events")
                most = max((note.row for note in noted.sets.values() if note.data == number), default=0)
                if min(len(tensors[f"{of}-{number:03d}"]) for of in ("mean", "std")) <= most:
                    raise ValueError("moments of too few seeds")
                _refuse_other_labels(tensors, number, events.classes)
            if any(note.data >= len(noted.events) for note in noted.sets.values()):
                raise ValueError("a data set that is not there")
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise RunError(f"{str(path)!r} is damaged: it does not hold what is kept of real data") from error
        return found

    def agrees(self, other: RealRows) -> bool:
        """Whether the data that both know are the same, their units too: those of equal rows may differ."""
        return all(self._known(key) == other._known(key) for key in self.sets if key in other.sets)

    def holds(self, key: str, split: Split, r: int) -> bool:
        """Whether row r of a split is the real data of an arm, by its data key."""
        return self._known(key) == (fingerprint(split, r), _text(split.events.plain()))

    def _known(self, key: str) -> tuple[str, str]:
        """Return by what an arm's data are known: the SHA-256 of the rows, and what a row is."""
        note = self._note(key)
        return note["sha256"], _text(self.events[note["data"]])

    def verify(self, folder: Path) -> None:
        """Check the files beside it.

        Raises:
            RunError: one is missing or damaged.
        """
        for name in self.files:
            load_sealed(folder / name)

    @property
    def units(self) -> list[str]:
        """The units of the data sets' events, each once."""
        return list(dict.fromkeys(self._events(i).unit for i in range(len(self.events))))

    def _events(self, i: int) -> Events:
        return read_events(self.events[i], self.descriptions[i])

    def _note(self, key: str) -> dict[str, Any]:
        if key not in self.sets:
            raise RunError("real.safetensors does not know the data of this arm: the same run command writes it again")
        return self.sets[key]

    def of(self, key: str) -> Real:
        """Return what is kept of an arm's real data, by its data key."""
        note = self._note(key)
        number = f"{note['data']:03d}"
        return Real(
            events=self._events(note["data"]),
            rows=self.tensors[f"rows-{number}"],
            n=note["n"],
            mean=self.tensors[f"mean-{number}"][note["row"]],
            std=self.tensors[f"std-{number}"][note["row"]],
            sha256=note["sha256"],
            label=self.tensors.get(f"label-{number}"),
        )


def _refuse_unsound(split: Any, r: int, name: str) -> None:
    """Refuse what is no split of R arms, or has entries that are not finite."""
    sets = (split.train, split.held_out) if isinstance(split, Split) else ()
    if not sets or not all(isinstance(x, Tensor) and x.ndim > 2 and len(x) == r and x.shape[1] > 0 for x in sets):
        raise DataError(f"data {name!r}: load must return a Split of tensors ({r}, n, *event), some of each set")
    if not all(torch.isfinite(x).all() for x in sets):
        raise DataError(f"data {name!r}: some rows are not finite: leave them out, or fill them in")
    aside = () if split.aside is None else ((split.aside, split.aside_label, "set aside"),)
    for x, label, which in (
        (split.train, split.train_label, "to train on"),
        (split.held_out, split.held_out_label, "held out"),
        *aside,
    ):
        _refuse_labels(label, x, split.events.classes, f"data {name!r}: labels of the rows {which}")


def _refuse_labels(label: Any, x: Tensor, classes: int, what: str) -> None:
    """Refuse classes that are not those of rows x (R, n, *event), 0 … classes − 1; none where classes is 0.

    Raises:
        DataError: with ``what`` they are.
    """
    if label is None and not classes:
        return
    if not isinstance(label, Tensor):
        raise DataError(f"{what} are missing, and events are of {classes} classes: give every set its labels")
    if label.dtype != torch.int64 or label.shape != x.shape[:2]:
        raise DataError(f"{what} are {label.dtype} {tuple(label.shape)}: they must be int64 {tuple(x.shape[:2])}")
    if not classes or (label.numel() and not 0 <= int(label.min()) <= int(label.max()) < classes):
        raise DataError(
            f"{what} are {int(label.min())} to {int(label.max())}, and must be 0 to {classes - 1}"
            if classes
            else f"{what} are there, and events say of no classes: let events be of some classes"
        )


def _refuse_other_labels(tensors: Mapping[str, Tensor], number: int, classes: int) -> None:
    """Refuse classes of the rows that are kept of a data set which are none of its events.

    Raises:
        ValueError, KeyError: they are not.
    """
    rows, label = tensors[f"rows-{number:03d}"], tensors.get(f"label-{number:03d}")
    if (label is not None) != bool(classes):
        raise ValueError("labels, and events without classes, or the other way round")
    if label is not None and (label.shape != rows.shape[:1] or not 0 <= int(label.min()) <= int(label.max()) < classes):
        raise ValueError("labels of other rows, or of other classes")


def _text(events: Mapping[str, Any]) -> str:
    return json.dumps(events, sort_keys=True)


def _some(train: Tensor) -> Tensor:
    return train[: max(64, _SOME // max(1, train[0].numel() * train.element_size()))].clone()


def _moments(train: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation (d,) of (n, *event) rows, in two passes, some rows at a time."""
    flat, n = train.flatten(1), len(train)
    mean = torch.stack([part.double().sum(0) for part in torch.split(flat, _CHUNK)]).sum(0) / n
    squares = [(part.double() - mean).square().sum(0) for part in torch.split(flat, _CHUNK)]
    return mean, (torch.stack(squares).sum(0) / n).sqrt()


def fingerprint(split: Split, r: int) -> str:
    """Return the SHA-256 of the rows of arm r: those to train on, held out and set aside, and the classes they have."""
    digest = hashlib.sha256()
    sets = (split.train, split.held_out, split.aside, split.train_label, split.held_out_label, split.aside_label)
    for x in (each[r] for each in sets if each is not None):
        digest.update(f"{x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
