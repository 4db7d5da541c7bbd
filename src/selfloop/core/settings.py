"""Plain settings, as YAML gives them: read, laid over each other, set by dotted keys, and written."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from selfloop.core.errors import ConfigError, is_text, nearest, quoted, refuse_unlike
from selfloop.core.registry import Family

try:
    from yaml.cyaml import CParser as _Parser  # type: ignore[attr-defined]
except ImportError:  # PyYAML was built without libyaml, which is some seven times as fast

    class _Parser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):  # type: ignore[no-redef]
        def __init__(self, text: str) -> None:
            yaml.reader.Reader.__init__(self, text)
            yaml.scanner.Scanner.__init__(self)
            yaml.parser.Parser.__init__(self)


LONGEST = 2**20
"""The most characters of YAML text that are read."""

_MOST = 300_000  # values in a text, those that an alias repeats counted each time
_DEEPEST = 32
_DIGITS = 400  # of a number; the greatest of float64 has 309

_ONE_NUMBER = ("budget", "pretrain")  # given as one of several settings: a new one replaces what was there
_OPTIONAL = (*_ONE_NUMBER, "alarm")  # of several settings, and may be none

_INTEGER, _FLOAT, _TIME = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))
_WHOLE = re.compile(r"[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+)")
_DECIMAL = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*\.?|\.[0-9])[0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return PyYAML's rules for what a bare word means by its first character, with numbers as people write them.

    Those of YAML 1.1 take 1e-3 for text, 010 for eight, 1:30 for ninety, and 2024-01-01 for a date that no setting is.
    """
    others = {
        first: [(tag, pattern) for tag, pattern in rules if tag not in (_INTEGER, _FLOAT, _TIME)]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "-+.0123456789":
        numbers = [(tag, re.compile(f"(?:{p.pattern})$")) for tag, p in ((_INTEGER, _WHOLE), (_FLOAT, _DECIMAL))]
        others[first] = [*numbers, *others.get(first, [])]
    return others


class _Refused(yaml.MarkedYAMLError):
    """Plain YAML, and yet not read."""

    def __init__(self, problem: str, where: Any) -> None:
        super().__init__(problem=problem, problem_mark=where.start_mark)
        self.line = where.start_mark.line + 1


class _Loader(Composer, _Parser, SafeConstructor, Resolver):
    """Makes no objects, takes no key twice, and nothing that unfolds to more than was written."""

    yaml_implicit_resolvers = _resolvers()

    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._count = self._depth = 0
        self._sizes: dict[str, int] = {}  # of what has an anchor, by its name

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a value, and count those within; an alias counts as what it repeats."""
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise _Refused("an alias repeats what it is part of", event)
            self._add(self._sizes.get(str(event.anchor), 1), event)
            return super().compose_node(parent, index)
        first = self._count
        self._add(1, event)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Refused(f"values are nested more than {_DEEPEST} deep", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._count - first
        return node

    def _add(self, count: int, event: yaml.Event) -> None:
        self._count += count
        if self._count > _MOST:
            raise _Refused(f"there are more than {_MOST} values", event)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Make a dict of keys that are each there once; what is merged into it by ``<<`` they replace."""
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise _Refused("a key is no word", key)
                if key.value in seen:
                    raise _Refused(f"key {quoted(key.value)} is given twice", key)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        """Make text of characters that can be written."""
        value = super().construct_scalar(node)
        if isinstance(value, str) and not is_text(value):
            raise _Refused("there is half of a surrogate pair, which is no character", node)
        return value

    def construct_integer(self, node: Any) -> int:
        """Make a whole number: decimal also with zeros in front, or 0x…, 0o… and 0b…."""
        text = self._digits(node)
        if not _WHOLE.fullmatch(text):
            raise _Refused(f"{quoted(text)} is no whole number", node)
        return int(text, 10) if text.lstrip("+-").isdigit() else int(text, 0)

    def construct_number(self, node: Any) -> float | int:
        """Make a number; one with an exponent, 1e4, is whole where its value is and float64 holds it exactly."""
        text = self._digits(node).lower()
        if not _DECIMAL.fullmatch(text) and not _WHOLE.fullmatch(text):
            raise _Refused(f"{quoted(text)} is no number", node)
        value = float(text.replace(".inf", "inf").replace(".nan", "nan"))
        if math.isinf(value) and "inf" not in text:
            raise _Refused(f"{quoted(text)} is beyond the greatest number, 1.8e308", node)
        whole = "e" in text and value.is_integer() and abs(value) < 2**53
        return int(value) if whole else value

    def _digits(self, node: Any) -> str:
        text = str(self.construct_scalar(node)).replace("_", "")
        if len(text) > _DIGITS:
            raise _Refused(f"a number has {len(text)} digits", node)
        return text

    yaml_constructors = SafeConstructor.yaml_constructors | {_INTEGER: construct_integer, _FLOAT: construct_number}


class _Dumper(yaml.SafeDumper):
    """Quotes the words that would be read back as something else than text."""

    yaml_implicit_resolvers = _resolvers()

    def choose_scalar_style(self) -> str:
        """Escape the line ends of Unicode: libyaml and PyYAML fold them differently."""
        text = getattr(self.event, "value", "")
        return '"' if {"\x85", "\u2028", "\u2029"} & {*text} else str(super().choose_scalar_style())


def from_yaml(text: str, what: str) -> Any:
    """Read plain YAML, which makes no objects.

    Numbers are what people write: 1e-3, .5e2, 1_000, 010. Text, values and their depth are bounded, also those that
    aliases unfold to.

    Raises:
        ConfigError: it is not that, or a key is given twice; ``what`` names it.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"{what} is longer than {LONGEST} characters")
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except _Refused as error:
        raise ConfigError(f"{what} at line {error.line}: {error.problem}") from error
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{what} is not plain YAML{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        # PyYAML lets what a tag's constructor raises through: !!bool x, !!set [1].
        raise ConfigError(f"{what} is not plain YAML") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: Path) -> str:
    """Return the text of a file of settings.

    Raises:
        ConfigError: it cannot be read, is no UTF-8 text, or too long.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ConfigError(f"cannot read {quoted(path)}: it is a pipe or a device; give a file")
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        do = "; selfloop init writes one, selfloop recipes has some" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"cannot read {quoted(path)}: {reason}{do}") from error
    if len(text) > LONGEST:
        raise ConfigError(f"cannot read {quoted(path)}: it is longer than {LONGEST} characters")
    return text


def to_yaml(settings: Mapping[str, Any]) -> str:
    """Return settings as text that :func:`from_yaml` reads back to equal ones."""
    return yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key of nested settings; None where it is not recorded, as some that are None are."""
    *path, last = key.split(".")
    for part in path:
        settings = settings[part]
    return settings.get(last)


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


def read_assignments(texts: Sequence[str]) -> list[tuple[str, Any]]:
    """Read ``key.path=value`` assignments, values YAML, and return them in the order in which to make them.

    What is given as a whole comes first, then a name, which says which settings there are.

    Raises:
        ConfigError: one is something else, or two set the same.
    """
    found: dict[str, Any] = {}
    for text in texts:
        refuse_unlike("an assignment", text, str, "text, as key.path=value")
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"expected key.path=value, not {quoted(text)}")
        if key in found:
            raise ConfigError(f"{quoted(key)} is set twice: set it once")
        found[key] = from_yaml(value, f"the value of {quoted(key)}")
    for name in _ONE_NUMBER:
        if len(rivals := [key for key in found if key.startswith(f"{name}.")]) > 1:
            raise ConfigError(f"{rivals[0]} and {rivals[1]} are both set: one replaces the other, so set only one")
    return [(key, found[key]) for key in in_order(found)]


def in_order(keys: Iterable[str]) -> list[str]:
    """Return dotted keys in the order in which to set them: what is given as a whole, then names, then the rest."""
    return sorted(keys, key=lambda key: ("." in key, not key.endswith(".name")))


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
    if not path and last not in settings:
        raise ConfigError(f"no setting is called {key!r}{_meant(key, settings, families)}")
    place = settings
    for i, part in enumerate(path):
        inner = place.get(part)
        if inner is None and (part in _OPTIONAL or part in families):
            inner = {}
        if isinstance(inner, str) and part in families:
            inner = {"name": inner}
        if not isinstance(inner, dict):
            at = ".".join(path[: i + 1])
            if part in place:
                raise ConfigError(f"no setting is called {key!r}: {at} has none of its own, and is {in_words(inner)}")
            known = [k for k, v in place.items() if isinstance(v, dict) or k in _OPTIONAL] or list(place)
            raise ConfigError(f"no setting is called {at!r} (in {key!r}){nearest(part, known)}")
        place[part] = place = dict(inner)
    if (path and path[0] in _ONE_NUMBER) or (last == "name" and path and place.get("name") != value):
        place.clear()
    elif path != ["grid"] and "name" in place and last not in (known := _known(path, place, families)):
        if known == ["name"]:
            raise ConfigError(f"no setting is called {key!r}: {place['name']} has none but its name")
        if "did you mean" not in nearest(last, known):  # not for what its key has in common with all of them
            raise ConfigError(f"no setting is called {key!r}: {place['name']} has {', '.join(known)}")
        raise ConfigError(f"no setting is called {key!r}{nearest(key, ['.'.join([*path, each]) for each in known])}")
    place[last] = value


def dotted(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings that hold no others, each with its dotted key."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{within}{name}.")
        else:
            yield within + name, value


def in_words(value: Any) -> str:
    """Return a setting's value for people: a family's member as "mixture (components = 4)", infinity as "∞"."""
    if isinstance(value, Mapping):
        return _member(value.get("name"), ((key, in_words(item)) for key, item in value.items() if item is not None))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(in_words, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return ("∞" if value > 0 else "−∞") if math.isinf(value) else short if float(short) == value else repr(value)
    return "none" if value is None else str(value)


def told_apart(values: Sequence[Any]) -> list[str]:
    """Return the values of one setting as :func:`in_words`, of members of one name but what differs between them."""
    words = ["" if isinstance(value, Mapping) else in_words(value) for value in values]
    members: dict[Any, list[int]] = {}
    for i, value in enumerate(values):
        if isinstance(value, Mapping):
            members.setdefault(value.get("name"), []).append(i)
    for name, rivals in members.items():
        said: dict[int, list[tuple[str, str]]] = {i: [] for i in rivals}
        for key in dict.fromkeys(key for i in rivals for key in values[i]):
            column = [values[i].get(key) for i in rivals]
            if len(set(map(repr, column))) > 1 or name is None:
                for i, item, text in zip(rivals, column, told_apart(column), strict=True):
                    said[i] += [(key, text)] if item is not None else []
        for i in rivals:
            words[i] = _member(name, said[i])
    return words


def _member(name: Any, settings: Iterable[tuple[str, str]]) -> str:
    inner = ", ".join(f"{key} = {text}" for key, text in settings if key != "name")
    return " ".join(filter(None, ("" if name is None else str(name), f"({inner})" if inner else "")))


def _meant(key: str, settings: Mapping[str, Any], families: Mapping[str, Family[Any]]) -> str:
    """Return how a message about an unknown key ends: with the dotted key of the one family that has such a setting."""
    inside = [f"{name}.{key}" for name in families if key in _known([name], settings.get(name), families)]
    return f", did you mean {inside[0]!r}?" if len(inside) == 1 else nearest(key, list(settings))


def _known(path: list[str], settings: Mapping[str, Any] | None, families: Mapping[str, Family[Any]]) -> list[str]:
    """Return the names of the settings beside those that stand in a family's member."""
    family = families.get(path[0]) if len(path) == 1 else None
    if settings is None:
        return []
    if family is None or settings["name"] not in family:
        return list(settings)
    return list(family[settings["name"]].model_fields)
