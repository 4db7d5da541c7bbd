"""What selfloop is made of: the locks, the licences and the bill of materials; and that a run asks nobody."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release import licences, lock, sbom

CONSTRAINTS = dict(
    line.split("==")
    for line in (lock.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
INSTALLED = {canonicalize_name(each.name): each for each in distributions()}


class TestLocks:
    @pytest.mark.parametrize("command", lock.COMMANDS)
    def test_they_pin_what_the_constraints_do(self, command: str) -> None:
        pinned = {canonicalize_name(name): version for name, version in CONSTRAINTS.items()}
        found = {name: pin.version for name, pin in lock.read(command).items()}
        assert found == {name: pinned.get(name) for name in found}

    @pytest.mark.parametrize("command", lock.COMMANDS)
    def test_they_have_what_the_project_asks_for(self, command: str) -> None:
        pins = lock.read(command)
        for who, requirement in lock.asked(lock.COMMANDS[command]):
            pin = pins[canonicalize_name(requirement.name)]
            assert who in pin.via
            assert pin.version in requirement.specifier

    def test_everything_has_a_reason_in_the_lock(self) -> None:
        for command, extras in lock.COMMANDS.items():
            pins = lock.read(command)
            ours = {"selfloop", "selfloop (build)", *(f"selfloop[{extra}]" for extra in extras)}
            assert {who for pin in pins.values() for who in pin.via} <= ours | set(pins)

    def test_what_both_have_is_the_same(self) -> None:
        demo, test = lock.read("demo"), lock.read("test")
        assert {name: (pin.version, pin.sha256) for name, pin in demo.items()} == {
            name: (test[name].version, test[name].sha256) for name in demo
        }

    def test_they_name_no_place(self) -> None:
        for command in lock.COMMANDS:
            assert not re.search(r"://|/\w+/\w+|--index|--find", lock.path(command).read_text(encoding="utf-8"))

    def test_a_line_without_a_hash_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "demo.txt").write_text("# about\nsix==1.17.0\n")
        monkeypatch.setattr(lock, "path", lambda command: tmp_path / f"{command}.txt")
        with pytest.raises(ValueError, match=r"demo.txt has a line that is no pin with a hash: 'six==1.17.0'"):
            lock.read("demo")

    def test_who_asks_is_found_through_extras_and_markers(self) -> None:
        about = {
            "a": {"requires_dist": ["b[fast]>=1", "c; python_version < '3'", "d; extra == 'more'"]},
            "b": {"requires_dist": ["a", "E_e>=2; extra == 'fast'"]},
            "e-e": {},
        }
        found = lock.asking([("selfloop", Requirement("A")), ("selfloop", Requirement("b"))], about)
        assert found == {"a": {"selfloop", "b"}, "b": {"selfloop", "a"}, "e-e": {"b"}}


class TestLicences:
    def test_the_page_is_that_of_the_locks(self) -> None:
        rows = licences.read()
        extras = licences.optional()
        pins = {name: pin for command in lock.COMMANDS for name, pin in lock.read(command).items()}
        assert [row.name for row in rows] == [*sorted(pins), *extras]
        assert all(row.version == pins[row.name].version for row in rows if row.name in pins)
        assert {row.name: row.of for row in rows if row.name in extras} == {
            name: ", ".join(of) for name, of in extras.items()
        }
        assert licences.PAGE.read_text(encoding="utf-8") == licences.page(rows)

    def test_all_are_known_and_allowed(self) -> None:
        assert [row.name for row in licences.read() if licences.wrong(row)] == []

    def test_what_is_installed_says_the_same(self) -> None:
        there = [row for row in licences.read() if row.name in INSTALLED and row.name not in licences.EXTRAS]
        assert len(there) > 30
        for row in there:
            said = INSTALLED[row.name].metadata.json
            if str(said["version"]).partition("+")[0] == row.version:
                assert licences.licence(said) == row.licence, row.name

    def test_an_environment_of_other_versions_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            lock, "read", lambda command: {"pytest": lock.Pin("pytest", "1.0", "0" * 64, ("selfloop",))}
        )
        with pytest.raises(
            ValueError, match=r"pytest is \d\S* here and 1\.0 in the lock: make test HASHES=1 installs that"
        ):
            licences.rows()

    def test_what_was_read_in_a_licence_is_in_it(self) -> None:
        there = [name for name in licences.READ if name in INSTALLED]
        assert there
        for name in there:
            assert licences.READ[name][1] in " ".join(texts(INSTALLED[name]).split()), name

    def test_every_reason_is_used(self) -> None:
        rows = licences.read()
        named = {each for row in rows for each in licences.parts(row.licence)}
        assert named == {*licences.ALLOWED, *licences.OPTIONAL}
        assert {*licences.READ, *licences.EXTRAS} <= {row.name for row in rows}

    @pytest.mark.parametrize(
        ("metadata", "expected"),
        [
            ({"license_expression": "mit or apache-2.0", "license": "BSD"}, "MIT OR Apache-2.0"),
            ({"license": "Apache-2.0"}, "Apache-2.0"),
            (
                {"license": "Apache 2.0", "classifier": ["License :: OSI Approved :: Apache Software License"]},
                "Apache-2.0",
            ),
            ({"classifier": ["License :: OSI Approved :: MIT License", "Typing :: Typed"]}, "MIT"),
            ({"license": "BSD", "classifier": ["License :: OSI Approved :: BSD License"]}, "unknown"),
            ({"license": "MIT License\n\nPermission is hereby granted"}, "unknown"),
            ({}, "unknown"),
        ],
    )
    def test_metadata_are_read(self, metadata: dict[str, object], expected: str) -> None:
        assert licences.licence({"name": "x", **metadata}) == expected

    @pytest.mark.parametrize(
        ("name", "licence", "expected"),
        [
            ("x", "MIT AND (Apache-2.0 OR BSD-3-Clause)", []),
            ("x", "Apache-2.0 WITH LLVM-exception", []),
            ("x", "MIT OR GPL-3.0-or-later", ["GPL-3.0-or-later"]),
            ("x", "unknown", ["unknown"]),
            ("x", "BUSL-1.1", ["BUSL-1.1"]),
            ("ctgan", "BUSL-1.1", []),
            ("ctgan", "AGPL-3.0-only", ["AGPL-3.0-only"]),
        ],
    )
    def test_what_is_not_allowed_is_named(self, name: str, licence: str, expected: list[str]) -> None:
        assert licences.wrong(licences.Row(name, "1", licence, "demo")) == expected


def texts(distribution: Distribution) -> str:
    """Return the licence files of what is installed."""
    files = [file for file in distribution.files or () if re.search(r"licen[sc]e|copying", file.name, re.IGNORECASE)]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def built(folder: Path, *requirements: str) -> Path:
    """Write a wheel that has metadata and nothing else."""
    wheel = folder / "selfloop-0.1.0-py3-none-any.whl"
    lines = ["Metadata-Version: 2.4", "Name: selfloop", "Version: 0.1.0", "License-Expression: Apache-2.0"]
    with zipfile.ZipFile(wheel, "w") as archive:
        told = "\n".join([*lines, *(f"Requires-Dist: {each}" for each in requirements)])
        archive.writestr(zipfile.ZipInfo("selfloop-0.1.0.dist-info/METADATA"), told)
    return wheel


class TestBill:
    NEEDS = tuple(str(each) for who, each in lock.asked(()) if who == "selfloop")

    def test_it_has_the_form_of_cyclonedx(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        found = sbom.bill(built(tmp_path, *self.NEEDS, "pytest>=8.3; extra == 'test'"))
        assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
        assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"])
        assert set(found["metadata"]) == {"component"}
        every = [found["metadata"]["component"], *found["components"]]
        for each in every:
            assert set(each) == {"type", "bom-ref", "name", "version", "purl", "licenses", "hashes"}
            assert each["type"] == "library"
            assert each["purl"] == each["bom-ref"] == f"pkg:pypi/{each['name']}@{each['version']}"
            assert [set(choice) for choice in each["licenses"]] == [{"expression"}]
            (checksum,) = each["hashes"]
            assert checksum["alg"] == "SHA-256"
            assert re.fullmatch("[0-9a-f]{64}", checksum["content"])
        refs = {each["bom-ref"] for each in every}
        assert len(refs) == len(every)
        assert {each["ref"] for each in found["dependencies"]} == refs
        assert all(set(each["dependsOn"]) <= refs for each in found["dependencies"])

    def test_it_has_what_a_plain_install_brings(self, tmp_path: Path) -> None:
        found = sbom.bill(built(tmp_path, *self.NEEDS))
        names = {each["name"] for each in found["components"]}
        built_by = {name for name, pin in lock.read("demo").items() if pin.via == ("selfloop (build)",)}
        assert "hatchling" in built_by
        assert names & (built_by | {"selfloop", "pytest"}) == set()
        assert {canonicalize_name(Requirement(each).name) for each in self.NEEDS} | {"sympy", "llvmlite"} <= names
        assert names <= set(lock.read("demo"))

    def test_the_same_wheel_gives_the_same_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
        wheel = built(tmp_path, *self.NEEDS)
        monkeypatch.setattr(sys, "argv", ["sbom", str(wheel)])
        written = []
        for _ in range(2):
            sbom.main()
            written.append((tmp_path / "selfloop-0.1.0-py3-none-any.cdx.json").read_bytes())
        assert written[0] == written[1]
        assert json.loads(written[0])["metadata"]["timestamp"] == "2026-01-01T00:00:00+00:00"
        assert sorted(path.name for path in tmp_path.iterdir()) == [wheel.with_suffix(".cdx.json").name, wheel.name]

    def test_another_wheel_has_another_number(self, tmp_path: Path) -> None:
        one = sbom.bill(built(tmp_path, *self.NEEDS))
        other = sbom.bill(built(tmp_path, *self.NEEDS, "pytest; extra == 'test'"))
        assert one["serialNumber"] != other["serialNumber"]

    @pytest.mark.parametrize(
        ("needs", "message"),
        [
            (
                (*NEEDS[1:], "torch>=99"),
                r"asks for torch>=99, and locks/demo\.txt has torch==\S+ .*: run python -m release",
            ),
            (
                (*NEEDS, "pandas>=2.2"),
                r"asks for pandas>=2\.2, and locks/demo\.txt has none: run python -m release\.lock",
            ),
            (NEEDS[:-1], r"asks for typing-extensions no more, and locks/demo\.txt has typing-extensions==\S+ "),
        ],
    )
    def test_a_lock_of_other_needs_is_refused(
        self, needs: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["sbom", str(built(tmp_path, *needs))])
        with pytest.raises(SystemExit, match=message):
            sbom.main()
        assert list(tmp_path.glob("*.cdx.json")) == []

    def test_what_is_no_wheel_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "x.whl").write_text("no zip")
        monkeypatch.setattr(sys, "argv", ["sbom", str(tmp_path / "x.whl")])
        with pytest.raises(SystemExit, match=r"x.whl: File is not a zip file"):
            sbom.main()


LISTENER = """
import os, sys

def heard(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        if not isinstance(arguments[1], tuple):  # a socket of the file system
            return
    elif event not in ("socket.getaddrinfo", "socket.gethostbyname"):
        return
    with open(os.environ["HEARD"], "a") as file:
        print(os.getpid(), event, arguments[-1], file=file)

sys.addaudithook(heard)
with open(os.environ["HEARD"], "a") as file:
    print(os.getpid(), "listens", file=file)
"""
"""A sitecustomize: every Python process that is started tells of the network that it uses."""

SETTINGS = """
name: alone
data: {name: digits, n: 60}
generator: gaussian
generations: 1
seeds: 2
grid:
  mixing: [{name: augment, lam: 0.5}, {name: augment, lam: 1}]
"""


def heard(*command: str | Path, folder: Path) -> tuple[set[str], list[str]]:
    """Run Python; return the processes that were listened to, and what they did with the network."""
    (folder / "sitecustomize.py").write_text(LISTENER)
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "HEARD": str(folder / "heard")}
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (folder / "heard").read_text().splitlines()
    return {line.split()[0] for line in lines}, [line for line in lines if not line.endswith("listens")]


@pytest.mark.slow
def test_a_run_and_its_workers_use_no_network(tmp_path: Path) -> None:
    (tmp_path / "alone.yaml").write_text(SETTINGS)
    processes, used = heard("-m", "selfloop", "run", "alone.yaml", "--out", "out", "--workers", "2", folder=tmp_path)
    assert (tmp_path / "out" / "report" / "index.html").exists()
    assert len(processes) >= 3  # the command, and both workers
    assert used == []


def test_what_uses_the_network_is_heard(tmp_path: Path) -> None:
    code = "import socket; socket.socket().connect_ex(('127.0.0.1', 9)); socket.getaddrinfo('localhost', 80)"
    _, used = heard("-c", code, folder=tmp_path)
    assert [line.split()[1] for line in used] == ["socket.connect", "socket.getaddrinfo"]
