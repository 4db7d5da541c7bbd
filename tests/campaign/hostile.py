"""Hostile input through the command line, and through the package's functions, in processes that are confined.

Nothing of it may be executed, nothing written outside of the folder, no memory beyond a gigabyte taken, no processor
for ten seconds; what is refused is refused in one line, with code 2, and nothing is printed that steers a terminal.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.campaign import Try
from tests.campaign.attacks import Attack, every

MEMORY, SECONDS, PATIENCE = 2**30, 10, 150.0
_ADDRESSES = 2**33  # bytes of address space: more than a refusal may take, and less than the machine has
_IMPORTED = "diffusers.models.unets.unet_2d diffusers.schedulers.scheduling_ddpm pyarrow.parquet pandas"
"""What takes seconds to import, and looks for libraries by programs of the system."""
_SAYING_MORE = ("data", "metrics")
"""Commands with a line for each column that is refused, and with a note before what they refuse."""
_SCARCE = ("not enough memory", "too little memory")


def tries(minutes: float, seed: int, folder: Path) -> Iterator[Try]:
    """Make every attack once, or as many as there is time for, in an order of the seed's."""
    attacks = random.Random(seed).sample(every(), len(every()))
    end = time.monotonic() + 60 * minutes
    for each in tried(attacks, folder):
        yield each
        if time.monotonic() > end:
            break


def tried(attacks: Iterable[Attack], folder: Path) -> Iterator[Try]:
    """Make attacks, each by its command and its function."""
    from helpers import nursery

    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    known = {"NURSERY_IMPORTS": f"{_IMPORTED} tests.campaign.attacks", "PYTHONPATH": path}
    with mock.patch.dict(os.environ, known), nursery() as started:
        bare = _bare(started, folder)
        for number, attack in enumerate(attacks):
            for call in filter(None, (("selfloop", *attack.command), attack.call)):
                place = folder / f"{number:04d}"
                found = _attacked(started, attack, call, place, bare)
                yield Try("hostile", attack.kind, f"{attack.name}: {' '.join(call)[:200]}", found)
                shutil.rmtree(place, ignore_errors=True)


def _bare(started: Any, folder: Path) -> int:
    """Return the bytes that a command takes which does nothing."""
    outcome = started.commanded(["selfloop", "recipes"], folder, {})
    return int(outcome["memory"])


def _attacked(started: Any, attack: Attack, call: tuple[str, ...], place: Path, bare: int) -> str:
    """Return what is wrong with how an attack ended, in a line."""
    inside = place / "in"
    for each in (inside, place / "home", place / "tmp"):
        each.mkdir(parents=True)
    attack.write(inside)
    before = _listing(place, inside)
    environment = {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "SELFLOOP_CACHE": str(place / "home")}
    confined = {"folder": str(place), "bytes": _ADDRESSES, "seconds": SECONDS}
    packages = inside / "packages"
    if packages.is_dir():
        environment["PYTHONPATH"] = str(packages)
    outcome = started.commanded(list(call), inside, environment, confined=confined, kill_after=PATIENCE)
    faults = list(_faults(attack, call, outcome, bare))
    if changed := _listing(place, inside) ^ before:
        faults.append(f"outside of its folder: {sorted(changed)[:3]}")
    if not faults and attack.check is not None and call[0] == "selfloop":
        faults += filter(None, [attack.check(inside)])
    return "; ".join(faults)


def _listing(place: Path, inside: Path) -> set[tuple[str, int]]:
    """Return what there is beside the folder, the home and the place for temporary files: names and sizes."""
    own = (inside, place / "home", place / "tmp")
    found = set()
    for folder, names, files in os.walk(place):
        names[:] = [name for name in names if Path(folder, name) not in own]
        sizes = {name: os.lstat(Path(folder, name)).st_size for name in files} | dict.fromkeys(names, 0)
        found |= {(str(Path(folder, name).relative_to(place)), size) for name, size in sizes.items()}
    return found


def _faults(attack: Attack, call: tuple[str, ...], outcome: dict[str, Any], bare: int) -> Iterator[str]:
    lines = outcome["err"].splitlines()
    if outcome["status"] != "exited":
        slow = {
            signal.SIGXCPU: f"it worked for {SECONDS} s",
            signal.SIGKILL: f"no end after {outcome['seconds']:.0f} s",
        }
        yield slow.get(outcome["code"], f"it was {outcome['status']} by {outcome['code']}")
    elif outcome["code"] not in attack.codes if call[0] == "selfloop" else outcome["code"] not in (0, 2):
        yield f"exit code {outcome['code']}: {lines[-1][:200] if lines else outcome['out'][-200:]}"
    if any(not line.startswith("selfloop: ") for line in lines):
        yield f"not its own words: {next(line for line in lines if not line.startswith('selfloop: '))[:120]}"
    if outcome["code"] == 2 and outcome["status"] == "exited" and len(lines) != 1 and call[1] not in _SAYING_MORE:
        yield f"{len(lines)} lines on standard error"
    if "Traceback" in outcome["err"] + outcome["out"]:
        yield "a traceback"
    if call[0] == "selfloop" and (raw := _steering(outcome["out"] + outcome["err"])):
        yield f"the terminal is given {raw!r}"
    if (more := outcome["memory"] - bare) > MEMORY:
        yield f"it took {more / 2**20:,.0f} MiB"
    if any(word in outcome["err"] for word in _SCARCE):
        yield f"only the limit stopped it: {lines[-1][:120]}"
    did = [line for line in outcome["message"].splitlines() if attack.kind != "URLs" or not line.startswith("socket.")]
    if did:
        yield f"it did: {' | '.join(did[:3])}"
    if any(len(line) > 12_000 for line in lines):
        yield f"a line of {max(map(len, lines)):,} characters"


def _steering(text: str) -> set[str]:
    """Return the characters that steer a terminal or turn what is read around."""
    return {each for each in set(text) if each not in "\n\t" and unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp")}
