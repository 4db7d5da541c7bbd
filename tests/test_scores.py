"""``selfloop metrics`` as a user meets it: any two sets, every number with what it means, every mistake in one line."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Nursery, tiny
from PIL import Image
from torch import Tensor

from selfloop import ConfigError, Run, run
from selfloop.analysis.scores import DEFAULT, SCORES, Score, default, plain, scores
from selfloop.cli.main import main
from selfloop.core.events import Text, Vectors
from selfloop.core.streams import Streams
from selfloop.core.tokens import Bytes
from selfloop.data.reading.images import labelled_images
from selfloop.experiment import member
from selfloop.features.base import FEATURES
from selfloop.features.classifier import Classifier
from selfloop.metrics import METRICS, frechet, sliced_wasserstein, wasserstein

QUICK = "{name: classifier, width: 8, epochs: 1}"


def cloud(n: int, d: int, seed: int = 0) -> Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, pictures of digits, and two runs of 2 generations with 4 arms: of moons and of digits."""
    here = tmp_path_factory.mktemp("scores")
    rows = {"a": cloud(60, 3), "b": 1.5 * cloud(45, 3, seed=1), "wide": cloud(60, 4), "nan": cloud(60, 3)}
    rows["nan"][2, 1] = math.nan
    for name, x in rows.items():
        np.save(here / f"{name}.npy", x.numpy())
    digits = labelled_images("digits")[0][:, 0].numpy()
    for name, chosen in {"real": digits[:60], "fakes": digits[1000:1050]}.items():
        (here / name).mkdir()
        for i, picture in enumerate(chosen):
            Image.fromarray(picture).save(here / name / f"{i:03d}.png")
    np.savez(here / "real.npz", digits[:60])
    list(run(tiny(), here / "moons"))
    list(run(tiny(data={"name": "digits", "n": 32, "held_out": 24}, metrics=["mean_error"]), here / "digits"))
    (here / "empty").mkdir()
    (here / "notes.docx").write_text("1 2 3")
    (here / "words.txt").write_text("1 2 3")
    (here / "none.zip").write_bytes(b"none")
    return here


@pytest.fixture
def metrics(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call ``selfloop metrics`` in this process and return its exit code and what it printed, also to stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(here)
        monkeypatch.setenv("SELFLOOP_CACHE", str(here / "cache"))
        monkeypatch.setattr(sys, "argv", ["selfloop", "metrics", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def as_json(metrics: Callable[..., tuple[int, str, str]]) -> Callable[..., dict[str, dict[str, Any]]]:
    """Call it with ``--json`` and return the scores by name, having checked what all of them must carry."""

    def call(*arguments: str) -> dict[str, dict[str, Any]]:
        code, out, err = metrics(*arguments, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        for score in found:
            metric = SCORES[score["name"]]
            assert score.keys() == {f.name for f in dataclasses.fields(Score)}
            assert (score["version"], score["direction"]) == (metric.version, metric.direction)
            assert score["definition"].endswith(".")
            assert score["reference"] == arguments[0]
        return {score["name"]: score for score in found}

    return call


# end to end


def test_rows_in_a_process_of_its_own(nest: Nursery, here: Path) -> None:
    result = nest.command("metrics", "a.npy", "b.npy", cwd=here)
    assert (result.returncode, result.stderr) == (0, "")
    for name in DEFAULT:
        assert re.search(rf"^ ?{name} ", result.stdout, re.MULTILINE)
    assert "±" in result.stdout
    assert result.stdout.endswith("45 events against 60 of 'a.npy'; features: identity 1\n")


def test_rows(as_json: Callable[..., dict[str, dict[str, Any]]]) -> None:
    found = as_json("a.npy", "b.npy")
    assert tuple(found) == DEFAULT
    a, b = cloud(60, 3), 1.5 * cloud(45, 3, seed=1)
    assert found["frechet"]["value"] == pytest.approx(frechet(a, b), rel=1e-12)
    assert 0 < found["frechet"]["error"] < found["frechet"]["value"]
    assert found["sliced_w2"]["value"] == pytest.approx(sliced_wasserstein(b, a).value, rel=1e-12)
    for score in found.values():
        assert (score["real"], score["generated"], score["features"]) == (60, 45, "identity 1")
    assert [name for name, score in found.items() if score["error"] is not None] == ["frechet"]


def test_only(as_json: Callable[..., dict[str, dict[str, Any]]]) -> None:
    found = as_json("a.npy", "b.npy", "--only", "w2, authenticity,kid")
    assert tuple(found) == ("w2", "authenticity", "kid")
    assert found["w2"]["value"] == pytest.approx(wasserstein(cloud(60, 3), 1.5 * cloud(45, 3, seed=1)), rel=1e-12)


@pytest.mark.slow
def test_folders_of_pictures_by_their_features(
    here: Path, as_json: Callable[..., dict[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = as_json("real", "fakes", "--features", "classifier")
    x = labelled_images("digits")[0]
    classifier = Classifier()
    a, b = classifier(x[:60]), classifier(x[1000:1050])
    assert found["frechet"]["value"] == pytest.approx(frechet(a, b), rel=1e-6)
    for score in found.values():
        assert (score["real"], score["generated"], score["features"]) == (60, 50, classifier.key())
    monkeypatch.setattr("selfloop.features.classifier._trained", lambda *_: pytest.fail("trained again"))
    assert as_json("real.npz", "fakes", "--features", "classifier")["kid"]["value"] == found["kid"]["value"]


def test_settings_of_features_and_a_table_for_the_eye(metrics: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = metrics("real", "fakes", "--features", QUICK, "--only", "frechet,recall")
    assert (code, err) == (0, "")
    assert "frechet" in out
    assert "recall" in out
    assert "50 events against 60 of 'real'; features: classifier 1 " in out


@pytest.mark.parametrize(("generated", "arm"), [("moons@1", 0), ("moons@2/3", 3), ("moons@held_out", 0)])
def test_a_generation_of_a_run(
    here: Path, as_json: Callable[..., dict[str, dict[str, Any]]], generated: str, arm: int
) -> None:
    found = as_json(f"moons@train/{arm}", generated, "--only", "w2,w1")
    opened = Run.open(here / "moons")
    split = opened.split(arm)
    what = generated.split("@")[1].split("/")[0]
    x = split.held_out[0] if what == "held_out" else opened.samples(int(what), arm)
    assert found["w2"]["value"] == pytest.approx(wasserstein(split.train[0], x), rel=1e-12)
    assert (found["w2"]["real"], found["w2"]["generated"]) == (16, len(x))


def test_a_run_of_images_is_judged_as_images(here: Path, as_json: Callable[..., dict[str, dict[str, Any]]]) -> None:
    found = as_json("digits@train", "digits@1", "--features", QUICK)
    opened, classifier = Run.open(here / "digits"), Classifier(width=8, epochs=1)
    split = opened.split(0)
    a, b = (classifier(split.events.pixels(x)) for x in (split.train[0], opened.samples(1, 0)))
    assert found["frechet"]["value"] == pytest.approx(frechet(a, b), rel=1e-6)
    assert found["frechet"]["real"] == 32
    same = as_json("digits@train", "digits@train", "--only", "frechet,w2")
    assert same["w2"]["value"] == 0
    assert same["frechet"]["value"] == pytest.approx(0, abs=1e-6 * 255**2)
    assert as_json("real", "digits@held_out", "--features", QUICK)["recall"]["generated"] == 24


# every score


PERFECT = {
    "frechet": 0,
    "w1": 0,
    "w2": 0,
    "sliced_w2": 0,
    "max_sliced_w2": 0,
    "precision": 1,
    "recall": 1,
    "coverage": 1,
    "vendi_ratio": 1,
    "leading_variance_ratio": 1,
    "neighbour_entropy": 0,
    "authenticity": 0,  # copies, all of them
}


@pytest.mark.parametrize("name", [name for name, metric in SCORES.items() if not metric.needs & {"columns", "text"}])
class TestEveryScore:
    def test_computes_and_says_what_it_is(self, name: str) -> None:
        (score,) = scores(cloud(60, 3), 1.5 * cloud(45, 3, seed=1), reference="there", names=[name])
        metric = SCORES[name]
        assert math.isfinite(score.value)
        assert (score.name, score.version, score.direction) == (name, metric.version, metric.direction)
        assert (score.reference, score.real, score.generated) == ("there", 60, 45)
        json.dumps(plain(score), allow_nan=False)

    def test_is_said_of_the_reference(self, name: str) -> None:
        (score,) = scores(cloud(60, 3), cloud(45, 3, seed=1), names=[name])
        assert "train" not in score.definition
        assert "reference" in score.definition

    def test_refuses_events_of_different_sizes(self, name: str) -> None:
        with pytest.raises(ValueError, match="values an event"):
            scores(cloud(60, 3), cloud(45, 4), names=[name])

    def test_refuses_what_is_not_finite(self, name: str) -> None:
        bad = cloud(60, 3)
        bad[7, 1] = math.nan
        for real, generated in ((bad, cloud(60, 3)), (cloud(60, 3), bad)):
            with pytest.raises(ValueError, match="finite"):
                scores(real, generated, names=[name])


@pytest.mark.parametrize("name", PERFECT)
def test_a_set_is_perfect_beside_itself(name: str) -> None:
    (score,) = scores(cloud(60, 3), cloud(60, 3), names=[name])
    assert score.value == pytest.approx(PERFECT[name], abs=1e-9)


def test_defaults_are_scores_and_scores_are_metrics_against_the_training_set() -> None:
    assert set(DEFAULT) <= SCORES.keys()
    for name, metric in SCORES.items():
        assert metric is METRICS[f"{name}_train" if f"{name}_train" in METRICS else name]


def test_scores_of_columns_are_said_of_the_reference() -> None:
    events = Vectors.unscaled(("a", "b", "c"))
    of_columns = [name for name, metric in SCORES.items() if "columns" in metric.needs and not metric.classes]
    found = scores(cloud(60, 3), cloud(45, 3, seed=1), names=of_columns, events=events, target="a")
    for score in found:
        assert not re.search(r"training|held-out", score.definition)
        assert "reference" in score.definition or score.name == "duplicate_rows"
    with pytest.raises(ConfigError, match="of the columns of a table"):
        scores(cloud(60, 3), cloud(45, 3), names=of_columns)


def test_scores_of_text_look_at_its_tokens() -> None:
    events, features = Text(6, Bytes()), FEATURES.parse("ngrams")
    rows = [
        [events.tokenizer.encode(each) for each in some] for some in (["abab", "abc", "b", ""], ["abab", "ab", "b"])
    ]
    real, made = (torch.from_numpy(np.concatenate([events.rows(each) for each in some])) for some in rows)
    of_text = [name for name, metric in SCORES.items() if "text" in metric.needs]
    assert len(of_text) == 18
    found = {each.name: each for each in scores(real, made, features=features, names=of_text, events=events)}
    assert not [each for each in found.values() if re.search(r"training|held-out", each.definition)]
    assert found["copied_texts"].value == pytest.approx(2 / 3)
    assert found["distinct_1"].value == pytest.approx(2 / 7)
    assert found["tokens_kept"].value == pytest.approx(2 / 3)
    usual = {each.name for each in scores(real, made, features=features, names=default(events), events=events)}
    assert usual == {"bigram_kl", "frechet", "distinct_2", "token_entropy", "tokens_kept"}
    with pytest.raises(ConfigError, match="score distinct_2 is of text, which these sets are not"):
        scores(cloud(9, 2), cloud(9, 2), names=["distinct_2"])
    for name in (name for name, metric in SCORES.items() if "numbers" in metric.needs):
        with pytest.raises(ConfigError, match="is of numbers, and these sets are text"):
            scores(real, made, features=features, names=[name], events=events)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bigram_kl_held_out", "is called bigram_kl here"),
        ("frechet_train", "is called frechet here"),
        ("perplexity_held_out", "needs a run"),
        ("perplexity_judge_ratio", "needs held-out rows apart"),
        ("fidd", "no score is called 'fidd'"),
    ],
)
def test_metrics_that_are_no_scores_say_what_they_need(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        scores(cloud(9, 2), cloud(9, 2), names=[name])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'fid'.*frechet"):
        scores(cloud(9, 2), cloud(9, 2), names=["kid", "fid"])


def test_values_that_json_has_no_word_for_become_null() -> None:
    (score,) = scores(cloud(20, 2), cloud(20, 2, seed=1), names=["kid"])
    for value in (math.nan, math.inf, -math.inf):
        assert plain(dataclasses.replace(score, value=value))["value"] is None
    assert plain(dataclasses.replace(score, value=1e300))["value"] == 1e300


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("inception", ["features", "'inception'"]),
        ("{name: classifier, widht: 3}", ["features.widht"]),
        ("{name: classifier, width: many}", ["features.width"]),
        ("{width: 3}", ["features"]),
        ("", ["features"]),
        ("[classifier]", ["features"]),
        ("{name: [a]}", ["features"]),
        ("{", ["features", "is not plain YAML"]),
        ("!!python/object:os.system {}", ["features", "is not plain YAML"]),
    ],
)
def test_settings_of_features_are_checked(settings: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        member(FEATURES, settings)
    for word in words:
        assert word in str(caught.value)


# mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.npy", "b.npy", "--only", "fid"], ["'fid'", "frechet"]),
        (["a.npy", "b.npy", "--only", ""], ["no score"]),
        (["a.npy", "b.npy", "--features", "inception"], ["features", "'inception'"]),
        (["a.npy", "b.npy", "--features", "{name: classifier, widht: 3}"], ["features.widht"]),
        (["a.npy", "b.npy", "--features", QUICK], ["uint8 images", "(60, 3)"]),
        (["real", "fakes", "--features", "{name: torchscript, path: no.pt}"], ["no.pt", "put it at"]),
        (["real", "fakes", "--features", "{name: classifier, labelled: no.npz}"], ["no.npz"]),
        (["a.npy", "no.npy"], ["'no.npy' does not exist"]),
        (["no.npy", "b.npy"], ["'no.npy' does not exist"]),
        (["moons", "b.npy"], ["'moons' is a run", "moons@2", "moons@train"]),
        (["moons@train", "moons@3"], ["'moons' has the generations 0 to 2, no 3"]),
        (["moons@train", "moons@1/4"], ["'moons' has the arms 0 to 3, no 4"]),
        (["moons@train/99", "moons@1"], ["'moons' has the arms 0 to 3, no 99"]),
        (["moons@train", "no@1"], ["'no' is not a run directory"]),
        (["moons@train", "moons@last"], ["'moons@last' does not exist"]),
        (["a.npy", "wide.npy"], ["'a.npy' and 'wide.npy' cannot be compared", "3 values", "4"]),
        (["a.npy", "moons@1"], ["cannot be compared", "3 values", "2"]),
        (["a.npy", "nan.npy"], ["'nan.npy'", "row 3", "column 'x1'", "missing"]),
        (["nan.npy", "b.npy"], ["'nan.npy'", "row 3", "column 'x1'", "missing"]),
        (["real", "empty"], ["'empty'", "holds no"]),
        (["real", "none.zip"], ["'none.zip'", "not a zip"]),
        (["a.npy", "notes.docx"], ["'notes.docx'", "ending"]),
        (["a.npy", "words.txt"], ["'words.txt'", "only one of them is text"]),
        (["a.npy"], ["GENERATED"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    metrics: Callable[..., tuple[int, str, str]], arguments: list[str], words: list[str]
) -> None:
    code, out, err = metrics(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("selfloop: ")
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err


def test_samples_of_an_arm_that_has_diverged(
    metrics: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "samples", lambda *_: torch.empty(0, 2))
    monkeypatch.setattr(Run, "of_generation", lambda *_: [{"arm": 2, "status": "diverged"}])
    code, _, err = metrics("moons@train", "moons@1/2")
    assert code == 2
    assert "arm 2 of 'moons' has diverged by generation 1" in err


def _damage(path: Path, offset: int, value: bytes) -> None:
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02") + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(8, b"\1\0"), (10, b"\x63\0"), (16, b"\1\0\0\0"), (24, b"\1\0\0\0"), (42, b"\7\0\0\0")],
    ids=["encrypted", "packing", "checksum", "size", "place"],
)
def test_a_damaged_archive_is_one_line(
    metrics: Callable[..., tuple[int, str, str]], here: Path, offset: int, value: bytes
) -> None:
    np.savez_compressed(here / "damaged.npz", cloud(60, 3).numpy())
    _damage(here / "damaged.npz", offset, value)
    code, out, err = metrics("a.npy", "damaged.npz")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "'damaged.npz'" in err


def test_an_archive_of_images_that_promises_too_much(metrics: Callable[..., tuple[int, str, str]], here: Path) -> None:
    with zipfile.ZipFile(here / "bomb.npz", "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (2**46, 8, 8)})
        member.write(bytes(64))
    code, out, err = metrics("real", "bomb.npz")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "'bomb.npz'" in err


def test_an_archive_that_unpacks_to_more_than_the_limit(
    metrics: Callable[..., tuple[int, str, str]], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(here / "zeros.npz", np.zeros((2000, 8, 8), np.uint8))
    assert (here / "zeros.npz").stat().st_size < 2**12
    for place in ("data.reading.images", "data.reading.tables", "analysis.sources"):
        monkeypatch.setattr(f"selfloop.{place}.LIMIT", 2**16, raising=False)
    code, out, err = metrics("real", "zeros.npz")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "'zeros.npz'" in err
