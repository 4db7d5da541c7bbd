"""Shards of a run, each in a directory of its own or one after the other in the same, are the run of one machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import Nursery, snapshot

from selfloop import Experiment, Run, run
from selfloop.core.errors import ConfigError, RunError
from selfloop.shards import Shard, merge

EXPERIMENT = Experiment.parse(
    """
name: shards
data: {name: gaussian, n: 40, held_out: 20}
generator: gaussian
generations: 4
seeds: 2
grid:
  data.n: [40, 44, 48, 52]
  mixing.lam: [0, 1]
metrics: [mean_error, parameter_distance]
""",
    "shards",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold the run as it is in one piece, and three shards of it."""
    folder = tmp_path_factory.mktemp("runs")
    list(run(EXPERIMENT, folder / "whole"))
    for number in (1, 2, 3):
        list(run(EXPERIMENT, folder / f"shard-{number}", shard=Shard(number, 3)))
    return folder


def shards(folder: Path) -> list[Path]:
    return [folder / f"shard-{number}" for number in (3, 1, 2)]


@pytest.mark.slow
def test_merged_shards_are_the_whole_run_to_the_byte(folder: Path, tmp_path: Path) -> None:
    merged = merge(shards(folder), tmp_path / "merged")
    assert merged.finished
    assert snapshot(tmp_path / "merged") == snapshot(folder / "whole")


@pytest.mark.slow
def test_shards_one_after_the_other_in_one_directory_are_it_too(folder: Path, tmp_path: Path) -> None:
    for number in (2, 3, 1):
        list(run(EXPERIMENT, tmp_path / "run", shard=Shard(number, 3)))
    assert snapshot(tmp_path / "run") == snapshot(folder / "whole")


def test_a_shard_that_ended_early_goes_on(folder: Path, tmp_path: Path) -> None:
    for generation in run(EXPERIMENT, tmp_path / "run", shard=Shard(2, 3)):
        if generation.t == 1:
            break
    list(run(EXPERIMENT, tmp_path / "run", shard=Shard(2, 3)))
    assert snapshot(tmp_path / "run") == snapshot(folder / "shard-2")


@pytest.mark.slow
def test_a_merged_run_grows_like_any_other(folder: Path, tmp_path: Path) -> None:
    merge(shards(folder), tmp_path / "merged")
    longer = EXPERIMENT.override("generations=6")
    list(run(longer, tmp_path / "merged"))
    list(run(longer, tmp_path / "whole"))
    assert snapshot(tmp_path / "merged") == snapshot(tmp_path / "whole")


def test_a_shard_is_no_finished_run(folder: Path) -> None:
    shard = Run.open(folder / "shard-1")
    assert not shard.finished
    assert shard.verify() is None
    assert shard.records() == []


@pytest.mark.parametrize("word", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1 / 3", "9999999/9999999"])
def test_what_is_no_share_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="write it as 3/16"):
        Shard.parse(word)


def test_a_shard_without_stacks_and_alarms_across_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are 4 stacks of arms, which run in one piece"):
        list(run(EXPERIMENT, tmp_path / "run", shard=Shard(5, 5)))
    stops = EXPERIMENT.override("alarm={action: stop, statistics: [mean_error], level: 0.4}", "seeds=3")
    with pytest.raises(ConfigError, match="alarms that stop arms"):
        list(run(stops, tmp_path / "run", shard=Shard(1, 2)))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_shards_that_do_not_fit_together_are_refused_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    one, two, three = sorted(shards(folder))
    other = tmp_path / "other"
    list(run(EXPERIMENT.override("retrain=scratch"), other, shard=Shard(3, 3)))
    fewer = tmp_path / "fewer"
    list(run(EXPERIMENT.override("generations=2"), fewer, shard=Shard(3, 3)))
    damaged = tmp_path / "damaged"
    shutil.copytree(three, damaged)
    stored = next(damaged.glob("generation-0002/samples-*"))
    stored.write_bytes(stored.read_bytes()[:-1])
    for told, words in (
        ([one, two], "stack 2 of generation 0 is in none of the shards"),
        ([one, two, other], "are of different experiments"),
        ([one, two, fewer], "are of different experiments"),
        ([one, two, damaged], "samples-002.safetensors' has"),
        ([one, two, tmp_path], "is not a run directory"),
    ):
        with pytest.raises(RunError, match=words):
            merge(told, tmp_path / "merged")
        assert not (tmp_path / "merged").exists()
    with pytest.raises(RunError, match="is not empty"):
        merge([one, two, three], one)


@pytest.mark.slow
def test_the_command_line_runs_shards_and_merges_them(nest: Nursery, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(EXPERIMENT.yaml())
    done = nest.command("run", "e.yaml", "--shard", "2/3", "--workers", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert snapshot(tmp_path / "runs" / "shards.shard-2-of-3") == snapshot(folder / "shard-2")
    merged = nest.command("merge", *shards(folder), "--out", "merged", cwd=tmp_path)
    assert merged.returncode == 0, merged.stderr
    shutil.rmtree(tmp_path / "merged" / "report")
    assert snapshot(tmp_path / "merged") == snapshot(folder / "whole")
    told = nest.command("status", folder / "shard-2", cwd=tmp_path)
    assert "1 of 4 stacks are done with 4 retrainings" in told.stdout
    wrong = nest.command("run", "e.yaml", "--shard", "3/2", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
