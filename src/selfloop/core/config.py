"""What every typed setting has in common: frozen, strict, and no unknown keys; and errors about them in one line."""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from selfloop.core.errors import counted, is_text, nearest, quoted
from selfloop.core.paths import is_url

GREATEST = 10**18
"""The greatest number that any setting takes: beyond it float32 cannot square, and int64 not add."""

Count = Annotated[int, Field(gt=0, le=10**6)]
"""A whole number of things that are taken one by one: layers, levels, steps of a solver, iterations."""


def matching(pattern: str, words: str) -> Any:
    """Return a mark of text that matches a pattern from end to end; of other text ``words`` say what it has to be."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {words}, not {quoted(text)}")
        return text

    return AfterValidator(check)


SHA256 = Annotated[str, matching("[0-9a-f]{64}", "a SHA-256 in 64 digits 0-9a-f, as sha256sum FILE prints it")]
"""The hash of a file or of what stands for one."""


def newer(default: Any, **constraints: Any) -> Any:
    """Return a field that records lack which are older than it: at its default it is not written.

    So runs that do without it have the settings, and the files, that they had before there was any.
    """
    return Field(default=default, exclude_if=lambda value: value == default, **constraints)


class Frozen(BaseModel):
    """A set of settings that never changes after it was checked.

    Numbers of NumPy are taken for Python's, and none is greater than :data:`GREATEST`.

    Examples:
        >>> from selfloop import Frozen
        >>> class Halves(Frozen):
        ...     share: float = 0.5
        >>> Halves(share=0.25)
        Halves(share=0.25)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return _plain(value)


def _plain(value: Any) -> Any:
    """Return a setting with numbers of NumPy as Python has them; what is within dicts is for others to check.

    Raises:
        ValueError: a number is beyond reason, or text cannot be written.
    """
    value = _of_python(value)
    for item in value if isinstance(value, list | tuple) else (value,):
        if isinstance(item, int | float) and GREATEST < abs(item) < math.inf:
            raise ValueError(f"a number beyond {GREATEST:.0e} is beyond reason")
        if isinstance(item, str) and not is_text(item):
            raise ValueError("half of a surrogate pair is no text")
    return value


def _of_python(value: Any) -> Any:
    """Return a number of NumPy, alone or in lists and dicts, as Python has it; anything else as it is."""
    if type(value) in (list, tuple):
        return type(value)(map(_of_python, value))
    if type(value) is dict:
        return {key: _of_python(item) for key, item in value.items()}
    is_numpy = isinstance(value, numbers.Number) and type(value).__module__ == "numpy"
    return value.item() if is_numpy else value


def _words_to_float(value: Any) -> Any:
    """Let YAML's bare ``inf`` mean infinity, as it does in Python and NumPy."""
    return float("inf") if value in ("inf", "infinity", ".inf") else value


Real = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_words_to_float)]

BASE = "base"
"""The key of a validation's context under which stands the folder that relative paths begin in first."""


class _File:
    """Marks a setting that names a file: what counts is the file's content, not its name."""


def _found(path: str, info: ValidationInfo) -> str:
    """Return the absolute path of such a file below the experiment's folder or the caller's; else what was given."""
    if is_url(path):
        return path
    wanted = os.path.expanduser(path)
    base = (info.context or {}).get(BASE)
    for folder in (base, Path.cwd()):
        candidate = os.path.join(folder, wanted) if folder is not None else wanted
        if os.path.exists(candidate):
            return os.path.abspath(candidate)
    return wanted


def _not_elsewhere(path: str) -> str:
    if is_url(path):
        raise ValueError(f"{quoted(path, 300)} is a URL, as data alone may have: fetch it, and give its path")
    return path


FilePath = Annotated[str, _File(), AfterValidator(_not_elsewhere), AfterValidator(_found)]
"""A file or folder; relative ones are found from the experiment's file, else from the caller's folder."""

DataPath = Annotated[str, _File(), AfterValidator(_found)]
"""The same, or the URL of one elsewhere, which is kept as it is: see :func:`selfloop.core.urls.fetched`."""


class _Execution:
    """Marks a setting of how something is computed, in how much memory and how fast, and not of what."""


EXECUTION = _Execution()
"""Marks such a setting in its annotation: a run may go on with another value of it."""


def execution_settings(settings: BaseModel) -> list[str]:
    """Return the names of the settings that say how something is computed."""
    fields = type(settings).model_fields
    return [name for name, field in fields.items() if any(isinstance(mark, _Execution) for mark in field.metadata)]


def file_settings(settings: BaseModel) -> list[str]:
    """Return the names of the settings that name files."""
    found = []
    for name, field in type(settings).model_fields.items():
        # The marks of a setting that may be None are on the other member of its union.
        marks = [*field.metadata, *(mark for each in get_args(field.annotation) for mark in _marks(each))]
        if any(isinstance(mark, _File) for mark in marks):
            found.append(name)
    return found


def _marks(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__metadata__", ())


def first_complaint(error: ValidationError) -> ErrorDetails:
    """Return pydantic's first complaint that tells most.

    Where a setting is missing, that is of one beside it that there is not, a typo; where a list is one of what a
    setting may be, and one was given, of what is in it.
    """
    first, *others = error.errors(include_url=False)
    if isinstance(first["input"], list) and first["type"] != "list_type":
        within = (each for each in others if each["loc"][:-2] == first["loc"][:-1] and isinstance(each["loc"][-1], int))
        return next(within, first)
    if first["type"] != "missing":
        return first
    beside = first["loc"][:-1]
    return next((each for each in others if each["type"] == "extra_forbidden" and each["loc"][:-1] == beside), first)


def one_line(error: ValidationError, model: type[BaseModel], at: Sequence[str] = ()) -> str:
    """Turn pydantic's first complaint into one line: the dotted key, what is wrong, and the nearest valid name.

    Args:
        error: what validating ``model`` raised.
        model: whose settings they are.
        at: the key of the model itself, in parts.
    """
    complaint = first_complaint(error)
    # Not which member of a union it was.
    parts = [str(part) for part in complaint["loc"] if not str(part).startswith(("constrained-", "list[", "literal["))]
    location = [*at, *parts]
    cause = complaint.get("ctx", {}).get("error")
    if isinstance(cause, Inside):
        return one_line(cause.error, cause.model, location)
    key = ".".join(location)
    message = _in_words(complaint)
    if complaint["type"] == "extra_forbidden":
        return f"no setting is called {key!r}{nearest(location[-1], _siblings(model, complaint['loc']))}"
    if complaint["type"] == "missing":
        return f"{key or 'experiment'} is missing"
    if message.startswith(f"{key}."):  # it names a setting within it
        return message
    given = "" if isinstance(complaint["input"], dict | BaseModel) else f", not {quoted_value(complaint['input'])}"
    if any(each["type"] == "list_type" and each["loc"][:-1] == complaint["loc"][:-1] for each in error.errors()):
        message += "" if complaint["type"] == "list_type" else f", or {_KINDS['list']}"
    line = f"{key}: {message}" + (given if complaint["type"] != "value_error" else "")
    line += unquoted(complaint["input"]) if complaint["type"] == "string_type" else ""
    return " ".join(line.lstrip(": ").split())


_KINDS = {
    "int": "a whole number, as 10",
    "float": "a number, as 0.5",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "list": "a list, as [1, 2]",
    "tuple": "a list, as [1, 2]",
    "dict": "settings by name, as {key: value}",
    "mapping": "settings by name, as {key: value}",
    "model": "settings by name, as {key: value}",
}
"""What pydantic's complaints are about, by the first word of their type, in words of ours."""


def _in_words(complaint: Mapping[str, Any]) -> str:
    """Return what a complaint says is wrong, without words of pydantic's."""
    kind, about = str(complaint["type"]), complaint.get("ctx", {})
    if kind in ("too_short", "too_long"):
        bound, least = ("min_length", "at least") if kind == "too_short" else ("max_length", "at most")
        return f"must have {least} {counted(about[bound], 'value')}"
    if kind in ("string_too_short", "string_too_long"):
        bound, least = ("min_length", "at least") if kind == "string_too_short" else ("max_length", "at most")
        return f"must be text of {least} {counted(about[bound], 'character')}"
    first = kind.split("_")[0]
    if first in _KINDS and not kind.endswith("_error"):
        return f"must be {_KINDS[first]}"
    return re.sub(r"^\w+ should be (a valid )?", "must be ", str(complaint["msg"]).removeprefix("Value error, "))


def unquoted(value: Any) -> str:
    """Return how a message ends about what YAML does not take for text, although it may be a word; "" of others."""
    if isinstance(value, bool):
        what = "a bare on, off, yes, no, true or false is"
    elif value is None:
        what = "a bare null or ~, or nothing, is"
    elif isinstance(value, int | float):
        what = "a bare number is"
    else:
        return ""
    return f"; {what} no text in YAML: put it in quotes"


class Inside(ValueError):
    """What is wrong inside settings that another model's setting holds."""

    def __init__(self, error: ValidationError, model: type[BaseModel]) -> None:
        super().__init__(str(error))
        self.error, self.model = error, model


def quoted_value(value: Any, limit: int = 80) -> str:
    """Return a value as Python writes it, on one short line."""
    try:
        text = quoted(value, limit) if isinstance(value, str) else repr(value)
    except ValueError:  # Python writes no whole numbers of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _siblings(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return the valid names beside the one at ``location``."""
    for part in location[:-1]:
        if part not in model.model_fields:
            continue  # which member of a union it was, or an index
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]
