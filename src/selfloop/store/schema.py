"""What the JSON files of a run must hold: a checksum says that they are as they were written, not that it was by us."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from selfloop.arms import key
from selfloop.core.errors import RunError
from selfloop.core.files import read_sealed
from selfloop.core.records import Record
from selfloop.metrics.base import Metric, Scale

KINDS = ("samples", "state", "losses")
"""Of the files that a stack has in a generation; the last one only where models were trained by gradient steps."""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Stack = Annotated[str, Field(pattern="^[0-9]{3,9}$")]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Source(_Checked):
    """Where the samples of an arm come from that was run elsewhere: its name, what tells it from others, its rows."""

    name: str
    sha256: Digest
    rows: Annotated[int, Field(gt=0)]


class _File(_Checked):
    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]
    sources: list[_Source] = []


class _Stack(_Checked):
    arms: Annotated[list[str], Field(min_length=1)]
    files: dict[str, _File]


class _Manifest(_Checked):
    generation: int
    run: str
    stacks: dict[Stack, _Stack]
    records: list[Record]


class _Metric(_Checked):
    title: str
    definition: str
    version: int
    unit: str
    goal: Literal["lower", "higher"] | float | None
    note: str
    scale: Scale = "ratio"
    floor: bool
    weights: bool


class _Environment(_Checked):
    run: str
    metrics: dict[str, _Metric]
    features: str
    checkpoint: str | None
    code: dict[str, dict[str, Any]]
    arms: list[Annotated[tuple[dict[str, Any], int], Strict(strict=False)]] = []
    experiment: list[Digest] = []


_MANIFEST, _ENVIRONMENT = TypeAdapter(_Manifest), TypeAdapter(_Environment)


def read_environment(path: Path) -> dict[str, Any]:
    """Read an environment.json.

    Raises:
        RunError: it is missing, damaged, or lacks something.
    """
    content = _read(path, _ENVIRONMENT)
    for name, about in content["metrics"].items():
        try:
            Metric.recorded(name, about)
        except TypeError as error:
            raise RunError(f"{str(path)!r} is damaged: metrics.{name} is not what a metric is noted by") from error
    return content


def read_manifest(path: Path, t: int, run: str) -> dict[str, Any]:
    """Read the manifest of generation t of a run, given by its identity.

    Raises:
        RunError: it is missing, damaged, another's, or contradicts itself.
    """
    content = _read(path, _MANIFEST)
    if content["generation"] != t or content["run"] != run:
        raise RunError(f"{str(path)!r} belongs to another generation or experiment")
    held = [arm for stack in content["stacks"].values() for arm in stack["arms"]]
    noted = [key(record["settings"], record["seed"]) for record in content["records"]]
    if len(set(held)) < len(held) or sorted(held) != sorted(noted):
        raise RunError(f"{str(path)!r} is damaged: its arms and its records are not the same ones")
    if any(record["generation"] != t for record in content["records"]):
        raise RunError(f"{str(path)!r} is damaged: a record in it is of another generation")
    for name, stack in content["stacks"].items():
        samples, state, losses = (stack_file(kind, int(name)) for kind in KINDS)
        # Models trained elsewhere left no weights; runs made before losses were kept have none.
        if stack["files"].keys() not in ({samples, state, losses}, {samples, state}, {samples}):
            raise RunError(f"{str(path)!r} is damaged: stack {name} has other files than weights, samples and losses")
        if len(stack["files"][samples].get("sources", stack["arms"])) != len(stack["arms"]):
            raise RunError(f"{str(path)!r} is damaged: stack {name} has sources of other arms")
    return content


def stack_file(kind: str, stack: int) -> str:
    """Return the name of a stack's file in a generation, ``kind`` being one of :data:`KINDS`."""
    return f"{kind}-{stack:03d}.safetensors"


def _read(path: Path, schema: TypeAdapter[Any]) -> dict[str, Any]:
    content = read_sealed(path)
    try:
        schema.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:200]
        raise RunError(f"{str(path)!r} is damaged: {where}: {first['msg']}") from error
    return content
