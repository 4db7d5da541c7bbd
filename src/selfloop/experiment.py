"""Experiment: what to run, as typed settings from YAML or Python, and the arms it stands for."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from selfloop.core.config import Frozen
from selfloop.core.errors import ConfigError, nearest
from selfloop.data import Data
from selfloop.features.networks import AnyFeatures, Identity
from selfloop.generators import AnyGenerator, Density, Estimator
from selfloop.learning.training import Budget
from selfloop.metrics import METRICS
from selfloop.mixing.augment import Augment

_MOST_ARMS = 10_000
_DEFAULT_METRICS = ["w1_held_out", "w2_held_out", "mean_error", "covariance_error", "variance_ratio"]


class Experiment(Frozen):
    """A self-consuming training experiment: Algorithm 1 of Bertrand et al. 2024 over a grid of arms.

    Attributes:
        name: a word for the run directory and the report.
        description: what the experiment is for.
        data: the real data.
        generator: the family of models and its hyperparameters.
        mixing: what each generation trains on.
        generations: T, the number of retrainings after generation 0.
        budget: how long one retraining lasts; needed where fitting takes gradient steps.
        pretrain: the same for generation 0; None means ``budget``.
        retrain: go on from the last weights ("warm", as the paper) or start afresh ("scratch").
        optimizer: carry Adam's moments over to the next retraining ("carry", as the paper) or "reset" them.
        latents: draw new latents for every generation ("fresh") or use the same ones in all ("common").
        seeds: how many repetitions (0, 1, …), or which.
        grid: dotted keys of this experiment and the values to try; arms are all combinations, times the seeds.
        metrics: names out of ``selfloop.metrics.METRICS``.
        features: what the metrics look at, rows as they are or a network's features of images.
        keep_states: keep every generation's weights, or those of generation 0 and of the last two.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    description: str = ""
    data: Data
    generator: AnyGenerator
    mixing: Augment = Augment()
    generations: PositiveInt
    budget: Budget | None = None
    pretrain: Budget | None = None
    retrain: Literal["warm", "scratch"] = "warm"
    optimizer: Literal["carry", "reset"] = "carry"
    latents: Literal["fresh", "common"] = "fresh"
    seeds: PositiveInt | list[int] = 1
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    metrics: list[str] = _DEFAULT_METRICS
    features: AnyFeatures = Identity()
    keep_states: Literal["last", "all"] = "last"

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in METRICS:
                raise ValueError(f"no metric is called {name!r}{nearest(name, list(METRICS))}")
        if not names or len(set(names)) < len(names):
            raise ValueError("name at least one metric, and each only once")
        return names

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: int | list[int]) -> int | list[int]:
        if isinstance(seeds, list) and (not seeds or len(set(seeds)) < len(seeds)):
            raise ValueError("name at least one seed, and each only once")
        return seeds

    @field_validator("grid")
    @classmethod
    def _grid_values(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in grid.items():
            if not values or len({repr(v) for v in values}) < len(values):
                raise ValueError(f"{key} needs at least one value, and each only once")
            if key.split(".")[0] in ("grid", "seeds", "name", "generations", "metrics", "keep_states"):
                raise ValueError(f"{key} cannot differ between arms")
        return grid

    @model_validator(mode="after")
    def _complete(self) -> Experiment:
        if self.generator.trained and self.budget is None:
            raise ValueError(f"generator {self.generator.name} is trained by gradient steps: give a budget")
        if self.generator.events not in ("any", self.data.events):
            makes, holds = self.generator.events, self.data.events
            raise ValueError(f"generator {self.generator.name} makes {makes}, and data {self.data.name} holds {holds}")
        offers = self.generator.offers if isinstance(self.generator, Estimator) else ("density", "parameters")
        for name in self.metrics:
            if METRICS[name].density and not (isinstance(self.generator, Density) and "density" in offers):
                raise ValueError(f"metric {name} needs log_prob, which generator {self.generator.name} does not have")
            if METRICS[name].parameters and "parameters" not in offers:
                raise ValueError(f"metric {name} needs parameters, which generator {self.generator.name} does not have")
            if METRICS[name].modes and self.data.modes() is None:
                raise ValueError(f"metric {name} needs known modes, which data {self.data.name} does not have")
        if self.features.images and not self.data.images:
            raise ValueError(f"features {self.features.name} look at images, which data {self.data.name} does not hold")
        return self

    @classmethod
    def load(cls, source: str | Path) -> Experiment:
        """Read a YAML file, or the recipe of that name.

        Raises:
            ConfigError: there is no such file or recipe, or it does not describe an experiment.
        """
        path = Path(source)
        if str(source) in recipes():
            text = (resources.files("selfloop") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8")
        elif path.suffix in (".yaml", ".yml") or os.path.isfile(path):  # Path.is_file() raises on a name too long
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise ConfigError(f"cannot read {str(path)!r}: {reason}") from error
        else:
            raise ConfigError(f"no recipe or file is called {str(source)!r}{_instead(str(source))}")
        return cls.parse(text, str(source))

    @classmethod
    def parse(cls, text: str, source: str = "experiment") -> Experiment:
        """Read an experiment from YAML text; ``source`` names it in messages.

        Raises:
            ConfigError: with one line that names the key and, for an unknown one, the nearest valid name.
        """
        settings = _from_yaml(text, repr(source))
        if not isinstance(settings, dict):
            raise ConfigError(
                f"{source!r} does not describe an experiment: expected keys such as name, data, generator"
            )
        return cls.build(settings)

    @classmethod
    def build(cls, settings: dict[str, Any]) -> Experiment:
        """Check plain settings, as YAML gives them.

        Raises:
            ConfigError: as :meth:`parse`.
        """
        try:
            experiment = cls.model_validate(settings)
            experiment.arms()
        except ValidationError as error:
            raise ConfigError(_one_line(error)) from error
        return experiment

    def override(self, *assignments: str) -> Experiment:
        """Return the experiment with ``key.path=value`` settings replaced; values are YAML.

        Below ``grid`` the rest of the path is one key: ``grid.mixing.lam=[0, inf]``.

        Raises:
            ConfigError: an assignment is malformed or names no setting.
        """
        settings = self.model_dump()
        for assignment in assignments:
            key, equals, value = assignment.partition("=")
            if not equals or not key:
                raise ConfigError(f"expected key.path=value, not {assignment!r}")
            _assign(settings, key, _from_yaml(value, f"the value of {key!r}"))
        return self.build(settings)

    def yaml(self) -> str:
        """Return the resolved settings as YAML that :meth:`parse` reads back to an equal experiment."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)

    def digest(self) -> str:
        """Return the SHA-256 of the settings, hex; equal experiments have equal digests."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()

    def arms(self) -> list[Arm]:
        """Return the arms: every combination of grid values, each with every seed.

        Raises:
            ConfigError: a grid key names no setting, or a value is not valid there.
        """
        repetitions = self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        if (count := repetitions * math.prod(map(len, self.grid.values()))) > _MOST_ARMS:
            raise ConfigError(f"seeds and grid make {count} arms, more than {_MOST_ARMS}")
        seeds = list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
        arms: list[Arm] = []
        seen: set[str] = set()
        for values in itertools.product(*self.grid.values()):
            settings = dict(zip(self.grid, values, strict=True))
            plain = self.model_dump() | {"grid": {}}
            for key, value in settings.items():
                _assign(plain, key, value)
            try:
                resolved = Experiment.model_validate(plain)
            except ValidationError as error:
                raise ConfigError(f"grid: {_one_line(error)}") from error
            settings = {key: _get(resolved, key) for key in settings}
            if (digest := resolved.digest()) in seen:
                raise ConfigError(f"grid: {', '.join(f'{k} = {v}' for k, v in settings.items())} is there twice")
            seen.add(digest)
            arms += [Arm(len(arms) + i, seed, settings, resolved) for i, seed in enumerate(seeds)]
        return arms


@dataclass(frozen=True)
class Arm:
    """One chain of retrainings.

    Attributes:
        index: place among the experiment's arms.
        seed: of all its random streams.
        settings: the grid's keys and this arm's values.
        experiment: the experiment with these values filled in and no grid.
    """

    index: int
    seed: int
    settings: dict[str, Any]
    experiment: Experiment

    @property
    def label(self) -> str:
        """The settings in short, without the seed: "λ = 0.5", "λ = inf, n = 10"."""
        return ", ".join(f"{_short(k)} = {v}" for k, v in self.settings.items()) or f"λ = {self.experiment.mixing.lam}"

    @functools.cached_property
    def but_for_lam(self) -> str:
        """The settings without λ, the seed not among them, but for how many samples λ > 1 needs; as text."""
        plain = self.experiment.model_dump()
        lam = plain["mixing"].pop("lam")
        return json.dumps([plain, 1.0 if math.isinf(lam) else max(lam, 1.0)], sort_keys=True)


def recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("selfloop") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _instead(name: str) -> str:
    """Return what to run instead of a recipe that there is not: figures 2, 6 and 9 of the paper share their runs."""
    if re.fullmatch(r"fig\d+", name):
        made = {recipe: re.match(r"Figures? ([\d, and]+)", Experiment.load(recipe).description) for recipe in recipes()}
        number = name.removeprefix("fig")
        if found := [
            recipe for recipe, figures in made.items() if figures and number in re.findall(r"\d+", figures[1])
        ]:
            return f": that figure is made by {', '.join(found)}"
    return nearest(name, recipes())


def stacks(experiment: Experiment) -> list[list[Arm]]:
    """Group the arms that train together: equal but for seed and λ, and drawing equally many samples.

    The grouping depends on the experiment alone, never on how many processes share the work: none larger than the
    generator asks for, and of arms that are trained an even number, so that two cores have as much to do.
    """
    groups: dict[str, list[Arm]] = {}
    for arm in experiment.arms():
        groups.setdefault(arm.but_for_lam, []).append(arm)
    out: list[list[Arm]] = []
    for arms in groups.values():
        parts = math.ceil(len(arms) / experiment.generator.stack)
        if experiment.generator.trained and len(groups) == 1:
            parts = min(parts + parts % 2, len(arms))
        edges = [round(i * len(arms) / parts) for i in range(parts + 1)]
        out += [arms[a:b] for a, b in itertools.pairwise(edges)]
    return out


def first_alike(groups: list[list[Arm]]) -> list[int]:
    """Return for every stack the first one whose arms differ from its own in λ alone.

    Generation 0 knows no λ: theirs is its own, to the bit.
    """
    first: dict[tuple[tuple[str, int], ...], int] = {}
    return [first.setdefault(tuple((arm.but_for_lam, arm.seed) for arm in arms), i) for i, arms in enumerate(groups)]


def _from_yaml(text: str, what: str) -> Any:
    """Read plain YAML, which makes no objects.

    Raises:
        ConfigError: it is not that; ``what`` names it.
    """
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{what} is not plain YAML{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # PyYAML lets what a tag's constructor raises through: !!int x, !!bool x, 2001-99-99.
        raise ConfigError(f"{what} is not plain YAML") from error


def _short(key: str) -> str:
    return {"mixing.lam": "λ"}.get(key, key.rsplit(".", 1)[-1])


def _get(experiment: Experiment, key: str) -> Any:
    value: Any = experiment.model_dump()
    for part in key.split("."):
        value = value[part]
    return value


def _assign(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested plain settings; naming another data set or generator drops the old one's settings."""
    *path, last = key.split(".") if not key.startswith("grid.") else ("grid", key.removeprefix("grid."))
    place = settings
    for i, part in enumerate(path):
        inner = place.get(part)
        if inner is None and part in ("budget", "pretrain"):
            inner = {}
        if not isinstance(inner, dict):
            known = [k for k, v in place.items() if isinstance(v, dict)] or list(place)
            at = ".".join(path[: i + 1])
            raise ConfigError(f"no setting is called {at!r} (in {key!r}){nearest(part, known)}")
        place[part] = place = dict(inner)
    if path and path[0] in ("budget", "pretrain"):
        place.clear()  # a budget is one number: the new one replaces the old
    elif last == "name" and path and place.get("name") != value:
        place.clear()
    elif last not in place and path != ["grid"] and "name" in place:
        raise ConfigError(f"no setting is called {key!r}{nearest(last, list(place))}")
    place[last] = value


def _one_line(error: ValidationError) -> str:
    """Turn pydantic's first complaint into one line: the dotted key, what is wrong, and the nearest valid name."""
    complaint = error.errors(include_url=False)[0]
    location = [str(part) for part in complaint["loc"]]
    if location and location[0] in ("data", "generator", "features") and len(location) > 1:
        del location[1]  # the union's tag is not part of the key the user wrote
    if len(location) > 1 and location[0] == "seeds":
        return f"seeds: expected how many, 1 or more, or a list of whole numbers, not {_quoted(complaint['input'])}"
    key = ".".join(location)
    message = str(complaint["msg"]).removeprefix("Value error, ")
    if complaint["type"] == "extra_forbidden":
        return f"no setting is called {key!r}{nearest(location[-1], _siblings(complaint['loc']))}"
    if complaint["type"] == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in complaint["ctx"]["expected_tags"].split(",")]
        return f"{key}: nothing is called {complaint['ctx']['tag']!r}{nearest(complaint['ctx']['tag'], tags)}"
    if complaint["type"] == "union_tag_not_found":
        return f"{key}.name is missing"
    if complaint["type"] == "missing":
        return f"{key or 'experiment'} is missing"
    given = "" if isinstance(complaint["input"], dict) else f", not {_quoted(complaint['input'])}"
    line = f"{key}: {message}" + (given if complaint["type"] != "value_error" else "")
    return " ".join(line.lstrip(": ").split())


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """Return the valid names beside the one at ``location``."""
    from selfloop import data, generators
    from selfloop.features import networks as features

    model: Any = Experiment
    families = {"data": data.ALL, "generator": generators.ALL, "features": features.ALL}
    tags: dict[Any, Any] = {
        (key, cls.model_fields["name"].default): cls for key, classes in families.items() for cls in classes
    }
    path = list(location[:-1])
    if len(path) >= 2 and (path[0], path[1]) in tags:
        model, path = tags[path[0], path[1]], path[2:]
    for part in path:
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, Frozen))
    return list(model.model_fields)
