"""The errors that selfloop raises on purpose: one line each that says what is wrong, where, and what to do."""

import difflib
import json
import os
import re
import sysconfig
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

FOREIGN = (Exception, SystemExit, GeneratorExit)
"""What code of the user's or of a plugin may end in, besides being interrupted."""


_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_LIBRARIES = tuple({os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "purelib", "platlib")})

ELSEWHERE: dict[str, str] = {}
"""Paths of the cache directory that stand for what lies elsewhere, and the URLs that users know it by."""


def as_known(text: str) -> str:
    """Return text with URLs in place of the paths that stand for them in the cache directory."""
    for path, url in ELSEWHERE.items():
        text = text.replace(path, url)
    return text


class SelfloopError(Exception):
    """Something the user can put right; the command line prints the message and exits with 2.

    Examples:
        >>> from selfloop import Experiment, SelfloopError
        >>> try:
        ...     Experiment.load("fig4-smal")
        ... except SelfloopError as error:
        ...     print(error)
        no recipe or file is called 'fig4-smal', did you mean 'fig4-small'?
    """

    def __str__(self) -> str:
        return as_known(super().__str__())


class ConfigError(SelfloopError):
    """A setting that is unknown, mistyped or impossible."""


class DataError(SelfloopError):
    """Data that cannot be read or must not be used."""


class RunError(SelfloopError):
    """A run directory that is locked, damaged, or belongs to another experiment."""


class StorageFull(SelfloopError):
    """The disk is full; what was committed is safe and the run resumes when there is space."""


def refuse_unlike(name: str, value: object, kind: type | tuple[type, ...], words: str) -> None:
    """Refuse an argument of another kind, as "10%" where a number is wanted, before anything is done with it.

    Raises:
        ConfigError: it is none of ``kind``, which ``words`` describe; truth values are no numbers.
    """
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ConfigError(f"{name} is {words}, not {quoted(value)} ({type(value).__name__})")


def refuse_no_names(values: object, what: str) -> None:
    """Refuse what is no list of names, as one name is, which Python would take for a list of letters.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        such = [values] if isinstance(values, str) else ["one", "other"]
        raise ConfigError(f"{what}: give a list of names, such as {such!r}, not {quoted(values)}")


def said(error: BaseException, limit: int = 300, *, ours: bool = False) -> str:
    """Return what an error says, its kind and where it arose, on one line of bounded length.

    Args:
        error: of somebody else's code, whose file and line are said, the user's before a library's.
        limit: of characters, besides where it arose.
        ours: whether it is an error of selfloop's own code.
    """
    try:
        text = str(error)
    except Exception:  # somebody else's, too
        text = "it cannot be written"
    words = " ".join(f"{type(error).__name__}: {text}".split())[:limit].rstrip(": ")
    if isinstance(error, SyntaxError):  # says itself in which file and line, and arose in what read it
        return words + (f": {quoted(error.text.strip())}" if error.text else "")
    return words + where(error, () if ours else (_OURS, "<frozen "))


def where(error: BaseException, left_out: tuple[str, ...] = (_OURS, "<frozen ")) -> str:
    """Return the file and line where an error arose, of the user's own code where it went through such.

    Args:
        error: that was caught.
        left_out: how the names of files begin that are not said, as of selfloop's own.
    """
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    places = [(file, line) for file, line in places if not file.startswith(left_out)]
    if not places:
        return ""
    file, line = ([place for place in places if not place[0].startswith(_LIBRARIES)] or places)[-1]
    return f" ({os.path.basename(file)}, line {line})"


def quoted(text: object, limit: int | None = None) -> str:
    """Return text as one quoted, escaped line, so that no name or value can break a message.

    What is longer is cut at its end, and a path before its last name, which tells most. The limit is 80 characters if
    none is given, and 300 of a path.
    """
    try:
        line = repr(as_known(str(text)))
    except ValueError:  # Python writes no whole numbers of more than 4,300 digits
        line = "a number of thousands of digits"
    if limit is None:
        limit = 300 if line[1:2] in ("/", ".", "~") and os.sep in line else 80
    if len(line) <= limit:
        return line
    name = line[line.rfind(os.sep) :] if os.sep in line else ""
    if 1 < len(name) <= limit // 2:
        return f"{line[: limit - 1 - len(name)]}…{name}"
    return f"{line[: limit - 1]}…"


def listed(names: Iterable[str]) -> str:
    """Return the first few names, quoted."""
    shown = [quoted(name, 40) for name in names]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def listed_near(name: str, names: Sequence[str]) -> str:
    """Return the first few names, quoted, and the one that is most like a name that is not among them, if one is."""
    folded = {each.casefold(): each for each in reversed(names)}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return listed(names) + (f": did you mean {quoted(folded[close[0]])}?" if close else "")


def to_install(what: str, package: str, extra: str = "") -> str:
    """Return what is said where a package is not there: who needs it, and the command that installs it.

    Args:
        what: needs it, as "generator flow".
        package: as it is called where packages are published.
        extra: of selfloop, that brings it; "": it is installed by its own name.
    """
    return f"{what} needs package {package}: pip install " + (f"'selfloop[{extra}]'" if extra else package)


def counted(number: int, what: str) -> str:
    """Return a number and what it counts, as "1 retraining" and "2,000 arms"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def kind_in_words(dtype: Any) -> str:
    """Return what an array of one of NumPy's types holds in words: "text" of "<U1"."""
    words = {"U": "text", "S": "bytes", "O": "objects", "c": "complex numbers", "b": "truth values", "V": "records"}
    return words.get(dtype.kind, {"M": "times", "m": "durations"}.get(dtype.kind, str(dtype)))


def printable(text: str) -> str:
    """Return text in which what could steer a terminal, or turn the order of what is read, is escaped as in JSON.

    That are control and format characters of Unicode, halves of surrogate pairs, and separators of lines but "\\n".
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character == "\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 2**16 else json.dumps(character)[1:-1]


def is_text(text: str) -> bool:
    """Whether a string can be written: no half of a surrogate pair is in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_ALSO_CALLED = {
    "fid": "frechet",
    "fd": "frechet",
    "ppl": "perplexity",
    "lr": "learning_rate",
    "lambda": "lam",
    "swd": "sliced_w2",
    "wasserstein": "w2",
}
"""What the field calls some things besides, and what they are called here."""
_MANY = 24  # names up to which a message has all


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return how a message about an unknown name ends: with the valid ones that are most like it, or with all."""
    word = _ALSO_CALLED.get(name.lower(), name.lower())
    alike = 0.6 if len(name) < 5 else 0.5  # two letters of three are in common with many a word
    close = difflib.get_close_matches(name, valid, n=1, cutoff=alike) if word == name.lower() else []
    if not close and len(word) > 1:  # the words of which it is one, with the fewest others first
        close = sorted((each for each in valid if word in re.split("[_.]", each) or each == word), key=len)[:2]
    if not close and len(word) > 1:
        close = sorted((each for each in valid if each.startswith(word)), key=len)[:2]
    if close:
        return f", did you mean {' or '.join(map(repr, close))}?"
    more = f" and {len(valid) - _MANY} more, which selfloop list shows" if len(valid) > _MANY else ""
    return f": there are {', '.join(valid[:_MANY])}{more}"
