"""Experiment: what to run, as typed settings from YAML or Python."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from selfloop.alarm import Alarm, refuse_unrecorded
from selfloop.core.capabilities import OF_DATA, OF_FEATURES, WORDS, Capability
from selfloop.core.config import (
    BASE,
    Frozen,
    Inside,
    execution_settings,
    file_settings,
    first_complaint,
    matching,
    one_line,
    quoted_value,
)
from selfloop.core.controls import controls
from selfloop.core.errors import ConfigError, nearest, quoted, refuse_unlike
from selfloop.core.events import Kind
from selfloop.core.frames import html_table
from selfloop.core.paths import expanded, is_path
from selfloop.core.recipes import read_recipe, recipes
from selfloop.core.registry import ABSENT, Absent, Family, Named, is_name, within
from selfloop.core.settings import (
    assign,
    from_yaml,
    in_order,
    in_words,
    merged,
    read_assignments,
    read_yaml,
    to_yaml,
    value_at,
)
from selfloop.data.base import DATA, Dataset
from selfloop.features.base import FEATURES, Extractor
from selfloop.generators.base import GENERATORS, Generator
from selfloop.learning.training import Budget
from selfloop.metrics.base import METRICS
from selfloop.mixing.base import MIXINGS, Mixing, needs, ratio, refuse_incomplete
from selfloop.updates.base import UPDATES, Update

_MOST_ARMS = 10_000
_MOST_GENERATIONS = 999_999
_MOST_HEIRS = 16  # a chain of experiments each of which extends the next
_DEFAULT_METRICS = ["w1_held_out", "w2_held_out", "mean_error", "covariance_error", "variance_ratio"]

_NAMED: dict[str, Family[Any]] = {
    "data": DATA,
    "generator": GENERATORS,
    "mixing": MIXINGS,
    "update": UPDATES,
    "features": FEATURES,
}
"""The settings in which members of families stand."""

GROWING = ("generations", "seeds", "grid", "metrics")
"""Settings by which a run may grow."""

_A_NAME = "at most 64 letters, digits, dots, dashes and underscores, a letter or digit first, as two-moons_1"

OF_STEPS = ("budget", "pretrain", "optimizer")
"""Settings of how gradient steps are taken, which change nothing where none are."""

FREE = ("description", "figures")
"""Settings that change no number."""


class Experiment(Frozen):
    """A self-consuming training experiment: Algorithm 1 of Bertrand et al. 2024 over a grid of arms.

    Attributes:
        name: a word for the run directory and the report.
        description: what the experiment is for.
        data: the real data; arrays, tensors, data frames and functions of a seed are taken as they are.
        generator: the family of models and its hyperparameters.
        mixing: what each generation trains on.
        update: what becomes of the weights after the fits of generations from 1 on; None: they stay as fitted.
        generations: T, the number of retrainings after generation 0.
        budget: how long one retraining lasts; needed where fitting takes gradient steps.
        pretrain: the same for generation 0; None means ``budget``.
        retrain: go on from the last weights ("warm", as the paper) or start afresh ("scratch").
        optimizer: carry Adam's moments over to the next retraining ("carry", as the paper) or "reset" them.
        latents: draw new latents for every generation ("fresh") or use the same ones in all ("common").
        seeds: how many repetitions (0, 1, …), or which.
        grid: dotted keys of this experiment and the values to try; arms are all combinations, times the seeds.
        metrics: names out of ``selfloop.metrics.METRICS``; those of the default that would take more than a gibibyte
            for the rows that there are give way, where a run begins, to ones that take less.
        features: what the metrics look at, rows as they are or a network's features of images; where none are named,
            those of colour pictures are a network's if its package is there, which is found where a run begins.
        alarm: which statistics are watched while it runs, and what becomes of an arm that raises an alarm; None: none.
        keep_states: keep every generation's weights, or those of generation 0 and of the last two.
        figures: the numbers of the paper's figures that a recipe makes.
        trackers: who is told of every generation, by name or by settings; no part of what is run, nor recorded.

    Examples:
        >>> from selfloop import Experiment
        >>> experiment = Experiment.load("fig4-small").override("generations=5", "seeds=2")
        >>> experiment.generations, experiment.grid
        (5, {'mixing.lam': [inf, 1]})
    """

    name: Annotated[str, matching("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", _A_NAME)]
    description: str = ""
    data: Annotated[Dataset, Named(DATA)]
    generator: Annotated[Generator, Named(GENERATORS)]
    mixing: Annotated[Mixing, Named(MIXINGS, "augment")] = Field(default_factory=lambda: MIXINGS.parse("augment"))
    update: Annotated[Update, Named(UPDATES)] | None = None
    generations: int = Field(gt=0, le=_MOST_GENERATIONS)
    budget: Budget | None = None
    pretrain: Budget | None = None
    retrain: Literal["warm", "scratch"] = "warm"
    optimizer: Literal["carry", "reset"] = "carry"
    latents: Literal["fresh", "common"] = "fresh"
    seeds: PositiveInt | list[int] = 1
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    metrics: list[str] = _DEFAULT_METRICS
    features: Annotated[Extractor, Named(FEATURES)] = Field(default_factory=lambda: FEATURES.parse("identity"))
    alarm: Alarm | None = None
    keep_states: Literal["last", "all"] = "last"
    figures: list[int] = Field(default_factory=list)
    trackers: list[str | dict[str, Any]] = Field(default_factory=list, exclude=True)
    _reading: bool = PrivateAttr(default=False)

    @model_validator(mode="wrap")
    @classmethod
    def _refused_in_one_line(cls, settings: Any, check: ModelWrapValidatorHandler[Experiment]) -> Experiment:
        if isinstance(settings, Mapping):
            settings = _first_of_grid(settings)
        try:
            experiment = check(settings)
        except ValidationError as error:
            raise ConfigError(f"{one_line(error, cls)}{_to_be_given(error)}") from error
        except UnicodeEncodeError as error:  # pydantic's own, of a key
            raise ConfigError(f"a setting's name has half of a surrogate pair: {quoted(error.object)}") from error
        repetitions = experiment.seeds if isinstance(experiment.seeds, int) else len(experiment.seeds)
        if repetitions * math.prod(map(len, experiment.grid.values())) > _MOST_ARMS:  # it can be beyond printing
            raise ConfigError(f"seeds and grid make more than {_MOST_ARMS} arms")
        if experiment.grid:  # what it varies need go together in the arms alone
            variants = experiment.variants()
        else:
            experiment._complete()
            variants = [({}, experiment)]
        if experiment.alarm is not None:
            experiment._refuse_alarm(variants)
        return experiment

    def model_post_init(self, context: Any) -> None:
        """Remember whether members may be absent."""
        self._reading = bool((context or {}).get(ABSENT))

    @property
    def names_metrics(self) -> bool:
        """Whether the metrics were named, and are not the default."""
        return "metrics" in self.model_fields_set

    def with_metrics(self, names: list[str]) -> Experiment:
        """Return the experiment with these metrics named."""
        return self.model_copy(update={"metrics": names})

    @property
    def names_features(self) -> bool:
        """Whether features were named, here or by the grid, and are not the default."""
        return "features" in self.model_fields_set or any(key.split(".")[0] == "features" for key in self.grid)

    def with_features(self, features: Extractor) -> Experiment:
        """Return the experiment with these features named."""
        return self.model_copy(update={"features": features})

    def given(self) -> dict[str, Any]:
        """Return the settings, without the metrics and features of the default: what is built of them names none."""
        own = {"metrics": self.names_metrics, "features": self.names_features}
        return {key: value for key, value in self.model_dump().items() if own.get(key, True)}

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: list[str], info: ValidationInfo) -> list[str]:
        for name in names:
            if name not in METRICS and not (info.context or {}).get(ABSENT):
                raise ValueError(f"no metric is called {name!r}{nearest(name, list(METRICS))}")
            if not is_name(name):  # of a run of others, whose tables are files of these names
                raise ValueError(f"{quoted(name)} is no name of a metric")
        if not names or len(set(names)) < len(names):
            raise ValueError("name at least one metric, and each only once")
        return names

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise ConfigError(f"an experiment never changes: .override('{name}=…') returns another with that setting")
        super().__setattr__(name, value)

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: int | list[int]) -> int | list[int]:
        if isinstance(seeds, list) and (not seeds or len(set(seeds)) < len(seeds)):
            raise ValueError("name at least one seed, and each only once")
        return seeds

    @field_validator("grid")
    @classmethod
    def _grid_values(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        plain: dict[str, list[Any]] = {}
        for key, values in grid.items():
            if key.split(".")[0] in (*GROWING, *FREE, "name", "keep_states", "alarm", "trackers"):
                raise ValueError(f"{key} cannot differ between arms")
            plain[key] = [_plain_value(key, value) for value in values]
            if not values or len({quoted_value(v, 10**6) for v in plain[key]}) < len(values):
                raise ValueError(f"{key} needs at least one value, and each only once")
        return plain

    def _fault(self) -> str:
        """Return which parts do not go together, the grid set aside; "" where all do."""
        try:
            self._complete()
        except ConfigError as error:
            return str(error)
        return ""

    def _complete(self) -> None:
        """Refuse parts that do not go together; pydantic would run an "after" validator outside the one above."""
        if any(isinstance(getattr(self, key), Absent) for key in _NAMED):
            return
        generator, data = GENERATORS.name_of(self.generator), DATA.name_of(self.data)
        if self.data.holds not in self.generator.makes:
            makes = " or ".join(sorted(self.generator.makes))
            others = ", ".join(making(self.data.holds))
            raise ConfigError(
                f"generator {generator} makes {makes}, and data {data} holds {self.data.holds}: choose one that makes "
                f"these, as {others}"
            )
        if self.generator.trained and self.budget is None:
            raise ConfigError(f"generator {generator} is trained by gradient steps: give a budget")
        if "labels" in self.generator.offers and "labelled" not in self.data.offers:
            advice = ": set data.labels to true" if "labels" in type(self.data).model_fields else ""
            raise ConfigError(f"generator {generator} learns from labels, which data {data} does not have{advice}")
        named: frozenset[Capability] = getattr(self.features, "offers", frozenset())
        held = self.data.offers | (frozenset() if self.data.holds == "text" else frozenset[Capability](("numbers",)))
        for who, wanted in self.wants():
            for need in sorted(wanted - self.generator.offers - held - named):
                lacks = f"data {data}" if need in OF_DATA else f"generator {generator}"
                lacks = f"features {FEATURES.name_of(self.features)}" if need in OF_FEATURES else lacks
                setting = {"fresh": "fresh_rows", "target": "target"}.get(need)
                advice = f": set data.{setting}" if setting in type(self.data).model_fields else ""
                if need == "labels":
                    known = getattr(type(self.generator), "model_fields", {})
                    advice = ": let generator.conditional say of how many classes" if "conditional" in known else ""
                if need == "numbers":
                    advice = ": name another, that looks at text or at rows as they are"
                if need == "naming":
                    advice = ": use classifier"
                if need == "temperature":
                    advice = f": use {', '.join(_offering(need, self.data.holds))}"
                raise ConfigError(f"{who} needs {WORDS[need]}, which {lacks} does not have{advice}")
        refuse_incomplete(self.mixing)  # what it lacks means little where there cannot be what it needs

    def wants(self) -> Iterator[tuple[str, frozenset[Capability]]]:
        """Yield what needs something of data or generator, and what."""
        for name in self.metrics if self.names_metrics else ():  # those of the default give way to others
            if name in METRICS:
                yield f"metric {name}", METRICS[name].needs
        if self.names_features:
            yield f"features {FEATURES.name_of(self.features)}", self.features.needs
        yield f"mixing {MIXINGS.name_of(self.mixing)}", needs(self.mixing)
        if self.update is not None:
            yield f"update {UPDATES.name_of(self.update)}", frozenset[Capability](("parameters",))

    def _refuse_alarm(self, variants: list[tuple[dict[str, Any], Experiment]]) -> None:
        """Refuse an alarm that looks at what is not recorded, or stops arms with too few controls to hold them against.

        Args:
            variants: of the grid.

        Raises:
            ConfigError: why.
        """
        alarm, mixings = self.alarm, [resolved.mixing for _, resolved in variants]
        if alarm is None or any(isinstance(mixing, Absent) for mixing in mixings):
            return
        refuse_unrecorded(
            alarm.statistics, self.metrics, {name: METRICS[name] for name in self.metrics if name in METRICS}
        )
        if alarm.action == "note":
            return
        found = controls([settings for settings, _ in variants], [ratio(mixing) == 0 for mixing in mixings])
        if None in found:
            raise ConfigError(
                "alarm: action stop needs a control to hold arms against: let grid.mixing.lam have 0 among its values, "
                "or grid.mixing the regime {name: augment, lam: 0}, or set alarm.action to note"
            )
        seeds = self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        if seeds < alarm.fewest:
            raise ConfigError(
                f"alarm: action stop at level {alarm.level:g} needs {alarm.fewest} seeds, here are {seeds}: one false "
                "alarm among fewer controls is more than that; raise seeds, or alarm.level, or set alarm.action to note"
            )

    @classmethod
    def load(cls, source: str | Path) -> Experiment:
        """Read a YAML file, or the recipe of that name.

        Raises:
            ConfigError: there is no such file or recipe, or it does not describe an experiment.
        """
        refuse_unlike("source", source, (str, PathLike), "the name of a recipe, or the path of a YAML file")
        return cls.build(*_source(str(source)))

    @classmethod
    def parse(cls, text: str, source: str = "experiment", *, absent: bool = False) -> Experiment:
        """Read an experiment from YAML text.

        Args:
            text: YAML.
            source: its name in messages.
            absent: whether members of families whose code is not here are borne, as for reading a run.

        Raises:
            ConfigError: with one line that names the key and, for an unknown one, the nearest valid name.
        """
        refuse_unlike("text", text, str, "an experiment in YAML")
        return cls.build(_settings(text, source, None), absent=absent)

    @classmethod
    def build(cls, settings: Mapping[str, Any], base: Path | None = None, *, absent: bool = False) -> Experiment:
        """Check plain settings, as YAML gives them.

        Args:
            settings: by name.
            base: the folder in which relative paths are looked for before the caller's.
            absent: as for :meth:`parse`.

        Raises:
            ConfigError: as :meth:`parse`.
        """
        refuse_unlike("settings", settings, Mapping, "a dict of them, as {'name': 'mine', …}")
        return cls.model_validate(settings, context={BASE: base, ABSENT: absent})

    def override(self, *assignments: str, **keywords: Any) -> Experiment:
        """Return the experiment with ``key.path=value`` settings replaced, in any order; values are YAML.

        Below ``grid`` the rest of the path is one key: ``grid.mixing.lam=[0, inf]``. Keywords are refused.

        Raises:
            ConfigError: an assignment is malformed, names no setting, or one that another names too.
        """
        for key, value in keywords.items():
            words = quoted(f"{key}={in_words(value)}")
            raise ConfigError(f"override takes settings as text, in which a key may have dots: override({words})")
        settings, found = self.model_dump() | {"trackers": self.trackers}, read_assignments(assignments)
        for key, value in found:
            assign(settings, key, value, _NAMED)
        unnamed = self.model_dump().keys() - self.given().keys() - {key.split(".")[0] for key, _ in found}
        experiment = self.build({key: value for key, value in settings.items() if key not in unnamed})
        if varied := [key for key, _ in found if key in experiment.grid]:
            raise ConfigError(f"{varied[0]} is what the grid varies: set grid.{varied[0]}=[…], or grid={{}} too")
        return experiment

    def yaml(self) -> str:
        """Return the resolved settings as YAML that :meth:`parse` reads back to an equal experiment."""
        return to_yaml(self._written())

    def _written(self) -> dict[str, Any]:
        """Return the settings as they are recorded: without update and alarm where there are none.

        Of text they are without metrics and features where none are named: those of the default are of numbers.
        """
        absent = {key for key in ("update", "alarm") if getattr(self, key) is None}  # records are older than these
        if not isinstance(self.data, Absent) and self.data.holds == "text":
            absent |= self.model_dump().keys() - self.given().keys()
        return {key: value for key, value in self.model_dump().items() if key not in absent}

    def __str__(self) -> str:
        return self.yaml()

    def _repr_html_(self) -> str:
        plain = {key: value for key, value in self._written().items() if value not in (None, "", [], {})}
        grid = {f"grid.{key}": value for key, value in plain.pop("grid", {}).items()}
        return html_table(("setting", "value"), ((key, in_words(value)) for key, value in (plain | grid).items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash(self.digest())

    def digest(self) -> str:
        """Return the SHA-256 of the settings, hex; equal experiments have equal digests."""
        return hashlib.sha256(json.dumps(self._written(), sort_keys=True).encode()).hexdigest()

    def lasting(self) -> dict[str, Any]:
        """Return the settings that a run keeps for good: not those by which it grows, that change no number, or files.

        What a file holds lasts, and not where it lies; what is computed, and not on which device or in how many parts.
        """
        plain = {key: value for key, value in self._written().items() if key not in (*GROWING, *FREE)}
        for key in _NAMED:
            member = getattr(self, key)
            if isinstance(member, Absent | None):
                continue
            for name in (*file_settings(member), *execution_settings(member)):
                plain[key].pop(name, None)
        return plain

    @property
    def takes_steps(self) -> bool:
        """Whether any arm may take gradient steps, which generators of others may do unsaid."""
        if not any(key.split(".")[0] == "generator" for key in self.grid):
            return _may_take_steps(self.generator)
        return any(_may_take_steps(variant.generator) for _, variant in self.variants())

    def idle(self) -> list[str]:
        """Return the settings of gradient steps that are given and change nothing, as no arm takes any."""
        plain, varied = self.model_dump(), {key.split(".")[0] for key in self.grid}
        fields = type(self).model_fields
        given = [key for key in OF_STEPS if plain[key] != fields[key].default or key in varied]
        return given if given and not self.takes_steps else []

    def files(self) -> list[str]:
        """Return the files that settings name: absolute where they were found, else as they were given."""
        return [path for key in _NAMED for path in files_of(getattr(self, key))]

    def variants(self) -> list[tuple[dict[str, Any], Experiment]]:
        """Return every combination of grid values, and the experiment with them filled in, without grid and alarm.

        Raises:
            ConfigError: a grid key names no setting, or a value is not valid there.
        """
        found: list[tuple[dict[str, Any], Experiment]] = []
        seen: set[str] = set()
        base = self.given() | {"grid": {}, "alarm": None}  # which looks at all arms together
        for values in itertools.product(*self.grid.values()):
            settings, plain = dict(zip(self.grid, values, strict=True)), dict(base)
            for key in in_order(settings):
                try:
                    assign(plain, key, settings[key], _NAMED)
                except ConfigError as error:
                    raise _clash(settings, key) or error from error
            try:
                resolved = Experiment.model_validate(plain, context={ABSENT: self._reading})
            except ConfigError as error:
                # A fault that is there without the grid is none of the grid's.
                raise ConfigError(str(error) if str(error) == self._fault() else f"grid: {error}") from error
            plain = resolved.model_dump()
            there = {key: value_at(plain, key) for key in settings}
            settings |= {
                key: value for key, value in there.items() if value is not None
            }  # a default may not be written
            if (digest := resolved.digest()) in seen:
                twice = ", ".join(f"{key} = {in_words(value)}" for key, value in settings.items())
                raise ConfigError(f"grid: {twice} is there twice")
            seen.add(digest)
            found.append((settings, resolved))
        return found


def _clash(settings: Mapping[str, Any], key: str) -> ConfigError | None:
    """Return the error of a key that the grid varies beside what it is a setting of; None where it does not."""
    inside, _, last = key.rpartition(".")
    whole = next((each for each in (inside, f"{inside}.name") if inside and each in settings), None)
    if whole is None:
        return None
    return ConfigError(
        f"grid: {whole} and {key} are both varied, and {whole} = {in_words(settings[whole])} has no {last}: vary "
        f"{inside} alone, with {last} in the values that have it, as {{name: …, {last}: …}}"
    )


def _may_take_steps(generator: Any) -> bool:
    """Whether fits take gradient steps, or may: of generators that are not built in, or have such within, who knows."""
    if isinstance(generator, Absent) or generator.trained:
        return True
    names = [GENERATORS.name_of(generator), *(name for word, name in within(generator) if word == GENERATORS.word)]
    return any(GENERATORS.origin(name).what != "built-in" for name in names)


def _first_of_grid(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which data and a generator that the grid alone gives are its first ones."""
    given: dict[str, Any] = dict(settings)
    grid: Any = given.get("grid")
    for key in ("data", "generator") if isinstance(grid, Mapping) else ():
        whole, name = (grid.get(at) for at in (key, f"{key}.name"))
        if key not in given and isinstance(whole, list) and whole:
            given[key] = whole[0]
        elif key not in given and isinstance(name, list) and name:
            given[key] = {"name": name[0]}
    return given


def _to_be_given(error: ValidationError) -> str:
    """Return how a message about a member that is missing ends: with those that there are."""
    complaint = first_complaint(error)
    key = complaint["loc"][0] if len(complaint["loc"]) == 1 else None
    if complaint["type"] != "missing" or key not in _NAMED:
        return ""
    return f": set {key}, or grid.{key} to a list, out of {', '.join(_NAMED[str(key)].usable)}"


def making(kind: Kind) -> dict[str, Any]:
    """Return the built-in generators of such events that need no settings, with their defaults, by name."""
    found = {}
    for name in sorted(name for name in GENERATORS.usable if GENERATORS.origin(name).what == "built-in"):
        cls: Any = GENERATORS[name]
        if any(field.is_required() for field in cls.model_fields.values()):
            continue
        made = cls.model_construct()  # what it makes and offers may depend on settings
        if kind in made.makes:
            found[name] = made
    return found


def _offering(need: Capability, kind: Kind) -> list[str]:
    """Return the built-in generators of such events that offer something."""
    return [name for name, made in making(kind).items() if need in made.offers]


def files_of(member: Any) -> list[str]:
    """Return the files that the settings of data, a generator, a regime, an update or features name; of none, none."""
    named = () if isinstance(member, Absent | None) else (getattr(member, name) for name in file_settings(member))
    return [path for path in named if path is not None]


def _source(source: str, heirs: tuple[str, ...] = ()) -> tuple[dict[str, Any], Path | None]:
    """Return the settings in a recipe or file, and the folder that its relative paths begin in.

    ``heirs`` are the sources that extend it, the nearest last.
    """
    path = expanded(source)
    if source in recipes():
        return _settings(read_recipe(source), source, None, heirs), None
    if path.suffix in (".yaml", ".yml") or os.path.isfile(path):  # Path.is_file() raises on a name too long
        return _settings(read_yaml(path), source, path.parent, heirs), path.parent.absolute()
    if is_path(source) and not os.path.exists(path):
        raise ConfigError(f"{source!r} does not exist")
    if os.path.isfile(path / "experiment.yaml"):
        raise ConfigError(f"{source!r} is a run directory: give its recipe or YAML file, and --out {source}")
    if os.path.isdir(path):
        raise ConfigError(f"{source!r} is a directory: give a recipe's name or a YAML file")
    raise ConfigError(f"no recipe or file is called {source!r}{_instead(source)}")


def _settings(text: str, source: str, folder: Path | None, heirs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings in YAML text, after those of the recipe or file that it extends."""
    settings = from_yaml(text, repr(source))
    if not isinstance(settings, dict):
        raise ConfigError(f"{source!r} does not describe an experiment: expected keys such as name, data, generator")
    parent = settings.pop("extends", None)
    if parent is None:
        return settings
    if not isinstance(parent, str) or parent == source:
        raise ConfigError(f"extends in {source!r}: expected another recipe's name or file, not {quoted_value(parent)}")
    beside = os.path.normpath(folder / expanded(parent)) if folder is not None else str(expanded(parent))
    parent = beside if os.path.isfile(beside) else parent
    heirs = (*heirs, source)
    if parent in heirs:
        raise ConfigError(f"extends in {source!r}: {parent!r} extends it in turn")
    if len(heirs) > _MOST_HEIRS:
        raise ConfigError(f"extends in {source!r}: it is the end of more than {_MOST_HEIRS} that extend each other")
    inherited, _ = _source(parent, heirs)
    return merged(inherited, settings)


def _instead(name: str) -> str:
    """Return what to run instead of a recipe that there is not: figures of the paper share their runs."""
    if (match := re.fullmatch(r"fig(\d+)", name)) and (
        made := [recipe for recipe in recipes() if int(match[1]) in _source(recipe)[0].get("figures", ())]
    ):
        return f": that figure is made by {', '.join(made)}"
    return nearest(name, recipes())


def _plain_value(key: str, value: Any) -> Any:
    """Return a value of the grid as YAML takes it, also where an object was given."""
    family = _NAMED.get(key)
    if family is None or isinstance(value, str | Mapping | None):
        return value
    return family.plain(family.parse(value))


def member(family: Family[Any], given: Any) -> Any:
    """Return the member of a family that a word of the command line stands for: its name, or YAML with a ``name``.

    A program may give settings or an object, too.

    Raises:
        ConfigError: nothing is called so, or a setting is wrong.
    """
    try:
        return family.parse(from_yaml(given, f"{family.word} {given!r}") if isinstance(given, str) else given)
    except Inside as error:
        raise ConfigError(one_line(error.error, error.model, [family.word])) from error
    except ValueError as error:
        raise ConfigError(f"{family.word}: {error}") from error
