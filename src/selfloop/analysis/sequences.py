"""Sequences of generations made elsewhere, found by the names of their files: lists, patterns, globs, folders.

A pattern has ``{t}`` where the number of the generation stands, and may have ``{s}`` where that of the repetition does,
in one part of the path or in several: ``run{s}/gen_{t}.csv``. Every pair of numbers that matches is one generation of
one repetition, and the repetition's number is the seed by which loop and control are paired.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from selfloop.analysis.sources import files_below, run_of
from selfloop.core.errors import ConfigError, DataError, counted, listed, quoted
from selfloop.core.paths import expanded, here, is_url
from selfloop.data.reading.sheets import ENDINGS
from selfloop.data.reading.tables import ARRAYS
from selfloop.data.reading.texts import JSON_LINES, PLAIN
from selfloop.store import Run

_PICTURES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
_TABLES = (*ENDINGS, *ARRAYS, PLAIN, *JSON_LINES)
_FIELD = re.compile(r"\{([ts])\}")
_OTHER_FIELD = re.compile(r"\{(?![ts]\})[^{},/]*\}|%0?\d*[di]|<\w+>|\$\w+")  # as other programs write one
_RUNS = re.compile(r"(?P<runs>.+)@\{t\}(?P<arm>/\d{1,6})?")

Numbered = dict[int, str]
"""Sources by the number of their generation, in order."""


def sequences(words: Sequence[str], *, every: int = 1, growing: bool = False) -> dict[int, list[str]]:
    """Return the sources of generations 0, 1, … of every repetition, by the repetition's number.

    Args:
        words: one pattern, glob or folder of generations; or the generations themselves. Where names differ in one
            number alone that is the generation's, in whatever order they come; else the order is the one given or, of a
            glob or folder, that of their numbers as people count.
        every: the first generation and every so-manyth after it.
        growing: whether more may be on its way: then it ends before the first gap, and where the shortest repetition
            does, and may be empty, but a folder that is named must be there.

    Raises:
        ConfigError: ``every`` is no number from 1 on.
        DataError: nothing is there, a generation is missing between others or of a repetition, or is there twice.
    """
    if every < 1:
        raise ConfigError(f"every is {every}: it is 1 for all generations, 2 for every second, and so on")
    found = {s: _spaced(numbered, every, growing) for s, numbered in sorted(_found(words, growing).items())}
    shortest = min(map(len, found.values()), default=0)
    for s, sources in found.items():
        if len(sources) > shortest and not growing:
            short = next(r for r, others in found.items() if len(others) == shortest)
            raise DataError(
                f"repetition {s} has {counted(len(sources), 'generation')} and repetition {short} {shortest}: make the "
                f"others, or name those alone that both have; {sources[shortest]!r} has no counterpart"
            )
    return {s: sources[:shortest] for s, sources in found.items()}


def missing_folder(word: str) -> str:
    """Return the folder in which all that a pattern or glob can match would be, "" where it is there, or elsewhere."""
    if is_url(word):
        return ""
    fixed = itertools.takewhile(
        lambda part: not _FIELD.search(part) and not glob.has_magic(part), expanded(word).parent.parts
    )
    folder = Path(*fixed)
    return "" if folder.is_dir() else str(folder)


def refuse_same(named: Iterable[tuple[str, str]]) -> None:
    """Refuse a file, folder or generation of a run that has two parts to play, given as (part, source).

    Raises:
        DataError: with both of them.
    """
    seen: dict[str, str] = {}
    for part, source in named:
        key = source if run_of(source) is not None else os.path.realpath(here(source))
        if key in seen:
            raise DataError(f"{source!r} is there twice, as {seen[key]} and as {part}: name every file once")
        seen[key] = part


def _found(words: Sequence[str], growing: bool) -> dict[int, Numbered]:
    """Return the sources by repetition and number."""
    if not words:
        raise DataError("no generation is named: give files, a folder of them, or a pattern such as 'gen_{t}.csv'")
    patterns = [word for word in words if _FIELD.search(word) and not os.path.lexists(here(word))]
    if patterns and len(words) > 1:
        raise DataError(f"{patterns[0]!r} is a pattern, and stands for all generations: name it alone")
    if patterns:
        found = _matching(patterns[0])
        if not found:
            _refuse_other_fields(patterns[0])
        if not found and not growing:
            raise DataError(f"{patterns[0]!r} matches no file: {{t}} stands for the number of the generation")
        return found
    for word in words:
        _refuse_other_fields(word)
    word = words[0]
    if len(words) > 1:
        return {0: _numbered([path for word in words for path in _globbed(word)], given=True)}
    if is_url(word):
        return {0: _numbered(_globbed(word), given=False)}
    if os.path.isdir(expanded(word)) and not os.path.isfile(expanded(word) / "experiment.yaml"):
        return {0: _of_folder(word, growing)}
    if os.path.isfile(expanded(word) / "experiment.yaml"):
        raise DataError(f"{word!r} is a run: name its generations as '{word}@{{t}}', of another arm '{word}@{{t}}/5'")
    return {0: _numbered(_globbed(word, growing), given=False)}


def _refuse_other_fields(word: str) -> None:
    """Refuse what is no file, and has a number written as other programs write it, as "gen_%d.csv".

    Raises:
        DataError: with the pattern that was meant.
    """
    if is_url(word) or os.path.lexists(expanded(word)) or not (match := _OTHER_FIELD.search(word)):
        return
    letter = "s" if "{t}" in word else "t"
    meant = word[: match.start()] + f"{{{letter}}}" + word[match.end() :]
    raise DataError(
        f"{word!r} does not exist: {{t}} stands for the number of the generation, {{s}} for that of the repetition, "
        f"as in {meant!r}"
    )


def _globbed(word: str, growing: bool = False) -> list[str]:
    """Return what a glob matches in the order of its numbers, or the word itself where it is none."""
    if is_url(word):
        return [word]
    path = str(expanded(word))
    if os.path.lexists(path) or run_of(word) is not None:
        return [word]
    if not glob.has_magic(path):
        make = f": make the folder, or name what arrives by a pattern such as '{word}/gen_{{t}}.csv'" if growing else ""
        raise DataError(f"{word!r} does not exist{make}")
    found = sorted(glob.glob(path), key=_natural)
    if not found and not growing:
        raise DataError(f"{word!r} matches no file")
    return found


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return the key by which names are sorted as people count: gen_2 before gen_10."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def _of_folder(word: str, growing: bool) -> Numbered:
    """Return the generations in a folder, or the folder itself where it is one generation of pictures."""
    folder = expanded(word)
    try:
        inner = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda p: p.name)
    except OSError as error:
        raise DataError(f"{word!r} cannot be read: {error.strerror}") from error
    if any(path.suffix.lower() in _PICTURES for path in inner):
        return {0: word}
    some = [path for path in inner if path.is_dir() or path.suffix.lower() in (*_TABLES, ".zip")]
    if not some and not growing:
        what = f"holds no generation but {listed(path.name for path in inner)}" if inner else "is an empty folder"
        raise DataError(f"{word!r} {what}: it needs a table, text, an array, a zip or a folder of pictures for each")
    return _numbered(sorted((os.path.join(word, path.name) for path in some), key=_natural), given=False)


def _numbered(sources: Sequence[str], given: bool) -> Numbered:
    """Number sources by their names or, where these do not tell, by their order.

    Raises:
        DataError: two have one number; or they were not given one by one, and their names are not alike.
    """
    parts = [re.split(r"(\d+)", source) for source in sources]
    shapes = [tuple(part[::2]) for part in parts]
    odd = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if odd is not None:
        if given:
            return dict(enumerate(sources))
        raise DataError(
            f"{sources[0]!r} and {sources[odd]!r} are not named alike, so that their order does not tell which "
            "generations they are: name them one by one, or by a pattern such as 'gen_{t}.csv'"
        )
    differ = [i for i in range(1, len(parts[0]) if parts else 0, 2) if len({part[i] for part in parts}) > 1]
    if len(differ) != 1:
        return dict(enumerate(sources))
    return _unique((int(part[differ[0]]), source) for part, source in zip(parts, sources, strict=True))


def _unique(pairs: Iterable[tuple[int, str]]) -> Numbered:
    found: Numbered = {}
    for number, source in sorted(pairs):
        if number in found:
            raise DataError(f"generation {number} is there twice, as {found[number]!r} and as {source!r}: remove one")
        found[number] = source
    return found


def _matching(pattern: str) -> dict[int, Numbered]:
    """Return what matches a pattern, by its {s}, 0 where it has none, and its {t}."""
    fields = _FIELD.findall(pattern)
    if "t" not in fields:
        raise DataError(f"{pattern!r} has no {{t}}, which stands for the number of the generation")
    if (match := _RUNS.fullmatch(pattern)) is not None:
        return _of_runs(match["runs"], match["arm"] or "")
    found: dict[int, list[tuple[int, str]]] = {}
    for numbers, path in _fields(pattern):
        found.setdefault(numbers.get("s", 0), []).append((numbers["t"], path))
    return {s: _unique(pairs) for s, pairs in found.items()}


def _of_runs(runs: str, arm: str) -> dict[int, Numbered]:
    """Return all generations of one arm of runs, by the {s} in their path."""
    found: dict[int, Numbered] = {}
    for numbers, path in _fields(runs):
        found[numbers.get("s", 0)] = {t: f"{path}@{t}{arm}" for t in range(Run.open(path).last + 1)}
    return found


def _fields(pattern: str) -> list[tuple[dict[str, int], str]]:
    """Return the paths that match a pattern, and the numbers in them by the letters of their fields."""
    if is_url(pattern):
        if _FIELD.search(pattern):
            raise DataError(f"{pattern!r} is a pattern of URLs, in which nothing is looked for: name each of them")
        return [({}, pattern)]
    parts = re.split(r"\{([ts])\}", str(expanded(pattern)))
    expression, seen = _expression(parts[0]), set[str]()
    for letter, text in zip(parts[1::2], parts[2::2], strict=True):
        expression += f"(?P={letter})" if letter in seen else rf"(?P<{letter}>\d{{1,9}})"
        expression += _expression(text)
        seen.add(letter)
    matches = (
        re.fullmatch(expression, path) for path in glob.glob("*".join(part.replace("[", "[[]") for part in parts[::2]))
    )
    return [({k: int(v) for k, v in match.groupdict().items()}, match[0]) for match in matches if match]


def _expression(text: str) -> str:
    """Return the regular expression of text in which "*" and "?" stand for anything in one name."""
    return "".join({"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character)) for character in text)


def _spaced(numbered: Numbered, every: int, growing: bool) -> list[str]:
    """Return the first generation and every so-manyth after it.

    Raises:
        DataError: one of them is missing before another.
    """
    if not numbered:
        return []
    numbers = sorted(numbered)
    wanted = range(numbers[0], numbers[-1] + 1, every)
    missing = next((t for t in wanted if t not in numbered), None)
    if missing is not None and not growing:
        steps = {b - a for a, b in itertools.pairwise(numbers)}
        advice = f"say --every {steps.pop()}" if len(steps) == 1 else "make it, or name the generations one by one"
        before, after = (max(t for t in numbers if t < missing), min(t for t in numbers if t > missing))
        raise DataError(
            f"generation {missing} is missing between {numbered[before]!r} and {numbered[after]!r}: {advice}"
        )
    return [numbered[t] for t in wanted if missing is None or t < missing]


class Arrivals:
    """Which of the sources that others write are there whole, as far as names, sizes and times of files tell.

    Args:
        settle: seconds for which these must not have changed.
    """

    def __init__(self, settle: float) -> None:
        self._settle, self._known = settle, dict[str, Looks]()

    def whole(self, sources: Iterable[str]) -> set[str]:
        """Return those that have settled; takes as long as that where one has changed since it was last asked for."""
        now = {source: _looks(source) for source in sources}
        new = {source: look for source, look in now.items() if look is not None and self._known.get(source) != look}
        if new:
            time.sleep(self._settle)
        self._known |= {source: look for source, look in new.items() if _looks(source) == look}
        return {source for source, look in now.items() if look is not None and self._known.get(source) == look}


Looks = tuple[tuple[str, int, int], ...]
"""Name, size and time of all files of a source."""


def _looks(source: str) -> Looks | None:
    """Return what changes while a source is being written; None where it is not there, or a folder without files.

    A run's generation is there whole or not at all.
    """
    if run_of(source) is not None:
        return ()
    path = expanded(source)
    try:
        files = files_below(path) if path.is_dir() else [path]
        status = [(file, os.stat(file)) for file in files]
    except OSError:
        return None
    return tuple((str(file), each.st_size, each.st_mtime_ns) for file, each in status) or None


def common_name(word: str) -> str:
    """Return a word for a run directory, from the last two parts of what names a sequence."""
    parts = Path(re.sub(r"@?\{[ts]\}", "", word if is_url(word) else str(expanded(word)))).absolute().parts[-2:]
    plain = [re.sub(r"[^A-Za-z0-9]+", "-", Path(part).stem).strip("-") for part in parts]
    return "-".join(part for part in plain if part)[:48].strip("-") or "loop"


def said(words: Sequence[str]) -> str:
    """Return what names a sequence, in a few words."""
    return quoted(words[0]) if len(words) == 1 else f"{quoted(words[0])} to {quoted(words[-1])}"
