"""Several runs seen as one: their settings side by side, where their numbers mean the same; and what does not."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from selfloop.analysis import verdict
from selfloop.analysis.curves import Curves, Setting, final, grouped, mean, read, std
from selfloop.analysis.verdict import Change, Judged
from selfloop.core.errors import ConfigError, counted, listed, quoted, refuse_unlike
from selfloop.core.frames import Table, frame, html_table
from selfloop.core.paths import here
from selfloop.core.settings import dotted, in_words
from selfloop.data.real import Real
from selfloop.experiment import files_of
from selfloop.metrics.base import Metric
from selfloop.store import Run

if TYPE_CHECKING:
    import pandas as pd

_RUN = "run"
"""A setting of arms that were run elsewhere, of which no others are known: the run that has their generations."""

_WIDEST = 32
"""Characters of a value in a table."""

_APART = {"name", "description", "seeds", "grid", "metrics", "features", "figures", "keep_states", "generations"}
"""Settings of an experiment that make no other loop, or that are compared by themselves."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting in which runs differ: its key, and the values of each run, in the runs' order."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Settings of several runs that differ in nothing but what tells the runs apart.

    Attributes:
        label: what they share, for people.
        settings: by the run that has it.
    """

    label: str
    settings: Mapping[str, Setting]


@dataclass(frozen=True, kw_only=True)
class Against:
    """How much worse a run is than the first one, in a setting that they share.

    Attributes:
        label: of the setting.
        run: its name.
        changes: by metric that has a direction, at the end, over the seeds that both have; None where there are none.
    """

    label: str
    run: str
    changes: Mapping[str, Change | None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs that can be compared, as one.

    Attributes:
        runs: those that are compared, by name, the first of them first.
        curves: of all their arms, of the metrics that mean the same in all, as far as the shortest run came.
        by: what settings are judged by, and against what.
        metrics: what is known of the metrics.
        differences: the settings in which runs differ.
        notes: what is not comparable, a line each.
    """

    runs: Mapping[str, Run]
    curves: Curves
    by: Judged
    metrics: Mapping[str, Metric]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    _arms: tuple[tuple[str, int], ...] = field(repr=False)

    def real(self, arm: int) -> Real:
        """Return what is kept of the real rows of an arm, by its number here."""
        name, of = self._arms[arm]
        return self.runs[name].real(of)

    def samples(self, t: int, arm: int) -> Tensor:
        """Return the samples of an arm's generation t, by its number here."""
        name, of = self._arms[arm]
        return self.runs[name].samples(t, of)

    def labels(self, t: int, arm: int) -> Tensor | None:
        """Return the classes of these samples; None where they have none."""
        name, of = self._arms[arm]
        return self.runs[name].labels(t, of)

    @property
    def differing(self) -> Table:
        """The settings in which runs differ, a column per run."""
        return Table(["differs", *self.runs], [[each.key, *map(_short, each.values)] for each in self.differences])

    @property
    def table(self) -> Table:
        """A row per setting: its seeds, its metrics at the last generation, mean ± std over these, and the verdict."""
        curves = self.curves
        rows = [
            [
                setting.label,
                str(len(setting.arms)),
                *[final(curves, i, name) for name in curves.metrics],
                verdict.of_setting(setting, curves, self.by).text,
            ]
            for i, setting in enumerate(curves.settings)
        ]
        return Table(["setting", "seeds", *[self.metrics[name].title for name in curves.metrics], "verdict"], rows)

    @property
    def shared(self) -> list[Shared]:
        """The settings by what runs share: all that varies but keys in which each run has one value of its own."""
        of = [list(dict.fromkeys(self._arms[arm][0] for arm in setting.arms)) for setting in self.curves.settings]
        values: dict[str, dict[str, set[str]]] = {}
        for key in dict.fromkeys(key for setting in self.curves.settings for key in setting.settings):
            for setting, names in zip(self.curves.settings, of, strict=True):
                for name in names:
                    values.setdefault(key, {}).setdefault(name, set()).add(repr(setting.settings.get(key)))
        apart = {
            key
            for key, found in values.items()
            if all(len(each) == 1 for each in found.values()) and len(set.union(*found.values())) > 1
        }
        records = {name: {record["arm"]: record for record in run.of_generation(1)} for name, run in self.runs.items()}
        heads = []
        for setting in self.curves.settings:
            name, arm = self._arms[setting.arms[0]]
            kept = {key: value for key, value in setting.settings.items() if key not in apart}
            heads.append((kept, records[name].get(arm)))
        return [
            Shared(label=row.label, settings={name: self.curves.settings[i] for i in row.arms for name in of[i]})
            for row in grouped(heads)
        ]

    @property
    def against(self) -> list[Against]:
        """How much worse the other runs are than the first, in what they share with it."""
        first, *others = self.runs
        directed = [name for name in self.curves.metrics if self.metrics[name].goal is not None]
        pairs = [
            (row.label, name, row.settings[name], row.settings[first])
            for row in self.shared
            for name in others
            if first in row.settings and name in row.settings and row.settings[name] != row.settings[first]
        ]
        found = []
        for label, name, setting, there in pairs:
            by = replace(self.by, controls={setting.label: there}, about=self.metrics)
            alive = [arm for arm in setting.arms if self.curves.ended[arm] < 0]
            changes = {metric: verdict.change(metric, alive, setting, self.curves, by) for metric in directed}
            found.append(Against(label=label, run=name, changes=changes))
        return found

    @property
    def against_words(self) -> str:
        """What :attr:`against_first` says, as a line above it."""
        return (
            f"How many times as bad as in {next(iter(self.runs))}, seed by seed, and its 95 % interval: "
            "below 1 is better"
        )

    @property
    def against_first(self) -> Table:
        """A row per setting that a run shares with the first: its changes, "0.58 × (0.41 to 0.82)"."""
        names = [name for name in self.curves.metrics if self.metrics[name].goal is not None]
        rows = [
            [row.label, row.run, *[_changed(row.changes[name], self.metrics[name]) for name in names]]
            for row in self.against
        ]
        return Table(["setting", "run", *[self.metrics[name].title for name in names]], rows)

    @property
    def alike(self) -> str:
        """In a sentence, what runs differ in that differ in no setting; "" of others."""
        if self.differences:
            return ""
        if len({run.identity for run in self.runs.values()}) < len(self.runs):
            return "No setting differs: a run is compared with itself, or with a copy of it."
        seeds = [{arm.seed for arm in run.arms} for run in self.runs.values()]
        if all(each == seeds[0] for each in seeds):
            return "No setting differs, and no seed: the runs have the same arms, each of which is taken once."
        return "No setting differs: the runs have other seeds."

    @property
    def told(self) -> list[str]:
        """What stands above the table: what is not comparable, and when the runs are compared."""
        notes = [*filter(None, [self.alike]), *(f"Note: {note}." for note in self.notes)]
        return [*notes, f"After {counted(self.curves.generations - 1, 'retraining')}, mean ± std over seeds:"]

    def __str__(self) -> str:
        parts = [*([str(self.differing)] if self.differences else []), *self.told, str(self.table)]
        against = self.against_first
        return "\n".join([*parts, *([f"{self.against_words}:", str(against)] if against.rows else [])])

    def _repr_html_(self) -> str:
        differing = html_table(*self.differing) if self.differences else ""
        table = "".join(f"<p>{html.escape(line)}</p>" for line in self.told) + html_table(*self.table)
        against = self.against_first
        below = f"<p>{html.escape(self.against_words)}:</p>{html_table(*against)}" if against.rows else ""
        return differing + table + below

    def to_frame(self) -> pd.DataFrame:
        """Return a row per setting and metric: its mean and std over seeds at the last generation, and the verdict.

        Raises:
            ConfigError: pandas is not installed.
        """
        rows = [
            {"setting": each["label"], "runs": ", ".join(each["runs"]), "seeds": len(each["seeds"])}
            | {"verdict": each["verdict"], "metric": name, **values}
            for each in self.plain()["settings"]
            for name, values in each["metrics"].items()
        ]
        return frame(rows)

    def plain(self) -> dict[str, Any]:
        """Return what JSON takes of it; values that are not finite are null."""
        last = {name: self.curves.values[name][:, -1:] for name in self.curves.metrics}
        return {
            "runs": list(self.runs),
            "retrainings": self.curves.generations - 1,
            "differences": {each.key: list(each.values) for each in self.differences},
            "not_comparable": list(self.notes),
            "settings": [
                {
                    "label": setting.label,
                    "runs": list(dict.fromkeys(self._arms[arm][0] for arm in setting.arms)),
                    "seeds": [self.curves.seeds[arm] for arm in setting.arms],
                    "verdict": (found := verdict.of_setting(setting, self.curves, self.by)).word,
                    "reason": found.reason,
                    "metrics": {
                        name: {
                            "mean": _finite(mean(values[list(setting.arms)])),
                            "std": _finite(std(values[list(setting.arms)])),
                        }
                        for name, values in last.items()
                    },
                }
                for setting in self.curves.settings
            ],
            "against_first": [
                {
                    "setting": row.label,
                    "run": row.run,
                    "metrics": {name: _plain(change, self.metrics[name]) for name, change in row.changes.items()},
                }
                for row in self.against
            ],
        }


def _short(text: str) -> str:
    """Return a value for a column: of a checksum or a list of numbers the beginning."""
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST // 2]}…"


def _changed(change: Change | None, about: Metric) -> str:
    return "–" if change is None else verdict.span(change, about)


def _plain(change: Change | None, about: Metric) -> dict[str, Any] | None:
    """Return a change as factors, or as shares where values scatter about zero; None stands for what is not finite."""
    if change is None:
        return None
    shares = about.scale == "difference"
    found = {"value": change.value, "low": change.low, "high": change.high}
    said = {key: x if shares else math.exp(min(x, 700.0)) for key, x in found.items()}
    return {"as": "share" if shares else "factor"} | {
        key: x if math.isfinite(found[key]) else None for key, x in said.items()
    }


def _finite(x: Any) -> float | None:
    value = float(x[0])
    return value if math.isfinite(value) else None


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """Return run directories by what they are called: their own names, or whole paths where two are named alike.

    Raises:
        ConfigError: one is named twice.
    """
    found = {str(path.resolve()): path for path in paths}
    if len(found) < len(paths):
        raise ConfigError("a run is named twice: give each once")
    names = [Path(place).name for place in found]
    own = [name if names.count(name) == 1 else str(path) for name, path in zip(names, found.values(), strict=True)]
    return dict(zip(own, found.values(), strict=True))


def compare(
    runs: Mapping[str, Run | str | Path] | Sequence[Run | str | Path],
    *,
    metric: str | None = None,
    control: Mapping[str, Any] | None = None,
    tolerance: float = verdict.TOLERANCE,
) -> Comparison:
    """Put runs side by side.

    Arms of one setting and different seeds are its seeds, whatever run they are of; of arms that are in two runs the
    first run's are taken.

    Args:
        runs: opened for reading, or their directories; by what they are called, else they are called by their
            directories. The first is what the others are compared with.
        metric: to judge by, in place of the first distance.
        control: a setting's keys and values, in place of λ = 0.
        tolerance: by what share a setting may be worse than its control.

    Raises:
        ConfigError: there is nothing that can be compared, or the metric, the control or the tolerance is none.
        RunError: a run is damaged.

    Examples:
        >>> from selfloop import Experiment, compare, run
        >>> experiment = Experiment(
        ...     name="first", data="gaussian", generator="gaussian", generations=2, metrics=["variance_ratio"]
        ... )
        >>> for kind in "gaussian", "kernel_density":
        ...     for generation in run(experiment.override(f"generator={kind}"), f"runs/{kind}"): pass
        >>> [difference.key for difference in compare(["runs/gaussian", "runs/kernel_density"]).differences]
        ['generator']
    """
    opened = _opened(runs)
    if len(opened) < 2:
        raise ConfigError("a comparison takes two runs at least")
    settings = _settings(opened)
    obstacles = {name: _obstacle(name, opened, settings) for name in opened}
    notes = [why for why in obstacles.values() if why is not None]
    chosen = {name: run for name, run in opened.items() if obstacles[name] is None}
    if len(chosen) < 2:
        raise ConfigError(f"there is nothing to compare: {'; '.join(notes)}")
    metrics = _common(chosen, notes)
    if not metrics:
        raise ConfigError(f"there is nothing to compare: no metric is the same in {listed(chosen)}: {'; '.join(notes)}")
    last = min(run.last for run in chosen.values())
    if any(run.last > last for run in chosen.values()):
        words = ", ".join(f"{name} {run.last}" for name, run in chosen.items())
        notes.append(f"retrainings differ ({words}): compared after the {last} that all have")
    differences = _differences(chosen, settings)
    if data := [each.key for each in differences if each.key.split(".")[0] == "data"]:
        fewer = "; distances of fewer rows are larger by themselves" if {"data.n", "data.held_out"} & set(data) else ""
        notes.append(f"runs differ in their data ({', '.join(data)}): each is held against its own real rows{fewer}")
    merged, arms = _merged(chosen, settings, list(metrics), last + 1, notes)
    return Comparison(
        runs=chosen,
        curves=merged,
        by=verdict.judged(merged, metrics, metric=metric, control=control, tolerance=tolerance),
        metrics=metrics,
        differences=differences,
        notes=tuple(notes),
        _arms=arms,
    )


def _opened(runs: Mapping[str, Run | str | Path] | Sequence[Run | str | Path]) -> dict[str, Run]:
    """Return runs that are opened, by what they are called."""
    many = isinstance(runs, Mapping | Sequence) and not isinstance(runs, str)
    if not many and not isinstance(runs, str | PathLike | Run):
        raise ConfigError(f"runs are a list of run directories, or a mapping of names to them, not {quoted(runs)}")
    for each in [*(runs.values() if isinstance(runs, Mapping) else runs)] if many else ():
        refuse_unlike("a run", each, (Run, str, PathLike), "a run directory or its path")
    if isinstance(runs, Mapping):
        return {name: each if isinstance(each, Run) else Run.open(each) for name, each in runs.items()}
    if isinstance(runs, str | Path | Run):
        raise ConfigError("a comparison takes two runs at least: give a list of them, or a mapping of names to them")
    there = {str(each.path): each for each in runs if isinstance(each, Run)}
    paths = named([each.path if isinstance(each, Run) else here(each) for each in runs])
    return {name: there.get(str(path)) or Run.open(path) for name, path in paths.items()}


_Settings = dict[tuple[str, int], dict[str, Any]]
"""By run and arm, its settings: a value by its dotted key, without what makes no other loop."""


def _settings(runs: Mapping[str, Run]) -> _Settings:
    """Return the settings of all arms, less where the files of the data lie: it is their rows that count."""
    found: _Settings = {}
    made = {name: _generations(run) for name, run in runs.items() if run.elsewhere}
    for name, run in runs.items():
        own = {_RUN: next(of for of in made if _alike(made[of], made[name]))} if name in made else {}
        for arm in run.arms:
            files = files_of(arm.experiment.data)
            settings = {k: v for k, v in arm.experiment.model_dump().items() if k not in _APART}
            plain = ((key.removesuffix(".name"), value) for key, value in dotted(settings))
            kept = {k: v for k, v in plain if not (k.startswith("data.") and str(v) in files)}
            found[name, arm.index] = kept | own
    return found


_Generations = dict[tuple[str, int], list[str]]
"""By sequence and repetition, the data and then the SHA-256 of every generation that was made elsewhere."""


def _generations(run: Run) -> _Generations:
    return {
        (arm.settings["mixing.sequence"], arm.seed): [
            _text(arm.experiment.data.model_dump()),
            *(each["sha256"] for t in range(run.present) if (each := run.source(t, arm.index)) is not None),
        ]
        for arm in run.arms
    }


def _alike(one: _Generations, other: _Generations) -> bool:
    """Whether two runs are of one loop: what both have of its generations is the same, as far as both go."""
    both = one.keys() & other.keys()
    return bool(both) and all(a == b for key in both for a, b in zip(one[key], other[key], strict=False))


def _obstacle(name: str, runs: Mapping[str, Run], settings: _Settings) -> str | None:
    """Return why a run cannot be compared with the first one, None where it can."""
    first, run = next(iter(runs)), runs[name]
    if run.last < 1:
        return f"{name} has no retraining yet"
    if run.environment["features"] != runs[first].environment["features"]:
        return (
            f"{name} looks at the features {run.environment['features']!r}, {first} at "
            f"{runs[first].environment['features']!r}"
        )
    rows = {_data(settings[first, arm.index], arm.seed): runs[first].real(arm.index).sha256 for arm in runs[first].arms}
    for arm in run.arms:
        own = run.real(arm.index).sha256
        if own != rows.get(_data(settings[name, arm.index], arm.seed), own):
            return f"{name} has other real rows than {first}"
    return None


def _data(settings: Mapping[str, Any], seed: int) -> str:
    """Return by what an arm's real rows are asked for."""
    return _text({key: value for key, value in settings.items() if key.split(".")[0] == "data"} | {"seed": seed})


def _text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _common(runs: Mapping[str, Run], notes: list[str]) -> dict[str, Metric]:
    """Return the metrics that mean the same in all runs, and note which do not."""
    found: dict[str, Metric] = {}
    for metric in dict.fromkeys(metric for run in runs.values() for metric in run.recorded):
        lacking = [name for name, run in runs.items() if metric not in run.recorded]
        if lacking:
            notes.append(f"{metric} was not recorded by {', '.join(lacking)}")
            continue
        about = {name: run.metric(metric) for name, run in runs.items()}
        versions = {name: runs[name].environment["metrics"][metric]["version"] for name in runs}
        for what, of in (("versions", versions), ("units", {name: each.unit for name, each in about.items()})):
            if len(set(of.values())) > 1:
                notes.append(
                    f"{metric} has other {what}: " + ", ".join(f"{value} in {name}" for name, value in of.items())
                )
                break
        else:
            found[metric] = next(iter(about.values()))
    return found


def _merged(
    runs: Mapping[str, Run], settings: _Settings, metrics: Sequence[str], length: int, notes: list[str]
) -> tuple[Curves, tuple[tuple[str, int], ...]]:
    """Return the curves of all arms, each once, and of which run and arm each is."""
    varying = _varying(settings, runs)
    chosen: dict[str, tuple[str, int]] = {}
    repeated: dict[tuple[str, str], int] = {}
    for name, run in runs.items():
        for arm in run.arms:
            key = _text(settings[name, arm.index] | {"seed": arm.seed})
            if key in chosen:
                of = chosen[key][0], name
                repeated[of] = repeated.get(of, 0) + 1
            else:
                chosen[key] = name, arm.index
    notes += [
        f"{counted(count, 'arm')} of {name} {'has' if count == 1 else 'have'} the settings and seeds of arms of "
        f"{first}, which are taken"
        for (first, name), count in repeated.items()
    ]
    arms = tuple(chosen.values())
    read_ = {name: read(run) for name, run in runs.items()}
    records = {name: {record["arm"]: record for record in run.of_generation(1)} for name, run in runs.items()}
    heads = [
        ({key: settings[of][key] for key in _heading(varying, settings[of])}, records[of[0]].get(of[1])) for of in arms
    ]
    ended = [int(read_[name].ended[arm]) for name, arm in arms]
    curves = Curves(
        settings=grouped(heads),
        seeds=tuple(runs[name].arms[arm].seed for name, arm in arms),
        values={
            metric: np.stack([read_[name].values[metric][arm, :length] for name, arm in arms]) for metric in metrics
        },
        floors={metric: np.array([read_[name].floors[metric][arm] for name, arm in arms]) for metric in metrics},
        ended=np.array([t if t < length else -1 for t in ended]),
        endings=tuple(
            read_[name].endings[arm] if 0 <= t < length else "" for (name, arm), t in zip(arms, ended, strict=True)
        ),
    )
    return curves, arms


def _heading(varying: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Return by which of the keys that vary an arm is called: where its run tells it apart, its data need not."""
    told = _RUN in varying and _RUN in settings
    return [key for key in varying if key in settings and not (told and key.split(".")[0] == "data")]


def _varying(settings: _Settings, runs: Mapping[str, Run]) -> list[str]:
    """Return the keys in which arms differ: of members of a family, those that members of one name differ in."""
    some = [given for (name, _), given in settings.items() if name in runs]
    found = []
    for key in dict.fromkeys(key for given in some for key in given):
        family = key.split(".")[0]
        if family != key and all(family in given for given in some):
            alike: dict[str, set[str]] = {}
            for given in some:  # a setting may have settings of its own in some members of a name, and none in others
                alike.setdefault(str(given[family]), set()).add(repr(given.get(key)))
        else:
            alike = {"": {repr(given.get(key)) for given in some}}
        if any(len(values) > 1 for values in alike.values()):
            found.append(key)
    return found


def _differences(runs: Mapping[str, Run], settings: _Settings) -> tuple[Difference, ...]:
    """Return the settings in which runs, not just arms of each, differ."""
    found = []
    for key in _varying(settings, runs):
        if key == _RUN:  # the head of its column
            continue
        values = []
        for name in runs:
            of = [given[key] for (run, _), given in settings.items() if run == name and key in given]
            values.append(list(dict.fromkeys(map(in_words, of))))
        if len(set(map(frozenset, values))) > 1:  # in whatever order a grid has them
            found.append(Difference(key=key, values=tuple(", ".join(each) or "–" for each in values)))
    return tuple(found)
