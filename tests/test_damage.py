"""A run that is odd, damaged, moved or read meanwhile: said by name, in a line, and nothing else suffers."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Nursery, ended, snapshot, tiny

from selfloop import Run, RunError, run
from selfloop.analysis import curves
from selfloop.cli import failures
from selfloop.cli.main import main
from selfloop.core.files import load_sealed, read_sealed, save_sealed, write_sealed
from selfloop.report import write_report
from selfloop.report.shown import shown
from tests.campaign.damage import damaged

GAUSSIAN = {"generator": {"name": "gaussian"}, "budget": None, "metrics": ["mean_error", "w2_held_out"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("damage") / "run"
    list(run(tiny(generations=3, **GAUSSIAN), out))
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs/odd"))


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def selfloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process; return its exit code and what it printed."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["selfloop", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(stop.value.code or 0), said.out, said.err

    return call


def sealed(**changes: Any) -> Callable[[Path], None]:
    """Return what changes keys of generation 1's manifest, and seals it again."""

    def change(out: Path) -> None:
        path = out / "generation-0001/manifest.json"
        content = read_sealed(path)
        for key, value in changes.items():
            if value is None:
                del content[key]
            else:
                content[key] = value(content[key]) if callable(value) else value
        write_sealed(path, content)

    return change


def first(**changes: Any) -> Callable[[Any], Any]:
    """Return what changes the first record, or the only stack."""

    def change(content: Any) -> Any:
        return [content[0] | changes, *content[1:]] if isinstance(content, list) else {"000": content["000"] | changes}

    return change


def nan(out: Path) -> None:
    path = out / "generation-0001/manifest.json"
    content = read_sealed(path)
    content["records"][0]["metrics"]["mean_error"] = 12345.5
    write_sealed(path, content)
    import hashlib

    body = path.read_bytes().partition(b",\n")[2].replace(b"12345.5", b"NaN")
    seal = hashlib.sha256(body).hexdigest().encode()
    path.write_bytes(b'{\n"seal": "' + seal + b'",\n' + body)


def replaced(name: str) -> Callable[[Path], None]:
    """Return what puts a directory where a file belongs."""

    def change(out: Path) -> None:
        (out / name).unlink()
        (out / name).mkdir()

    return change


def real(out: Path) -> None:
    tensors, about = load_sealed(out / "real.safetensors")
    save_sealed(out / "real.safetensors", tensors, {"sets": {}, "events": 3} | {"kept": about["files"]})


def environment(**changes: Any) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        content = read_sealed(out / "environment.json") | changes
        write_sealed(out / "environment.json", content)

    return change


M = "generation-0001/manifest.json'"
ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a generation beyond": (lambda out: (out / "generation-99999999999").mkdir(), "generation-99999999999' is no gen"),
    "a generation missing": (lambda out: shutil.rmtree(out / "generation-0001"), "generation-0001' is missing"),
    "no records": (sealed(records=None), M),
    "records of a wrong type": (sealed(records={"a": 1}), M),
    "a record without metrics": (sealed(records=lambda r: [{k: v for k, v in r[0].items() if k != "metrics"}]), M),
    "a metric that is text": (sealed(records=first(metrics={"mean_error": "low"})), M),
    "a metric that is no number": (nan, M),
    "a metric beyond numbers": (sealed(records=first(metrics={"mean_error": 10**400})), M),
    "a record of another generation": (sealed(records=first(generation=2)), M),
    "a seed that is text": (sealed(records=first(seed="1")), M),
    "another generation": (sealed(generation=2), M),
    "a generation that is text": (sealed(generation="1"), M),
    "another run": (sealed(run="0" * 64), M),
    "no stacks": (sealed(stacks={}), M),
    "stacks called otherwise": (sealed(stacks=lambda stacks: {"x": stacks["000"]}), M),
    "too few arms": (sealed(stacks=first(arms=["a"])), M),
    "an arm twice": (sealed(stacks=lambda s: {"000": s["000"] | {"arms": 2 * s["000"]["arms"][:2]}}), M),
    "arms in another order": (sealed(stacks=lambda s: {"000": s["000"] | {"arms": s["000"]["arms"][::-1]}}), M),
    "half of the arms": (
        sealed(records=lambda r: r[:2], stacks=lambda s: {"000": s["000"] | {"arms": s["000"]["arms"][:2]}}),
        M,
    ),
    "other files": (sealed(stacks=first(files={"../../secret": {"sha256": "0" * 64, "bytes": 1}})), M),
    "a manifest that is a directory": (replaced("generation-0001/manifest.json"), M),
    "samples that are a directory": (replaced("generation-0001/samples-000.safetensors"), "samples-000.safetensors'"),
    "weights that are a directory": (replaced("generation-0003/state-000.safetensors"), "state-000.safetensors'"),
    "an environment that is a directory": (replaced("environment.json"), "environment.json'"),
    "settings that are a directory": (replaced("experiment.yaml"), "experiment.yaml"),
    "real rows that are a directory": (replaced("real.safetensors"), "real.safetensors'"),
    "metrics.jsonl as a directory": (replaced("metrics.jsonl"), "metrics.jsonl'"),
    "other real rows": (real, "real.safetensors'"),
    "metrics of a wrong type": (environment(metrics={"mean_error": {"title": 3}}), "environment.json'"),
    "arms of a wrong type": (environment(arms=[1, 2]), "environment.json'"),
    "no checkpoint": (environment(checkpoint=7), "environment.json'"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_runs_are_damaged_by_name_in_their_row_alone(
    name: str, out: Path, finished: Path, selfloop: Command
) -> None:
    change, words = ODD[name]
    shutil.copytree(finished, out.parent / "sound")
    change(out)
    code, listed, _ = selfloop("ls", "runs")
    flat = "".join(listed.split())
    assert code == 0
    assert "damaged" in flat
    assert words.replace(" ", "") in flat
    assert flat.count("3/3") == 1  # the other run
    code, said, err = selfloop("verify", out)
    assert code == 2
    assert words in said + err
    with pytest.raises(RunError) as error:
        list(run(tiny(generations=4, **GAUSSIAN), out))
    assert "\n" not in str(error.value)


def test_verify_names_every_damaged_file(out: Path, selfloop: Command) -> None:
    code, said, err = selfloop("verify", out)
    assert (code, err) == (0, "")
    assert "4 generations of 4 arms, every file as it was written" in said
    rng, names = random.Random(3), ["generation-0001/samples-000.safetensors", "generation-0003/state-000.safetensors"]
    for name in names:
        content = bytearray((out / name).read_bytes())
        content[rng.randrange(len(content))] ^= 1
        (out / name).write_bytes(content)
    code, said, err = selfloop("verify", out)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert all(name in said for name in names)
    assert len(json.loads(selfloop("verify", out, "--json")[1])) == 2


def test_a_finished_run_whose_samples_are_damaged_is_not_called_finished(out: Path) -> None:
    path = out / "generation-0001/samples-000.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for generations in (3, 4):  # also where it is to go on: before anything is computed
        with pytest.raises(RunError, match=r"samples-000\.safetensors' is damaged"):
            list(run(tiny(generations=generations, **GAUSSIAN), out))
    assert not (out / "generation-0004").exists()


class TestUnderWay:
    """The directory of a run is moved, deleted, or replaced."""

    def test_by_its_own_process(self, tmp_path: Path) -> None:
        plan = tiny(generations=3, **GAUSSIAN)
        list(run(plan, tmp_path / "whole"))
        going = run(plan, tmp_path / "run")
        next(going)
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(RunError, match=r"run' is gone: it has been moved or deleted$"):
            next(going)
        assert not (tmp_path / "run").exists()
        assert [g.t for g in run(plan, tmp_path / "moved")] == [1, 2, 3]
        assert snapshot(tmp_path / "moved") == snapshot(tmp_path / "whole")

    def test_another_run_in_its_place_is_left_alone(self, tmp_path: Path) -> None:
        plan = tiny(generations=3, **GAUSSIAN)
        going = run(plan, tmp_path / "run")
        next(going)
        (tmp_path / "run").rename(tmp_path / "moved")
        list(run(plan, tmp_path / "run"))
        before = snapshot(tmp_path / "run")
        with pytest.raises(RunError, match="another directory is there"):
            next(going)
        assert snapshot(tmp_path / "run") == before

    def test_a_reader(self, out: Path) -> None:
        opened, listed = Run.open(out), Run.open(out)
        assert opened.last == 3
        shutil.rmtree(out)
        for read in (opened.records, lambda: listed.last, lambda: opened.samples(1, 0), lambda: write_report(opened)):
            with pytest.raises(RunError, match=r"odd' is gone: it has been moved or deleted$"):
                read()
        assert not out.exists()

    @pytest.mark.slow
    def test_readers_beside_it_see_whole_generations(self, tmp_path: Path) -> None:
        out, said, stop = tmp_path / "run", [], threading.Event()
        plan = tiny(generations=60, **GAUSSIAN)
        next(iter(run(plan, out)))

        def reads() -> None:
            try:
                while not stop.is_set():
                    opened = Run.open(out)
                    assert curves.read(opened).generations == opened.last + 1
                    assert opened.damage() == []
            except BaseException as error:
                said.append(error)

        reader = threading.Thread(target=reads)
        reader.start()
        list(run(plan, out))
        stop.set()
        reader.join()
        assert said == []


@pytest.mark.slow
def test_a_report_knows_what_it_shows(tmp_path: Path, selfloop: Command) -> None:
    out, plan = tmp_path / "runs/run", tiny(generations=1, **GAUSSIAN)
    (tmp_path / "plan.yaml").write_text(plan.yaml())
    assert selfloop("run", tmp_path / "plan.yaml", "--out", out, "--workers", "0")[0] == 0
    assert shown(Run.open(out)) == "current"
    assert "nothing to do" in selfloop("run", tmp_path / "plan.yaml", "--out", out)[1]
    # As if the process had died between the last commit and the end of the report.
    list(run(tiny(generations=2, **GAUSSIAN), out))
    assert shown(Run.open(out)) == "of generation 1"
    assert "of generation 1" in " ".join(selfloop("ls", "runs")[1].split())
    (tmp_path / "plan.yaml").write_text(tiny(generations=2, **GAUSSIAN).yaml())
    code, said, _ = selfloop("run", tmp_path / "plan.yaml", "--out", out, "--workers", "0")
    assert code == 0
    assert "The report was of generation 1: it is written again." in said
    assert shown(Run.open(out)) == "current"
    list(run(tiny(generations=2, description="Others.", **GAUSSIAN), out))
    assert shown(Run.open(out)) == "of other settings"
    (out / "report/index.html").write_text("<html>")
    assert shown(Run.open(out)).startswith("of another version")


class TestOurOwnErrors:
    @pytest.mark.parametrize(
        ("error", "code", "words"),
        [
            (MemoryError(), 2, "not enough memory"),
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 2, "not enough"),
            (ImportError("libtorch.so: failed to map segment from shared object"), 2, "not enough memory"),
            (OSError(24, "Too many open files"), 2, "too many files are open: raise the limit"),
            (OSError(28, "No space left on device", "x"), 1, "'x': No space left"),
            (PermissionError(13, "Permission denied", "x"), 2, "'x': Permission denied"),
        ],
    )
    def test_limits_of_the_machine(self, error: Exception, code: int, words: str) -> None:
        line, found = failures.unforeseen(error)
        assert found == code
        assert words in line

    def test_one_that_nobody_foresaw_has_a_code_and_a_traceback_of_its_own(
        self, out: Path, selfloop: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(Run, "open", lambda path: {}["gone"])
        code, said, err = selfloop("report", out)
        assert (code, said) == (70, "")
        assert len(err.splitlines()) == 1
        kept = Path(err.rpartition(" ")[2].strip())
        assert kept.parent == tmp_path
        assert "KeyError: 'gone'" in kept.read_text()


def test_a_worker_knows_its_parent_before_it_imports_much() -> None:
    code = "import sys, selfloop.engines.worker; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are Unix's")
@pytest.mark.parametrize(
    "name",
    ["experiment.yaml", "environment.json", "real.safetensors", "metrics.jsonl", "generation-0002/manifest.json"],
)
def test_a_pipe_in_the_place_of_a_file_is_damage_and_nobody_waits(name: str, out: Path) -> None:
    (out / name).unlink()
    os.mkfifo(out / name)
    with pytest.raises(RunError, match=r"is no file|is none") as error:
        Run.open(out).verify()
    assert name in str(error.value)


def test_pipes_for_samples_and_the_report(out: Path) -> None:
    for name in ("generation-0002/samples-000.safetensors", "report/index.html"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).unlink(missing_ok=True)
        os.mkfifo(out / name)
    assert ["is no file" in line for line in Run.open(out).damage(contents=False)] == [True]
    shown(Run.open(out))


def test_a_name_that_is_no_text_is_refused_and_is_no_damage(out: Path) -> None:
    odd = out.rename(out.with_name(os.fsdecode(b"od\xff")))
    for refuses in (lambda: Run.open(odd), lambda: next(run(tiny(generations=3, **GAUSSIAN), odd))):
        with pytest.raises(RunError, match="must be UTF-8 text"):
            refuses()


def test_a_file_that_is_damaged_is_said_once(out: Path) -> None:
    (out / "generation-0002/manifest.json").write_text("{}", encoding="utf-8")
    (line,) = Run.open(out).damage()
    assert "generation-0002/manifest.json" in line


@pytest.mark.slow
def test_damage_of_every_file_in_every_way_is_named(finished: Path, tmp_path: Path) -> None:
    out, other = Path(shutil.copytree(finished, tmp_path / "run")), tmp_path / "other"
    list(run(tiny(generations=3, **GAUSSIAN | {"seeds": [7, 8]}), other))
    tried = list(damaged(out, other, seed=0))
    assert {way for way, _, _ in tried} >= {
        "truncated",
        "bit flipped",
        "zeroed",
        "of another run",
        "gone",
        "whole again",
    }
    assert len(tried) > 80
    assert [each for each in tried if each[2]] == []


def test_heads_of_two_runs_are_told_apart(finished: Path, out: Path, tmp_path: Path) -> None:
    # Their settings differ in nothing but what a run may grow by, so that each would do for the other.
    list(run(tiny(generations=3, **GAUSSIAN | {"seeds": [7, 8]}), tmp_path / "other"))
    for name in ("experiment.yaml", "environment.json"):
        shutil.copy(tmp_path / "other" / name, out / name)
        with pytest.raises(RunError, match=r"experiment\.yaml' or '.*environment\.json' is another run's"):
            Run.open(out)
        shutil.copy(finished / name, out / name)
    Run.open(out).verify()


@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
def test_a_disk_that_fails_at_some_change_is_said_in_a_line_and_loses_nothing(
    error: int, nest: Nursery, tmp_path: Path
) -> None:
    experiment = tiny(generations=2, **GAUSSIAN)
    assert ended(nest.run(experiment, tmp_path / "whole"))
    failed = 0
    for at in range(0, 1000, 9):
        (own := tmp_path / str(at)).mkdir()
        outcome = nest.run(experiment, own / "run", faults={"root": str(own), "at": at, "error": error})
        if outcome["code"] == 0:
            break
        failed += 1
        assert outcome["code"] == 2, outcome
        assert "\n" not in outcome["message"]
        assert ended(nest.run(experiment, own / "run"))
        assert snapshot(own / "run") == snapshot(tmp_path / "whole")
    assert failed > 3
