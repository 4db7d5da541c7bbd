"""A wheel's bill of materials: the wheel and all that it needs, in CycloneDX 1.6.

``python -m release.sbom dist/selfloop-0.1.0-py3-none-any.whl`` writes ``selfloop-0.1.0-py3-none-any.cdx.json`` there.
What the wheel needs is what its metadata asks for and all that this brings, in the versions and with the hashes of
``locks/demo.txt`` and the licences of ``docs/licences.md``. Nothing is fetched, and the same files give the same bytes;
the time is that of ``SOURCE_DATE_EPOCH`` (seconds since 1970, UTC), and none where that is not set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import uuid
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from release import licences, lock


def metadata(wheel: Path) -> Message:
    """Return the core metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def component(name: str, version: str, licence: str, sha256: str) -> dict[str, Any]:
    """Return a distribution as a component; its reference is its package URL."""
    purl = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"expression": licence}],
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }


def needed(about: Message, pins: Mapping[str, lock.Pin]) -> dict[str, set[str]]:
    """Return what a wheel needs, and what each of these does, by name; ValueError where the lock is of other needs."""
    needs: dict[str, set[str]] = defaultdict(set)
    for pin in pins.values():
        for name in pin.via:
            needs[name].add(pin.name)
    lines = map(Requirement, about.get_all("Requires-Dist", []))
    wanted: dict[str, SpecifierSet] = {
        canonicalize_name(each.name): each.specifier for each in lines if lock.applies(each)
    }
    for name in sorted(wanted.keys() | needs["selfloop"]):
        if name not in wanted or name not in pins or pins[name].version not in wanted[name]:
            raise ValueError(
                f"asks for {name}{wanted.get(name, ' no more')}, and locks/demo.txt has {pins.get(name, 'none')}: "
                "run python -m release.lock first"
            )
    found, queue = {}, ["selfloop"]
    while queue:
        name = queue.pop()
        if name not in found:
            found[name] = needs[name]
            queue += needs[name]
    return found


def bill(wheel: Path) -> dict[str, Any]:
    """Return the bill of materials of a wheel, as CycloneDX has it in JSON."""
    about, pins = metadata(wheel), lock.read("demo")
    licensed = {row.name: row.licence for row in licences.read()}
    needs = needed(about, pins)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    own = component("selfloop", about["Version"], about["License-Expression"], sha256)
    others = {
        name: component(name, pins[name].version, licensed[name], pins[name].sha256)
        for name in sorted(needs)
        if name in pins
    }
    every = {"selfloop": own} | others
    told: dict[str, Any] = {"component": own}
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        told = {"timestamp": datetime.fromtimestamp(int(epoch), UTC).isoformat()} | told
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": told,
        "components": list(others.values()),
        "dependencies": [
            {"ref": each["bom-ref"], "dependsOn": sorted(every[need]["bom-ref"] for need in needs[name])}
            for name, each in every.items()
        ],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content))  # the same for the same content, and for no other
    return content | {"serialNumber": number.urn}


def main() -> None:
    """Write the bill of materials of a wheel beside it."""
    parser = argparse.ArgumentParser(prog="python -m release.sbom", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    try:
        content = bill(wheel)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"{wheel}: {error}")
    file = wheel.with_suffix(".cdx.json")
    lock.write(file, json.dumps(content, indent=2) + "\n")
    print(file)


if __name__ == "__main__":
    main()
