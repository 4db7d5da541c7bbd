"""Loops on text: run, read, written, judged; what looks at numbers is refused before anything is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from selfloop.cli.main import main as main_of_argv
from selfloop.core.errors import ConfigError, SelfloopError
from selfloop.core.events import Text
from selfloop.experiment import Experiment
from selfloop.features.base import FEATURES
from selfloop.measures import OF_TEXT
from selfloop.mixing.base import Pool
from selfloop.mixing.corrected import Corrected
from selfloop.mixing.judges.base import Judge
from selfloop.outside import judge
from selfloop.runner import run
from selfloop.store import Run

NAMES = [a + b + c for a in "bcdfgl" for b in "aeiou" for c in ("n", "nor", "s", "tia")]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("\n".join(NAMES), encoding="utf-8")
    return path


def main(arguments: list[str]) -> int:
    """Run a command in this process, and return its code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["selfloop", *arguments])
        with pytest.raises(SystemExit) as stop:
            main_of_argv()
    return int(stop.value.code or 0)


def settings(path: Path, **more: Any) -> dict[str, Any]:
    data = {"name": "text", "path": str(path), "unit": "line"}
    return {"name": "t", "data": data, "generator": "categorical", "generations": 2} | more


@pytest.fixture(scope="module")
def done(names: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "text"
    list(run(Experiment.build(settings(names)), out))
    return out


def test_a_run_of_text_stands_alone(done: Path) -> None:
    found = Run.open(done)
    events = found.real(0).events
    assert isinstance(events, Text)
    assert set(events.texts(found.samples(2, 0))) <= set(NAMES)
    assert FEATURES.name_of(found.experiment.features) == "ngrams"
    assert found.of_generation(2)[0]["metrics"]["frechet_held_out"] > 0


@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv", "parquet", "db"])
def test_samples_are_written_as_text(done: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    assert main(["export", str(done), str(path)]) == 0
    held = Run.open(done)
    events = held.real(0).events
    assert isinstance(events, Text)
    texts = events.texts(held.samples(2, 0))
    if ending == "txt":
        assert path.read_text(encoding="utf-8").splitlines() == texts
    elif ending == "jsonl":
        assert [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()] == texts
    else:
        from selfloop.data.reading.sheets import read_sheet

        assert read_sheet(str(path)).values[0].to_pylist() == texts


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"generator": "gaussian"}, "makes vectors, and data text holds text"),
        ({"metrics": ["w1_held_out"]}, "metric w1_held_out needs rows of numbers"),
        ({"metrics": ["covariance_error"]}, "metric covariance_error needs rows of numbers"),
        ({"features": "identity"}, "features identity needs rows of numbers"),
        ({"features": "efficientnet"}, "features efficientnet needs a form as images"),
        ({"mixing": {"name": "verified", "verifier": "classifier"}}, "mixing verified needs rows of numbers"),
    ],
)
def test_what_looks_at_numbers_is_refused(names: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        Experiment.build(settings(names, **more))
    assert "\n" not in str(error.value)


def test_ngrams_are_of_text_alone() -> None:
    with pytest.raises(ConfigError, match="features ngrams needs text, which data gaussian does not have"):
        Experiment.build(
            {"name": "t", "data": "gaussian", "generator": "gaussian", "generations": 1, "features": "ngrams"}
        )


def test_ngrams_are_relative_frequencies_up_to_the_first_edge() -> None:
    ngrams = FEATURES.parse("ngrams")
    x = torch.tensor([[5, 7, 5, 0, 0, 0], [5, 7, 5, 7, 5, 7], [0, 0, 0, 0, 0, 0]], dtype=torch.int32)
    found = ngrams(x)
    np.testing.assert_allclose(found[:, :64].sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[:, 64:].sum(1), 1, rtol=1e-6)
    assert sorted(found[0, :64][found[0, :64] > 0].tolist()) == [0.25, 0.25, 0.5]
    longer = torch.nn.functional.pad(x[:1], (0, 3))
    assert torch.equal(ngrams(longer), found[:1])  # padding says nothing


@pytest.mark.slow
def test_text_made_elsewhere_is_judged(done: Path, names: Path, tmp_path: Path, capsys: Any) -> None:
    for t in range(3):
        assert main(["export", str(done), str(tmp_path / f"gen_{t}.txt"), "--generation", str(t)]) == 0
    out = tmp_path / "judged"
    code = main(["judge", str(names), str(tmp_path / "gen_{t}.txt"), "--out", str(out), "--json"])
    assert code in (0, 3, 4, 5)
    judged = Run.open(out)
    assert judged.last == 2
    names.rename(names.with_suffix(".gone"))  # the run has the text itself
    try:
        events = Run.open(out).real(0).events
        assert isinstance(events, Text)
        assert set(events.texts(Run.open(out).split(0).held_out[0])) <= set(NAMES)
    finally:
        names.with_suffix(".gone").rename(names)
    capsys.readouterr()
    assert main(["metrics", str(names), str(tmp_path / "gen_2.txt")]) == 0


@pytest.mark.slow
def test_text_is_read_by_the_tokens_of_a_run_whichever_is_named_first(
    done: Path, names: Path, tmp_path: Path, capsys: Any
) -> None:
    spaced = tmp_path / "spaced.txt"
    spaced.write_text(names.read_text().replace("\n", "\n\n"))  # empty lines of real text are no events
    found = []
    for pair in ([str(names), f"{done}@1"], [str(spaced), f"{done}@1"], [f"{done}@1", str(names)]):
        assert main(["metrics", *pair, "--only", "distinct_2,tokens_kept", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    there, spread, back = ({each["name"]: each for each in some} for some in found)
    assert there["distinct_2"]["real"] == spread["distinct_2"]["real"] == back["distinct_2"]["generated"] == len(NAMES)
    assert there["tokens_kept"]["value"] == spread["tokens_kept"]["value"] == 1

    out = tmp_path / "judged"
    runs = [f"{done}@{t}" for t in range(3)]
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(NAMES[::2]))
    assert main(["judge", str(spaced), *runs, "--held-out", str(other), "--out", str(out), "--json"]) in (0, 3, 4, 5)
    assert Run.open(out).real(0).events.alike(Run.open(done).real(0).events)
    assert Run.open(out).split(0).held_out.shape[1] == len(NAMES[::2])
    assert set(Run.open(out).experiment.metrics) == set(OF_TEXT)


class Backwards(Judge):
    """Tokens in the other order, moved up by a number."""

    name: Literal["backwards"] = "backwards"
    says: ClassVar[Literal["scores", "rows"]] = "rows"
    by: int = 0

    def __call__(self, x: torch.Tensor, pool: Pool) -> torch.Tensor:
        return x.flip(1) + self.by


@pytest.mark.parametrize(
    ("strength", "by", "words"),
    [
        (1.0, 0, "tokens are no numbers, and cannot be moved part of the way: set strength to inf"),
        ("inf", 1000, "and tokens are 0 to"),
        ("inf", -1, "samples hold token -1"),
        ("inf", 0, None),
    ],
)
def test_corrections_of_text_are_tokens(names: Path, tmp_path: Path, strength: Any, by: int, words: str | None) -> None:
    corrected = Corrected(lam=1, target=Backwards(by=by), strength=float(strength))
    experiment = Experiment.build(settings(names, generations=1, mixing=corrected))
    if words is None:
        list(run(experiment, tmp_path / "run"))
        return
    with pytest.raises(SelfloopError, match=words):
        list(run(experiment, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_no_document_is_judged_by_and_held_out(tmp_path: Path, capsys: Any) -> None:
    letters = "abcdefghijklmnopqrst"
    (tmp_path / "real.jsonl").write_text("\n".join(json.dumps(each * 600) for each in letters))  # rows of 256 bytes
    for t in range(2):
        (tmp_path / f"gen_{t}.jsonl").write_text("\n".join(json.dumps(each * 600) for each in letters[t : 8 + t]))
    found = judge(
        str(tmp_path / "real.jsonl"), [str(tmp_path / f"gen_{t}.jsonl") for t in range(2)], out=tmp_path / "j"
    )
    split = found.run.split(0)
    train, held_out = ({text[0] for text in split.events.texts(each[0])} for each in (split.train, split.held_out))
    assert train
    assert held_out
    assert not train & held_out
    assert split.train.shape[1] + split.held_out.shape[1] == 3 * len(letters) - 2  # the rest of a document

    two, generations = tmp_path / "two.jsonl", str(tmp_path / "gen_{t}.jsonl")
    two.write_text("\n".join(json.dumps("ab"[k] * size) for k, size in enumerate((200, 1300))))
    assert main(["judge", str(two), generations, "--out", str(tmp_path / "k")]) == 2
    assert "7 rows of 2 documents, which are too few to hold some out" in capsys.readouterr().err
    assert not (tmp_path / "k").exists()


def test_a_text_is_shown(names: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["data", str(names), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["unit"], found["units"], found["distinct"]) == ("line", len(NAMES), len(NAMES))
    wrong = tmp_path / "latin.txt"
    wrong.write_bytes(b"caf\xe9")
    assert main(["data", str(wrong)]) == 2
    assert "offset 3" in capsys.readouterr().err
