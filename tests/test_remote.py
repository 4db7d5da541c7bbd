"""Run directories and data by URL, in fsspec's memory and, where processes are killed, in a folder of ``file://``."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from helpers import Nursery, ended, snapshot, tiny
from PIL import Image

from selfloop import ConfigError, DataError, Experiment, Run, RunError, SelfloopError, compare, run, runner
from selfloop.cli.display import prometheus
from selfloop.cli.main import main
from selfloop.core import urls
from selfloop.core.errors import ELSEWHERE
from selfloop.core.paths import expanded, here, is_url, url_of
from selfloop.core.urls import Place, fetched
from selfloop.data import Table
from selfloop.data.base import DATA
from selfloop.report import write_report
from selfloop.status import Watch
from selfloop.store import lease, mirror, remote

CLOSED: dict[str, Any] = {"generator": {"name": "gaussian"}, "budget": None, "metrics": ["mean_error"]}
URL = "memory://bucket/run"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty store in memory, and an empty cache."""
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "cache"))
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield found
    found.store.clear()
    ELSEWHERE.clear()
    remote._MIRRORS.clear()


def there(store: Any, url: str = URL) -> dict[str, bytes]:
    """Return every file of a run in memory but the log, by relative path."""
    root = url.removeprefix("memory:/")
    files = {path.removeprefix(f"{root}/"): store.cat(path) for path in store.find(root)}
    return {name: content for name, content in files.items() if name != "log.txt"}


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on as on another machine: with another, empty cache."""
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / f"cache-{time.monotonic_ns()}"))


def stored_lock(store: Any, **changes: Any) -> None:
    """Put a lock there as another machine leaves it."""
    lock = {"holder": "other.host, process 7", "key": "k", "folder": "f", "until": time.time() + 30}
    store.pipe_file("/bucket/run/lock", json.dumps(lock | changes).encode())


@pytest.fixture
def selfloop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process and return what it prints, errors in place of that where it fails."""

    def call(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["selfloop", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert int(stop.value.code or 0) == code, err
        return err if code else out

    return call


def test_what_is_a_url() -> None:
    assert all(map(is_url, ("s3://b/x", "memory://x", "zip://a.csv::s3://b/c.zip", "gs://b", "S3://b")))
    assert not any(map(is_url, ("runs/a", "C:\\runs", "c://x", "/a://b", "~/x", "a.csv")))
    assert (here("s3://b/a/run/").name, url_of(here("s3://b/a/run/"))) == ("run", "s3://b/a/run")
    assert here("https://h/t.csv?id=1").name == "t.csv"
    assert here("zip://a.csv::s3://b/c.zip").name == "a.csv"
    assert here("runs/a") == Path("runs/a")
    with pytest.raises(ConfigError, match="what pathlib makes of a URL"):
        here(Path("s3://b/run"))
    with pytest.raises(ConfigError, match="this may not"):
        expanded("s3://b/rows.csv")


def test_a_url_that_would_name_another_folder_here_or_tell_a_secret() -> None:
    for url in ("memory://b/run/..", "memory://b/run/."):
        assert here(url).name == "root"
        assert ".." not in here(url).parts
    for url in ("s3://", "file://"):
        with pytest.raises(ConfigError, match="names no folder and no file"):
            here(url)
    with pytest.raises(ConfigError, match=r"'sftp://…@host/run' holds a password") as raised:
        here("sftp://me:secret@host/run")
    assert "secret" not in str(raised.value)
    assert here("sftp://me@host/run").name == "run"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://b.s3.amazonaws.com/t.csv?X-Amz-Date=20261127&X-Amz-Signature=s3cret", "X-Amz-Signature"),
        ("https://b.s3.amazonaws.com/t.csv?AWSAccessKeyId=s3cret", "AWSAccessKeyId"),
        ("https://storage.googleapis.com/b/t.csv?X-Goog-Credential=s3cret%2F1", "X-Goog-Credential"),
        ("https://a.blob.core.windows.net/b/t.csv?sv=2026-01-01&sig=s3cret", "sig"),
        ("https://h/t.csv?TOKEN=s3cret", "TOKEN"),
        ("https://h/t.csv?x=1;access%5Ftoken=s3cret", "access_token"),
        ("https://h/t.csv#access_token=s3cret", "access_token"),
        ("zip://t.csv::https://h/b.zip?key=s3cret", "key"),
    ],
)
def test_a_credential_in_a_query_is_kept_nowhere(store: Any, tmp_path: Path, url: str, name: str) -> None:
    data = tiny(**CLOSED | {"data": {"name": "table", "path": url}})
    held_out = tiny(**CLOSED | {"data": {"name": "table", "path": str(tmp_path / "t.csv"), "held_out_path": url}})
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n3,4\n" * 20)
    calls: list[Callable[[], object]] = [
        lambda: list(run(data, tmp_path / "run")),
        lambda: list(run(held_out, tmp_path / "run")),
        lambda: list(run(tiny(**CLOSED), url)),
        lambda: Run.open(url),
        lambda: fetched(url),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=rf" holds a credential \('{name}'\), which would be kept with") as raised:
            call()
        assert "s3cret" not in str(raised.value)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_a_query_that_says_which_data_are_meant_is_kept() -> None:
    for query in ("versionId=3", "id=7&format=csv", "author=key", "q=a?b=token", "sv=1&keys=2", "tokens=5"):
        assert url_of(here(f"https://h/t.csv?{query}")) == f"https://h/t.csv?{query}"


def test_a_cache_that_is_cleared_under_a_driver_leaves_the_store_as_it_is(store: Any) -> None:
    driver = run(tiny(generations=3, **CLOSED), URL)
    next(driver)
    before = there(store)
    shutil.rmtree(here(URL))
    of_run = remote._mirror(here(URL))
    assert of_run is not None
    of_run.send_saved()
    with pytest.raises((RunError, OSError)):
        next(driver)
    assert before.keys() - {"lock"} == there(store).keys()
    list(run(tiny(generations=3, **CLOSED), URL))
    assert Run.open(URL).damage() == []


def test_what_was_saved_of_another_run_is_not_taken_for_this_one(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfloop.runner._WORTH_KEEPING", 0.0)
    keep, kept = runner._keep, dict[str, bytes]()

    def noting(there: Run, t: int, *others: Any) -> None:
        keep(there, t, *others)
        kept.update((file.name, file.read_bytes()) for file in there.path.glob(".fit-*-done.safetensors"))

    one, other = (tiny(generations=1, budget={"steps": steps}, metrics=["mean_error"]) for steps in (2, 4))
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_keep", noting)
        list(run(one, URL))
    store.rm("/bucket/run", recursive=True)
    cache = tmp_path / "cache"
    elsewhere(tmp_path, monkeypatch)
    next(run(other, URL))
    monkeypatch.setenv("SELFLOOP_CACHE", str(cache))
    for name, content in kept.items():
        (here(URL) / name).write_bytes(content)
    assert any(name.startswith(".fit-0001") for name in kept)
    list(run(other, URL))
    list(run(other, tmp_path / "local"))
    assert there(store) == snapshot(tmp_path / "local")


def test_what_goes_while_it_is_read_is_no_fault(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    list(run(tiny(generations=1, **CLOSED), URL))
    fetch, gone = Place.fetch, []

    def once(self: Place, name: str, to: Path) -> None:
        if name.startswith(".status") and not gone:
            gone.append(name)
            raise FileNotFoundError(name)
        fetch(self, name, to)

    store.pipe_file("/bucket/run/.status-000.json", b"{}")
    monkeypatch.setattr(Place, "fetch", once)
    assert Run.open(URL).last == 1
    assert gone


def test_halves_of_a_first_upload_are_no_obstacle(store: Any) -> None:
    store.pipe_file("/bucket/run/.environment.json.part", b"{")
    list(run(tiny(generations=1, **CLOSED), URL))
    assert Run.open(URL).finished


@pytest.mark.slow
def test_round_trip_resume_and_growth_are_the_bits_of_a_local_run(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for generations in (2, 4):
        list(run(tiny(generations=generations), tmp_path / "local"))
        list(run(tiny(generations=generations), URL))
        assert there(store) == snapshot(tmp_path / "local")
        assert sorted(there(store)) == sorted(snapshot(here(URL)))
        elsewhere(tmp_path, monkeypatch)
    assert list(run(tiny(generations=4), URL)) == []
    more = tiny(generations=4, metrics=["w2_held_out", "mean_error", "covariance_error"], seeds=3)
    for out in (tmp_path / "local", URL):
        list(run(more, out))
    assert there(store) == snapshot(tmp_path / "local")


@pytest.mark.slow
def test_a_reader_fetches_what_it_needs(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(run(tiny(generations=3), URL))
    elsewhere(tmp_path, monkeypatch)
    opened = Run.open(URL)
    assert (opened.last, str(opened).partition(":")[0], repr(opened)) == (3, "memory", f"Run({URL!r})")
    assert not [*opened.path.rglob("*-000.safetensors")]
    assert len(opened.samples(2, 0)) == 16
    assert [path.name for path in opened.path.rglob("*-000.safetensors")] == ["samples-000.safetensors"]
    assert opened.state(3, 0)
    with pytest.raises(RunError, match="weights of generation 1 were not kept"):
        opened.state(1, 0)
    assert not opened.damage(contents=False)
    before = opened.path.stat().st_mtime_ns
    Run.open(URL)
    assert opened.path.stat().st_mtime_ns == before  # nothing was written
    write_report(opened)
    assert store.exists("/bucket/run/report/index.html")


def test_a_reader_leaves_what_is_none_of_the_run_where_it_is(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(run(tiny(generations=1, **CLOSED), URL))
    store.pipe_file("/bucket/run/backup.tar", b"large")
    elsewhere(tmp_path, monkeypatch)
    names = {path.name for path in Run.open(URL).path.iterdir()}
    assert names == {
        *("experiment.yaml", "environment.json", "real.safetensors", "metrics.jsonl", "log.txt"),
        *("generation-0000", "generation-0001"),
    }
    list(run(tiny(generations=2, **CLOSED), URL))
    assert there(store)["backup.tar"] == b"large"


def test_what_was_brought_here_and_is_damaged_is_brought_again(store: Any) -> None:
    list(run(tiny(**CLOSED), URL))
    opened = Run.open(URL)
    file = opened.folder(1) / "samples-000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert len(opened.samples(1, 0)) == 16
    assert not opened.damage()


@pytest.mark.parametrize("how", ["changed", "shorter", "gone"])
def test_a_file_that_is_damaged_there_is_named_by_its_url(store: Any, how: str) -> None:
    list(run(tiny(**CLOSED), URL))
    path = "/bucket/run/generation-0001/samples-000.safetensors"
    content = store.cat(path)
    if how == "gone":
        store.rm(path)
    else:
        store.pipe_file(path, content[:-1] + b"x" * (how == "changed"))
    found = Run.open(URL).damage(contents=how == "changed")
    assert len(found) == 1
    assert "'memory://bucket/run/generation-0001/samples-000.safetensors'" in found[0]
    assert Run.open(URL).damage()[0].partition("samples")[0] == found[0].partition("samples")[0]


def test_a_generation_without_a_manifest_is_not_there(store: Any, tmp_path: Path) -> None:
    list(run(tiny(**CLOSED), tmp_path / "local"))
    list(run(tiny(**CLOSED), URL))
    store.rm("/bucket/run/generation-0002/manifest.json")
    assert Run.open(URL).last == 1
    assert [generation.t for generation in run(tiny(**CLOSED), URL)] == [2]
    assert there(store) == snapshot(tmp_path / "local")


def fails_at(patch: pytest.MonkeyPatch, prefix: str) -> None:
    """Let the store refuse files whose names begin so."""
    send = Place.send

    def sends(self: Place, file: Path, name: str) -> None:
        if name.startswith(prefix):
            raise RunError(f"no {name}")
        send(self, file, name)

    patch.setattr(Place, "send", sends)


def test_what_was_committed_here_and_not_sent_is_seen_here_and_sent(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(run(tiny(**CLOSED), tmp_path / "local"))
    with monkeypatch.context() as patch:
        fails_at(patch, "generation-0002/")
        with pytest.raises(RunError, match=r"no generation-0002/"):
            list(run(tiny(**CLOSED), URL))
    opened = Run.open(URL)
    assert (opened.last, len(opened.samples(2, 0))) == (2, 16)
    assert opened.damage() == opened.damage(contents=False) == []
    with monkeypatch.context() as other:
        elsewhere(tmp_path, other)
        assert Run.open(URL).last == 1
    assert list(run(tiny(**CLOSED), URL)) == []
    assert there(store) == snapshot(tmp_path / "local")


def test_what_follows_on_others_than_the_store_has_is_not_sent(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fails_at(patch, "generation-0002/")
        with pytest.raises(RunError):
            list(run(tiny(**CLOSED), URL))
    path = "/bucket/run/generation-0001/manifest.json"
    store.pipe_file(path, store.cat(path) + b" ")
    with pytest.raises(RunError, match=r"'memory://bucket/run/generation-0001/manifest.json' is damaged"):
        list(run(tiny(**CLOSED), URL))
    assert not (here(URL) / "generation-0002").exists()


def test_what_one_has_checked_while_another_commits_stays(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that looked at the store before a commit finds files that it takes to be none of the store's."""
    list(run(tiny(**CLOSED | {"generations": 1}), URL))
    reader, of_run = Run.open(URL), remote._mirror(here(URL))
    assert of_run is not None
    seen = dict(of_run.there)
    list(run(tiny(**CLOSED), URL))
    of_run.there = seen
    monkeypatch.setattr(remote, "refresh", lambda path: None)
    assert reader.damage() == reader.damage(contents=False) == []
    assert len(list(here(URL).glob("generation-0002/*.safetensors"))) == 2


def test_who_has_lost_the_lock_takes_over_what_the_next_one_has_sent(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = run(tiny(**CLOSED), URL)
    next(going)
    stored_lock(store, until=0)
    with monkeypatch.context() as other:
        elsewhere(tmp_path, other)
        list(run(tiny(**CLOSED | {"generations": 3}), URL))
    with pytest.raises(RunError, match=r"was taken over by somebody who removed its lock: this process stops"):
        next(going)
    opened = Run.open(URL)
    assert (opened.last, opened.experiment.generations, opened.damage()) == (3, 3, [])


def test_a_head_is_sent_by_the_holder_of_the_lock_alone(store: Any) -> None:
    going = run(tiny(**CLOSED), URL)
    next(going)
    of_run = remote._mirror(here(URL))
    assert of_run is not None
    (here(URL) / "experiment.yaml").write_bytes(b"other")
    stored_lock(store)
    before = there(store)
    with pytest.raises(RunError, match="was taken over by"):
        of_run._send("experiment.yaml")
    assert there(store) == before
    going.close()
    assert there(store) == before


READ_ONLY = "'memory://bucket/run/lock' cannot be written: PermissionError: read-only; it can be read"


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What lets the store refuse every change from when it is called."""

    def refuse(*arguments: Any, **more: Any) -> None:
        raise PermissionError("read-only")

    def close() -> None:
        for name in ("pipe_file", "put_file", "rm_file", "mkdir", "makedirs"):
            monkeypatch.setattr(MemoryFileSystem, name, refuse)

    return close


@pytest.mark.slow
def test_a_finished_run_in_a_store_that_can_only_be_read(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: Callable[[], None], selfloop: Any
) -> None:
    (tmp_path / "e.yaml").write_text(tiny(**CLOSED).yaml())
    words = ("run", str(tmp_path / "e.yaml"), "--out", URL, "--workers=0")
    selfloop(*words)
    before = there(store)
    read_only()
    for _ in range(2):
        out = selfloop(*words)
        assert f"{URL} is finished: all 2 retrainings are done, nothing to do." in out
        assert out.splitlines()[-1].startswith(f"Report: {URL}/report/index.html")
        selfloop("status", URL)
        selfloop("ls", "memory://bucket")
        selfloop("verify", URL)
        elsewhere(tmp_path, monkeypatch)
    *_, last = selfloop("report", URL, "--tolerance", "0.2").splitlines()
    page = here(URL) / "report" / "index.html"
    assert page.is_file()
    assert last.startswith(f"Report: {page}; it could not be sent: 'memory://bucket/run/report/")
    with pytest.warns(UserWarning, match=r"index\.html' alone, as it could not be sent: .* PermissionError: read-only"):
        write_report(Run.open(URL))
    assert selfloop(*words, "--set", "generations=3", code=2).splitlines()[-1] == f"selfloop: {READ_ONLY}"
    assert there(store) == before
    with pytest.raises(RunError, match="cannot be written"):
        list(run(tiny(**CLOSED), "memory://bucket/new"))
    assert not here("memory://bucket/new").exists()


def test_what_a_finished_run_is_still_to_send_is_told_where_the_store_can_only_be_read(
    store: Any, monkeypatch: pytest.MonkeyPatch, read_only: Callable[[], None]
) -> None:
    with monkeypatch.context() as patch:
        fails_at(patch, "generation-0002/")
        with pytest.raises(RunError):
            list(run(tiny(**CLOSED), URL))
    read_only()
    with pytest.raises(RunError) as raised:
        list(run(tiny(**CLOSED), URL))
    assert str(raised.value) == READ_ONLY
    assert Run.open(URL).last == 2


@pytest.mark.parametrize("content", [b"", b'{"holder": "other'])
def test_a_lock_that_is_being_created_is_waited_for(
    store: Any, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Stores that are file systems show a file that is created before anything is in it."""
    monkeypatch.setattr(lease, "_SETTLE", 0.01)
    store.pipe_file("/bucket/run/lock", content)
    assert remote.holder(here(URL)) == ("another process, which has just begun", True)
    pause, pauses = time.sleep, list[float]()

    def written(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            stored_lock(store)
        pause(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", written)
        with pytest.raises(RunError, match=r"is in use by another process: other\.host, process 7; "):
            list(run(tiny(**CLOSED), URL))
    store.pipe_file("/bucket/run/lock", content)
    monkeypatch.setattr(lease, "LEASE", 0.05)  # after which who was to write is taken to have been killed
    list(run(tiny(**CLOSED), URL))
    assert Run.open(URL).finished


def test_two_drivers(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going = run(tiny(**CLOSED), URL)
    next(going)
    mine = json.loads(store.cat("/bucket/run/lock"))["holder"]
    with monkeypatch.context() as other:
        elsewhere(tmp_path, other)
        with pytest.raises(RunError, match=rf"^'{URL}' is in use by another process: {mine}; .* ends in \d+ seconds$"):
            next(run(tiny(**CLOSED), URL))
        opened = Run.open(URL)
        assert (opened.last, remote.holder(opened.path)) == (0, (mine, True))
    list(going)
    assert "lock" not in there(store)
    assert remote.holder(here(URL)) == ("", False)


def test_a_lock_that_has_run_out_is_taken_over(store: Any) -> None:
    stored_lock(store)
    with pytest.raises(RunError, match=r"other\.host, process 7"):
        list(run(tiny(**CLOSED), URL))
    stored_lock(store, until=time.time() - 1)
    list(run(tiny(**CLOSED), URL))
    assert Run.open(URL).finished
    store.pipe_file("/bucket/run/lock", b"mine")
    with pytest.raises(RunError, match=r"'memory://bucket/run/lock' is no lock of a run"):
        list(run(tiny(**CLOSED), URL))


def test_who_has_lost_the_lock_commits_nothing_more(store: Any) -> None:
    going = run(tiny(**CLOSED), URL)
    next(going)
    stored_lock(store)
    with pytest.raises(RunError, match=r"was taken over by other\.host, process 7: this process stops"):
        next(going)
    assert "generation-0001/manifest.json" not in there(store)
    assert json.loads(store.cat("/bucket/run/lock"))["key"] == "k"


def test_a_lock_is_renewed(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEW", 0.02)
    monkeypatch.setattr(mirror, "_SEND", 0.02)
    going = run(tiny(**CLOSED), URL)
    next(going)
    first = json.loads(store.cat("/bucket/run/lock"))["until"]
    (here(URL) / ".fit-0001-000-done.safetensors").write_bytes(b"saved")
    deadline = time.monotonic() + 10
    while json.loads(store.cat("/bucket/run/lock"))["until"] == first or ".fit-0001-000-done.safetensors" not in there(
        store
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (here(URL) / ".fit-0001-000-done.safetensors").unlink()
    list(going)
    assert not [name for name in there(store) if name.startswith(".")]


class _Unconditional(MemoryFileSystem):  # type: ignore[misc]
    """A store of objects that knows no creation of what is not there."""

    protocol = "unconditional"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def pipe_file(self, path: str, value: bytes) -> None:
        self.open(path, mode="wb", data=value)


def test_a_store_without_conditional_writes(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("unconditional", _Unconditional, clobber=True)
    monkeypatch.setattr(lease, "_SETTLE", 0.0)
    url = "unconditional://bucket/run"
    list(run(tiny(**CLOSED), url))
    assert Run.open(url).finished
    create = Place.create

    def too_late(self: Place, name: str, content: bytes) -> bool:
        sure = create(self, name, content)
        self.write(name, json.dumps({"holder": "other", "key": "k", "folder": "f", "until": 0}).encode())
        return sure

    monkeypatch.setattr(Place, "create", too_late)
    with pytest.raises(RunError, match="in use by another process: other"):
        list(run(tiny(**CLOSED), url))


class _Moving(MemoryFileSystem):  # type: ignore[misc]
    """A store of objects that has a way of its own to move them, as gcsfs has."""

    protocol = "moving"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def mv(self, *paths: str, **more: Any) -> None:
        raise AssertionError("objects are whole: nothing is to be moved")

    def open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        assert mode in ("rb", "wb", "xb"), "no other ways to open an object are known"
        return super().open(path, mode, **more)


def test_stores_of_objects_and_file_systems(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("moving", _Moving, clobber=True)
    fsspec.register_implementation("unconditional", _Unconditional, clobber=True)
    list(run(tiny(**CLOSED), "moving://bucket/run"))
    assert Run.open("moving://bucket/run").finished
    stores = {f"file://{tmp_path}/run": True, URL: True, "moving://x": True, "unconditional://x": False}
    for url, sure in stores.items():
        assert Place(url).create("new", b"1") is sure
        assert Place(url).read("new") == b"1"
        if sure:
            with pytest.raises(FileExistsError):
                Place(url).create("new", b"2")
    monkeypatch.setattr(_Unconditional, "pipe_file", fsspec.AbstractFileSystem.pipe_file)  # looks before it writes
    assert Place("unconditional://x").create("other", b"1") is False


def test_what_is_there_instead_of_a_run(store: Any) -> None:
    store.pipe_file("/bucket/run/thesis.tex", b"")
    with pytest.raises(RunError, match=r"is not empty but has no experiment\.yaml: choose another --out"):
        list(run(tiny(**CLOSED), URL))
    assert there(store) == {"thesis.tex": b""}
    with pytest.raises(RunError, match=rf"'{URL}' is not a run directory: it has no experiment\.yaml"):
        Run.open(URL)
    list(run(tiny(**CLOSED), "memory://other"))
    with pytest.raises(RunError, match=r"'memory://other' holds another experiment: there data\.name is 'two_moons'"):
        list(run(tiny(**CLOSED | {"data": "gaussian"}), "memory://other"))


def test_an_experiment_that_cannot_be_run_leaves_nothing(store: Any) -> None:
    with pytest.raises(DataError):
        list(run(tiny(**CLOSED | {"data": {"name": "table", "path": "memory://none.csv"}}), URL))
    assert there(store) == {}


@pytest.mark.slow
def test_commands(store: Any, tmp_path: Path, selfloop: Callable[..., str]) -> None:
    (tmp_path / "e.yaml").write_text(tiny(**CLOSED).yaml())
    out = selfloop("run", str(tmp_path / "e.yaml"), "--out", URL, "--workers", "0")
    page = here(URL) / "report" / "index.html"
    assert out.splitlines()[-1] == f"Report: {URL}/report/index.html, and on this machine {page}"
    assert "report/index.html" in there(store)
    assert page.is_file()
    assert "nothing to do" in selfloop("run", str(tmp_path / "e.yaml"), "--out", URL, "--workers", "0")
    assert "index.html" in selfloop("report", URL, "--tolerance", "0.2")
    selfloop("stability", URL)
    assert "2/2" in selfloop("ls", "memory://bucket")
    assert f"{URL} is finished" in selfloop("status", URL)
    assert f'{{run="{URL}"}}' in prometheus(Watch(here(URL)).look())
    assert f"{URL}: 3 generations" in selfloop("verify", URL)
    selfloop("forecast", URL, "--to", "4")
    selfloop("export", URL, str(tmp_path / "rows.csv"))
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 17
    list(run(tiny(**CLOSED | {"generator": {"name": "kernel_density"}}), tmp_path / "other"))
    selfloop("compare", URL, str(tmp_path / "other"))
    assert "against 16" in selfloop("metrics", f"{URL}@train", f"{URL}@2", "--only", "w2")
    assert "is a URL" in selfloop("export", URL, "memory://rows.csv", code=2)
    assert "is not a directory" in selfloop("ls", "memory://nowhere", code=2)
    assert out.count(str(tmp_path / "cache")) == 1


@pytest.mark.slow
def test_shards_are_merged_there(store: Any, tmp_path: Path, selfloop: Callable[..., str]) -> None:
    (tmp_path / "e.yaml").write_text(tiny().yaml())
    list(run(tiny(), tmp_path / "local"))
    for i in (1, 2):
        word = f"--shard={i}/2"
        selfloop("run", str(tmp_path / "e.yaml"), word, "--out", f"memory://bucket/{i}", "--workers=0")
    selfloop("merge", "memory://bucket/1", "memory://bucket/2", "--out", URL)
    found = {name: content for name, content in there(store).items() if not name.startswith("report/")}
    assert found == snapshot(tmp_path / "local")


def test_a_loop_of_others_is_judged_there(store: Any, tmp_path: Path, selfloop: Callable[..., str]) -> None:
    rng = np.random.default_rng(0)
    for name in ("real", "g0", "g1", "g2"):
        rows = "\n".join(f"{a},{b}" for a, b in rng.normal(size=(60, 2)))
        store.pipe_file(f"/data/{name}.csv", f"a,b\n{rows}\n".encode())
    sets = [f"memory://data/{name}.csv" for name in ("real", "g0", "g1", "g2")]
    found = selfloop("judge", *sets, "--out", URL, "--metrics", "sliced_w2_held_out", code=5)
    assert (
        found
        == f"selfloop: --out {URL}: memory:// is this process's own, and lost when it ends; name a folder or a store\n"
    )
    assert Run.open(URL).last == 2
    assert "report/index.html" in there(store)
    assert "in which nothing is looked for" in selfloop("judge", sets[0], "memory://data/g{t}.csv", code=2)


def test_data_by_url(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 2))
    text = "a,b\n" + "\n".join(f"{a},{b}" for a, b in rows)
    store.pipe_file("/data/t.csv", text.encode())
    (tmp_path / "t.csv").write_text(text)
    made = tiny(**CLOSED | {"data": {"name": "table", "path": "memory://data/t.csv"}})
    assert "path: memory://data/t.csv" in made.yaml()
    list(run(made, URL))
    list(run(tiny(**CLOSED | {"data": {"name": "table", "path": str(tmp_path / "t.csv")}}), tmp_path / "local"))
    name = "generation-0002/samples-000.safetensors"
    assert there(store)[name] == snapshot(tmp_path / "local")[name]
    fetches: list[str] = []
    fetch = Place.fetch
    monkeypatch.setattr(Place, "fetch", lambda self, *words: (fetches.append(self.url), fetch(self, *words))[1])
    Table(path="memory://data/t.csv").load([0])
    assert fetches == []  # it is here, and no other
    store.pipe_file("/data/t.csv", text.replace("a,b\n", "a,b\n9,9\n").encode())
    with pytest.raises(RunError, match="was run on other data"):
        list(run(Experiment.parse(made.yaml()).override("generations=3"), URL))
    assert "memory://data/t.csv" in fetches
    store.pipe_file("/data/t.csv", b"a,b\n1,x\n")
    with pytest.raises(DataError, match=r"memory://data/t\.csv"):
        Table(path="memory://data/t.csv").load([0])
    store.rm("/data/t.csv")
    with pytest.raises(DataError, match=r"^'memory://data/t\.csv' does not exist$"):
        Table(path="memory://data/t.csv").load([0])


def test_folders_of_data_by_url(store: Any, tmp_path: Path) -> None:
    pictures, texts = tmp_path / "pictures", "memory://texts"
    pictures.mkdir()
    for i in range(12):
        Image.fromarray(np.full((4, 4), 20 * i, np.uint8)).save(pictures / f"{i}.png")
        store.pipe_file(f"/texts/{i}.txt", f"the {i}th of them".encode())
    store.put(str(pictures), "/pictures", recursive=True)
    sources = ({"name": "image_files", "path": "memory://pictures"}, {"name": "text", "path": texts})
    splits = [DATA.parse(source).load([0]) for source in sources]
    assert [len(split.train[0]) for split in splits] == [11, 11]
    store.rm("/texts/3.txt")
    assert not (Path(fetched(texts)) / "3.txt").exists()
    list(run(tiny(**CLOSED), URL))
    with pytest.raises(DataError, match=r"is a run: say which generation, as memory://bucket/run@3"):
        fetched(URL)


def test_a_url_where_none_may_be() -> None:
    with pytest.raises(ConfigError, match=r"generator\.checkpoint: 's3://b/w\.pkl' is a URL, as data alone may have"):
        Experiment.build({"name": "t", "data": "digits", "generator": {"name": "edm", "checkpoint": "s3://b/w.pkl"}})


def test_what_cannot_be_opened(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="'nowhere://x' cannot be reached: ValueError: Protocol not known: nowhere"):
        Run.open("nowhere://x")
    with pytest.raises(ConfigError, match=r"'dropbox://x' needs a package that fsspec names: .*dropboxdrivefs"):
        Run.open("dropbox://x")
    monkeypatch.setattr(urls, "PATIENCE", 0.05)
    monkeypatch.setattr(urls, "_opened", lambda url: time.sleep(1))
    with pytest.raises(RunError, match=r"'memory://x' cannot be reached: no answer within 0\.05 seconds"):
        Run.open("memory://x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"what lies at a URL needs package fsspec: pip install 'selfloop\[remote\]'"):
        Run.open("memory://y")


class Failed(Exception):
    """As aiohttp says what a server answered."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status}")
        self.status = status


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "no"),
            "cannot be reached: the connection was refused, nothing lis",
        ),
        (Failed(403), "cannot be reached: Failed: 403"),
        (Failed(404), "does not exist"),
        (FileNotFoundError("x"), "does not exist"),
        (None, "does not exist"),
    ],
)
def test_what_fails_is_not_said_not_to_be_there(
    store: Any, monkeypatch: pytest.MonkeyPatch, cause: Exception | None, words: str
) -> None:
    def info(self: Any, path: str, **more: Any) -> Any:
        raise FileNotFoundError(path) from cause

    monkeypatch.setattr(type(store), "info", info)
    with pytest.raises(SelfloopError, match=f"^'memory://x' {words}"):
        fetched("memory://x")


def test_runs_that_are_compared_may_lie_anywhere(store: Any, tmp_path: Path) -> None:
    list(run(tiny(**CLOSED), URL))
    list(run(tiny(**CLOSED), tmp_path / "other"))
    assert len(compare([URL, str(tmp_path / "other")], metric="mean_error").runs) == 2


@pytest.mark.slow
def test_killed_before_every_change_to_the_store(store: Any, nest: Nursery, tmp_path: Path) -> None:
    experiment = tiny(generations=3, grid={}, seeds=1, **CLOSED)
    list(run(experiment, tmp_path / "local"))
    caches = [{"SELFLOOP_CACHE": str(tmp_path / name)} for name in ("cache", "another")]
    job: dict[str, Any] = {"lease": 0.01, "environment": caches[0]}
    points = nest.run(experiment, f"file://{tmp_path}/counted", die_at=None, **job)["message"].splitlines()
    assert len(points) >= 20, points
    # The making of the run and its first generation, and the last one, after which weights are dropped.
    for n, what in [*enumerate(points)][:9] + [*enumerate(points)][-7:]:
        out = tmp_path / f"store-{n}"
        assert nest.run(experiment, f"file://{out}", die_at=n, **job)["code"] == 9
        if (out / "experiment.yaml").exists():
            Run.open(f"file://{out}").verify()  # the store has whole generations alone
        outcome = nest.run(experiment, f"file://{out}", environment=caches[n % 2])
        assert ended(outcome), (n, what, outcome)
        assert snapshot(out) == snapshot(tmp_path / "local"), f"point {n}, {what}"
        assert not (out / "lock").exists()
