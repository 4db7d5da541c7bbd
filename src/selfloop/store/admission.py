"""Whether an experiment may be run in a directory: begun, resumed, or let the run there grow."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from selfloop.arms import arms
from selfloop.core.errors import RunError, counted
from selfloop.core.files import (
    load_sealed,
    read_sealed,
)
from selfloop.core.settings import dotted, in_words
from selfloop.data.real import RealRows
from selfloop.experiment import OF_STEPS, Experiment
from selfloop.generators.base import beginning
from selfloop.store.run import Run, changed

HEAD = ("experiment.yaml", "environment.json", "real.safetensors", "metrics.jsonl", "log.txt")
_GROWING = ("metrics", "code", "arms", "imports")  # of what a run notes of its environment: not the machine's
HALF = (*(f".{name}." for name in HEAD), ".data-")  # how a file's name begins that is half written


def check(path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> None:
    """Refuse a directory in which this experiment cannot be run.

    Raises:
        RunError: it holds another one, or something else.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{str(path)!r} is a file, not a directory")
    if (path / "experiment.yaml").exists():
        existing = Run.open(path)
        if existing.present == 0:
            return
        belongs(existing, experiment)
        _same_metrics(existing, environment["metrics"])
        if not real.agrees(existing._real):
            raise changed(path, _apart(existing.environment, environment))
        for name, words in (("checkpoint", beginning(experiment.generator)), ("features", "features")):
            if existing.environment[name] != environment[name]:
                raise RunError(f"{str(path)!r} was run with other {words}: the file has changed; use another --out")
    elif path.is_dir() and not all(map(unborn, path.iterdir())):
        raise RunError(f"{str(path)!r} is not empty but has no experiment.yaml: choose another --out")


def _same_metrics(run: Run, metrics: dict[str, Any]) -> None:
    for name, about in run.environment["metrics"].items():
        if name in metrics and metrics[name]["version"] != about["version"]:
            raise RunError(
                f"{str(run.path)!r} records metric {name} in version {about['version']}, here it is version "
                f"{metrics[name]['version']}, whose numbers differ; use another --out"
            )


def belongs(run: Run, experiment: Experiment) -> None:
    """Refuse an experiment that is neither that of a run nor one that it may grow to.

    Raises:
        RunError: with the setting that differs.
    """
    where, before = repr(str(run.path)), run.experiment
    if before.lasting() != experiment.lasting() and _binding(before) != _binding(experiment):
        raise RunError(f"{where} holds another experiment: {_difference(before, experiment)}")
    if experiment.generations < run.present - 1:
        raise RunError(
            f"{where} has {counted(run.present - 1, 'retraining')} already, more than generations "
            f"{experiment.generations}: a run only grows; use another --out"
        )
    wanted = {arm.key for arm in arms(experiment)}
    if gone := [arm for arm in run.arms if arm.key not in wanted]:
        if any(arm.plain == gone[0].plain for arm in arms(experiment)):
            there, asked = in_words(before.seeds), in_words(experiment.seeds)
            raise RunError(
                f"{where}: a run only grows; seeds: {there} there, {asked} asked: ask for these and more, or use "
                "another --out"
            )
        words = ", ".join(f"{name} = {value}" for name, value in (*gone[0].plain.items(), ("seed", gone[0].seed)))
        raise RunError(
            f"{where} has an arm {words}, here is none: a run only grows; ask for it, too, or use another --out"
        )
    alarm = experiment.alarm
    if alarm is not None and alarm.action == "stop" and len(run.arms) < len(wanted):
        raise RunError(
            f"{where} stops arms by alarms, and other arms would change which: only its generations and metrics grow; "
            "use another --out"
        )
    if lost := [name for name in before.metrics if name not in experiment.metrics]:
        raise RunError(f"{where} records metric {lost[0]}, here it is left out: a run only grows; use another --out")


def moved(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return in a line in which libraries, or in what of the machine, a run's environment differs from another.

    Args:
        before: the environment that the run began in.
        now: the one in which it goes on.

    Returns:
        "" where nothing differs. What only one of them has is no difference: earlier versions recorded less.
    """
    found = _apart(before, now)
    return f"was begun elsewhere ({found}): bits may differ from here on" if found else ""


def _apart(before: dict[str, Any], now: dict[str, Any]) -> str:
    ours, theirs = (
        {key: value for key, value in dotted(each) if key.split(".")[0] not in _GROWING} for each in (now, before)
    )
    return "; ".join(
        f"{key} {theirs[key]}, here {value}" for key, value in ours.items() if theirs.get(key, value) != value
    )


def unborn(path: Path) -> bool:
    """Whether a file may be left of a run that was killed while its directory was made."""
    if path.name == "environment.json":
        with contextlib.suppress(RunError):
            return "run" in read_sealed(path)
        return False
    if path.name == "real.safetensors":
        with contextlib.suppress(RunError):
            RealRows.read(path)
            return True
        return False
    if path.match("data-*.safetensors"):
        with contextlib.suppress(RunError):
            load_sealed(path)
            return True
        return False
    if path.name in ("lock", "metrics.jsonl"):
        return path.is_file() and path.stat().st_size == 0
    return path.name in (f".{name}.tmp" for name in HEAD) or path.match(".data-*.safetensors.tmp")


def _binding(experiment: Experiment) -> dict[str, Any]:
    """Return the settings that a run holds who goes on with it to: what lasts, but for what changes nothing."""
    without = () if experiment.takes_steps else OF_STEPS
    return {key: value for key, value in experiment.lasting().items() if key not in without}


def _difference(a: Experiment, b: Experiment) -> str:
    left, right = dict(dotted(_binding(a))), dict(dotted(_binding(b)))
    name = next((k for k in left | right if left.get(k) != right.get(k)), "a setting")
    return f"there {name} is {left.get(name)!r}, here {right.get(name)!r}; use another --out"
