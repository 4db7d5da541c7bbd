"""A run grows by generations, seeds, values of the grid and metrics, and what was there keeps its bits.

A run that grew by generations or metrics is compared with one of the whole experiment at once file by file, but for
``lock``, ``log.txt`` and the report. One that grew by arms stores them in stacks of its own; it is compared arm by arm:
samples, weights and records.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Nursery, ended, snapshot, tiny, tree

from selfloop import Experiment, Run, RunError, run
from selfloop.analysis import curves
from selfloop.analysis.stability import stability
from selfloop.engines.device import Checkpoint
from selfloop.metrics import METRICS
from selfloop.report import write_report
from selfloop.store import Writer


def gaussian(**settings: Any) -> Experiment:
    """Return the Gaussian on 12 rows, 2 λ, 3 generations: 0.1 s."""
    plain = {
        "name": "grows",
        "data": {"name": "gaussian", "n": 12, "held_out": 6},
        "generator": {"name": "gaussian"},
        "generations": 3,
        "grid": {"mixing.lam": [0.5, math.inf]},
        "metrics": ["mean_error"],
    }
    return Experiment.build(plain | settings)


MAKERS = {"otcfm": tiny, "gaussian": gaussian}


def made(experiment: Experiment, out: Path, workers: int = 0) -> dict[str, bytes]:
    """Run an experiment and return its files."""
    list(run(experiment, out, workers=workers))
    Run.open(out).verify()
    return snapshot(out)


def of_arms(out: Path) -> dict[str, Any]:
    """Return all there is of each arm, by its key: samples, weights that were kept and records."""
    opened = Run.open(out)
    records = opened.records()
    found: dict[str, Any] = {}
    for arm in opened.arms:
        stack, row = opened.row(arm.index)
        mine: dict[str, Any] = {}
        for t in range(opened.last + 1):
            mine[f"samples {t}"] = opened.samples(t, arm.index).numpy().tobytes()
            if opened.keeps_state(t):
                mine[f"state {t}"] = {k: v[row].numpy().tobytes() for k, v in opened.state(t, stack).items()}
        mine["records"] = [
            {k: v for k, v in record.items() if k != "arm"} for record in records if record["arm"] == arm.index
        ]
        mine["real"] = opened.real(arm.index).mean.tolist()
        found[arm.key] = mine
    return found


def stored(out: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of the tensors of every generation."""
    paths = sorted(out.glob("generation-*/*.safetensors"))
    return {str(path.relative_to(out)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


class TestGenerations:
    @pytest.mark.slow
    @pytest.mark.parametrize("keep", ["last", "all"])
    @pytest.mark.parametrize("maker", MAKERS)
    def test_ten_later_are_ten_at_once(self, tmp_path: Path, maker: str, keep: str) -> None:
        experiments = [MAKERS[maker](generations=t, keep_states=keep) for t in (5, 10)]
        expected = made(experiments[1], tmp_path / "at once")
        made(experiments[0], tmp_path / "run")
        before = stored(tmp_path / "run")
        grown = [generation.t for generation in run(experiments[1], tmp_path / "run")]
        assert grown == [6, 7, 8, 9, 10]
        assert snapshot(tmp_path / "run") == expected
        after = stored(tmp_path / "run")
        kept = [name for name in before if keep == "all" or name in after]
        assert {name: before[name] for name in kept} == {name: after[name] for name in kept}

    @pytest.mark.slow
    @pytest.mark.usefixtures("shared_workers")
    @pytest.mark.parametrize("maker", MAKERS)
    def test_with_workers_and_killed_in_the_middle(self, nest: Nursery, tmp_path: Path, maker: str) -> None:
        short, long = (MAKERS[maker](generations=t) for t in (2, 5))
        expected = made(long, tmp_path / "at once")
        made(short, tmp_path / "workers", workers=2)
        assert made(long, tmp_path / "workers", workers=2) == expected
        made(short, tmp_path / "killed")
        points = len(
            nest.run(long, shutil.copytree(tmp_path / "killed", tmp_path / "counted"), crash_at=None)["message"].split()
        )
        for n in (3, points // 3, points // 2, points - 4):
            out = shutil.copytree(tmp_path / "killed", tmp_path / f"killed-{n}")
            assert nest.run(long, out, crash_at=n)["code"] == 9
            assert ended(nest.run(long, out))
            assert snapshot(out) == expected, n

    def test_fewer_are_refused(self, tmp_path: Path) -> None:
        made(gaussian(), tmp_path / "run")
        words = "has 3 retrainings already, more than generations 2: a run only grows; use another --out$"
        refused(tmp_path / "run", gaussian(generations=2), words)

    def test_a_plan_may_shrink_to_what_is_there(self, tmp_path: Path) -> None:
        going = run(gaussian(), tmp_path / "run")
        assert [next(going).t for _ in range(3)] == [0, 1, 2]
        going.close()
        assert list(run(gaussian(generations=2), tmp_path / "run")) == []
        assert Run.open(tmp_path / "run").finished
        assert snapshot(tmp_path / "run") == made(gaussian(generations=2), tmp_path / "at once")


def dying(patch: pytest.MonkeyPatch) -> list[str]:
    """Let every fit be interrupted when it has been saved; return what then grows with every one."""
    write, saves = Checkpoint.write, []

    def dies(self: Checkpoint, tensors: dict[str, torch.Tensor]) -> None:
        write(self, tensors)
        saves.append("saved")
        raise KeyboardInterrupt

    patch.setattr(Checkpoint, "write", dies)
    return saves


def refused(out: Path, experiment: Experiment, words: str) -> None:
    """Check that an experiment is refused in one line and nothing is touched."""
    before = tree(out)
    with pytest.raises(RunError, match=words) as error:
        list(run(experiment, out))
    assert "\n" not in str(error.value)
    assert tree(out) == before


ARMS = {
    "a seed": {"seeds": 3},
    "a value that comes first": {"grid": {"mixing.lam": [0, 0.5, math.inf]}},
    "a seed before the others, and a value": {"seeds": [7, 0, 1], "grid": {"mixing.lam": [0.5, 2, math.inf]}},
    "seeds and generations": {"seeds": 3, "generations": 5},
    "seeds, generations and a metric": {"seeds": 3, "generations": 4, "metrics": ["mean_error", "w2_held_out"]},
    "other data": {"seeds": 2, "grid": {"mixing.lam": [0.5, math.inf], "data.n": [12, 16]}},
}


class TestArms:
    def start(self, maker: str, more: dict[str, Any]) -> Experiment:
        """Return what the run is of before it grows."""
        grid = {key: [0.5, math.inf] if key == "mixing.lam" else [12] for key in more.get("grid", {"mixing.lam": 0})}
        data = MAKERS[maker]().data.model_dump() | {"n": 12}
        return MAKERS[maker](seeds=2, grid=grid, data=data, generations=3, metrics=["mean_error"])

    @pytest.mark.slow
    @pytest.mark.parametrize("more", ARMS)
    @pytest.mark.parametrize("maker", MAKERS)
    def test_that_join_are_as_if_they_had_been_there(self, tmp_path: Path, maker: str, more: str) -> None:
        out, before = tmp_path / "run", self.start(maker, ARMS[more])
        after = Experiment.build(before.model_dump() | ARMS[more])
        made(before, out)
        old = stored(out)
        last = [generation.t for generation in run(after, out)]
        assert last == list(range(after.generations + 1))
        Run.open(out).verify()
        made(after, tmp_path / "at once")
        assert of_arms(out) == of_arms(tmp_path / "at once")
        assert [record["arm"] for record in Run.open(out).of_generation(1)] == list(range(len(Run.open(out).arms)))
        now = stored(out)
        assert all(now[name] == held for name, held in old.items() if name in now)
        gone = {name.split("/")[0] for name in old.keys() - now.keys()}
        assert gone <= {f"generation-{t:04d}" for t in range(1, after.generations - 1)}
        assert list(run(after, out)) == []

    def test_with_every_state_kept(self, tmp_path: Path) -> None:
        for name, seeds in (("run", 1), ("run", 2), ("run", 3), ("at once", 3)):
            made(gaussian(seeds=seeds, keep_states="all"), tmp_path / name)
        assert of_arms(tmp_path / "run") == of_arms(tmp_path / "at once")

    def test_twice_before_the_first_have_caught_up(self, tmp_path: Path) -> None:
        made(tiny(), tmp_path / "run")
        going = run(tiny(seeds=3), tmp_path / "run")
        assert next(going).t == 0
        going.close()
        made(tiny(seeds=4), tmp_path / "run")
        made(tiny(seeds=4), tmp_path / "at once")
        assert of_arms(tmp_path / "run") == of_arms(tmp_path / "at once")

    def test_twice_with_a_fit_under_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was saved of it is of no use: its arm may come to be in another stack."""
        made(tiny(), tmp_path / "run")
        with monkeypatch.context() as patch:
            saves = dying(patch)
            with pytest.raises(KeyboardInterrupt):
                list(run(tiny(seeds=3), tmp_path / "run", save_every=0.0))
        assert saves == ["saved"]
        made(tiny(seeds=4), tmp_path / "run")
        made(tiny(seeds=4), tmp_path / "at once")
        assert of_arms(tmp_path / "run") == of_arms(tmp_path / "at once")

    @pytest.mark.slow
    @pytest.mark.usefixtures("shared_workers")
    def test_with_workers(self, tmp_path: Path) -> None:
        for workers in (0, 2):
            made(tiny(), tmp_path / f"{workers}", workers=workers)
            made(tiny(seeds=4), tmp_path / f"{workers}", workers=workers)
        assert snapshot(tmp_path / "0") == snapshot(tmp_path / "2")

    def test_in_another_order_are_the_same(self, tmp_path: Path) -> None:
        made(gaussian(), tmp_path / "run")
        turned = gaussian(grid={"mixing.lam": [math.inf, 0.5]})
        assert list(run(turned, tmp_path / "run")) == []
        made(turned, tmp_path / "at once")
        assert Run.open(tmp_path / "run").records() == Run.open(tmp_path / "at once").records()
        Run.open(tmp_path / "run").verify()

    @pytest.mark.parametrize(
        ("fewer", "words"),
        [
            ({"seeds": 1}, r": a run only grows; seeds: 2 there, 1 asked: ask for these and more, or use"),
            (
                {"seeds": 2, "grid": {"mixing.lam": [math.inf]}},
                r"has an arm mixing\.lam = 0\.5, seed = 0, here is none: ",
            ),
            (
                {"seeds": 2, "data": {"name": "gaussian", "n": 13}},
                r"holds another experiment: there data\.n is 12, here 13; use another --out$",
            ),
        ],
    )
    def test_fewer_or_others_are_refused(self, tmp_path: Path, fewer: dict[str, Any], words: str) -> None:
        made(gaussian(seeds=2), tmp_path / "run")
        refused(tmp_path / "run", gaussian(**fewer), words)


def every_crash(nest: Nursery, start: Path, experiment: Experiment, folder: Path, torn: bool = False) -> None:
    """Kill the growth of a run at every change that it makes to the directory; resumed, all end alike."""
    whole = shutil.copytree(start, folder / "whole")
    points = nest.run(experiment, whole, crash_at=None, torn=torn)["message"].split()
    assert len(points) >= (8 if torn else 20), points
    for n, what in enumerate(points):
        out = shutil.copytree(start, folder / f"run-{n}")
        assert nest.run(experiment, out, crash_at=n, torn=torn)["code"] == 9
        Run.open(out).verify()
        assert ended(nest.run(experiment, out)), (n, what)
        Run.open(out).verify()
        assert snapshot(out) == snapshot(whole), f"point {n}, {what}"
        shutil.rmtree(out)


GROWTHS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "generations": ({"generations": 1}, {"generations": 3}),
    "seeds": ({"generations": 1}, {"generations": 1, "seeds": 2}),
    "a value of the grid": ({"generations": 1, "grid": {"mixing.lam": [0.5]}}, {"generations": 1}),
}
"""What a run is of before it grows, and after."""


@pytest.mark.slow
class TestKilled:
    @pytest.mark.parametrize("torn", [False, True], ids=["before each change", "half way through each write"])
    def test_while_arms_catch_up(self, nest: Nursery, tmp_path: Path, torn: bool) -> None:
        made(gaussian(generations=2), tmp_path / "start")
        every_crash(nest, tmp_path / "start", gaussian(generations=2, seeds=2), tmp_path, torn)

    @pytest.mark.parametrize("torn", [False, True], ids=["before each change", "half way through each write"])
    def test_while_metrics_are_added(self, nest: Nursery, tmp_path: Path, torn: bool) -> None:
        made(gaussian(generations=2), tmp_path / "start")
        more = gaussian(generations=2, metrics=["w2_held_out", "mean_error"])
        every_crash(nest, tmp_path / "start", more, tmp_path, torn)
        assert snapshot(tmp_path / "whole") == made(more, tmp_path / "at once")

    @pytest.mark.parametrize("more", GROWTHS)
    def test_elsewhere_before_every_change_to_the_store(
        self, nest: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
    ) -> None:
        monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "a reader's"))
        few, many = gaussian(**GROWTHS[more][0]), gaussian(**GROWTHS[more][1])
        made(few, tmp_path / "local")
        expected = made(many, tmp_path / "local")
        caches = [{"SELFLOOP_CACHE": str(tmp_path / name)} for name in ("cache", "another")]
        assert ended(nest.run(few, f"file://{tmp_path}/start", environment=caches[0]))
        job: dict[str, Any] = {"lease": 0.01, "environment": caches[0]}
        counted = shutil.copytree(tmp_path / "start", tmp_path / "counted")
        points = nest.run(many, f"file://{counted}", die_at=None, **job)["message"].splitlines()
        assert snapshot(counted) == expected
        for n, what in enumerate(points):
            out = shutil.copytree(tmp_path / "start", tmp_path / f"store-{n}")
            assert nest.run(many, f"file://{out}", die_at=n, **job)["code"] == 9
            Run.open(f"file://{out}").verify()  # what is in the store is a run at any time
            outcome = nest.run(many, f"file://{out}", die_at=None, lease=0.01, environment=caches[n % 2])
            assert ended(outcome), (n, what, outcome)
            assert snapshot(out) == expected, f"point {n}, {what}"
            assert not (out / "lock").exists()

    def test_just_before_it_grows(self, nest: Nursery, tmp_path: Path) -> None:
        """What the kill left undone is made good, although the run is now of more arms."""
        few, many = (gaussian(generations=3, seeds=seeds) for seeds in (2, 3))
        points = nest.run(few, tmp_path / "counted", crash_at=None)["message"].split()
        committed = [n for n, what in enumerate(points) if what == "os.rename"][-1] + 1
        made(few, tmp_path / "whole")
        made(many, tmp_path / "whole")
        for n in range(committed, len(points)):
            out = tmp_path / f"run-{n}"
            assert nest.run(few, out, crash_at=n)["code"] == 9
            assert (out / "generation-0003").is_dir()
            assert ended(nest.run(many, out))
            assert snapshot(out) == snapshot(tmp_path / "whole"), n


class TestMetrics:
    @pytest.mark.slow
    @pytest.mark.parametrize("maker", MAKERS)
    def test_that_join_are_as_if_they_had_been_there(self, tmp_path: Path, maker: str) -> None:
        names = ["mean_error", "w2_held_out", "frechet_held_out", "precision_train"]
        some, all_ = (MAKERS[maker](metrics=chosen, generations=3) for chosen in (names[:1], names))
        made(some, tmp_path / "run")
        before = stored(tmp_path / "run")
        assert list(run(all_, tmp_path / "run")) == []
        assert stored(tmp_path / "run") == before
        assert snapshot(tmp_path / "run") == made(all_, tmp_path / "at once")
        first = Run.open(tmp_path / "run").records()[0]
        assert first["reference"].keys() == {name for name in names if METRICS[name].floor}

    def test_that_look_at_weights_need_them(self, tmp_path: Path) -> None:
        names = ["mean_error", "parameter_distance"]
        made(gaussian(generations=4, metrics=names[:1]), tmp_path / "last")
        words = "cannot add metric parameter_distance: it looks at weights, of which generations 1 to 2 were not kept"
        refused(tmp_path / "last", gaussian(generations=4, metrics=names), words)
        made(gaussian(metrics=names[:1], keep_states="all"), tmp_path / "all")
        whole = gaussian(metrics=names, keep_states="all")
        assert made(whole, tmp_path / "all") == made(whole, tmp_path / "at once")

    def test_fewer_are_refused(self, tmp_path: Path) -> None:
        made(gaussian(metrics=["mean_error", "w2_held_out"]), tmp_path / "run")
        words = "records metric w2_held_out, here it is left out: a run only grows; use another --out$"
        refused(tmp_path / "run", gaussian(), words)

    def test_of_another_version_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made(gaussian(generations=1), tmp_path / "run")
        metric = METRICS["mean_error"]
        newer = dataclasses.replace(metric, version=metric.version + 1)
        monkeypatch.setitem(METRICS._members, "mean_error", newer)
        words = f"records metric mean_error in version {metric.version}, here it is version {newer.version}"
        refused(tmp_path / "run", gaussian(), words)


class TestWhatIsNotGrowth:
    def test_a_description_is_taken_over(self, tmp_path: Path) -> None:
        made(gaussian(), tmp_path / "run")
        said = gaussian(description="why", figures=[2])
        assert list(run(said, tmp_path / "run")) == []
        assert Run.open(tmp_path / "run").experiment.description == "why"
        assert snapshot(tmp_path / "run") == made(said, tmp_path / "at once")

    def test_a_run_that_has_committed_nothing_may_be_replaced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its saved fits, too, are of no use to another one, and go on where the experiment is the same."""
        out, saves = tmp_path / "run", dying(monkeypatch)
        for budget in ({"steps": 9}, {"steps": 9}, {"steps": 8}):
            with pytest.raises(KeyboardInterrupt):
                list(run(tiny(budget=budget), out, save_every=0.0))
            assert len(list(out.glob(".fit-*"))) == 1
        monkeypatch.undo()
        assert len(saves) == 3
        other = tiny(budget={"steps": 7})
        assert made(other, out) == made(other, tmp_path / "alone")

    def test_a_directory_used_anew_is_not_read_from_memory(self, tmp_path: Path) -> None:
        """The same settings and path, other rows and other stacks, in one process."""
        table = tmp_path / "rows.csv"
        for scale in (1, 3):
            rows = [f"{scale * math.sin(i)},{math.cos(i * i) ** scale}\n" for i in range(30)]
            table.write_text("a,b\n" + "".join(rows))
            plan = tiny(data={"name": "table", "path": str(table)}, generations=1)
            if scale == 1:
                made(tiny(data={"name": "table", "path": str(table)}, generations=1, seeds=1), tmp_path / "run")
                made(plan, tmp_path / "run")
                shutil.rmtree(tmp_path / "run")
        assert made(plan, tmp_path / "run") == made(plan, tmp_path / "fresh")


def seen(opened: Run) -> tuple[int, int, int]:
    """Read a run in all ways, and return how many generations, arms and metrics are seen."""
    found = curves.read(opened)
    frame = opened.to_frame()
    records = opened.records()
    names = {name for record in records for name in record["metrics"]}
    assert len(records) == (opened.last + 1) * len(opened.arms)
    assert len(frame) == len(records) * len(names)
    assert found.generations == opened.last + 1
    assert set(found.metrics) == names
    assert all(len(record["metrics"]) == len(names) for record in records)
    assert all(math.isfinite(value) for values in found.values.values() for value in values.flat)
    assert stability(opened).retrainings == max(opened.last, 0)
    page = write_report(opened).read_text(encoding="utf-8")
    assert ("Unfinished" in page) == (not opened.finished)
    Run.open(opened.path).verify()
    return opened.last + 1, len(opened.arms), len(names)


class TestReadersMeanwhile:
    @pytest.mark.slow
    def test_see_all_arms_or_the_old_ones(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        made(gaussian(), out)
        old, early = Run.open(out), Run.open(out)
        assert seen(early) == (4, 2, 1)
        more = gaussian(seeds=2, metrics=["mean_error", "w2_held_out"])
        views = []
        for _ in run(more, out):
            views.append(seen(Run.open(out)))
            for reader in (old, early):
                assert seen(reader) == (4, 2, 1)
                assert [len(reader.samples(3, arm.index)) for arm in reader.arms] == [12, 12]
        assert views == [(t, 4, 2) for t in (1, 2, 3, 4)]

    def test_see_no_generation_before_one_has_all_arms(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made(gaussian(), tmp_path / "run")

        def dies(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Writer, "begin", dies)
        with pytest.raises(KeyboardInterrupt):
            list(run(gaussian(seeds=2), tmp_path / "run"))
        opened = Run.open(tmp_path / "run")
        assert (opened.present, opened.last) == (4, -1)
        assert seen(opened) == (0, 4, 0)
        assert len(opened.samples(3, 0)) == 12
        with pytest.raises(RunError, match="has nothing of arm 1 yet"):
            opened.samples(0, 1)

    @pytest.mark.slow
    def test_see_a_metric_once_all_generations_have_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out, more = tmp_path / "run", gaussian(metrics=["mean_error", "w2_held_out"])
        made(gaussian(), out)
        old, amend, views = Run.open(out), Writer.amend, []

        def looks(self: Writer, *change: Any) -> None:
            amend(self, *change)
            views.append(seen(Run.open(out)))
            assert seen(old) == (4, 2, 1)

        monkeypatch.setattr(Writer, "amend", looks)
        list(run(more, out))
        assert views == [(4, 2, 1), (4, 2, 1), (4, 2, 1), (4, 2, 2)]


class TestNames:
    def test_what_is_only_called_like_a_generation_is_none(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        made(gaussian(), out)
        for name in ("generation-x", "generation-7", "generation-00002", "generation-²", "generation-0004.old"):
            (out / name).mkdir()
        assert Run.open(out).present == 4
        assert [generation.t for generation in run(gaussian(generations=4), out)] == [4]

    @pytest.mark.parametrize("t", [1, 4])
    def test_a_file_in_the_place_of_a_generation_is_refused(self, tmp_path: Path, t: int) -> None:
        out = tmp_path / "run"
        made(gaussian(), out)
        if t < 4:
            (out / f"generation-{t:04d}").rename(tmp_path / "elsewhere")
        (out / f"generation-{t:04d}").write_text("mine")
        with pytest.raises(RunError, match=f"generation-000{t}' is a file, where a generation belongs: move it"):
            _ = Run.open(out).last
        refused(out, gaussian(generations=5), "is a file, where a generation belongs")
