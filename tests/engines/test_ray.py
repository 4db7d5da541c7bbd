"""Runs on a Ray cluster of several nodes in this machine: the bits of one process, also where nodes or driver die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import snapshot
from test_chains import EXPERIMENT

from selfloop import Experiment, run
from selfloop.core.errors import ConfigError
from selfloop.engines import ray as engine
from selfloop.engines.ray import Ray

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

SLOW = Experiment.parse(
    """
name: slow
data: {name: two_moons, n: 400, held_out: 100}
generator: {name: ddpm, width: 64}
generations: 4
pretrain: {steps: 150}
budget: {steps: 150}
seeds: 2
grid: {mixing.lam: [0.5, 1], generator.width: [48, 64]}
metrics: [mean_error]
""",
    "slow",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three nodes of one processor each; the driver's has none."""
    from ray.cluster_utils import Cluster

    quiet = {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_METRICS_COLLECTION": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quiet.items():
            patch.setenv(name, value)
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20},
        )
        for _ in range(3):
            made.add_node(num_cpus=1, object_store_memory=80 << 20)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("slow") / "run"
    list(run(SLOW, out))
    return snapshot(out)


def test_every_file_is_that_of_one_process_also_at_a_fraction_of_a_processor(cluster: Any, tmp_path: Path) -> None:
    list(run(EXPERIMENT, tmp_path / "here"))
    list(run(EXPERIMENT, tmp_path / "there", engine=Ray(address=cluster.address, cpus=0.5)))
    assert snapshot(tmp_path / "here") == snapshot(tmp_path / "there")
    assert not ray.is_initialized()


def test_a_node_that_dies_costs_its_tasks_alone(cluster: Any, slow: dict[str, bytes], tmp_path: Path) -> None:
    node, nodes = cluster.add_node(num_cpus=1, object_store_memory=80 << 20), []
    for generation in run(SLOW, tmp_path / "run", engine=Ray(address=cluster.address)):
        if generation.t == 0:
            cluster.remove_node(node, allow_graceful=False)
        nodes.append(generation.t)
    assert nodes == list(range(5))
    assert snapshot(tmp_path / "run") == slow


def test_a_driver_that_dies_goes_on_from_what_is_committed(
    cluster: Any, slow: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW.yaml())
    command = [sys.executable, "-W", "ignore", "-m", "selfloop", "run", "slow.yaml", "--out", "run"]
    there = [*command, "--engine", "ray", "--address", cluster.address]
    with (tmp_path / "said").open("wb") as said:
        first = subprocess.Popen(there, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True)
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "generation-0001").exists():
            assert first.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    list(run(SLOW, tmp_path / "run", engine=Ray(address=cluster.address)))
    assert snapshot(tmp_path / "run") == slow


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cpus": 64}, "a task takes 64 CPU, and none of 4 nodes has as many"),
        ({"gpus": 0.25}, "a task takes 1 CPU and 0.25 GPU, and none of 4 nodes has as many"),
        ({"address": "127.0.0.1:1"}, "no cluster answers at '127.0.0.1:1'"),
        ({"address": "nonsense"}, "no cluster answers at 'nonsense'"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_fit(
    settings: dict[str, Any], words: str, cluster: Any, tmp_path: Path
) -> None:
    chosen = Ray(**{"address": cluster.address} | settings)
    with pytest.raises(ConfigError, match=words) as error:
        list(run(EXPERIMENT, tmp_path / "run", engine=chosen))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_node_with_another_version_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "versions", lambda: {"torch": "1.0"})
    with pytest.raises(ConfigError, match=r"has torch .*, and this process 1\.0: install the same"):
        list(run(EXPERIMENT, tmp_path / "run", engine=Ray(address=cluster.address)))
    assert not (tmp_path / "run").exists()


def test_without_the_package_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'selfloop\[ray\]'"):
        list(run(EXPERIMENT, tmp_path / "run", engine=Ray()))
