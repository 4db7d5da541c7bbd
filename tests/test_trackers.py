"""Trackers for dashboards: what they wrote is read back by the dashboards' own readers."""

from __future__ import annotations

import json
import struct
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import snapshot, tiny

from selfloop import ConfigError, Experiment, Run, run
from selfloop.cli.main import main
from selfloop.report import write_report
from selfloop.trackers.base import TRACKERS
from selfloop.trackers.dashboard import NOTES, file_name, hyperparameters, name_of

ARMS = ["lam=0.5 seed=0", "lam=0.5 seed=1", "lam=∞ seed=0", "lam=∞ seed=1"]
FOLDERS = ["lam=0.5,seed=0", "lam=0.5,seed=1", "lam=inf,seed=0", "lam=inf,seed=1"]


def tracked(out: Path, tracker: dict[str, Any] | str, report: bool = False, **settings: Any) -> Run:
    """Run the tiny experiment with a tracker, write a report, if asked for, while the run is open, and close it."""
    going = run(tiny(trackers=[tracker], **settings), out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the dashboards' packages
        for generation in going:
            if report and generation.t == tiny(**settings).generations:
                write_report(Run.open(out))
    return Run.open(out)


def expected(of: Run, arm: int, metric: str) -> list[tuple[int, float]]:
    return [(r["generation"], r["metrics"][metric]) for r in of.records() if r["arm"] == arm]


def losses(of: Run, arm: int) -> list[tuple[int, float]]:
    """Return the losses of an arm by the number of steps since its first one."""
    found, before = [], 0
    for t in range(of.last + 1):
        (each,) = (each for each in of.losses(t) if each.arm == arm)
        found += [(before + step, loss) for step, loss in zip(each.step.tolist(), each.loss.tolist(), strict=True)]
        before = found[-1][0]
    return found


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def _there(self) -> None:
        pytest.importorskip("tensorboard")

    def events(self, folder: Path) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()

    def scalars(self, folder: Path, tag: str) -> list[tuple[int, float]]:
        return [(event.step, pytest.approx(event.value)) for event in self.events(folder).Scalars(tag)]

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        of = tracked(tmp_path / "run", "tensorboard", report=True)
        folder = tmp_path / "run" / "tensorboard"
        assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(FOLDERS)
        for arm, name in enumerate(FOLDERS):
            for metric in of.experiment.metrics:
                assert self.scalars(folder / name, metric) == expected(of, arm, metric)
            assert self.scalars(folder / name, "loss") == losses(of, arm)
        events = self.events(folder / FOLDERS[0])
        assert [image.step for image in events.Images("samples")] == [0, 1, 2]
        assert "samples" not in self.events(folder / FOLDERS[1]).Tags()["images"]
        assert "_hparams_/session_start_info" in str(events.summary_metadata)
        assert (folder / "report.html").read_bytes() == (of.path / "report" / "index.html").read_bytes()

    def test_a_run_that_goes_on_is_told_of_once(self, tmp_path: Path) -> None:
        tracker = {"name": "tensorboard", "path": str(tmp_path / "logs")}
        list(run(tiny(generations=1), tmp_path / "run"))  # not tracked yet
        going = run(tiny(generations=4, trackers=[tracker]), tmp_path / "run")
        assert next(going).t == 2
        going.close()
        of = tracked(tmp_path / "run", tracker, generations=4)
        of = tracked(tmp_path / "run", tracker, generations=4, seeds=3)  # arms join
        folder = tmp_path / "logs" / "run"
        assert self.scalars(folder / FOLDERS[0], "w2_held_out") == expected(of, 0, "w2_held_out")
        assert self.scalars(folder / FOLDERS[0], "loss") == losses(of, 0)
        assert self.scalars(folder / "lam=0.5,seed=2", "w2_held_out") == expected(of, 2, "w2_held_out")

    def test_another_run_of_the_same_name_gets_a_folder_of_its_own(self, tmp_path: Path) -> None:
        tracker = {"name": "tensorboard", "path": str(tmp_path / "logs")}
        for place in ("a", "b"):
            (tmp_path / place).mkdir()
            tracked(tmp_path / place / "run", tracker)
        assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["run", "run-2"]

    def test_the_command_line_adds_the_report(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "tiny.yaml"
        file.write_text(tiny().yaml())
        words = ["run", str(file), f"--out={tmp_path / 'run'}", "--workers=0", "--track=tensorboard"]
        monkeypatch.setattr(sys, "argv", ["selfloop", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        copy = tmp_path / "run" / "tensorboard" / "report.html"
        assert copy.read_bytes() == (tmp_path / "run" / "report" / "index.html").read_bytes()


class TestMLflow:
    @pytest.fixture(autouse=True)
    def _there(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("mlflow")
            yield

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        store = tmp_path / "store"
        tracker = {"name": "mlflow", "path": str(store)}
        going = run(tiny(trackers=[tracker]), tmp_path / "run")
        assert next(going).t == 0
        going.close()
        of = tracked(tmp_path / "run", tracker, report=True)
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=store.as_uri())
        experiment = client.get_experiment_by_name("small")
        found = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
        assert sorted(found) == sorted(["run", *ARMS])
        for arm, name in enumerate(ARMS):
            key, one = found[name].info.run_id, found[name]
            assert one.data.tags["mlflow.parentRunId"] == found["run"].info.run_id
            assert one.info.status == "FINISHED"
            assert one.data.params["mixing.lam"] == str(of.arms[arm].settings["mixing.lam"])
            history = [(m.step, m.value) for m in client.get_metric_history(key, "w2_held_out")]
            assert sorted(history) == expected(of, arm, "w2_held_out")
            assert sorted((m.step, m.value) for m in client.get_metric_history(key, "loss")) == losses(of, arm)
        shown = [each.path for each in client.list_artifacts(found[ARMS[0]].info.run_id, "images")]
        assert sum(path.endswith(".png") for path in shown) == 3
        assert [each.path for each in client.list_artifacts(found["run"].info.run_id, "report")] == [
            "report/index.html"
        ]


class TestWandB:
    @pytest.fixture(autouse=True)
    def _there(self) -> None:
        pytest.importorskip("wandb")

    def records(self, file: Path) -> Iterator[Any]:
        """Yield the records of an offline run: protocol buffers in the log format of LevelDB."""
        from wandb.proto import wandb_internal_pb2

        content, place, parts = file.read_bytes(), 7, b""
        assert content[:4] == b":W&B"
        while place + 7 <= len(content):
            if (left := (1 << 15) - place % (1 << 15)) < 7:  # a block's end that no head fits in
                place += left
                continue
            _, length, kind = struct.unpack("<IHB", content[place : place + 7])
            parts += content[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or the last part
                record = wandb_internal_pb2.Record()
                record.ParseFromString(parts)
                parts = b""
                yield record

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        tracker = {"name": "wandb", "path": str(tmp_path)}
        of = tracked(tmp_path / "run", tracker, report=True, seeds=1, grid={"mixing.lam": [0.5]})
        (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
        rows, begun, artifacts = [], None, []
        for record in self.records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                begun = record.run
            elif kind == "history":
                items = record.history.item
                rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
            elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
                artifacts.append(record.request.log_artifact.artifact)
            elif kind == "artifact":
                artifacts.append(record.artifact)
        assert begun is not None
        assert begun.display_name == "lam=0.5 seed=0"
        assert begun.run_group == "run"
        config = {each.key: json.loads(each.value_json) for each in begun.config.update}
        assert config["mixing.lam"] == 0.5
        found = [(row["generation"], row["w2_held_out"]) for row in rows if "w2_held_out" in row]
        assert found == expected(of, 0, "w2_held_out")
        assert [(row["training step"], row["loss"]) for row in rows if "loss" in row] == losses(of, 0)
        assert [row["generation"] for row in rows if any(name.startswith("samples") for name in row)] == [0, 1, 2]
        assert [each.type for each in artifacts] == ["report"]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_package_that_is_missing_is_said_before_anything_is_done(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    file = tmp_path / "tiny.yaml"
    file.write_text(tiny().yaml())
    for more in ([f"--track={name}"], [f"--set=trackers=[{name}]"]):
        monkeypatch.setattr(sys, "argv", ["selfloop", "run", str(file), f"--out={tmp_path / 'run'}", *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said == f"selfloop: tracker {name} needs package {name}: pip install 'selfloop[{name}]'\n"
    assert not (tmp_path / "run").exists()


def test_one_that_cannot_write_stops_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    tracker = {"name": "tensorboard", "path": str(tmp_path / "file" / "below")}
    with pytest.warns(UserWarning, match="tracker tensorboard failed and is left out"):
        assert [each.t for each in run(tiny(trackers=[tracker]), tmp_path / "run")] == [0, 1, 2]


def test_trackers_are_no_part_of_what_is_run(tmp_path: Path) -> None:
    lines = {"name": "lines", "path": str(tmp_path / "lines.jsonl")}
    with_one, without = tiny(trackers=[lines]), tiny()
    assert with_one == without
    assert with_one.yaml() == without.yaml()
    assert with_one.override("generations=3").trackers == [lines]
    assert list(run(with_one, tmp_path / "a", trackers=[TRACKERS.parse(lines)]))[-1].t == 2
    assert [each.t for each in run(without, tmp_path / "b")] == [0, 1, 2]
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    assert len((tmp_path / "lines.jsonl").read_text().splitlines()) == 3 * 4  # named twice, and told once
    assert not (tmp_path / "a" / NOTES).exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trackers": ["tensorbord"]}, "no tracker is called 'tensorbord', did you mean 'tensorboard'"),
        ({"trackers": [{"name": "lines"}]}, "tracker.path is missing"),
        ({"grid": {"trackers": [["lines"]]}}, "trackers cannot differ between arms"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        list(run(tiny(**settings), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_arms_are_called_apart() -> None:
    from selfloop.arms import arms

    grid = {"mixing": [{"name": "augment", "lam": 0.5}, "replace"], "generator.width": [4, 8]}
    chosen = arms(Experiment.build(tiny(grid=grid).model_dump()))
    assert len({name_of(arm) for arm in chosen}) == len({file_name(arm) for arm in chosen}) == len(chosen)
    assert hyperparameters(chosen[0])["mixing.lam"] == 0.5
    assert hyperparameters(chosen[0])["generator.width"] == 4
