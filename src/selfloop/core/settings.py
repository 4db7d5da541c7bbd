"""Plain settings, as YAML gives them: read, laid over each other, and set by dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from selfloop.core.errors import ConfigError, nearest, quoted
from selfloop.core.registry import Family

_ONE_NUMBER = ("budget", "pretrain")  # given as one of several settings: a new one replaces what was there


def from_yaml(text: str, what: str) -> Any:
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


def assignment_of(text: str) -> tuple[str, Any]:
    """Read "key.path=value", whose value is YAML.

    Raises:
        ConfigError: it is not that.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"expected key.path=value, not {quoted(text)}")
    return key, from_yaml(value, f"the value of {key!r}")


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key of nested settings."""
    value: Any = settings
    for part in key.split("."):
        value = value[part]
    return value


def merged(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with others laid over them: a family's settings one by one while its member is the same."""
    out = dict(old)
    for key, value in new.items():
        before: Any = out.get(key)
        same = (
            isinstance(before, dict)
            and isinstance(value, dict)
            and value.get("name", before.get("name")) == before.get("name")
        )
        out[key] = merged(before, value) if same and key not in ("grid", *_ONE_NUMBER) else value
    return out


def assign(settings: dict[str, Any], key: str, value: Any, families: Mapping[str, Family[Any]]) -> None:
    """Set a dotted key in nested plain settings; naming another member of a family drops the old one's settings.

    Args:
        settings: to change; what is nested in it is copied first.
        key: dotted; below "grid" the rest of it is one key.
        value: as YAML gives it.
        families: by the settings in which their members stand.

    Raises:
        ConfigError: no setting is called so.
    """
    *path, last = key.split(".") if not key.startswith("grid.") else ("grid", key.removeprefix("grid."))
    place = settings
    for i, part in enumerate(path):
        inner = place.get(part)
        if inner is None and part in _ONE_NUMBER:
            inner = {}
        if isinstance(inner, str) and part in families:
            inner = {"name": inner}
        if not isinstance(inner, dict):
            known = [k for k, v in place.items() if isinstance(v, dict)] or list(place)
            at = ".".join(path[: i + 1])
            raise ConfigError(f"no setting is called {at!r} (in {key!r}){nearest(part, known)}")
        place[part] = place = dict(inner)
    if (path and path[0] in _ONE_NUMBER) or (last == "name" and path and place.get("name") != value):
        place.clear()
    elif path != ["grid"] and "name" in place and last not in (known := _known(path, place, families)):
        raise ConfigError(f"no setting is called {key!r}{nearest(last, known)}")
    place[last] = value


def _known(path: list[str], settings: Mapping[str, Any], families: Mapping[str, Family[Any]]) -> list[str]:
    """Return the names of the settings beside those that stand in a family's member."""
    family = families.get(path[0]) if len(path) == 1 else None
    if family is None or settings["name"] not in family:
        return list(settings)
    return list(family[settings["name"]].model_fields)
