"""The run directory: damage is reported by name, other people's runs are left alone, a full disk is survived."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from helpers import small, snapshot, tiny, tree

from selfloop import Experiment, Run, RunError, StorageFull, run
from selfloop.core.errors import ConfigError
from selfloop.core.files import load_tensors, read_sealed, write_bytes, write_sealed
from selfloop.engines.device import Checkpoint
from selfloop.engines.team import Team


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, 3 generations in two stacks, its metrics and weights complete."""
    out = tmp_path_factory.mktemp("store") / "run"
    assert [g.t for g in run(tiny(generations=3), out)] == [0, 1, 2, 3]
    return out


def files(out: Path) -> list[str]:
    return [
        str(p.relative_to(out)) for p in sorted(out.rglob("*")) if p.is_file() and p.name not in ("lock", "log.txt")
    ]


def one_line(error: pytest.ExceptionInfo[RunError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def refused(out: Path) -> str:
    """Return the line with which both reading and resuming refuse a damaged run."""
    with pytest.raises(RunError) as read:
        Run.open(out).verify()
    before = tree(out)
    with pytest.raises(RunError):
        _resume(out)
    assert tree(out).keys() == before.keys()
    return one_line(read)


def mended(out: Path, finished: Path) -> str:
    """Return the line with which a damaged metrics.jsonl is refused, which the same command then writes again."""
    with pytest.raises(RunError) as read:
        Run.open(out).verify()
    assert Run.open(out).records() == Run.open(finished).records()
    _resume(out)
    assert snapshot(out) == snapshot(finished)
    return one_line(read)


def _resume(out: Path) -> None:
    """Do what the same command again does, and then read all of it, as a report might."""
    list(run(tiny(generations=3), out))
    Run.open(out).verify()


class TestDamage:
    """Every file of a run, truncated, changed and removed."""

    def damaged(self, finished: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
        for name in files(finished):
            out = tmp_path / name.replace("/", "-")
            shutil.copytree(finished, out)
            yield name, out
            shutil.rmtree(out)

    @pytest.mark.slow
    def test_missing(self, finished: Path, tmp_path: Path) -> None:
        for name, out in self.damaged(finished, tmp_path):
            (out / name).unlink()
            if name == "experiment.yaml":
                with pytest.raises(RunError, match=r"no experiment\.yaml"):
                    Run.open(out)
                continue
            said = mended(out, finished) if name == "metrics.jsonl" else refused(out)
            assert f"{Path(name).name}'" in said, name

    @pytest.mark.slow
    def test_truncated(self, finished: Path, tmp_path: Path) -> None:
        for name, out in self.damaged(finished, tmp_path):
            content = (out / name).read_bytes()
            (out / name).write_bytes(content[: len(content) // 2])
            if name == "metrics.jsonl":  # a part of the truth: a run killed between commit and append leaves that
                assert len(Run.open(out).records()) == 16
                Run.open(out).verify()
                list(run(tiny(generations=3), out))
                assert (out / name).read_bytes() == content
                continue
            assert f"{Path(name).name}'" in refused(out), name

    @pytest.mark.slow
    def test_bit_flipped(self, finished: Path, tmp_path: Path) -> None:
        rng = random.Random(7)
        for name, out in self.damaged(finished, tmp_path):
            content = (out / name).read_bytes()
            places = [0, len(content) - 1, *(rng.randrange(len(content)) for _ in range(3))]
            for place in places:
                flipped = bytearray(content)
                flipped[place] ^= 1 << rng.randrange(7)
                (out / name).write_bytes(flipped)
                said = mended(out, finished) if name == "metrics.jsonl" else refused(out)
                assert f"{Path(name).name}'" in said, (name, place)

    def test_the_line_from_which_metrics_jsonl_is_wrong_is_named(self, finished: Path, tmp_path: Path) -> None:
        shutil.copytree(finished, tmp_path / "run")
        file = tmp_path / "run/metrics.jsonl"
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join([*lines[:2], "garbage\n", *lines[3:]]))
        said = mended(tmp_path / "run", finished)
        assert "metrics.jsonl' is damaged: from line 3 on it contradicts the manifests, which all commands read" in said

    def test_a_generation_removed_from_the_middle(self, finished: Path, tmp_path: Path) -> None:
        shutil.copytree(finished, tmp_path / "run")
        shutil.rmtree(tmp_path / "run/generation-0001")
        assert "generation-0001" in refused(tmp_path / "run")

    def test_a_manifest_of_another_generation(self, finished: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        shutil.copytree(finished, out)
        shutil.copy(out / "generation-0002/manifest.json", out / "generation-0003/manifest.json")
        assert "belongs to another generation" in refused(out)

    def test_the_last_generation_can_be_redone_as_the_message_says(self, finished: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        shutil.copytree(finished, out)
        state = out / "generation-0003/state-000.safetensors"
        state.write_bytes(state.read_bytes()[:-1])
        with pytest.raises(RunError, match=r"of a last generation, move .*generation-0003' elsewhere and run again$"):
            Run.open(out).verify()
        (out / "generation-0003").rename(tmp_path / "damaged")
        assert [g.t for g in run(tiny(generations=3), out)] == [3]
        assert snapshot(out) == snapshot(finished)


class TestRefusals:
    def untouched(self, out: Path, experiment: Experiment, words: str) -> None:
        before = tree(out) if out.is_dir() else out.read_bytes()
        with pytest.raises(RunError, match=words) as error:
            list(run(experiment, out))
        one_line(error)
        assert (tree(out) if out.is_dir() else out.read_bytes()) == before

    def test_another_experiment(self, finished: Path) -> None:
        other = tiny(generations=3, budget={"steps": 3})
        self.untouched(finished, other, r"another experiment: there budget\.steps is 2, here 3; use another --out$")

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        self.untouched(tmp_path / "file", tiny(), "is a file")

    def test_a_directory_with_something_else_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("mine")
        self.untouched(tmp_path, tiny(), "not empty")

    def test_other_data(self, tmp_path: Path) -> None:
        table = tmp_path / "table.csv"
        rows = np.random.default_rng(0).normal(size=(40, 2)).tolist()
        text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in rows)
        table.write_text(text)
        plan = tiny(data={"name": "table", "path": str(table)}, generations=1)
        assert next(run(plan, tmp_path / "run")).t == 0
        table.write_text(text.replace(f"{rows[3][0]}", "0.125"))
        self.untouched(tmp_path / "run", plan, "other data")

    def test_a_locked_one_until_its_holder_is_gone(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        first = iter(run(tiny(), out))
        next(first)
        code = f"import filelock; filelock.FileLock({str(out / 'lock')!r}).acquire(timeout=0)"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert "Timeout" in other.stderr
        first.close()
        with filelock.FileLock(out / "lock"):
            self.untouched(out, tiny(), "in use by another process")
        assert [g.t for g in run(tiny(), out)] == [1, 2]


class TestPromises:
    def test_a_finished_run_yields_nothing_and_changes_nothing(self, finished: Path) -> None:
        before = snapshot(finished)
        assert list(run(tiny(generations=3), finished)) == []
        assert snapshot(finished) == before

    def test_a_directory_used_anew_holds_only_the_new_run(self, tmp_path: Path) -> None:
        for seeds in ([1, 2], [3, 4]):
            list(run(tiny(seeds=seeds), tmp_path / "same"))
            list(run(tiny(seeds=seeds), tmp_path / str(seeds)))
            assert snapshot(tmp_path / "same") == snapshot(tmp_path / str(seeds))
            shutil.rmtree(tmp_path / "same")

    def test_weights_kept(self, finished: Path, tmp_path: Path) -> None:
        list(run(tiny(generations=4, keep_states="all"), tmp_path / "all"))
        list(run(tiny(generations=4), tmp_path / "last"))

        def kept(name: str) -> list[int]:
            return sorted(int(p.parent.name[11:]) for p in (tmp_path / name).glob("generation-*/state-000.safetensors"))

        assert kept("all") == [0, 1, 2, 3, 4]
        assert kept("last") == [0, 3, 4]
        with pytest.raises(RunError, match=r"not kept.*keep_states"):
            Run.open(tmp_path / "last").state(1, 0)
        Run.open(tmp_path / "last").verify()

    @pytest.mark.usefixtures("shared_workers")
    def test_workers_do_not_change_a_bit(self, tmp_path: Path) -> None:
        plan = small(budget={"steps": 3})
        for workers in (0, 2):
            list(run(plan, tmp_path / str(workers), workers=workers))
        assert snapshot(tmp_path / "0") == snapshot(tmp_path / "2")

    @pytest.mark.slow
    def test_a_fit_that_is_killed_goes_on_where_it_was_saved(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Interrupted after every seventh save, the run takes few steps twice and ends with the same bytes."""
        undisturbed = tmp_path / "undisturbed"
        list(run(small(), undisturbed))
        out, saves, write = tmp_path / "run", 0, Checkpoint.write

        def dies(self: Checkpoint, tensors: dict[str, torch.Tensor]) -> None:
            nonlocal saves
            write(self, tensors)
            saves += 1
            if saves % 7 == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "write", dies)
        for _ in range(100):
            try:
                list(run(small(), out, save_every=0.0))
                break
            except KeyboardInterrupt:
                assert list(out.glob(".fit-*"))
        # In each of two stacks 5 fits, saved after each of 10 steps but the last, and none of them twice.
        assert saves == 90
        assert snapshot(out) == snapshot(undisturbed)

    def test_a_device_that_is_not_there(self) -> None:
        with pytest.raises(ConfigError, match="torch knows no device 'nowhere'"):
            Team.start("nowhere", 1)

    def test_the_callers_settings_and_random_state_are_left_alone(self, tmp_path: Path) -> None:
        def state() -> list[object]:
            words = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), Path.cwd())
            return [*words, torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()]  # noqa: NPY002

        before = state()
        for _ in run(tiny(), tmp_path / "run"):
            assert state() == before
        assert state() == before

    def test_nothing_on_disk_can_execute_code(self, finished: Path) -> None:
        for name in files(finished):
            content = (finished / name).read_bytes()
            if name.endswith(".safetensors"):
                assert isinstance(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]), dict)
            elif name.endswith((".json", ".jsonl")):
                for line in [content] if name.endswith(".json") else content.splitlines():
                    json.loads(line)
            else:
                assert name == "experiment.yaml"
                assert b"!!" not in content

    def test_records_are_what_metrics_jsonl_says(self, finished: Path) -> None:
        lines = (finished / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == Run.open(finished).records()
        assert len(lines) == 16

    def test_sealed_json(self, tmp_path: Path) -> None:
        write_sealed(tmp_path / "x.json", {"a": [1, "λ"], "b": None})
        assert read_sealed(tmp_path / "x.json") == {"a": [1, "λ"], "b": None}

    def test_a_failed_write_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_bytes(tmp_path / "x", b"old")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_bytes(tmp_path / "x", b"new")
        assert (tmp_path / "x").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["x"]


COUNT = """
import json, sys
from collections import Counter
from helpers import small
from selfloop import run

seen = Counter()
sys.addaudithook(lambda event, _: seen.update([event]) if event.startswith("os.") or event == "open" else None)
found = []
plan = small(generator={"name": "gaussian"}, budget=None, generations=40, metrics=["mean_error"])
for generation in run(plan, sys.argv[1]):
    found.append(dict(seen))
    seen.clear()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_what_a_generation_costs_does_not_grow_with_its_number(tmp_path: Path) -> None:
    """As many files are opened, written, renamed and removed at the end, and no directory is listed."""
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found[5] == found[39]
    assert not {"os.listdir", "os.scandir"} & found[39].keys()
    assert found[39]["os.rename"] < 10


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the checksum of each file of samples was computed."""
    seen = Counter[str]()

    def load(path: Path, note: dict[str, Any]) -> dict[str, Any]:
        if path.name.startswith("samples"):
            seen[path.parent.name] += 1
        return load_tensors(path, note)

    monkeypatch.setattr("selfloop.store.run.load_tensors", load)
    return seen


def backward(generations: int) -> Experiment:
    return tiny(generator={"name": "gaussian"}, budget=None, grid={}, mixing="accumulate", generations=generations)


def test_a_regime_that_looks_back_has_every_file_checked_once(tmp_path: Path, looked_at: Counter[str]) -> None:
    for t, generation in zip(range(4), run(backward(6), tmp_path / "run"), strict=False):
        assert generation.t == t
    assert looked_at == {f"generation-{t:04d}": 1 for t in range(3)}
    looked_at.clear()
    list(run(backward(6), tmp_path / "run"))
    # Another call trusts nothing: it begins with a look at all there is, and the loop has its own.
    assert looked_at == {f"generation-{t:04d}": 2 if t < 4 else 1 for t in range(6)}
    looked_at.clear()
    Run.open(tmp_path / "run").verify()
    assert looked_at == {f"generation-{t:04d}": 1 for t in range(7)}


@pytest.mark.parametrize("what", ["samples-000.safetensors", "manifest.json"])
def test_what_changes_after_it_was_checked_is_checked_again(tmp_path: Path, looked_at: Counter[str], what: str) -> None:
    path = tmp_path / "run/generation-0000" / what
    generations = run(backward(6), tmp_path / "run")
    for _ in range(3):
        next(generations)
    content = path.read_bytes()
    path.write_bytes(content)  # written anew, and the same
    for _ in range(2):
        next(generations)
    assert looked_at["generation-0000"] == 2
    at = path.stat()
    path.write_bytes(content[:-9] + b"\xff" + content[-8:])
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))  # as some tools that copy do
    with pytest.raises(RunError, match=r"generation-0000.*is damaged"):
        next(generations)
    assert looked_at["generation-0001"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_ends_the_run_and_it_resumes_when_there_is_space(
    little_disk: Path, tmp_path: Path, workers: int
) -> None:
    plan = small(budget={"steps": 3})
    list(run(plan, tmp_path / "whole"))
    ballast = little_disk / "ballast"
    ballast.write_bytes(bytes(420_000))
    done: list[int] = []
    with pytest.raises(StorageFull, match=r"no space left.*run the same command again") as error:
        done.extend(generation.t for generation in run(plan, little_disk / "run", workers=workers))
    assert "\n" not in str(error.value)
    assert len(done) < 5
    ballast.unlink()
    assert [g.t for g in run(plan, little_disk / "run", workers=workers)] == list(range(len(done), 5))
    assert snapshot(little_disk / "run") == snapshot(tmp_path / "whole")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folders")
def test_a_directory_that_cannot_be_made_is_not_said_to_be_gone() -> None:
    with pytest.raises(
        RunError, match=r"^'/proc/no-run' cannot be created \(No such file or directory\): choose another"
    ):
        list(run(tiny(generations=1), "/proc/no-run"))
