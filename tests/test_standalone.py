"""A run directory stands alone: it is read, reported and exported where its data have gone, changed or moved.

And a run that is refused leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import snapshot, tree

from selfloop import ConfigError, DataError, Experiment, Run, RunError, SelfloopError, run
from selfloop.analysis.sources import read_events
from selfloop.analysis.stability import stability
from selfloop.core.files import write_sealed
from selfloop.core.samples import Samples
from selfloop.data import Dataset
from selfloop.mixing import Regime
from selfloop.mixing.base import MIXINGS, Pool
from selfloop.report import read, write_report

YAML = """
name: people
data: {name: table, path: p.csv}
generator: {name: gaussian}
generations: 5
grid: {mixing.lam: [0, 1]}
seeds: 2
metrics: [w2_held_out, variance_ratio]
"""


def table(path: Path, shift: float = 0.0) -> None:
    """Write heights and weights of 60 people."""
    rows = np.random.default_rng(0).normal([170 + shift, 70], [10, 8], (60, 2))
    np.savetxt(path, rows, delimiter=",", header="height,weight", comments="")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table and an experiment on it, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "p.csv")
    (tmp_path / "p.yaml").write_text(YAML, encoding="utf-8")
    return tmp_path


def one_line(error: pytest.ExceptionInfo[SelfloopError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def shown(out: Path) -> dict[str, Any]:
    """Return what all readers say of a run."""
    opened = Run.open(out)
    opened.verify()
    report = write_report(opened).parent
    return {
        "records": opened.records(),
        "frame": opened.to_frame().to_csv(),
        "curves": {name: values.tolist() for name, values in read(opened).values.items()},
        "stability": str(stability(opened)),
        "samples": opened.real(0).events.restore(opened.samples(5, 0)).tolist(),
        "source": read_events(f"{out}@5/3").x.tolist(),
        "report": {path.name: path.read_bytes() for path in report.iterdir() if path.name != "index.html"},
        "page": "height from" in (report / "index.html").read_text(encoding="utf-8"),
    }


def gone(folder: Path) -> None:
    (folder / "p.csv").unlink()


def edited(folder: Path) -> None:
    table(folder / "p.csv", shift=100)


def replaced(folder: Path) -> None:
    (folder / "p.csv").write_bytes(b"\xff\x00 no table")


class TestTheDataChange:
    @pytest.mark.slow
    @pytest.mark.parametrize("change", [gone, edited, replaced])
    def test_a_finished_run_is_read_all_the_same_and_run_again_unless_its_data_are_others(
        self, here: Path, change: Any
    ) -> None:
        plan = Experiment.load("p.yaml")
        assert len(list(run(plan, "run"))) == 6
        before = shown(Path("run"))
        assert abs(np.mean(before["samples"], 0)[0] - 170) < 5
        change(here)
        assert shown(Path("run")) == before
        files = tree(Path("run"))
        for again in (Experiment.load("p.yaml"), plan):
            if change is gone:
                assert list(run(again, "run")) == []
            else:
                with pytest.raises(RunError if change is edited else DataError):
                    list(run(again, "run"))
        assert tree(Path("run")) == files

    @pytest.mark.slow
    def test_a_run_that_has_moved_is_read(self, here: Path) -> None:
        list(run(Experiment.load("p.yaml"), "run"))
        before = shown(Path("run"))
        os.rename("run", "elsewhere")
        os.remove("p.csv")
        assert shown(Path("elsewhere")) == before

    @pytest.mark.slow
    def test_nothing_is_read_but_the_run(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        list(run(Experiment.load("p.yaml"), "run"))
        for cls in {type(Run.open("run").arms[0].experiment.data), Dataset}:
            monkeypatch.setattr(cls, "load", lambda *_: pytest.fail("the data are read"))
        shown(Path("run"))

    def test_the_rows_themselves_are_refused_when_they_are_others(self, here: Path) -> None:
        list(run(Experiment.load("p.yaml"), "run"))
        assert Run.open("run").split(3).train.shape == (1, 48, 2)
        edited(here)
        for ask in (lambda: Run.open("run").split(3), lambda: read_events("run@train")):
            with pytest.raises(
                RunError, match="'run' was run on other data: the real rows have changed since"
            ) as error:
                ask()
            one_line(error)
        gone(here)
        with pytest.raises(DataError, match=r"p\.csv") as absent:
            Run.open("run").split(3)
        one_line(absent)

    @pytest.mark.parametrize(
        ("change", "kind", "words"),
        [
            (edited, RunError, "put them back, or use another --out$"),
            (gone, DataError, r"p\.csv"),
            (replaced, DataError, r"p\.csv"),
        ],
    )
    def test_an_unfinished_run_does_not_go_on(self, here: Path, change: Any, kind: type[Exception], words: str) -> None:
        assert next(run(Experiment.load("p.yaml"), "run")).t == 0
        before = tree(Path("run"))
        change(here)
        with pytest.raises(kind, match=words) as error:
            list(run(Experiment.load("p.yaml"), "run"))
        one_line(error)
        assert tree(Path("run")) == before

    def test_a_run_does_not_grow_on_other_rows(self, here: Path) -> None:
        plan = Experiment.load("p.yaml")
        list(run(plan, "run"))
        before = tree(Path("run"))
        edited(here)
        for more in ("generations=6", "seeds=3", "metrics=[w2_held_out, variance_ratio, mean_error]"):
            with pytest.raises(RunError, match="was run on other data"):
                list(run(plan.override(more), "run"))
        assert tree(Path("run")) == before


class TestPaths:
    def test_begin_at_the_experiments_file(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (here / "elsewhere").mkdir()
        monkeypatch.chdir(here / "elsewhere")
        assert next(run(Experiment.load("../p.yaml"), "../run")).t == 0
        monkeypatch.chdir(here)
        assert [generation.t for generation in run(Experiment.load("p.yaml"), "run")] == [1, 2, 3, 4, 5]
        monkeypatch.chdir("/")
        assert Run.open(here / "run").split(0).train.shape == (1, 48, 2)

    def test_a_file_that_has_moved_is_the_same_data(self, here: Path) -> None:
        list(run(Experiment.load("p.yaml"), "alone"))
        assert next(run(Experiment.load("p.yaml"), "run")).t == 0
        (here / "moved").mkdir()
        os.rename("p.csv", "moved/q.csv")
        plan = Experiment.load("p.yaml").override("data.path=moved/q.csv")
        assert [generation.t for generation in run(plan, "run")] == [1, 2, 3, 4, 5]
        expected, found = (snapshot(here / name) for name in ("alone", "run"))
        for name in ("experiment.yaml", "environment.json"):  # the path, and the digest of what has it
            assert found.pop(name) != expected.pop(name)
        assert found == expected
        assert Run.open("run").split(1).train.shape == (1, 48, 2)
        assert [generation.t for generation in run(plan.override("generations=6"), "run")] == [6]
        os.rename("moved/q.csv", "p.csv")
        assert list(run(Experiment.load("p.yaml").override("generations=6"), "run")) == []
        assert Run.open("run").split(1).train.shape == (1, 48, 2)

    def test_another_file_in_its_place_is_refused(self, here: Path) -> None:
        """Also where the rows are the same to the bit once they are standardised."""
        plan = Experiment.load("p.yaml")
        assert next(run(plan, "run")).t == 0
        table(here / "q.csv", shift=1)
        other = plan.override("data.path=q.csv").data.load([0])
        assert torch.equal(other.train, plan.data.load([0]).train)
        with pytest.raises(RunError, match="was run on other data"):
            list(run(Experiment.load("p.yaml").override("data.path=q.csv"), "run"))


class TestOtherDirectories:
    def test_a_run_of_format_1_says_so(self, here: Path) -> None:
        list(run(Experiment.load("p.yaml"), "run"))
        old = shutil.copytree("run", "old")
        head, _, settings = (Path("run") / "experiment.yaml").read_bytes().partition(b"\n")
        (Path(old) / "experiment.yaml").write_bytes(settings)
        write_sealed(Path(old) / "environment.json", {"python": "3.11.7", "machine": "x86_64"})
        before = tree(Path(old))
        for ask in (lambda: Run.open(old), lambda: list(run(Experiment.load("p.yaml"), old))):
            with pytest.raises(RunError, match=r"^'old' is a run of format 1, .* this one reads format 2") as error:
                ask()
            one_line(error)
        (Path(old) / "experiment.yaml").write_bytes(head.replace(b"format 2", b"format 3") + b"\n" + settings)
        with pytest.raises(RunError, match="'old' is a run of format 3, and this version reads format 2") as error:
            Run.open(old)
        one_line(error)
        assert {name: held for name, held in tree(Path(old)).items() if name != "experiment.yaml"} == {
            name: held for name, held in before.items() if name != "experiment.yaml"
        }

    def test_a_folder_with_an_experiment_in_it_is_no_run(self, here: Path) -> None:
        (here / "experiment.yaml").write_text(YAML, encoding="utf-8")
        before = tree(here)
        with pytest.raises(RunError, match=r"'experiment\.yaml' is not that of a run") as error:
            list(run(Experiment.load("experiment.yaml"), "."))
        one_line(error)
        assert tree(here) == before

    @pytest.mark.parametrize("out", ["x" * 300, "p.csv/run"])
    def test_a_directory_that_cannot_be(self, here: Path, out: str) -> None:
        with pytest.raises(RunError) as error:
            list(run(Experiment.load("p.yaml"), out))
        one_line(error)
        with pytest.raises(RunError, match="is not a run directory"):
            Run.open(out)


@pytest.fixture
def own_regimes() -> Iterator[None]:
    """Let what a test registers be forgotten."""
    before = dict(MIXINGS._members), dict(MIXINGS._origins)
    yield
    MIXINGS._members, MIXINGS._origins = before


class Greedy(Regime):
    """Asks generation 0 for more fresh rows than the data have."""

    name: str = "greedy"
    needs: ClassVar[frozenset[str]] = frozenset(("fresh",))

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return fresh rows."""
        return pool.fresh(10_000)


class TestRefused:
    MIXTURE = YAML.replace(
        "{name: gaussian}",
        "{name: estimator, estimator: GaussianMixture, arguments: {n_components: 50}}",
    )

    @pytest.mark.slow
    def test_a_refused_experiment_leaves_nothing(self, here: Path) -> None:
        plan = Experiment.parse(self.MIXTURE)
        before = tree(here)
        with pytest.raises(ConfigError, match=r"generator\.estimator GaussianMixture") as error:
            list(run(plan, "run"))
        one_line(error)
        assert tree(here) == before
        corrected = plan.override("generator.arguments={n_components: 2}")
        assert len(list(run(corrected, "run"))) == 6
        list(run(corrected, "alone"))
        assert snapshot(here / "run") == snapshot(here / "alone")

    @pytest.mark.parametrize(
        "error", [MemoryError("Allocation failed"), RuntimeError("can't allocate memory"), KeyError(3)]
    )
    def test_what_the_machine_cannot_do_in_generation_0_leaves_nothing(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fails(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr("selfloop.runner.advance", fails)
        before = tree(here)
        with pytest.raises(type(error)):
            list(run(Experiment.load("p.yaml"), "run"))
        assert tree(here) == before
        monkeypatch.undo()
        monkeypatch.chdir(here)
        assert next(run(Experiment.load("p.yaml"), "run")).t == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [0, 1])
    def test_in_a_directory_that_was_there(self, here: Path, workers: int) -> None:
        (here / "run").mkdir()
        with pytest.raises(ConfigError, match="GaussianMixture"):
            list(run(Experiment.parse(self.MIXTURE), "run", workers=workers))
        assert [path.name for path in (here / "run").iterdir() if path.name != "lock"] == []
        assert next(run(Experiment.load("p.yaml"), "run")).t == 0

    @pytest.mark.usefixtures("own_regimes")
    def test_rows_that_are_not_there_in_generation_0(self, here: Path) -> None:
        data = {"name": "table", "path": "p.csv", "fresh_rows": 5}
        plan = Experiment.build(
            {"name": "greedy", "data": data, "generator": "gaussian", "mixing": Greedy(), "generations": 1}
        )
        before = tree(here)
        with pytest.raises(DataError) as error:
            list(run(plan, "run"))
        one_line(error)
        assert tree(here) == before

    def test_later_generations_are_kept(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        going = run(Experiment.load("p.yaml"), "run")
        next(going)

        def refuses(*_: Any, **__: Any) -> None:
            raise ConfigError("no")

        monkeypatch.setattr("selfloop.runner.advance", refuses)
        with pytest.raises(ConfigError, match="no"):
            next(going)
        monkeypatch.undo()
        monkeypatch.chdir(here)
        assert [generation.t for generation in run(Experiment.load("p.yaml"), "run")] == [1, 2, 3, 4, 5]

    def test_a_saved_fit_outlives_what_is_no_fault_of_the_experiment(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def breaks(task: Any, twins: Any, stack: int) -> None:
            (Path(task.out) / ".fit-0000-000-000.safetensors").write_bytes(b"saved")
            raise RunError("worker processes were killed")

        monkeypatch.setattr("selfloop.runner._advance", breaks)
        with pytest.raises(RunError, match="were killed"):
            list(run(Experiment.load("p.yaml"), "run"))
        assert (here / "run" / ".fit-0000-000-000.safetensors").exists()
        assert Run.open("run").last == -1


def test_rows_in_memory_stay_where_they_are_kept(here: Path) -> None:
    """The run has the only copy: a refused experiment that came after does not take it along."""
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(40, 2)))
    settings = {"name": "held", "data": rows, "generator": "gaussian", "generations": 2}
    list(run(Experiment.build(settings), "run"))
    (kept,) = Path("run").glob("data-*.safetensors")
    before = kept.read_bytes()
    assert [generation.t for generation in run(Experiment.build(settings | {"generations": 3}), "run")] == [3]
    assert kept.read_bytes() == before
    Run.open("run").verify()
