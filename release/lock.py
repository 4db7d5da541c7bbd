"""The locks: every distribution that a command of the Makefile installs, to the version and the hash of its wheel.

``python -m release.lock`` asks pip what ``make demo`` and ``make test`` would install here, within ``constraints.txt``,
and writes ``locks/demo.txt`` and ``locks/test.txt``. Nothing is installed; pip needs the index it always needs. A line
of a lock is

    name==version --hash=sha256:…  # via who asks for it

where ``selfloop`` asks for its dependencies, ``selfloop[test]`` for those of an extra, and ``selfloop (build)`` for
what builds it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, tuple[str, ...]] = {"demo": (), "test": ("test", "check")}
"""The commands that have a lock, each with the extras that it installs."""

LINE = re.compile(r"(?P<name>\S+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})  # via (?P<via>.+)")
HEADER = """\
# What `make {command}` installs, with the hash of every wheel; `make {command} HASHES=1` installs these and no others.
# Written by `python -m release.lock` for CPython {python} on {system}, {machine}.
# Elsewhere the wheels are others: run that there first.
"""
TORCH = """\
# torch's hash is that of {version}, the wheel for processors from PyTorch's own index. Where pip finds another,
# such as one with CUDA, it refuses it: name that index to pip (PIP_EXTRA_INDEX_URL), or write the lock anew.
"""


@dataclass(frozen=True)
class Pin:
    """A line of a lock: a distribution's normalised name, public version, its wheel's SHA-256, and who asks for it."""

    name: str
    version: str
    sha256: str
    via: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}  # via {', '.join(self.via)}"


def path(command: str) -> Path:
    """Return where the lock of a command of the Makefile is."""
    return ROOT / "locks" / f"{command}.txt"


def read(command: str) -> dict[str, Pin]:
    """Return the pins of a command's lock by name; a line that is none raises ValueError."""
    pins = {}
    for line in path(command).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if not found:
            raise ValueError(f"{path(command).name} has a line that is no pin with a hash: {line!r}")
        pins[found["name"]] = Pin(found["name"], found["version"], found["sha256"], tuple(found["via"].split(", ")))
    return pins


def asked(extras: Iterable[str]) -> list[tuple[str, Requirement]]:
    """Return what pyproject.toml asks for with some extras, and to build: who asks, and for what."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    wanted = {
        "selfloop": project["dependencies"],
        **{f"selfloop[{extra}]": project["optional-dependencies"][extra] for extra in extras},
        "selfloop (build)": settings["build-system"]["requires"],
    }
    return [(who, each) for who, lines in wanted.items() for each in map(Requirement, lines) if applies(each)]


def applies(requirement: Requirement, extra: str = "") -> bool:
    """Whether a requirement of an extra, or of no extra, is one by this interpreter on this machine."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def resolved(requirements: Iterable[str], *options: str) -> list[dict[str, Any]]:
    """Return what pip would install into an empty environment here, as its installation report says it.

    Where pip finds no way it says so itself, and SystemExit is raised.
    """
    dry = ("install", "--dry-run", "--ignore-installed", "-qq", "--report", "-")
    within = ("--disable-pip-version-check", "--no-input", "-c", str(ROOT / "constraints.txt"))
    words = [sys.executable, "-m", "pip", *dry, *within, *options, *requirements]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit("nothing was written: pip cannot install that here, see above")
    found: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return found


def asking(roots: Iterable[tuple[str, Requirement]], about: Mapping[str, Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return who asks for each distribution, by way of the metadata of all of them and what their markers say here."""
    via: dict[str, set[str]] = defaultdict(set)
    seen, queue = set(), list(roots)
    while queue:
        who, requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        via[name].add(who)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                needs = map(Requirement, about[name].get("requires_dist", []))
                queue += [(name, each) for each in needs if applies(each, extra)]
    return via


def lock(command: str) -> str:
    """Return the lock of a command of the Makefile, as it would be installed here."""
    roots = asked(COMMANDS[command])
    # Wheels only: of what is built while it is installed the hash is not that of what is installed.
    found = resolved((str(requirement) for _, requirement in roots), "--only-binary", ":all:")
    wheels: dict[str, Any] = {canonicalize_name(each["metadata"]["name"]): each for each in found}
    about: dict[str, Any] = {name: wheel["metadata"] for name, wheel in wheels.items()}
    hashes = {name: wheel["download_info"]["archive_info"]["hashes"]["sha256"] for name, wheel in wheels.items()}
    via = asking(roots, about)
    pins = (
        Pin(name, about[name]["version"].partition("+")[0], hashes[name], tuple(sorted(via[name])))
        for name in sorted(wheels)
    )
    python = ".".join(platform.python_version_tuple()[:2])
    header = HEADER.format(command=command, python=python, system=platform.system(), machine=platform.machine())
    if about["torch"]["version"].endswith("+cpu"):
        header += TORCH.format(version=about["torch"]["version"])
    return header + "".join(f"{pin}\n" for pin in pins)


def write(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def main() -> None:
    """Write both locks."""
    for command in COMMANDS:
        write(path(command), lock(command))
        print(f"{path(command).relative_to(ROOT)}: {len(read(command))} distributions")


if __name__ == "__main__":
    main()
