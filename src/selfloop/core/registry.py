"""Families: the nouns of an experiment, and how a class joins one.

A family is a word ("generator"), the methods that its members have, and their names. Members come from three sides:
built-in ones are in the family's own folder, one a file; a program registers its own, or just hands over an object; and
installed packages name theirs as entry points of the group ``selfloop.<folder>``, loaded only when they are named. A
file of settings chooses a member by its name and never imports anything.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from selfloop.core.config import GREATEST, Frozen, Inside, quoted_value
from selfloop.core.errors import FOREIGN, ConfigError, nearest, quoted, said
from selfloop.core.paths import is_path

Member = TypeVar("Member")

_NAME = re.compile(r"[^\W\d][\w.-]{0,63}")

_ROLE = re.compile(":[a-z]+:`~?([^`]+)`")  # how docstrings name a class for the pages of the API


def is_name(name: str) -> bool:
    """Whether members of families may be called so: a word, which is the name of a file, too."""
    return _NAME.fullmatch(name) is not None


_LIKE = 0.75  # how like a name is that was mistyped, and not another's

ABSENT = "absent"
"""The key of a validation's context that allows members whose code is not there: a run is read, not run."""

FAMILIES: dict[str, Family[Any]] = {}
"""By their word, in the order in which they were made."""


@dataclass(frozen=True)
class Origin:
    """Where a member comes from.

    Attributes:
        what: "built-in", "program", or a package and its version.
        code: "module:name" of the class.
        sha256: of the file that a program's own is written in; None where there is no such file.
    """

    what: str
    code: str
    sha256: str | None = None


class Absent:
    """Stands for a member whose code is not here, so that what was made with it can still be read.

    Attributes:
        word: of the family.
        name: of the member.
        settings: with which it was used.
    """

    def __init__(self, word: str, name: str, settings: Mapping[str, Any]) -> None:
        self.word, self.name, self.settings = word, name, dict(settings)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise unknown_code(self.word, self.name)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        """Refuse what :meth:`__getattr__` does not hear of: mixings and features are called."""
        raise unknown_code(self.word, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Absent) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.word, self.name))

    def __repr__(self) -> str:
        return f"<{self.word} {self.name!r}, whose code is not here>"


def unknown_code(word: str, name: str) -> ConfigError:
    """Return the error of something that needs code which is not here."""
    return ConfigError(
        f"{word} {name!r} is not known here: run the program that defines it, name its file with --import, "
        "or install its package"
    )


class Family(Mapping[str, Member], Generic[Member]):
    """The members of one noun, by name.

    Args:
        word: in the singular, as settings and messages have it.
        folder: the package of the built-in ones, "selfloop.generators"; also the group of entry points.
        methods: that a member must have, and how many arguments each is called with.
        instances: whether members are objects with a ``name``, not classes of settings.
        also: what else may be given, of objects that :meth:`takes` knows and of files, as messages say it.
    """

    def __init__(
        self, word: str, folder: str, methods: Mapping[str, int], *, instances: bool = False, also: str = ""
    ) -> None:
        self.word, self.folder, self._methods, self._instances = word, folder, methods, instances
        self._also = f"give a name, settings with one, {also}" if also else ""
        self._members: dict[str, Any] = {}
        self._origins: dict[str, Origin] = {}
        self._converters: list[Callable[[Any], Any]] = []
        self._searched = False
        FAMILIES[word] = self

    # Joining

    def register(self, *members: Any) -> Any:
        """Let classes, or objects of a family of objects, join; usable as a decorator, returns the last.

        Raises:
            ConfigError: one lacks a method or a name, or another has the name.
        """
        # An object's class says nothing about where the object was made; the caller does.
        module = sys._getframe(1).f_globals["__name__"] if self._instances else ""
        for member in members:
            self._join(member, self._origin(member, module or member.__module__))
        return members[-1]

    def takes(self, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Let foreign objects stand for members, as arrays do for data; usable as a decorator, returns ``convert``.

        Args:
            convert: returns the member that an object stands for, None where it does not know such objects.
        """
        self._converters.append(convert)
        return convert

    def _join(self, member: Any, origin: Origin) -> Any:
        self._conforms(member)
        name = self.name_of(member)
        there = self._members.get(name)
        if there is not None and there is not member and self._origins[name].code != origin.code:
            both = f"{self._origins[name].what} ({self._origins[name].code}) and {origin.what} ({origin.code})"
            raise ConfigError(f"two {self.word}s are called {name!r}: {both}; give one of them another name")
        self._members[name], self._origins[name] = member, origin
        return member

    def _conforms(self, member: Any) -> None:
        what = member.__qualname__ if isinstance(member, type) else repr(getattr(member, "name", member))
        absent = [method for method in self._methods if not callable(getattr(member, method, None))]
        if absent:
            raise ConfigError(f"{what} is no {self.word}: it has no method {absent[0]}; what is one has {self._list}")
        for method, count in self._methods.items():
            bound = not isinstance(member, type) or isinstance(inspect.getattr_static(member, method), staticmethod)
            if not _takes(getattr(member, method), count + (not bound)):
                raise ConfigError(
                    f"{what} is no {self.word}: its {method} must take {count} argument{'s' * (count != 1)}, as in "
                    f"selfloop.{self.folder.removeprefix('selfloop.')}.base"
                )
        if not self._instances and not (isinstance(member, type) and issubclass(member, Frozen)):
            raise ConfigError(
                f"{what} is no {self.word}: derive its class from selfloop.Frozen, so that its settings are recorded"
            )
        if isinstance(member, type) and not _NAME.fullmatch(self.name_of(member)):
            raise ConfigError(
                f"{what} is no {self.word}: its name must be a word, and not {quoted(self.name_of(member))}"
            )
        if isinstance(member, type) and inspect.isabstract(member):
            lacking = ", ".join(sorted(getattr(member, "__abstractmethods__", ())))
            raise ConfigError(f"{what} is no {self.word}: it does not define {lacking}")

    def _origin(self, member: Any, module: str) -> Origin:
        code = f"{module}:{member.name if self._instances else member.__qualname__}"
        if module.startswith(f"{self.folder}."):
            return Origin("built-in", code)
        return Origin("program", code, file_hash(module))

    @property
    def _list(self) -> str:
        return ", ".join(self._methods)

    def name_of(self, member: Any) -> str:
        """Return the name by which settings choose a class, or the class of an object.

        It is the default of a field ``name`` that the class itself defines; one without is called as the class is,
        since its parent has the inherited name already.
        """
        if isinstance(member, Absent):
            return member.name
        if self._instances:
            return str(member.name)
        cls: Any = member if isinstance(member, type) else type(member)
        own = "name" in inspect.get_annotations(cls) and "name" in cls.model_fields
        return str(cls.model_fields["name"].default) if own else str(cls.__name__)

    # Finding

    def _search(self) -> None:
        """Import the built-in ones, each of which registers itself."""
        if self._searched:
            return
        self._searched = True
        package = importlib.import_module(self.folder)
        for module in pkgutil.iter_modules(package.__path__, f"{self.folder}."):
            importlib.import_module(module.name)

    @cached_property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.folder):
            found.setdefault(entry.name, []).append(entry)
        return found

    def __getitem__(self, name: str) -> Member:
        """Return a member.

        Raises:
            ConfigError: nothing is called so, two packages claim the name, or the code behind it cannot be imported.
        """
        self._search()
        if name in self._installed:
            self._load(name)
        if name not in self._members:
            names = self.usable
            mistyped = difflib.get_close_matches(name, names, n=1, cutoff=_LIKE)
            if self._also and is_path(name) and not mistyped:
                raise ConfigError(f"no {self.word} is called {quoted(name)}: {self._also}")
            own = "" if mistyped else "; code of your own joins by --import, or as an installed package"
            raise ConfigError(f"no {self.word} is called {quoted(name)}{nearest(name, names)}{own}")
        found: Member = self._members[name]
        return found

    def _load(self, name: str) -> None:
        """Import what an installed package offers under a name."""
        entries = self._installed[name]
        packages = sorted({_package(entry) for entry in entries})
        there = self._origins.get(name)
        if there is not None and there.code != entries[0].value and there.what not in packages:
            packages = [there.what, *packages]
        if len(packages) > 1:
            raise ConfigError(f"{self.word} {name!r} is claimed by {' and by '.join(packages)}: uninstall all but one")
        if there is not None and there.what == packages[0]:
            return
        try:
            member = entries[0].load()
        except FOREIGN as error:  # whatever the package's own code raises
            raise ConfigError(
                f"{self.word} {name!r} of package {packages[0]} cannot be imported ({said(error, 200)}): "
                "mend or uninstall it"
            ) from error
        self._conforms(member)
        if self.name_of(member) != name:
            raise ConfigError(
                f"package {packages[0]} offers {self.word} {name!r}, which calls itself {self.name_of(member)!r}"
            )
        self._members.pop(name, None)  # its module may have registered it as a program's
        self._join(member, Origin(packages[0], entries[0].value))

    def __iter__(self) -> Iterator[str]:
        """Yield all names, those of installed packages without loading them."""
        self._search()
        yield from self._members
        yield from (name for name in self._installed if name not in self._members)

    @property
    def usable(self) -> list[str]:
        """The names that an experiment may have: all but what stands for something that was run elsewhere."""
        return [name for name in self if not getattr(self._members.get(name), "elsewhere", False)]

    def __len__(self) -> int:
        return len(list(iter(self)))

    def get(self, name: str, default: Any = None) -> Any:
        """Return a member, or ``default`` where nothing is called so."""
        return self[name] if name in list(self) else default

    def __contains__(self, name: object) -> bool:
        return name in list(iter(self))

    def has(self, value: Any) -> bool:
        """Whether an object's class is one of the members."""
        return type(value) in (each for each in self._members.values() if isinstance(each, type))

    def origin(self, name: str) -> Origin:
        """Return where a member comes from, without loading it.

        Raises:
            ConfigError: nothing is called so.
        """
        self._search()
        if name in self._origins:
            return self._origins[name]
        if name not in self._installed:
            raise unknown_code(self.word, name)
        entry = self._installed[name][0]
        return Origin(_package(entry), entry.value)

    def describe(self, name: str) -> tuple[str, str]:
        """Return a member's first sentence, and its settings with their defaults; of an object, its definition.

        Raises:
            ConfigError: it cannot be loaded.
        """
        member: Any = self[name]
        try:
            return self._described(member)
        except FOREIGN as error:  # whatever the class's own code raises
            raise ConfigError(f"{self.word} {name!r} cannot be described: {said(error)}") from error

    def _described(self, member: Any) -> tuple[str, str]:
        if self._instances:
            return str(getattr(member, "definition", "")), ""
        text = inspect.cleandoc(member.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        text = _ROLE.sub(lambda role: role[1].rpartition(".")[2], text).replace("``", "")
        fields = {key: info for key, info in member.model_fields.items() if key != "name"}
        settings = [
            key if info.is_required() else f"{key} = {_short(info.get_default(call_default_factory=True))}"
            for key, info in fields.items()
        ]
        return text, ", ".join(settings)

    def attribute(self, name: str) -> Any:
        """Return the member whose class is called so, for ``from selfloop.generators import Gaussian``.

        Raises:
            AttributeError: there is none.
        """
        if not name.startswith("_"):
            self._search()
            for member in self._members.values():
                if getattr(member, "__name__", None) == name and self.folder in member.__module__:
                    return member
        raise AttributeError(f"module {self.folder!r} has no attribute {name!r}")

    # Settings

    def parse(self, value: Any, context: Mapping[str, Any] | None = None) -> Any:
        """Return the member that a name, settings with a ``name``, or an object stands for.

        Raises:
            ConfigError: nothing is called so.
            Inside: a setting is wrong.
            ValueError: there is no name, or it is something else.
        """
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            return self._given(value)
        settings = dict(value)
        name = settings.pop("name", None)
        if not isinstance(name, str):
            wrong = "name is missing" if name is None else f"name is {quoted_value(name)}, which is no text"
            raise ValueError(f"{wrong}: there are {', '.join(self.usable)}")
        try:
            return self._made(name, settings, context)
        except (ConfigError, Inside):
            if not (context or {}).get(ABSENT):
                raise
            return Absent(self.word, name, settings)  # to read what was made with it no code is needed

    def _made(self, name: str, settings: dict[str, Any], context: Mapping[str, Any] | None) -> Any:
        cls: Any = self[name]
        try:
            return self._recorded(cls.model_validate(settings, context=context))
        except ValidationError as error:
            raise Inside(error, cls) from error
        except ConfigError:
            raise
        except FOREIGN as error:  # whatever the class's own code raises
            raise ConfigError(f"{self.word} {name!r} cannot be made: {said(error)}") from error

    def _given(self, value: Any) -> Any:
        if isinstance(value, Absent):
            return value
        self._search()
        if not isinstance(value, BaseModel) and not (isinstance(value, type) and issubclass(value, BaseModel)):
            converted = (convert(value) for convert in self._converters)
            value = next((member for member in converted if member is not None), value)
        cls = value if isinstance(value, type) else type(value)
        if self._also and isinstance(value, list | tuple):
            raise ValueError(f"{quoted_value(value)} is no {self.word}: {self._also}")
        if value is None or isinstance(value, bool | int | float | list | tuple):
            raise ValueError(
                f"give a name, or settings with one, not {quoted_value(value)}: there are {', '.join(self.usable)}"
            )
        if self._also and not any(callable(getattr(cls, method, None)) for method in self._methods):
            raise ValueError(f"{cls.__qualname__} is no {self.word}: {self._also}")
        if isinstance(value, type):
            raise ValueError(f"{value.__qualname__} is a class: give an object, {value.__qualname__}(…)")
        self._conforms(cls)
        if self._members.get(self.name_of(value)) is not cls:
            self._join(cls, self._origin(cls, cls.__module__))
        return self._recorded(value)

    def plain(self, value: Any) -> dict[str, Any]:
        """Return a member's settings as YAML takes them, its name first."""
        settings = value.settings if isinstance(value, Absent) else value.model_dump()
        return {"name": self.name_of(value)} | {key: item for key, item in settings.items() if key != "name"}

    def _recorded(self, value: Any) -> Any:
        """Return a member, all of whose settings can be written down.

        Raises:
            ConfigError: one cannot.
        """
        for key, item in value.model_dump().items():
            if not _recordable(item):
                what = f"{self.word} {self.name_of(value)!r}: setting {key} is {quoted(item)}"
                raise ConfigError(f"{what}, which cannot be recorded: use numbers, text, lists, or dicts of them")
        return value

    # A program's own

    def _learn(self, member: Any) -> None:
        """Let what another process of the program defines join, whatever is called so here."""
        self._search()
        name = self.name_of(member)
        self._members[name] = member
        self._origins[name] = Origin("program", f"{getattr(member, '__module__', '')}:{name}")

    def own(self) -> dict[str, Any]:
        """Return the members that this program defines itself, by name."""
        return {name: member for name, member in self._members.items() if self._origins[name].what == "program"}


class Named:
    """Marks a setting of an experiment as one that a family's members may stand in.

    Args:
        family: of them.
        default: the name of the member that settings without a name are of.
        whole: whether what it stands in is absent as a whole where its code is not there.
    """

    def __init__(self, family: Family[Any], default: str | None = None, *, whole: bool = False) -> None:
        self.family, self._default, self._whole = family, default, whole

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Parse and dump by the family, whatever the annotation says."""

        def parse(value: Any, info: ValidationInfo) -> Any:
            if isinstance(value, Mapping) and self._default is not None:
                value = {"name": self._default} | dict(value)
            try:
                return self.family.parse(value, (info.context or {}) | {ABSENT: False} if self._whole else info.context)
            except ConfigError as error:
                raise ValueError(str(error)) from error

        return core_schema.with_info_plain_validator_function(
            parse, serialization=core_schema.plain_serializer_function_ser_schema(self.family.plain)
        )


def within(settings: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield the family's word and the name of every member that stands in settings, however deep."""
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, BaseModel):
                yield from ((word, f.name_of(item)) for word, f in FAMILIES.items() if f.has(item))
                yield from within(item)


def _recordable(value: Any) -> bool:
    """Whether YAML has a value, and reads it back to an equal one."""
    if isinstance(value, list | tuple):
        return all(map(_recordable, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _recordable(item) for key, item in value.items())
    if type(value) is int:
        return abs(value) <= GREATEST
    return value is None or (type(value) in (bool, float, str) and value == value)  # NaN is not


def _short(value: Any) -> str:
    """Return a default in few words: of settings within settings, that they are some."""
    return "{…}" if isinstance(value, BaseModel) else str(value)


def _takes(function: Any, count: int) -> bool:
    """Whether a function can be called with so many arguments, as far as it tells."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def file_hash(module: str) -> str | None:
    """Return the SHA-256 of the file that a module was read from, None where there is none."""
    path = getattr(sys.modules.get(module), "__file__", None)
    with contextlib.suppress(OSError):
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return None
