"""The kinds of runs that the campaign disturbs: of each kind of data and each way to run, a second long."""

from __future__ import annotations

import contextlib
import importlib.util
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from helpers import S3_SETTINGS, s3_server

MODEL = '''"""A linear autoencoder with noise: an estimator whose weights are the loop's state."""

import torch


class Auto(torch.nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))

    def fit(self, x: torch.Tensor) -> None:
        optimiser = torch.optim.Adam(self.parameters(), 1e-2)
        for _ in range(5):
            batch = x[torch.randint(len(x), (32,))]
            optimiser.zero_grad()
            (self.net(batch + torch.randn_like(batch)) - batch).square().mean().backward()
            optimiser.step()

    def sample(self, n: int) -> torch.Tensor:
        return self.net(torch.randn(n, 2))
'''

MOONS = "data: {name: two_moons, n: 64, held_out: 64}"
OTCFM = "generator: {name: otcfm, width: 16, batch_size: 64}\nbudget: {steps: 10}"
GRID = "seeds: 2\ngrid: {mixing.lam: [0.5, .inf]}"
TOY = f"name: toy\n{MOONS}\n{OTCFM}\ngenerations: 4\n{GRID}\nmetrics: [w2_held_out, mean_error]\n"
TABLE = "data: {name: table, path: rows.csv, n: 60, held_out: 20}"
SETTINGS = {
    "toy": TOY,
    "digits": f"name: digits\ndata: {{name: digits, n: 64, held_out: 32}}\n{OTCFM}\ngenerations: 3\n{GRID}\n",
    "images": "name: images\ndata: {name: digit_images, n: 12, held_out: 8}\n"
    "generator: {name: otcfm_images, batch_size: 4,\n"
    "  net: {channels: 8, multipliers: [1, 2], blocks: 1, attention: [], dropout: 0.0, group_channels: 4}}\n"
    "budget: {steps: 2}\ngenerations: 2\nseeds: 1\nmetrics: [w2_held_out]\n",
    "table": f"name: table\n{TABLE}\n{OTCFM}\ngenerations: 3\n{GRID}\n",
    "text": "name: text\ndata: {name: text, path: names.txt, unit: line}\ngenerator: ngram\ngenerations: 4\n"
    "seeds: 2\ngrid: {mixing: [replace, accumulate]}\n",
    "gpt": "name: gpt\ndata: {name: text, path: names.txt, unit: line}\n"
    "generator: {name: gpt, layers: 1, width: 8, heads: 1, batch_size: 8}\n"
    "budget: {steps: 3}\ngenerations: 3\nseeds: 2\n",
    "estimator": f"name: estimator\n{MOONS}\n"
    "generator: {name: estimator, estimator: 'model:Auto', has: [parameters]}\n"
    f"generations: 3\n{GRID}\nmetrics: [w2_held_out, parameter_distance]\n",
    "scikit-learn": f"name: mixture\n{MOONS}\ngenerator: {{name: estimator, estimator: GaussianMixture, "
    f"arguments: {{n_components: 2}}}}\ngenerations: 3\n{GRID}\nmetrics: [w2_held_out]\n",
}
GROWN = TOY.replace("generations: 4", "generations: 6").replace("seeds: 2", "seeds: 3").replace("[0.5,", "[0.5, 1,")


@dataclass(frozen=True)
class Kind:
    """A run, and how it is made.

    Attributes:
        name: the row of the table.
        settings: the file's text.
        before: the file's text of the run that this one grows from; empty where there is none.
        arguments: of ``selfloop run``.
        environment: of the process.
        url: where run directories are, if not in a folder.
    """

    name: str
    settings: str
    before: str = ""
    arguments: tuple[str, ...] = ("--workers", "0")
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""

    def write(self, folder: Path) -> None:
        """Write the files that the run is made from into a folder."""
        (folder / "run.yaml").write_text(self.settings, encoding="utf-8")
        (folder / "before.yaml").write_text(self.before or self.settings, encoding="utf-8")
        (folder / "model.py").write_text(MODEL, encoding="utf-8")
        names = [a + b + c for a in "bcdfgl" for b in "aeiou" for c in ("n", "nor", "s", "tia")]
        (folder / "names.txt").write_text("\n".join(names), encoding="utf-8")
        rows = [f"{i % 7 - 3.5},{('', 'low', 'high')[i % 3]},{i * i % 11}\n" for i in range(100)]
        (folder / "rows.csv").write_text("size,class,count\n" + "".join(rows), encoding="utf-8")


def kinds() -> list[Kind]:
    """Return the kinds that need no server."""
    plain = [Kind(name, text) for name, text in SETTINGS.items() if name != "estimator"]
    own = Kind("estimator", SETTINGS["estimator"], arguments=("--import", "model.py", "--workers", "0"))
    return [*plain, own, Kind("grown", GROWN, before=TOY), Kind("two workers", TOY, arguments=("--workers", "2"))]


@contextlib.contextmanager
def s3() -> Iterator[Kind | None]:
    """Start an S3 server and give the kind of run that is kept in it; None where no server is installed."""
    if any(importlib.util.find_spec(name) is None for name in ("moto", "s3fs")):
        yield None
        return
    with s3_server() as address:
        bucket = urllib.request.Request(f"{address}/campaign", method="PUT")
        urllib.request.urlopen(bucket, timeout=60).close()
        yield Kind("S3", TOY, environment=S3_SETTINGS | {"AWS_ENDPOINT_URL": address}, url="s3://campaign")


@contextlib.contextmanager
def ray() -> Iterator[Kind | None]:
    """Start a Ray cluster and give the kind of run that is made in it; None where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        yield None
        return
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        found = ("--engine", "ray", "--address", cluster.address)
        yield Kind("Ray", TOY, arguments=found, environment={"RAY_DEDUP_LOGS": "0", "OMP_NUM_THREADS": "1"})
    finally:
        cluster.shutdown()
