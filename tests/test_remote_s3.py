"""Run directories and data in S3, against moto's server."""

from __future__ import annotations

import random
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import S3_SETTINGS, Nursery, ended, nursery, s3_server, snapshot, tiny

from selfloop import DataError, Run, RunError, run
from selfloop.core import urls
from selfloop.core.errors import ELSEWHERE
from selfloop.core.paths import here
from selfloop.data import Table
from selfloop.store import remote

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

CLOSED: dict[str, Any] = {"generator": {"name": "gaussian"}, "budget": None, "metrics": ["mean_error"]}


@pytest.fixture(scope="module")
def end_point() -> Iterator[str]:
    """The address of a server, started once."""
    with s3_server() as address:
        yield address


@pytest.fixture
def store(end_point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket that is empty, as s3fs sees it, and an empty cache."""
    for name, value in (S3_SETTINGS | {"AWS_ENDPOINT_URL": end_point}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    urls._FILESYSTEMS.clear()
    found = s3fs.S3FileSystem(use_listings_cache=False)
    if found.exists("bucket"):
        found.rm("bucket", recursive=True)
    found.mkdir("bucket")
    yield found
    s3fs.S3FileSystem.clear_instance_cache()
    urls._FILESYSTEMS.clear()
    ELSEWHERE.clear()
    remote._MIRRORS.clear()


@pytest.fixture(scope="module")
def nest_with_keys(end_point: str) -> Iterator[Nursery]:
    """A nursery whose children know the server."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (S3_SETTINGS | {"AWS_ENDPOINT_URL": end_point, "NURSERY_IMPORTS": "s3fs"}).items():
            patch.setenv(name, value)
        with nursery() as started:
            yield started


def there(store: Any, run: str = "run") -> dict[str, bytes]:
    """Return every file of a run in the bucket but the log, by relative path."""
    files = {path.removeprefix(f"bucket/{run}/"): store.cat(path) for path in store.find(f"bucket/{run}")}
    return {name: content for name, content in files.items() if name != "log.txt"}


@pytest.mark.slow
def test_round_trip_and_resume_from_an_emptied_cache(store: Any, tmp_path: Path) -> None:
    for generations in (1, 3):
        list(run(tiny(generations=generations), tmp_path / "local"))
        list(run(tiny(generations=generations), "s3://bucket/run"))
        assert there(store) == snapshot(tmp_path / "local")
        shutil.rmtree(tmp_path / "cache")
    opened = Run.open("s3://bucket/run")
    assert len(opened.samples(2, 0)) == 16
    opened.verify()


@pytest.mark.slow
def test_killed_at_several_moments(store: Any, nest_with_keys: Nursery, tmp_path: Path) -> None:
    experiment, rng, kills = tiny(generations=3), random.Random(20246), 0
    list(run(experiment, tmp_path / "local"))
    surroundings = {"SELFLOOP_CACHE": str(tmp_path / "cache")}
    whole = nest_with_keys.run(experiment, "s3://bucket/whole", environment=surroundings)
    assert ended(whole), whole
    for i in range(3):
        killed = nest_with_keys.run(
            experiment,
            f"s3://bucket/run-{i}",
            environment=surroundings,
            kill_after=whole["seconds"] * (i + rng.random()) / 3,
        )
        kills += killed["status"] == "killed"
        outcome = nest_with_keys.run(experiment, f"s3://bucket/run-{i}", environment=surroundings)
        assert ended(outcome), outcome
        assert there(store, f"run-{i}") == snapshot(tmp_path / "local"), f"killed after {killed['seconds']} s"
    assert kills >= 1


@pytest.mark.slow
def test_killed_between_files_and_manifest(
    store: Any, nest_with_keys: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(generations=1, grid={}, seeds=1, **CLOSED)
    list(run(experiment, tmp_path / "local"))
    machines = [{"SELFLOOP_CACHE": str(tmp_path / name)} for name in ("cache", "another")]
    counted = nest_with_keys.run(experiment, "s3://bucket/run", environment=machines[0], die_at=None, lease=0.01)
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "a reader's"))
    commit = counted["message"].splitlines().index("send generation-0000/manifest.json")
    for n, machine in ((commit - 1, machines[0]), (commit, machines[1])):
        out = f"s3://bucket/run-{n}"
        killed = nest_with_keys.run(experiment, out, environment=machines[0], die_at=n, lease=0.01)
        assert killed["code"] == 9, killed
        files = [name for name in there(store, f"run-{n}") if name.startswith("generation-")]
        assert len(files) == 2 - (n < commit)
        assert Run.open(out).last == -1
        outcome = nest_with_keys.run(experiment, out, environment=machine)
        assert ended(outcome), outcome
        assert there(store, f"run-{n}") == snapshot(tmp_path / "local")


@pytest.mark.slow
def test_the_second_of_two_drivers_is_refused(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going = run(tiny(**CLOSED), "s3://bucket/run")
    next(going)
    with monkeypatch.context() as other:
        other.setenv("SELFLOOP_CACHE", str(tmp_path / "another"))
        with pytest.raises(RunError, match=r"^'s3://bucket/run' is in use by another process: .*, process \d+; "):
            next(run(tiny(**CLOSED), "s3://bucket/run"))
    list(going)
    place = urls.Place("s3://bucket/run")
    assert place.create("new", b"1")
    with pytest.raises(FileExistsError):
        place.create("new", b"2")
    assert place.read("new") == b"1"


@pytest.mark.slow
def test_a_bucket_that_is_not_there(store: Any) -> None:
    with pytest.raises(RunError, match=r"^'s3://no-such/run' cannot be written: The specified bucket does not exist$"):
        list(run(tiny(**CLOSED), "s3://no-such/run"))
    with pytest.raises(RunError, match=r"^'s3://no-such/run' is not a run directory: it has no experiment\.yaml$"):
        Run.open("s3://no-such/run")


def test_a_server_that_does_not_answer(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        begun = time.monotonic()
        with pytest.raises(RunError, match=r"^'s3://else/run' cannot be reached: .*(Could not connect|no answer)"):
            list(run(tiny(**CLOSED), "s3://else/run"))
        assert time.monotonic() - begun < 2 * urls.PATIENCE
    assert not here("s3://else/run").exists()


def test_without_credentials(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RunError, match=r"^'s3://bucket/run' cannot be reached: NoCredentialsError: Unable to locate"):
        list(run(tiny(**CLOSED), "s3://bucket/run"))


@pytest.mark.slow
def test_a_file_that_is_damaged_there_is_named(store: Any) -> None:
    list(run(tiny(**CLOSED), "s3://bucket/run"))
    store.pipe_file("bucket/run/generation-0001/samples-000.safetensors", b"x")
    with pytest.raises(RunError, match=r"^'s3://bucket/run/generation-0001/samples-000\.safetensors' has 1 bytes"):
        list(run(tiny(**CLOSED | {"generations": 3}), "s3://bucket/run"))


@pytest.mark.slow
def test_data_in_a_bucket(store: Any) -> None:
    store.pipe_file("bucket/t.csv", ("a,b\n" + "".join(f"{i},{i % 3}\n" for i in range(40))).encode())
    experiment = tiny(**CLOSED | {"data": {"name": "table", "path": "s3://bucket/t.csv"}})
    list(run(experiment, "s3://bucket/run"))
    assert b"path: s3://bucket/t.csv" in there(store)["experiment.yaml"]
    with pytest.raises(DataError, match=r"^'s3://bucket/none\.csv' does not exist$"):
        Table(path="s3://bucket/none.csv").load([0])
