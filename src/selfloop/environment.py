"""What a run's numbers depend on besides its settings: libraries, machine, data, metrics, code, files."""

from __future__ import annotations

import bisect
import functools
import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from numba.core import codegen, config
from threadpoolctl import threadpool_info
from torch import Tensor

from selfloop.arms import Arm, arms
from selfloop.core.capabilities import WORDS
from selfloop.core.code import IMPORTED
from selfloop.core.errors import ConfigError, DataError, counted, quoted, to_install
from selfloop.core.events import Vectors
from selfloop.core.registry import FAMILIES, within
from selfloop.cost import Extent, refuse_beyond_disk, refuse_excess
from selfloop.data.base import DATA
from selfloop.data.real import Real, RealRows
from selfloop.experiment import Experiment
from selfloop.generators.base import GENERATORS, Sampler, beginning
from selfloop.measures import (
    refuse_unmeasurable,
    refuse_unseen,
    refuse_untold,
    seeing,
    sizes_of,
    suited,
)
from selfloop.metrics.base import METRICS
from selfloop.metrics.demand import Sizes
from selfloop.mixing.base import MIXINGS, Mixing, check, fresh_rows
from selfloop.rehearsal import rehearse

_LIBRARIES = ("selfloop", "torch", "numpy", "scipy", "scikit-learn", "numba", "POT", "safetensors")
_LAZY = ("POT",)  # only what asks for it needs it, and says so
_FEW = 8  # rows of a set, on which distances say next to nothing
_MEMBERS = ("data", "generator", "mixing", "update", "features")


@dataclass(frozen=True)
class Prepared:
    """What a run begins with.

    Attributes:
        experiment: with metrics and features that suit the data, where none were named.
        environment: what results depend on, as JSON takes it.
        real: what the run keeps of its real data.
        words: what there is to say, in lines.
    """

    experiment: Experiment
    environment: dict[str, Any]
    real: RealRows
    words: tuple[str, ...]


def prepared(experiment: Experiment, out: Path) -> Prepared:
    """Return what a run of an experiment in a directory begins with.

    Raises:
        DataError: the data, or what the feature extractor or the generator begins with, cannot be loaded, or it looks
            at other events.
        ConfigError: a library that the generator needs is not installed, code is not here, it would take more memory
            or disk than there is, a metric would, or has too few rows, or a regime does something wrong.
    """
    members = arms(experiment)
    real = _real(members)
    experiment, looks = seeing(experiment, members, real)
    members = arms(experiment)
    kept = {arm.data_key: real.of(arm.data_key) for arm in members}
    extent: Extent = lambda arm: (kept[arm.data_key].events.space, kept[arm.data_key].n)  # noqa: E731
    refuse_excess(experiment, extent)
    if not (out / "experiment.yaml").exists():  # else some of it is there
        refuse_beyond_disk(members, extent, out)
    sizes = sizes_of(members, real)
    experiment, words = suited(experiment, sizes, members, real)
    refuse_unmeasurable(experiment.metrics, sizes)
    refuse_unseen(members, real)
    refuse_untold(experiment.metrics, members, real)
    for arm in members:
        _refuse_classes(arm, kept[arm.data_key])
        _refuse_lacking(arm, kept[arm.data_key])
        _refuse_regime(arm, kept[arm.data_key])
    for arm in {id(arm.experiment): arm for arm in members}.values():  # one of the seeds
        rehearse(arm, kept[arm.data_key])
    about = (looks, words, _scarce(sizes), _idle(experiment), _numbering(members, kept))
    said = tuple(line for line in about if line)
    return Prepared(experiment, _environment(experiment, members), real, said)


def _numbering(members: Sequence[Arm], kept: Mapping[str, Real]) -> str:
    """Return in a line which column of numbers seems to number the rows, "" where none does.

    Its numbers are whole, all different, and hardly any of those between the least and the greatest is left out.
    """
    tables = {repr(arm.experiment.data): arm for arm in members if hasattr(arm.experiment.data, "leave_out")}
    for arm in tables.values():  # one of those that share a table: seeds divide it otherwise, and λ not at all
        real = kept[arm.data_key]
        events = real.events
        for i, numbers in enumerate(events.numbers if isinstance(events, Vectors) else ()):
            whole, dense = numbers.dtype.startswith(("int", "uint")), numbers.high - numbers.low < 2.5 * real.n
            if whole and dense and len(set(real.rows[:, i].tolist())) == len(real.rows) >= _FEW:
                name = quoted(events.columns[i])
                return f"column {name} numbers the rows, and is taken as a number: set data.leave_out if it is an id"
    return ""


def _scarce(sizes: set[Sizes]) -> str:
    """Return in a line that there are too few rows for verdicts, "" where there are more."""
    train, held_out = min(each.train for each in sizes), min(each.held_out for each in sizes)
    if min(train, held_out) >= _FEW:
        return ""
    rows = f"{counted(train, 'row')} to train on and {held_out} held out"
    return f"{rows}: what is measured on fewer than {_FEW} is mostly chance, and no verdict may come of it; give more"


def _idle(experiment: Experiment) -> str:
    """Return in a line which settings change nothing, "" where all may."""
    if not (idle := experiment.idle()):
        return ""
    names = sorted({GENERATORS.name_of(variant.generator) for _, variant in experiment.variants()})
    have = "has" if len(idle) == 1 else "have"
    who = f"generator {names[0]} takes" if len(names) == 1 else f"generators {', '.join(names)} take"
    return f"{', '.join(idle)} {have} no effect: {who} no gradient steps"


def _refuse_classes(arm: Arm, real: Real) -> None:
    """Refuse a generator of other classes than the data's.

    Raises:
        ConfigError: with both numbers.
    """
    generator, data = arm.experiment.generator, DATA.name_of(arm.experiment.data)
    if "labels" not in generator.offers:
        return
    wanted, there = getattr(generator, "classes", None), real.events.classes
    if wanted != there:
        what = f"of {there} classes" if there else "without labels"
        raise ConfigError(
            f"generator {GENERATORS.name_of(generator)} knows of {wanted} classes, and data {data} are {what}: "
            "let both be alike"
        )


def _refuse_lacking(arm: Arm, real: Real) -> None:
    """Refuse what needs something of a generator that it does not have on such data.

    Raises:
        ConfigError: with what can be done.
    """
    generator = arm.experiment.generator
    lacking = generator.lacks(real.events) if isinstance(generator, Sampler) else {}
    for who, wanted in arm.experiment.wants():
        for need in sorted(wanted & lacking.keys()):
            name, data = GENERATORS.name_of(generator), DATA.name_of(arm.experiment.data)
            raise ConfigError(
                f"{who} needs {WORDS[need]}, which generator {name} does not have on the rows of data {data}: "
                f"{lacking[need]}"
            )


def _refuse_regime(arm: Arm, real: Real) -> None:
    """Refuse a regime that its data do not suit, or that would run out of fresh rows.

    Raises:
        ConfigError: why.
    """
    data, mixing, last = arm.experiment.data, arm.experiment.mixing, arm.experiment.generations
    check(mixing, data, tuple(real.rows.shape[1:]), real.n)
    needed, there = last * fresh_rows(mixing, real.n), getattr(data, "fresh_rows", None)
    if isinstance(there, int) and needed > there:
        raise ConfigError(
            f"mixing {MIXINGS.name_of(mixing)} takes {needed // last} fresh rows in each of {last} generations, and "
            f"{there} are set aside: {_enough_rows(data, mixing, real.n, last)}"
        )


def _enough_rows(data: Any, mixing: Mixing, n: int, last: int) -> str:
    """Return what to set so that fresh rows last for all generations: as many rows to train on as there then can be."""
    every = data.model_copy(update={"n": None} if "n" in type(data).model_fields else {}).extent()[1] + data.fresh_rows
    if getattr(data, "n", None) is not None and n + last * fresh_rows(mixing, n) <= every:
        return f"raise data.fresh_rows to {last * fresh_rows(mixing, n)}"
    sizes = range(2, every + 1)
    fitting = bisect.bisect_right(sizes, every, key=lambda size: size + last * fresh_rows(mixing, size))
    if not fitting or "n" not in type(data).model_fields:
        return f"there are {every} rows for both training and them, too few; lower generations"
    most = sizes[fitting - 1]
    return f"set data.n to {most} and data.fresh_rows to {last * fresh_rows(mixing, most)}, or lower generations"


def _environment(experiment: Experiment, members: Sequence[Arm]) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": processor(),
        "system": platform.system(),
        "libraries": {name: _version(name) for name in (*_LIBRARIES, *experiment.generator.libraries)},
        "metrics": {name: METRICS[name].plain() for name in experiment.metrics},
        "features": experiment.features.key(),
        "checkpoint": _checkpoint(experiment),
        "code": _code(experiment),
        "imports": dict(IMPORTED),
        "arms": [[arm.plain, arm.seed] for arm in members],
    }


def processor() -> dict[str, str]:
    """Return what decides, besides versions, in which order libraries add and by which instructions: names by library.

    A CPU's name is LLVM's, that of its generation ("znver4"): by it numba compiles, and others choose their kernels.
    """
    blas = (str(each["architecture"]) for each in threadpool_info() if each.get("internal_api") == "openblas")
    return {
        "cpu": config.CPU_NAME or codegen.ll.get_host_cpu_name(),
        "torch": torch.backends.cpu.get_cpu_capability(),
        "OpenBLAS": "/".join(sorted(set(blas))),
    }


def prepared_or_lacking(experiment: Experiment, out: Path) -> Prepared:
    """Return what a run begins with, or name in one error all that it lacks: files are fetched together."""
    try:
        return prepared(experiment, out)
    except DataError as error:
        raise DataError("; ".join(missing(experiment)) or str(error)) from error


def missing(experiment: Experiment) -> list[str]:
    """Return, a line each, what a run of an experiment would refuse to begin without."""
    needs: tuple[Callable[[Experiment], object], ...] = (
        lambda e: _real(arms(e)),
        lambda e: e.features.key(),
        _checkpoint,
    )
    found = []
    for need in needs:
        try:
            need(experiment)
        except DataError as error:
            found.append(str(error))
    return found


def _real(members: Sequence[Arm]) -> RealRows:
    fitted: dict[str, dict[str, Arm]] = {}  # by data, an arm of each generator
    for arm in members:
        fitted.setdefault(arm.data_key, {}).setdefault(str(GENERATORS.plain(arm.experiment.generator)), arm)

    def check(key: str, rows: Tensor) -> None:
        for arm in fitted[key].values():
            _refuse_foreign(arm.experiment, rows)

    return RealRows.gather(((arm.data_key, arm.experiment.data, arm.seed) for arm in members), check)


def _refuse_foreign(experiment: Experiment, rows: Tensor) -> None:
    """Refuse real rows that no model of the generator's family makes.

    Raises:
        ConfigError: with what they would have to be.
    """
    generator = experiment.generator
    if not isinstance(generator, Sampler):
        return
    try:
        generator.refuse(rows)
    except ValueError as error:
        who, data = GENERATORS.name_of(generator), DATA.name_of(experiment.data)
        raise ConfigError(f"generator {who} does not fit data {data}: {error}") from error


@functools.cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError as error:
        if name in _LAZY:
            return None
        raise ConfigError(to_install("this experiment", name)) from error


def _checkpoint(experiment: Experiment) -> str | None:
    """Return the SHA-256 of the file that generation 0 begins with.

    Raises:
        DataError: it is not there.
    """
    path = experiment.generator.starts_from
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        setting = beginning(experiment.generator)
        raise DataError(
            f"{setting} {quoted(path)} cannot be read ({error.strerror}): fetch it, or name another"
        ) from error


def _code(experiment: Experiment) -> dict[str, Any]:
    """Return where that comes from which selfloop does not have itself, by family and name."""
    used = [("metric", name) for name in experiment.metrics]
    for _, variant in experiment.variants():
        for word in _MEMBERS:
            member = getattr(variant, word)
            if member is None:
                continue
            used += [(word, FAMILIES[word].name_of(member)), *within(member)]
    origins = {f"{word} {name}": FAMILIES[word].origin(name) for word, name in used}
    return {what: asdict(origin) for what, origin in origins.items() if origin.what != "built-in"}
