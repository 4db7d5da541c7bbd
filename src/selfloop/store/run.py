"""A run directory, read."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from selfloop.arms import Arm, arms, infinite, key, stacks
from selfloop.core.errors import ConfigError, RunError, as_known, counted, nearest, refuse_unlike
from selfloop.core.events import Events
from selfloop.core.files import (
    Stamp,
    advice,
    gone,
    load_tensors,
    map_tensors,
    read_bytes,
    refuse_unnameable,
    stamp,
)
from selfloop.core.frames import frame
from selfloop.core.paths import here, url_of
from selfloop.core.records import Record, failures
from selfloop.core.registry import Absent
from selfloop.core.samples import Samples, State
from selfloop.data.base import Split
from selfloop.data.kept import look_in
from selfloop.data.real import Real, RealRows
from selfloop.experiment import Experiment
from selfloop.features.base import label, unit
from selfloop.metrics.base import METRICS, Metric
from selfloop.store import damage, losses, remote
from selfloop.store.head import belongs, unsealed
from selfloop.store.losses import Losses
from selfloop.store.schema import read_environment, read_manifest, stack_file

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_GENERATION = re.compile("generation-([0-9]{4,})")
_MANIFESTS = 4  # are kept at least: every stack of a generation asks for those of the last one and of the first
_KEPT = 20_000  # records of manifests that are kept, some 20 MB
_CHECKED = 50_000  # files that are known to be sound, some 20 MB


def line(record: Record) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n").encode()


def _only(names: Sequence[str], record: Record) -> Record:
    """Return a record with some of its metrics, in their order."""
    found = record | {"metrics": {name: record["metrics"][name] for name in names if name in record["metrics"]}}
    if "reference" in record:
        found["reference"] = {name: record["reference"][name] for name in names if name in record["reference"]}
    return found


def _infinite(value: Any) -> Any:
    """Return a number for "inf" and for None, so that columns of numbers are ones."""
    return math.nan if value is None else math.inf if value == "inf" else value


def _runs_in(path: Path) -> str:
    """Return how a message about a folder ends that is no run: with a run in it, where it has some."""
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return ""
    inside = next((name for name in names if os.path.isfile(path / name / "experiment.yaml")), None)
    return "" if inside is None else f"; there are runs in it, such as {str(path / inside)!r}: selfloop ls lists them"


class Run:
    """A run directory, read; :class:`Writer` adds to one.

    What it shows is how far the run was when it was first asked, whatever joins meanwhile: to see that, open it again.
    A run that has just grown by arms or metrics begins anew here, and shows a generation once it has all of them.

    Examples:
        >>> from selfloop import Experiment, Run, run
        >>> experiment = Experiment(
        ...     name="first", data="gaussian", generator="gaussian", generations=2, metrics=["variance_ratio"]
        ... )
        >>> for generation in run(experiment, "runs/first"): pass
        >>> print(Run.open("runs/first"))
        runs/first: first, 2 of 2 retrainings, 1 arm; variance_ratio
    """

    def __init__(self, path: Path, experiment: Experiment, environment: dict[str, Any]) -> None:
        self.path, self.experiment, self.environment = path, experiment, environment

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a run directory for reading, of this machine or by the URL of one elsewhere, as ``s3://bucket/run``.

        Of a run elsewhere what is small is brought here each time, and tensors when they are first asked for.

        Raises:
            RunError: it is not one, is of an earlier version, or one of its two head files is damaged; or its store
                does not answer.
        """
        refuse_unlike("path", path, (str, os.PathLike), "that of a run directory, or its URL")
        path = here(path)
        refuse_unnameable(path)
        remote.refresh(path)
        file = path / "experiment.yaml"
        if not os.path.isfile(file):  # Path.is_file() raises on a name too long
            what = "its experiment.yaml is none" if os.path.lexists(file) else "it has no experiment.yaml"
            what = what if url_of(path) or os.path.lexists(path) else "it does not exist"
            raise RunError(f"{str(path)!r} is not a run directory: {what}{_runs_in(path)}")
        text = unsealed(file)
        look_in(path)
        other = path / "environment.json"
        environment = read_environment(other)
        if not belongs(text, environment):
            remote.refresh(path)  # it may have grown between the two
            text, environment = unsealed(file), read_environment(other)
            if not belongs(text, environment):
                both = f"{str(file)!r} or {str(other)!r}"
                raise RunError(f"{both} is another run's: put copies of both back that belong together")
        return cls(path, Experiment.parse(text, str(file), absent=True), environment)

    def __repr__(self) -> str:
        return as_known(f"Run({str(self.path)!r})")

    def __str__(self) -> str:
        done = f"{max(self.last, 0)} of {counted(self.experiment.generations, 'retraining')}"
        names = ", ".join(self.experiment.metrics)
        return as_known(f"{self.path}: {self.experiment.name}, {done}, {counted(len(self.arms), 'arm')}; {names}")

    def _repr_html_(self) -> str:
        from selfloop.report.plots import html

        return html(self)

    @property
    def identity(self) -> str:
        """What all of its generations have in common, however it grows."""
        return str(self.environment["run"])

    @property
    def view(self) -> str:
        """What of the run is seen here, as a SHA-256: how far it is, its settings, arms and metrics."""
        seen = [self.last, self.experiment.yaml(), [arm.key for arm in self.arms], self.recorded]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    @cached_property
    def arms(self) -> list[Arm]:
        """The experiment's arms, by the settings with which they were run.

        Without the code of a member its settings are as they were written: 1 where the code makes it 1.0.
        """
        found, noted = arms(self.experiment), self.environment.get("arms", ())
        if len(noted) != len(found):  # it is growing at this moment
            return found
        return [
            arm if arm.key == key(settings, seed) else replace(arm, seed=seed, settings=infinite(settings))
            for arm, (settings, seed) in zip(found, noted, strict=True)
        ]

    @cached_property
    def _by_key(self) -> dict[str, Arm]:
        return {arm.key: arm for arm in self.arms}

    @cached_property
    def _stored(self) -> dict[int, list[Arm]]:
        """The arms of each stack that generation 0 has, by its number: a shard of a run has some alone.

        Arms that have come since this was opened are not among them.
        """
        there = self.manifest(0)["stacks"] if self.present else {}
        keys = {int(name): there[name]["arms"] for name in sorted(there, key=int)}
        known = self._by_key
        return {s: [known[of] for of in members] for s, members in keys.items() if set(members) <= known.keys()}

    @cached_property
    def stacks(self) -> list[list[Arm]]:
        """The arms as they train and are stored together: those that came first keep their stacks.

        Raises:
            ConfigError: some are not stored yet, and the code that says how they train is not here.
        """
        there = {arm.key for members in self._stored.values() for arm in members}
        lacking = [arm for arm in self.arms if arm.key not in there]
        if not lacking:
            return list(self._stored.values())
        whole = dict(enumerate(stacks(self.arms)))
        if self._stored.items() <= whole.items():  # a shard's have the numbers that they have in the whole run
            return list(whole.values())
        return list(self._stored.values()) + stacks(lacking)

    def folder(self, t: int) -> Path:
        """Return the directory of generation t."""
        return self.path / f"generation-{t:04d}"

    def checkpoints(self, t: int, stack: int) -> Path:
        """Return how the names of files begin that keep one stack's fits of generation t while they are under way."""
        return self.path / f".fit-{t:04d}-{stack:03d}"

    def outcome(self, t: int, stack: int) -> Path:
        """Return the file that keeps what came of one stack's generation t until all stacks have theirs."""
        return self.path / f".fit-{t:04d}-{stack:03d}-done.safetensors"

    def status(self, stack: int) -> Path:
        """Return the file in which a stack says how far it is, while it is at work."""
        return self.path / f".status-{stack:03d}.json"

    @cached_property
    def present(self) -> int:
        """How many generations are there, of some arms or of all.

        Raises:
            RunError: one before the last is missing, or no directory; or there are more than the run has.
        """
        try:
            names = os.listdir(self.path)
        except OSError as error:
            words = f"{str(self.path)!r} cannot be read: {error.strerror}"
            raise gone(self.path / "experiment.yaml") or RunError(words) from error
        found = (match for name in names if (match := _GENERATION.fullmatch(name)))
        numbers = sorted(t for match in found if self.folder(t := int(match[1])).name == match[0])
        if files := [t for t in numbers if not self.folder(t).is_dir()]:
            raise RunError(f"{str(self.folder(files[0]))!r} is a file, where a generation belongs: move it elsewhere")
        there = len(numbers)
        if numbers and numbers[-1] > self.experiment.generations:
            there = self._grown(numbers)
        # One that came while the names were read may not be among them, though one after it is.
        missing = [t for t in range(numbers[there - 1] if there else 0) if not self.folder(t).is_dir()]
        if missing:
            lost = self.folder(missing[0])
            raise RunError(f"{str(lost)!r} is missing{advice(lost)}")
        return numbers[there - 1] + 1 if there else 0

    def _grown(self, numbers: list[int]) -> int:
        """Return how many of these generations this view of the run has.

        Raises:
            RunError: the run has not grown to the others.
        """
        if numbers[-1] > Run.open(self.path).experiment.generations:
            raise RunError(
                f"{str(self.folder(numbers[-1]))!r} is no generation of this run, which has "
                f"{counted(self.experiment.generations, 'retraining')}: move it elsewhere"
            )
        return sum(t <= self.experiment.generations for t in numbers)

    @property
    def last(self) -> int:
        """The last generation that is there of all arms, −1 where there is none."""
        return self._last

    @cached_property
    def _last(self) -> int:
        # A run that has grown by arms makes good for them from generation 0 on: what lacks one is followed by such.
        low, high = -1, self.present - 1
        while low < high:
            middle = (low + high + 1) // 2
            there = {of for held in self.manifest(middle)["stacks"].values() for of in held["arms"]}
            low, high = (middle, high) if self._by_key.keys() <= there else (low, middle - 1)
        return low

    @cached_property
    def recorded(self) -> tuple[str, ...]:
        """Names of the metrics that every generation has: one that joins comes to the last of them last."""
        if self.last < 0:
            return tuple(self.experiment.metrics)
        there = {name for record in self.manifest(self.last)["records"] for name in record["metrics"]}
        return tuple(name for name in self.experiment.metrics if name in there)

    @property
    def finished(self) -> bool:
        """Whether all generations of all arms are committed."""
        return self.last >= self.experiment.generations

    def manifest(self, t: int) -> dict[str, Any]:
        """Return what generation t consists of.

        Raises:
            RunError: the manifest is missing, damaged, or another generation's.
        """
        path = self.folder(t) / "manifest.json"
        now = stamp(path)
        if t not in self._manifests or self._manifests[t][0] != now:
            content = read_manifest(path, t, self.identity)
            while len(self._manifests) >= max(_MANIFESTS, _KEPT // max(1, len(content["records"]))):
                del self._manifests[next(iter(self._manifests))]
            self._manifests[t] = now, content
        return self._manifests[t][1]

    @cached_property
    def _manifests(self) -> dict[int, tuple[Stamp | None, dict[str, Any]]]:
        """The manifests that were read last, each with what tells whether the file is still the same."""
        return {}

    def records(self) -> list[Record]:
        """Return one record per generation and arm, from the manifests.

        Raises:
            RunError: a manifest is damaged.
        """
        return [record for t in range(self.last + 1) for record in self.of_generation(t)]

    def of_generation(self, t: int) -> list[Record]:
        """Return the records of generation t, in the order of the arms as they are now numbered.

        Raises:
            RunError: its manifest is damaged, or lacks arms that a later generation has.
        """
        found = [_only(self.recorded, record) for record in self.everything_of(t)]
        if len(found) < len(self.arms):
            lost = self._by_key.keys() - {key(record["settings"], record["seed"]) for record in found}
            where = str(self.folder(t) / "manifest.json")
            raise RunError(f"{where!r} is damaged: it lacks {len(lost)} of the run's {counted(len(self.arms), 'arm')}")
        return found

    def everything_of(self, t: int) -> list[Record]:
        """Return the records of generation t with all metrics that they have, also those that others lack."""
        records = ((self._arm_at(place, record), record) for place, record in enumerate(self._noted(t)))
        found: list[Record] = [record | {"arm": arm.index} for arm, record in records if arm is not None]
        return sorted(found, key=lambda record: record["arm"])

    def _arm_at(self, place: int, record: Record) -> Arm | None:
        """Return the arm of a record, None where it has come since this was opened.

        Most records are of the arm that had their place in the generation before: to compare settings costs less than
        to find them by their key, of which a long run of many arms has millions.
        """
        known = self._places.get(place)
        if known is None or known[:2] != (record["settings"], record["seed"]):
            known = record["settings"], record["seed"], self._by_key.get(key(record["settings"], record["seed"]))
            self._places[place] = known
        return known[2]

    @cached_property
    def _places(self) -> dict[int, tuple[dict[str, Any], int, Arm | None]]:
        """Settings, seed and arm of the record that was read last at every place of a generation."""
        return {}

    def failures(self) -> list[str]:
        """Return what models raised that ended their arms, see :func:`~selfloop.core.records.failures`.

        Raises:
            RunError: a manifest is damaged.
        """
        return failures(record for t in range(self.last + 1) for record in self._noted(t))

    def _noted(self, t: int) -> list[Record]:
        records: list[Record] = self.manifest(t)["records"]
        return records

    def metric(self, name: str) -> Metric:
        """Return what is known of a metric that was recorded, also where its code is not here, in this run's units.

        These are the ones that models see: of a table, standard deviations of its columns.
        """
        about = self.environment["metrics"].get(name)
        if name in METRICS and (about is None or METRICS[name].version == about["version"]):
            return METRICS[name].measured(*self._units)
        if about is None:
            there = nearest(name, self.recorded)
            raise ConfigError(f"{str(self.path)!r} did not record metric {name!r}{there}")
        return Metric.recorded(name, about).measured(*self._units)

    @cached_property
    def _units(self) -> tuple[str, str, str]:
        """The units of its events and of its features, and the label of these; arms may differ in them."""
        data, features = " or ".join(self._real.units), [arm.experiment.features for arm in self.arms]
        labels = filter(None, dict.fromkeys(label(each) for each in features))
        return data, " or ".join(dict.fromkeys(unit(each, data) for each in features)), " or ".join(labels)

    @property
    def metrics(self) -> dict[str, Metric]:
        """What is known of the recorded metrics, by name."""
        return {name: self.metric(name) for name in self.experiment.metrics}

    def to_frame(self) -> pd.DataFrame:
        """Return the records as a tidy pandas frame: a row per arm, generation and metric, a column per grid key.

        Infinite settings are inf, values that were not finite NaN. The ``floor`` of an arm is the same in all
        generations: what the metric is between its real training rows and held-out ones. It is NaN of metrics without.

        Raises:
            ConfigError: pandas is not installed.
        """
        first = self.of_generation(0) if self.last >= 0 else []
        floors = {record["arm"]: record.get("reference", {}) for record in first}
        rows = [
            {"arm": record["arm"], "seed": record["seed"]}
            | {name: _infinite(value) for name, value in record["settings"].items()}
            | {"regime": record["regime"], "ratio": _infinite(record["ratio"]), "generation": record["generation"]}
            | {"status": record["status"], "metric": name, "value": math.nan if value is None else value}
            | {"floor": _infinite(floors.get(record["arm"], {}).get(name))}
            for record in self.records()
            for name, value in record["metrics"].items()
        ]
        return frame(rows)

    def plot(self, metric: str, axes: Axes | None = None) -> Axes:
        """Draw a metric against the number of retrainings as the report does: mean ± std over seeds per setting.

        Args:
            metric: its name.
            axes: where it is drawn; None makes a figure by pyplot, which notebooks show.

        Raises:
            ConfigError: the run did not record the metric, or it cannot be drawn there.
            RunError: it is damaged.

        Examples:
            >>> from selfloop import Experiment, Run, run
            >>> experiment = Experiment.load("fig4-small").override("generations=1", "budget={steps: 20}")
            >>> for generation in run(experiment, "runs/plotted"): pass
            >>> axes = Run.open("runs/plotted").plot("variance_ratio")
            >>> axes.get_xlabel(), len(axes.get_lines())
            ('Number of retrainings', 2)
        """
        import matplotlib.axes

        from selfloop.report.plots import metric as draw

        refuse_unlike("metric", metric, str, "the name of one that the run recorded")
        if axes is not None:
            refuse_unlike("axes", axes, matplotlib.axes.Axes, "axes of matplotlib, or None for a new figure")
        return draw(self, metric, axes)

    def samples_plot(self, t: int) -> NDArray[np.object_]:
        """Draw what generation t of every setting's first arm looks like, beside the real rows, as the report does.

        Vectors are densities of their first two coordinates, or bars of the only one; images are tiles, texts lines. Of
        a table of more than two columns there is a panel for each, at most twelve.

        Args:
            t: the generation.

        Returns:
            The axes of a new figure by pyplot, (1 + settings,), the real rows first; of a table (columns,).

        Raises:
            RunError: there is no such generation, or the run is damaged.

        Examples:
            >>> from selfloop import Experiment, Run, run
            >>> experiment = Experiment.load("fig4-small").override("generations=1", "budget={steps: 20}")
            >>> for generation in run(experiment, "runs/pictured"): pass
            >>> [axes.get_title() for axes in Run.open("runs/pictured").samples_plot(1)]
            ['Ground truth', 'Fully Synthetic (λ = ∞)', 'λ = 1']
        """
        from selfloop.report.plots import samples as draw

        return draw(self, t)

    def tensors(self, t: int, kind: str, stack: int) -> dict[str, Tensor]:
        """Return the tensors of one stack, ``kind`` being "state", "samples" or "losses".

        A file is read and checked when it is first asked for, and again when it or its manifest has changed since: a
        regime that looks back at all generations asks for every one of them each time.

        Raises:
            RunError: the file is missing or damaged, or the state was not kept.
        """
        refuse_unlike("the generation", t, numbers.Integral, "a whole number")
        name = stack_file(kind, stack)
        path = self.folder(t) / name
        now = stamp(path), stamp(self.folder(t) / "manifest.json")
        if None in now or self._checked.get((t, name)) != now:
            tensors = self._check_tensors(t, kind, stack, path)
            while len(self._checked) >= _CHECKED:
                del self._checked[next(iter(self._checked))]
            self._checked[t, name] = now
            return tensors
        return map_tensors(path)

    @cached_property
    def _checked(self) -> dict[tuple[int, str], tuple[Stamp | None, Stamp | None]]:
        """The files that were found to be what their manifests say, with what tells whether both are still the same."""
        return {}

    def _check_tensors(self, t: int, kind: str, stack: int, path: Path) -> dict[str, Tensor]:
        held = self.manifest(t)["stacks"].get(f"{stack:03d}")
        if held is None:
            raise RunError(f"{str(self.folder(t))!r} does not have stack {stack} yet")
        if kind != "state" or self.keeps_state(t):
            remote.bring(self.path, path)
        if path.name in held["files"] and not path.exists() and kind == "state" and not self.keeps_state(t):
            raise RunError(f"the weights of generation {t} were not kept: set keep_states to 'all' to keep them")
        if path.name not in held["files"]:
            raise RunError(f"{str(self.path)!r} has no weights: its models were trained elsewhere")
        tensors = self._load(path, held["files"][path.name])
        if any(value.ndim == 0 or len(value) != len(held["arms"]) for value in tensors.values()):
            raise RunError(f"{str(path)!r} is damaged: it has not the {len(held['arms'])} arms of the manifest")
        return tensors

    def _load(self, path: Path, note: dict[str, Any]) -> dict[str, Tensor]:
        """Read a file of tensors; of a run elsewhere, what was brought here before may be damaged alone."""
        try:
            return load_tensors(path, note)
        except RunError:
            if not remote.bring(self.path, path, again=True):
                raise
            return load_tensors(path, note)

    def losses(self, t: int) -> list[Losses]:
        """Return the losses of the steps of generation t, by arm; none of models without gradient steps.

        Runs that were made before losses were kept have none either.

        Raises:
            RunError: a file is missing or damaged.

        Examples:
            >>> from selfloop import Experiment, Run, run
            >>> experiment = Experiment.load("fig4-small").override("generations=1", "budget={steps: 20}")
            >>> for generation in run(experiment, "runs/losses"): pass
            >>> first, *_ = Run.open("runs/losses").losses(1)
            >>> first.arm, len(first.loss), first.step[-1].item()
            (0, 20, 20)
        """
        return losses.of_generation(self, t)

    def losses_frame(self) -> pd.DataFrame:
        """Return the losses of all generations as a pandas frame: a row per arm, generation, fit and point.

        Raises:
            ConfigError: pandas is not installed.
            RunError: a file is missing or damaged.
        """
        return frame(losses.points(self))

    def keeps_state(self, t: int) -> bool:
        """Return whether the weights of generation t are to be there still, as the run is now."""
        return self.experiment.keep_states == "all" or t == 0 or not self.folder(t + 2).is_dir()

    def state(self, t: int, stack: int) -> State:
        """Return one stack's state after generation t."""
        return self.tensors(t, "state", stack)

    def stack_samples(self, t: int, stack: int) -> Samples:
        """Return one stack's samples of generation t."""
        found = self.tensors(t, "samples", stack)
        if found.keys() - {"label"} != {"born", "count", "x"}:
            raise RunError(f"{str(self.folder(t) / stack_file('samples', stack))!r} is damaged: it holds no samples")
        try:
            samples = Samples(x=found["x"], born=found["born"], count=found["count"], label=found.get("label"))
            self._refuse_unlike(samples, stack)
        except ValueError as error:
            where = str(self.folder(t) / stack_file("samples", stack))
            raise RunError(f"{where!r} is damaged: {error}") from error
        return samples

    def _refuse_unlike(self, samples: Samples, stack: int) -> None:
        """Refuse samples that are no rows of what the run's real rows are.

        Raises:
            ValueError: they are others.
        """
        events = self._events_of(stack)
        most, whole = samples.born.shape[1], (torch.int16, torch.int64)
        if samples.x.shape[2:] != events.shape or samples.x.dtype == torch.bool:
            raise ValueError(f"rows of {samples.x.dtype} {tuple(samples.x.shape[2:])}, and not {tuple(events.shape)}")
        if (samples.born.dtype, samples.count.dtype) != whole or not _within(samples.count, most):
            raise ValueError("it counts other rows than there are")
        if samples.label is not None and not (_within(samples.label, events.classes - 1)):
            raise ValueError("labels of other classes than there are")

    def _events_of(self, stack: int) -> Events:
        """Return what the rows of a stack are, which all of its arms have in common."""
        known: dict[int, Events] = self.__dict__.setdefault("_known_events", {})
        if stack not in known:
            members = self._stored.get(stack) or self.stacks[stack]  # before generation 0 nothing is stored
            known[stack] = self.real(members[0].index).events
        return known[stack]

    def _arm(self, arm: int) -> Arm:
        """Return an arm by its number.

        Raises:
            ConfigError: it is no number.
            RunError: there is no such arm.
        """
        refuse_unlike("the arm", arm, numbers.Integral, "the whole number of one")
        if not 0 <= arm < len(self.arms):
            raise RunError(f"{str(self.path)!r} has the arms 0 to {len(self.arms) - 1}, no {arm}")
        return self.arms[arm]

    def row(self, arm: int) -> tuple[int, int]:
        """Return the stack in which an arm is stored, and its row there.

        Raises:
            RunError: there is no such arm, or nothing of it yet.
        """
        self._arm(arm)
        if arm not in self._stored_at:
            raise RunError(f"{str(self.path)!r} has nothing of arm {arm} yet")
        return self._stored_at[arm]

    @cached_property
    def _stored_at(self) -> dict[int, tuple[int, int]]:
        return {arm.index: (s, row) for s, members in self._stored.items() for row, arm in enumerate(members)}

    def samples(self, t: int, arm: int) -> Tensor:
        """Return the samples of one arm's generation t, (count, *event), in model units."""
        stack, row = self.row(arm)
        x = self.stack_samples(t, stack).arm(row)
        whole = not x.dtype.is_floating_point or bool(torch.isfinite(x).all())
        if not whole or (not len(x) and self._went_on(t, arm)):
            where = str(self.folder(t) / stack_file("samples", stack))
            raise RunError(f"{where!r} is damaged: arm {arm} went on, and has no rows, or some that are not finite")
        return x

    def _went_on(self, t: int, arm: int) -> bool:
        """Whether an arm had samples at generation t, by its record."""
        return any(record["arm"] == arm and record["status"] == "ok" for record in self.everything_of(t))

    def labels(self, t: int, arm: int) -> Tensor | None:
        """Return the classes of one arm's samples of generation t, (count,) int64; None where they have none."""
        stack, row = self.row(arm)
        return self.stack_samples(t, stack).classes(row)

    def source(self, t: int, arm: int) -> dict[str, Any] | None:
        """Return where an arm's samples of generation t come from that was run elsewhere, None of any other.

        That is a ``name``, the ``sha256`` of what it held, and its number of ``rows``, of which some may be here alone.
        """
        stack, row = self.row(arm)
        note = self.manifest(t)["stacks"][f"{stack:03d}"]["files"][stack_file("samples", stack)]
        found: dict[str, Any] | None = note["sources"][row] if "sources" in note else None
        return found

    @property
    def elsewhere(self) -> bool:
        """Whether its generations were made elsewhere."""
        generator = self.experiment.generator
        return not isinstance(generator, Absent) and bool(getattr(generator, "elsewhere", False))

    @cached_property
    def _real(self) -> RealRows:
        return RealRows.read(self.path / "real.safetensors")

    def real(self, arm: int) -> Real:
        """Return what the run keeps of one arm's real data: units, moments and some rows; the data are not needed."""
        return self._real.of(self._arm(arm).data_key)

    def holds(self, arm: Arm, split: Split, r: int) -> None:
        """Check that row r of a split is an arm's real data.

        Raises:
            RunError: they are others than when the run began.
        """
        if not self._real.holds(arm.data_key, split, r):
            raise changed(self.path)

    def split(self, arm: int) -> Split:
        """Return one arm's real data, R = 1, all of them, read from where the run found them.

        Raises:
            RunError: they have changed since.
            DataError: they are not there any more.
            ConfigError: their code is not here.
        """
        chosen = self._arm(arm)
        cached = self.__dict__.setdefault("_split", {})
        if chosen.data_key not in cached:
            split = chosen.experiment.data.load([chosen.seed])
            self.holds(chosen, split, 0)
            cached.clear()  # images may be large, and arms share them
            cached[chosen.data_key] = split
        found: Split = cached[chosen.data_key]
        return found

    def verify(self, goes_on: bool = False) -> None:
        """Check every file of the run as it is now.

        Args:
            goes_on: do without the weights of the last generation but one, which were dropped where the one after the
                last has been moved elsewhere, and without files of real rows, which whoever goes on has loaded.

        Raises:
            RunError: names the first file that is missing or damaged.
        """
        for line in self.damage(goes_on=goes_on):
            raise RunError(line)

    def damage(self, contents: bool = True, goes_on: bool = False) -> list[str]:
        """Return what is wrong with the run as it is now, a line each.

        Args:
            contents: whether the checksums of all weights and samples are computed; else their sizes are looked at.
            goes_on: as of :meth:`verify`.
        """
        return damage.found(self, contents, goes_on)

    def _lines(self) -> bytes:
        """Return what metrics.jsonl says, or will say in a moment."""
        return b"".join(map(line, self.records()))

    def _metrics(self) -> bytes:
        return read_bytes(self.path / "metrics.jsonl", ": the same run command writes it again")


def _within(x: Tensor, most: int) -> bool:
    """Whether whole numbers are from 0 to the greatest that there may be."""
    return not x.dtype.is_floating_point and (not x.numel() or 0 <= int(x.min()) <= int(x.max()) <= most)


def changed(path: Path, rounded: str = "") -> RunError:
    """Return the error of real rows that are not those which a run was made with.

    Args:
        path: the run directory.
        rounded: where this machine may round them otherwise, in what it differs from that of the run.
    """
    elsewhere = f", or are rounded otherwise here than where they were drawn ({rounded})" if rounded else ""
    return RunError(
        f"{str(path)!r} was run on other data: the real rows have changed since, or are others whenever they are asked "
        f"for{elsewhere}; put them back, or use another --out"
    )
