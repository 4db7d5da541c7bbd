"""log.txt: what happened to a run and when, a line each of ``key=value`` (logfmt), for people and programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

_PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)')
_ENDS = re.compile("[\x7f-\x9f\u2028\u2029]")  # what else ends a line, or acts on a terminal
_BARE = re.compile(r"[!#-<>-\[\]-~]+")


def entry(event: str, values: Mapping[str, Any]) -> str:
    """Return a line: the time, what happened, and more of it; what has a space in it is quoted as in JSON."""
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return " ".join(f"{key}={_quoted(value)}" for key, value in {"time": now, "event": event, **values}.items())


def entries(text: str) -> Iterator[dict[str, str]]:
    """Yield what lines say, those of versions that wrote prose left out."""
    for line in text.split("\n"):
        if line.startswith("time="):
            try:
                yield {key: json.loads(word) if word.startswith('"') else word for key, word in _PAIR.findall(line)}
            except ValueError:  # half of a line: somebody was killed
                continue


_NUMBERS = {"begin": ("pid", "workers", "generation"), "generation": ("generation",)}
_DIGITS = 12


def sound(of: Mapping[str, str]) -> bool:
    """Whether an entry on a beginning or a generation tells what :mod:`selfloop.status` asks of it."""
    try:
        moment(of)
        numbers = [of[name] for name in _NUMBERS.get(of["event"], ())]
        told = float(of["seconds"]) if of["event"] == "generation" else 0.0
        return all(re.fullmatch(f"[0-9]{{1,{_DIGITS}}}", each) for each in numbers) and 0 <= told < math.inf
    except (KeyError, ValueError, OverflowError):
        return False


def moment(of: Mapping[str, str]) -> float:
    """Return when something happened, in seconds since 1970."""
    return datetime.fromisoformat(of["time"]).timestamp()


def _quoted(value: Any) -> str:
    text = str(value)
    if _BARE.fullmatch(text):
        return text
    return _ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
