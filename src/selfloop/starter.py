"""An experiment to begin with, as a commented YAML file that fits the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from selfloop.core.errors import DataError, nearest, quoted
from selfloop.core.events import Kind
from selfloop.core.paths import is_path
from selfloop.data.base import DATA, Dataset
from selfloop.data.reading.images import read_images
from selfloop.data.reading.kinds import ids
from selfloop.data.reading.tables import Choice, chosen, read_rows
from selfloop.data.reading.texts import PLAIN, is_corpus
from selfloop.experiment import Experiment, member

_MODELS: dict[Kind, str] = {
    "vectors": """\
# A Gaussian copula, fitted at once. With gradient steps instead, for example flow matching:
#   generator: {name: otcfm, width: 128}
#   budget: {epochs: 100}                 # of a retraining; pretrain: {epochs: 300} for generation 0
generator: copula
""",
    "text": """\
# Counts of three tokens, exact and quick. A small transformer instead:
#   generator: {name: gpt, width: 96}
#   budget: {steps: 300}                  # of a retraining; pretrain: {steps: 1500} for generation 0
generator: {name: ngram, order: 3}
""",
    "images": """\
# A small EDM. Larger: channels 64, blocks 2, batch_size 256, precision bfloat16, and --device cuda.
generator:
  name: edm
  net: {channels: 16, multipliers: [1, 2], blocks: 1, attention: [8], dropout: 0.0, group_channels: 4}
  batch_size: 64
  optimizer: {learning_rate: 1.0e-3, ramp: null}
  ema: {half_life: 50000, growing: true}
pretrain: {samples: 50000}                # of generation 0, in pictures seen
budget: {samples: 5000}                   # of a retraining
""",
}
_METRICS = {"text": "perplexity_held_out, distinct_2"}  # to name, as an example


def of_file(path: Path, name: str = "") -> Dataset:
    """Return a file or folder as data; ``name`` is the URL that it was fetched from.

    Raises:
        DataError: it is none that can be read.
    """
    if not path.exists() and is_path(str(path)):
        raise DataError(f"{quoted(path)} does not exist")
    if not path.exists():
        raise DataError(f"no data set or file is called {quoted(path)}{nearest(str(path), list(DATA))}")
    if (path / "experiment.yaml").is_file():
        raise DataError(f"{quoted(path)} is a run: give the data that it was made of")
    return member(DATA, json.dumps({"path": name or str(path)} | _kind(path)))  # type: ignore[no-any-return]


def _kind(path: Path) -> dict[str, str]:
    """Return the name of the data set that reads a file or folder, and what tells how."""
    suffix = path.suffix.lower()
    if is_corpus(path):
        return {"name": "text", "unit": "line" if suffix == PLAIN else "document"}
    pictures = path.is_dir() or suffix == ".zip" or (suffix in (".npy", ".npz") and read_images(path) is not None)
    return {"name": "image_files" if pictures else "table"}


def _ids(data: Path) -> list[str]:
    """Return the columns of a table that name its rows, [] of arrays, which have no names."""
    if data.suffix.lower() in (".npy", ".npz"):
        return []
    return ids(chosen(str(data), Choice()))


def _said_of(own: Sequence[str]) -> str:
    """Return a line of comment on columns that are left out although nobody said so; "" where there are none."""
    if not own:
        return ""
    words = ", ".join(json.dumps(name, ensure_ascii=False) for name in own)
    return f"\n# Left out: {words}, as every row has a value of its own there, by which a model would learn nothing."


def starter(name: str, data: Path | None, target: str | None = None, leave_out: Sequence[str] = ()) -> str:
    """Return an experiment as YAML with comments: data, a model, a budget and a grid of λ.

    Args:
        name: of the experiment.
        data: a file or folder; None takes points of a Gaussian.
        target: a column of a table to predict, by which samples are judged besides.
        leave_out: columns of a table that are not taken; where none is named, those that name its rows, as an id.

    Raises:
        ConfigError, DataError: the data cannot be read, or have no such target.
    """
    settings: dict[str, object] = {"name": "gaussian", "n": 1000, "held_out": 1000}
    holds: Kind = "vectors"
    own: list[str] = []  # columns that name the rows
    if data is not None:
        of_file(data)  # says what is missing by the path that was given
        kind = _kind(data)
        if kind["name"] == "table" and not leave_out:
            leave_out = own = [name for name in _ids(data) if name != target]
        more = {"target": target, "leave_out": [*leave_out] or None}
        settings = kind | {"path": str(data)} | {k: v for k, v in more.items() if v is not None}
        dataset = member(DATA, json.dumps(settings))
        try:
            dataset.load([0])
        except DataError:
            if kind["name"] == "table":  # the same in the words of options, as there is no file of settings yet
                read_rows(str(data), choice=Choice(leave_out=leave_out, settings=False))
            raise
        holds = dataset.holds
    words = {
        "vectors": "selfloop data shows what the columns of a table are taken for" if data is not None else "synthetic",
        "text": "selfloop data shows what it holds",
        "images": "n and held_out choose how many",
    }[holds]
    text = f"""\
# Run it:  selfloop run {name}.yaml          What it would take:  selfloop run {name}.yaml --plan
name: {name}
data: {json.dumps(settings, ensure_ascii=False)}   # {words}{_said_of(own)}

{_MODELS[holds]}
generations: 10                           # retrainings; more can be added later, and what is there keeps its bits
seeds: 3                                  # intervals and verdicts need several

# What is compared. λ: synthetic rows per real row in every training set; 0 is the control, .inf is fully synthetic.
# Other regimes:  grid: {{mixing: [replace, accumulate, {{name: augment, lam: 0.5}}]}}   (selfloop list mixing)
grid:
  mixing.lam: [0, 0.5, 1, .inf]

# Metrics that suit the data are chosen if none is named (selfloop list metrics):
#   metrics: [{_METRICS.get(holds, "frechet_held_out, precision_held_out, recall_held_out")}]
"""
    Experiment.parse(text, name)
    return text
