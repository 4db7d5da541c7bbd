"""Files that attack their reader execute nothing, cost little, and end in one clear line."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import quiet, running
from spelling import archive, checkpoint, identity, mapping, module, name, snapshot, storage, stream, tensor, text

from selfloop.core.errors import DataError
from selfloop.interop import read_checkpoint

SECONDS = 20
"""The most that a file may take on a busy machine; the worst takes two."""

MEMORY = 2**29
"""Bytes of address space that a process may need beyond what it had, reading one file after the other (512 MiB)."""

QUIET = quiet()
RUNNING = sorted(running(Path("canary")))


class Tripwire:
    """What Python reports on the way (its audit events), noted while it is armed.

    A hook cannot be taken away again, so there is one, idle but for the reads it watches. It sees what no
    replaced function could: any import, compilation, process, or opened file, whoever asks for it.
    """

    def __init__(self) -> None:
        self.armed = False
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed:
            self.seen.append((event, repr(arguments)[:200]))

    @contextmanager
    def watch(self, allowed: Path) -> Iterator[None]:
        """Fail if anything but the opening of one file happens."""
        self.seen.clear()
        self.armed = True
        try:
            yield
        finally:
            self.armed = False
        assert [
            (event, what) for event, what in self.seen if not (event == "open" and repr(str(allowed)) in what)
        ] == []


@pytest.fixture(scope="module")
def tripwire() -> Tripwire:
    return Tripwire()


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory) -> None:
    """Read sound files first, so that nothing is left to import while the tripwire is armed."""
    "a".encode("cp437")  # zipfile's for names that are not marked as UTF-8
    for content in (snapshot(), archive(), archive(_use_new_zipfile_serialization=False), b"\x80\x02X\x01\0\0\0\xff"):
        path = tmp_path_factory.mktemp("sound") / "file.pkl"
        path.write_bytes(content)
        try:
            read_checkpoint(path)
        except DataError:
            continue


def refusal(path: Path, tripwire: Tripwire) -> str:
    """Return why a file is refused, after checking that this cost little and did nothing."""
    start = time.monotonic()
    with tripwire.watch(path), pytest.raises(DataError) as caught:
        read_checkpoint(path)
    assert time.monotonic() - start < SECONDS
    return one_line(str(caught.value), path)


def one_line(message: str, path: Path) -> str:
    """Check that a message is one printable line of bearable length that names the file."""
    assert message.isprintable()
    assert repr(str(path)) in message
    assert len(message) < len(str(path)) + 400
    return message


@pytest.mark.parametrize("case", RUNNING)
def test_commands_are_not_run(case, tmp_path, tripwire):
    canary, path = tmp_path / "canary", tmp_path / "checkpoint.pkl"
    path.write_bytes(running(canary)[case])
    refusal(path, tripwire)
    assert not canary.exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(QUIET))
def test_lies_are_refused(case, tmp_path, tripwire):
    path = tmp_path / "checkpoint.pkl"
    path.write_bytes(QUIET[case])
    refusal(path, tripwire)


def ran(code: str, *arguments: Path) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_commands_would_run_elsewhere(tmp_path):
    """The corpus bites: Python's and torch's own unpicklers run every command in it."""
    for i, case in enumerate(RUNNING):
        (tmp_path / f"{i}.pkl").write_bytes(running(tmp_path / f"{i}.canary")[case])
    code = """
        import pickle, sys, types, warnings, torch
        from pathlib import Path
        warnings.simplefilter("ignore")
        for module in ("torch_utils", "torch_utils.persistence"):
            sys.modules[module] = types.ModuleType(module)
        sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj = dict
        for path in Path(sys.argv[1]).glob("*.pkl"):
            content = path.read_bytes()
            try:
                if content.startswith((b"PK", b"\\x80\\x02\\x8a\\x0al\\xfc")):
                    torch.load(path, weights_only=False)
                else:
                    pickle.loads(content)
            except Exception:
                pass
    """
    ran(code, tmp_path)
    assert [case for i, case in enumerate(RUNNING) if not (tmp_path / f"{i}.canary").exists()] == []


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path):
    cases = running(tmp_path / "canary") | QUIET
    for i, case in enumerate(cases):
        (tmp_path / f"{i}.pkl").write_bytes(cases[case])
    code = f"""
        import json, resource, sys, torch
        from pathlib import Path
        torch.set_num_threads(1)
        from selfloop.core.errors import DataError
        from selfloop.interop import read_checkpoint
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + {MEMORY}
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        said = {{}}
        for path in Path(sys.argv[1]).glob("*.pkl"):
            try:
                read_checkpoint(path)
            except DataError as error:
                said[path.stem] = str(error)
        print(json.dumps(said))
    """
    said = json.loads(ran(code, tmp_path))
    assert len(said) == len(cases)
    for i, case in enumerate(cases):
        assert "does not fit" not in one_line(said[str(i)], tmp_path / f"{i}.pkl"), case


def test_there_are_many_cases():
    assert len(RUNNING) >= 50
    assert len(QUIET) >= 50


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("zip: encrypted", "encrypted"),
        ("zip: wrong checksum", "CRC"),
        ("zip: pickle packed", "compressed"),
        ("zip: bomb as a storage", "compressed"),
        ("zip: member outside", "outside of its folder"),
        ("zip: member twice", "repeated"),
        ("zip: member over the next", "overlaps"),
        ("zip: place of another", "overlaps"),
        ("zip: no data.pkl", "0 members data.pkl"),
        ("zip: storage too short", "holds 5 numbers"),
        ("zip: big-endian", "big-endian"),
        ("zip: directory of 9 MB", "directory claims"),
        ("broken: empty", "is empty"),
        ("broken: text", "byte 0 is not an instruction"),
        ("broken: two pickles", "bytes follow"),
        ("lying: offset of 2⁶²", "negative, huge or no integer"),
        ("lying: offset beyond the storage", "reaches beyond its storage of 6 numbers"),
        ("lying: size of 2²⁰ by stride 0", "reaches beyond"),
        ("lying: BINUNICODE8 of 2⁶⁰", "BINUNICODE8 at byte 2"),
        ("lying: embedded: storage of 2⁶⁰", "than there is room for"),
        ("exhausting: dicts without end", "steps to read"),
        ("exhausting: modules doubled 28 times", "steps to read"),
        ("exhausting: settings doubled 60 times", "deep"),
        ("exhausting: embedded bytes read 1,000 times", "again and again"),
        ("exhausting: storage shown 1,000 times", "16 times its own size"),
        ("exhausting: key doubled 60 times", "key of type tuple"),
        ("exhausting: keys that collide", "key of type int"),
        ("odd: extension code", "EXT1"),
        ("odd: name of an unprintable", r"\x1b"),
        ("odd: nothing", "none of: EDM network snapshot"),
    ],
)
def test_the_line_says_what_is_wrong(case, words, tmp_path, tripwire):
    path = tmp_path / "checkpoint.pkl"
    path.write_bytes(QUIET[case])
    assert words in refusal(path, tripwire)


def test_a_name_that_would_break_the_line(tmp_path, tripwire):
    path = tmp_path / "a\nb\x1b[2J.pkl"
    path.write_bytes(b"")
    refusal(path, tripwire)


def test_a_refused_name_is_said(tmp_path):
    path = tmp_path / "checkpoint.pkl"
    path.write_bytes(running(tmp_path / "canary")["posix.system"])
    with pytest.raises(
        DataError, match=r"asks for 'posix\.system', which no known checkpoint needs; nothing of it was"
    ):
        read_checkpoint(path)


def harmless(tmp_path: Path) -> dict[str, bytes]:
    """Return files that hold a command where it is nothing but data."""
    evil = running(tmp_path / "canary")["os.system, protocol 2"]
    evil += bytes(-len(evil) % 4)
    numbers = len(evil) // 4
    embedded = storage(stream(evil, held=numbers, value=identity(numbers)))
    return {
        "source text of a persistent object": snapshot(),
        "pickle as the numbers of an embedded storage": snapshot(tensor(0, (numbers,), (1,), of=embedded)),
        "pickle as the numbers of a storage": archive(
            checkpoint(model={"w": torch.frombuffer(bytearray(evil), dtype=torch.uint8)})
        ),
        "archive as the numbers of a storage": archive(
            checkpoint(model={"w": torch.frombuffer(bytearray(archive()), dtype=torch.uint8)})
        ),
        "command as a setting": snapshot(dataset_kwargs=mapping(path=text("__import__('os').system('touch x')"))),
        "far memo index": snapshot(a=b"K\x01r\xff\xff\xff\xff", b=b"j\xff\xff\xff\xff"),
    }


@pytest.mark.parametrize("case", sorted(harmless(Path("x"))))
def test_a_command_that_is_only_data_stays_data(case, tmp_path, tripwire):
    path = tmp_path / "checkpoint.pkl"
    path.write_bytes(harmless(tmp_path)[case])
    with tripwire.watch(path):
        imported = read_checkpoint(path)
    assert all(imported.networks.values())
    assert not (tmp_path / "canary").exists()


def test_the_tripwire_trips(tmp_path, tripwire):
    with pytest.raises(AssertionError, match=r"os\.system"), tripwire.watch(tmp_path):
        subprocess.os.system("true")


def changed(sound: bytes, chance: random.Random) -> bytes:
    """Return a file with one to three changes: a byte, a piece of another pickle put in, a few bytes taken out."""
    found = bytearray(sound)
    pieces = (
        tensor(),
        storage(),
        module(),
        text("a"),
        name("torch._utils", "_rebuild_tensor_v2"),
        b"(",
        b"t",
        b"R",
        b"u",
        b"s",
        b"b",
        b"Q",
        b"N",
    )
    for _ in range(chance.randint(1, 3)):
        place, what = chance.randrange(len(found)), chance.randrange(3)
        if what == 0:
            found[place] = chance.randrange(256)
        elif what == 1:
            found[place:place] = chance.choice(pieces)
        else:
            del found[place : place + chance.randint(1, 20)]
    return bytes(found)


@pytest.mark.parametrize("form", ["snapshot", "archive", "older format"])
def test_a_changed_file_loads_or_is_refused_in_a_line(form, tmp_path, tripwire):
    path = tmp_path / "checkpoint.pkl"
    sound = {
        "snapshot": snapshot(),
        "archive": archive(),
        "older format": archive(_use_new_zipfile_serialization=False),
    }[form]
    chance = random.Random(0)
    for _ in range(400):
        path.write_bytes(changed(sound, chance))
        try:
            with tripwire.watch(path):
                read_checkpoint(path)
        except DataError as error:
            one_line(str(error), path)
