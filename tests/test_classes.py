"""Loops of labelled data: labels are carried, learned, drawn, measured, shown and exported, or refused in one line."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from selfloop import ConfigError, DataError, Experiment, Run, run
from selfloop.arms import arms
from selfloop.core.capabilities import Capability
from selfloop.core.events import Images, read_events
from selfloop.core.samples import Samples, resampled, stack
from selfloop.core.streams import Streams
from selfloop.data.base import DATA, Split
from selfloop.data.digit_images import DigitImages
from selfloop.data.reading.images import labelled_images
from selfloop.generators import EDM
from selfloop.generators.classes import UNKNOWN, Classes
from selfloop.generators.network import Draws
from selfloop.interop.formats import Imported
from selfloop.learning.nets import names, unet
from selfloop.learning.nets.presets import ddpmpp
from selfloop.learning.training import SHARES, Budget, averaged, parameters
from selfloop.metrics import METRICS, Evidence, class_frechet, class_tv, effective_classes
from selfloop.mixing import JUDGES, Judge, Pool
from selfloop.report import write_report
from selfloop.theory.categorical import replaced_heterozygosity

NET = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "dropout": 0.0, "group_channels": 4}
EVENT = (1, 8, 8)
METRICS_OF_CLASSES = [
    "class_tv_held_out",
    "class_frechet_mean_held_out",
    "class_frechet_worst_held_out",
    "effective_classes_ratio",
    "class_heterozygosity_ratio",
]


def edm(**settings: Any) -> EDM:
    plain = {
        "net": NET,
        "batch_size": 8,
        "sample_batch": 30,
        "augment": 0.0,
        "steps": 2,
        "conditional": {"classes": 10},
    }
    return EDM(**(plain | settings))


def experiment(data: dict[str, Any] | None = None, generator: dict[str, Any] | None = None, **settings: Any) -> Any:
    plain = {
        "name": "classes",
        "data": {"name": "digit_images", "n": 60, "held_out": 60, "labels": True} | (data or {}),
        "generator": {"name": "edm", **edm().model_dump(exclude={"name"})} | (generator or {}),
        "generations": 2,
        "budget": {"steps": 2},
        "metrics": METRICS_OF_CLASSES,
    }
    return Experiment.build(plain | settings)


@JUDGES.register
class Even(Judge):
    """Keeps rows whose label is even: a judge that asks for labels."""

    name: Literal["even"] = "even"
    needs: ClassVar[frozenset[Capability]] = frozenset(("labels",))

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        return (pool.labels % 2 == 0).double()


REGIMES: list[dict[str, Any]] = [
    {"name": "augment", "lam": math.inf},
    {"name": "accumulate"},
    {"name": "fresh"},
    {"name": "verified", "verifier": {"name": "even"}},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("classes") / "run"
    built = experiment(data={"fresh_rows": 120}, grid={"mixing": REGIMES})
    for generation in run(built, out):
        assert {record["status"] for record in generation.records} == {"ok"}
    return Run.open(out)


@pytest.mark.slow
def test_a_run_carries_labels_from_data_to_samples_and_metrics(made: Run) -> None:
    for arm in range(len(REGIMES)):
        for t in range(3):
            labels = made.labels(t, arm)
            assert labels is not None
            assert labels.shape == made.samples(t, arm).shape[:1]
            assert set(labels.tolist()) <= set(range(10))
    for record in made.records():
        assert all(math.isfinite(value) for value in record["metrics"].values())
    first = made.of_generation(0)[0]
    assert sorted(first["reference"]) == sorted(name for name in METRICS_OF_CLASSES if METRICS[name].floor)
    assert made.real(0).events == Images(EVENT, 10)


def test_a_models_class_shares_are_those_of_its_training_set(made: Run) -> None:
    split = made.split(0)
    assert split.train_label is not None
    real = torch.bincount(split.train_label[0], minlength=10) / 60
    for arm in range(len(REGIMES)):
        stack_, row = made.row(arm)
        assert torch.allclose(made.state(0, stack_)[SHARES][row], real.double())
    stack_, row = made.row(0)  # fully synthetic
    drawn = made.labels(1, 0)
    assert drawn is not None
    assert torch.allclose(made.state(2, stack_)[SHARES][row], torch.bincount(drawn, minlength=10).double() / 60)


def test_a_judge_that_asks_for_labels_chooses_by_them(made: Run) -> None:
    stack_, row = made.row(3)
    split, drawn = made.split(3), made.labels(1, 3)
    assert split.train_label is not None
    assert drawn is not None
    kept = torch.cat([split.train_label[0], drawn[drawn % 2 == 0]])  # all real rows, and the even samples
    assert torch.allclose(made.state(2, stack_)[SHARES][row], torch.bincount(kept, minlength=10).double() / len(kept))


@pytest.mark.slow
def test_a_run_goes_on_as_if_never_ended(made: Run, tmp_path: Path) -> None:
    settings = {"data": {"fresh_rows": 120}, "grid": {"mixing": REGIMES}}
    for generations in (1, 2):
        for _ in run(experiment(**settings, generations=generations), tmp_path / "run"):
            pass
    again = Run.open(tmp_path / "run")
    for arm in range(len(REGIMES)):
        assert torch.equal(again.samples(2, arm), made.samples(2, arm))
        assert torch.equal(again.labels(2, arm), made.labels(2, arm))  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_report_shows_classes_over_generations(made: Run) -> None:
    page = write_report(made).read_text()
    assert "Classes by generation" in page
    assert "a line of each class" in page
    shares = [
        float(cell) for cell in re.findall(r"<td>([\d.]+)</td>", page.split("classes-title")[2].split("real</td>")[1])
    ]
    assert sum(shares[:10]) == pytest.approx(100, abs=1)


def test_exported_classes_are_read_again(made: Run, tmp_path: Path) -> None:
    from selfloop.cli.main import app

    folder = tmp_path / "pictures"
    found = CliRunner().invoke(app, ["export", str(made.path), "--png", str(folder), "--generation", "1"])
    assert found.exit_code == 0, found.output
    assert "classes to dataset.json" in found.output
    data = DATA.parse({"name": "image_files", "path": str(folder), "labels": True, "held_out": 1, "n": 59})
    split, order = data.load([0]), Streams((0,)).permutations("data", [60])[0]
    labels = made.labels(1, 0)
    assert labels is not None
    assert split.train_label is not None
    assert torch.equal(split.train_label[0], labels[torch.from_numpy(order[:59])])


def test_what_has_no_labels_writes_what_it_wrote_before() -> None:
    for recipe in ("digits-edm", "fig2-cifar10-edm"):
        text = Experiment.load(recipe).yaml()
        assert "labels" not in text
        assert "conditional" not in text
    assert Images(EVENT).plain() == {"kind": "images", "shape": [1, 8, 8]}
    assert read_events(Images(EVENT, 3).plain()) == Images(EVENT, 3)
    plain = DigitImages(n=60, held_out=60)
    assert torch.equal(plain.load([0]).train, plain.model_copy(update={"labels": True}).load([0]).train)
    assert set(Samples.full(torch.zeros(1, 2, 3), 0).stored()) == {"x", "born", "count"}


def test_a_grid_may_vary_what_is_not_written() -> None:
    built = experiment(grid={"generator.conditional.labels": ["trained", "uniform"]})
    assert [arm.settings for arm in arms(built)] == [
        {"generator.conditional.labels": kind} for kind in ("trained", "uniform")
    ]
    varied = experiment(
        grid={"data.labels": [False, True]}, generator={"conditional": None}, metrics=["variance_ratio"]
    )
    assert [arm.settings for arm in arms(varied)] == [{"data.labels": False}, {"data.labels": True}]
    assert Experiment.parse(varied.yaml()) == varied


# What is refused, in one line, before anything is written


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"data": {"labels": False}},
            "generator edm learns from labels, which data digit_images does not have: set data.",
        ),
        (
            {"generator": {"conditional": None}},
            "metric class_tv_held_out needs samples with labels, which generator edm does not have: let generator.cond",
        ),
        (
            {"metrics": ["class_agreement"]},
            "metric class_agreement needs names of classes, which features identity does not have: use classifier",
        ),
        ({"generator": {"conditional": {"classes": 0}}}, "generator.conditional.classes"),
        ({"generator": {"conditional": {}}}, "generator.conditional.classes is missing"),
        ({"generator": {"conditional": {"classes": 10, "labels": "even"}}}, "generator.conditional.labels"),
        (
            {"generator": {"conditional": None}, "metrics": ["variance_ratio"], "mixing": REGIMES[3]},
            "mixing verified needs samples with labels",
        ),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        experiment(**settings)
    assert message in str(caught.value)


def test_an_ensemble_is_told_of_no_classes() -> None:
    plain = {"name": "ensemble", "of": {"name": "edm", **edm().model_dump(exclude={"name"})}}
    with pytest.raises(ConfigError, match="models of an ensemble are told of no classes"):
        Experiment.build(experiment().model_dump() | {"generator": plain})


def test_other_classes_than_the_datas_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="edm knows of 4 classes, and data digit_images are of 10 classes"):
        next(run(experiment(generator={"conditional": {"classes": 4}}), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_other_classes_is_refused_and_one_of_the_same_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture, original = edm().unet(EVENT), names.edm(8)
    drawn = unet.init(Streams((5,)), architecture)
    theirs = {name: leaf[0] for name, leaf in names.to_original(original, architecture, drawn).items()}
    assert theirs["model.map_label.weight"].shape == (8, 10)
    snapshot = Imported(kind="edm-snapshot", networks={"ema": theirs})
    monkeypatch.setattr("selfloop.generators.pretrained.read_checkpoint", lambda path: snapshot)
    given = {"checkpoint": str(tmp_path / "network-snapshot.pkl")}
    read = parameters(edm(**given).init(EVENT, Streams((0,))))
    assert read.keys() == drawn.keys()
    assert all(torch.equal(read[name], leaf) for name, leaf in drawn.items())
    with pytest.raises(
        DataError, match=r"another network: model.map_label.weight has shape \(8, 10\) where \(8, 4\) is"
    ):
        edm(**given, conditional={"classes": 4}).init(EVENT, Streams((0,)))
    with pytest.raises(
        DataError, match=r"another network: model\.map_label\.weight is not a parameter of this network"
    ):
        edm(**given, conditional=None).init(EVENT, Streams((0,)))


def test_the_conditional_preset_is_edms_network_of_cifar10_with_one_layer_more() -> None:
    """EDM's cifar10-32x32-cond-vp differs from its unconditional one in map_label."""
    both = [
        {name: leaf.shape for name, leaf in names.table(names.edm(32), EDM(**settings).unet((3, 32, 32))).items()}
        for settings in ({}, {"conditional": {"classes": 10}})
    ]
    more = {"model.map_label.weight": (128, 10), "model.map_label.bias": (128,)}
    assert both[1].items() - both[0].items() == more.items()
    assert both[0].items() <= both[1].items()


class Odd(DigitImages):
    """Labels that are wrong, as ``wrong`` says."""

    def load(self, seeds: Any) -> Split:
        split = LOAD(self, seeds)
        assert split.train_label is not None
        label = split.train_label.clone()
        label[0, 3] = 10
        changes: dict[str, Any] = {
            "range": {"train_label": label},
            "negative": {"train_label": -label},
            "missing": {"held_out_label": None},
            "short": {"train_label": label[:, :5]},
            "floats": {"train_label": label.double()},
            "classless": {"events": Images(EVENT)},
        }
        return dataclasses.replace(split, **changes[WRONG["how"]])


WRONG = {"how": "range"}
LOAD = DigitImages.load


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("range", "labels of the rows to train on are 0 to 10, and must be 0 to 9"),
        ("negative", "labels of the rows to train on are -10 to 0, and must be 0 to 9"),
        ("missing", "labels of the rows held out are missing, and events are of 10 classes"),
        ("short", r"labels of the rows to train on are torch.int64 (1, 5): they must be int64 (1, 60)"),
        ("floats", r"labels of the rows to train on are torch.float64 (1, 60): they must be int64 (1, 60)"),
        ("classless", "labels of the rows to train on are there, and events say of no classes"),
    ],
)
def test_labels_that_are_none_are_refused_before_the_first_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, message: str
) -> None:
    monkeypatch.setattr(DigitImages, "load", Odd.load)
    monkeypatch.setitem(WRONG, "how", wrong)
    with pytest.raises(DataError, match=r"^[^\n]*$") as caught:
        next(run(experiment(), tmp_path / "run"))
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


# Where labels come from


def pictures(folder: Path, paths: list[str]) -> np.ndarray:
    x = np.random.default_rng(0).integers(256, size=(len(paths), 8, 8), dtype=np.uint8)
    for path, picture in zip(paths, x, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / path)
    return x


def loaded(path: Path, **settings: Any) -> Split:
    made = DATA.parse({"name": "image_files", "path": str(path), "labels": True, "held_out": 2} | settings)
    return made.load([0])  # type: ignore[no-any-return]


def agree(split: Split, x: np.ndarray, y: list[int]) -> bool:
    """Whether every row of a split, in either set, has the label of that picture."""
    known = {x[i].tobytes(): y[i] for i in range(len(x))}
    return all(
        known[row.numpy().tobytes()] == int(label)
        for rows, labels in ((split.train, split.train_label), (split.held_out, split.held_out_label))
        for row, label in zip(rows[0], labels[0], strict=True)  # type: ignore[index]
    )


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    x = pictures(tmp_path / "all", [f"{k}/{i}.png" for k in ("cat", "dog", "ox") for i in range(3)])
    split = loaded(tmp_path / "all")
    assert split.events.classes == 3
    assert agree(split, x, [0] * 3 + [1] * 3 + [2] * 3)
    pictures(tmp_path / "apart", ["cat/0.png", "eel/0.png", "ox/0.png"])
    with pytest.raises(DataError, match="must have folders of the same classes, and 'dog' is in one of them alone"):
        loaded(tmp_path / "all", held_out_path=str(tmp_path / "apart"), held_out=None)


def test_dataset_json_is_read_as_edm_has_it_and_what_is_wrong_with_it_is_said(tmp_path: Path) -> None:
    paths = [f"00000/img{i:08d}.png" for i in range(6)]
    x, labels = pictures(tmp_path, paths), [3, 0, 1, 1, 5, 0]

    def write(content: Any) -> None:
        (tmp_path / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))

    write({"labels": [list(pair) for pair in zip(paths, labels, strict=True)]})
    split = loaded(tmp_path)
    assert split.events.classes == 6
    assert agree(split, x, labels)
    for content, message in [
        ({"labels": [[paths[0], 1]]}, f"has no label for picture '{paths[1]}'"),
        ({"labels": None}, "has no label for picture"),
        ({"labels": [[path, -1] for path in paths]}, "is '-1', and must be a whole number from 0"),
        ({"labels": [[path, 1.5] for path in paths]}, "is '1.5', and must be a whole number"),
        ({"labels": [[path, True] for path in paths]}, "is 'True', and must be a whole number"),
        ({"labels": [1, 2]}, "is damaged"),
        ({"labels": [[paths[0], 0], *([path, 1] for path in paths)]}, f"more than one label for picture '{paths[0]}'"),
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
    ]:
        write(content)
        with pytest.raises(DataError, match=r"^[^\n]*$") as caught:
            loaded(tmp_path)
        assert message in str(caught.value)
        assert "dataset.json" in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
def test_a_dataset_json_further_down_is_not_passed_over(tmp_path: Path, packed: bool) -> None:
    paths = [f"all/0000{i // 3}/img{i}.png" for i in range(6)]
    pictures(tmp_path / "x", paths)
    (tmp_path / "x" / "all" / "dataset.json").write_text(json.dumps({"labels": [[path[4:], 2] for path in paths]}))
    if packed:
        shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path / "x")
    with pytest.raises(DataError, match=r"^[^\n]* has its dataset.json in folder 'all': name that folder[^\n]*$"):
        loaded(tmp_path / ("x.zip" if packed else "x"))
    assert loaded(tmp_path / "x" / "all").events.classes == 3


def test_pictures_without_labels(tmp_path: Path) -> None:
    pictures(tmp_path, ["a/0.png", "a/1.png", "2.png", "a/3.png"])
    with pytest.raises(DataError, match=r"picture '2.png' .* has no label: there is no dataset.json, and no folder"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.arange(6) % 3}, None),
        ({"labels": (np.arange(6) % 3).astype(np.uint8)}, None),
        ({}, "and there are none"),
        ({"y": np.arange(6.0)}, "and there are none"),
        ({"y": np.arange(6), "z": np.arange(6)}, "and there are 'y', 'z'"),
        ({"y": np.arange(5)}, "the labels 'y' are (5,), and must be whole numbers (6,)"),
        ({"y": np.arange(6) - 1}, "the labels 'y' are -1 to 4, and must be from 0 to 9999"),
        ({"y": np.arange(6) * 10**6}, "the labels 'y' are 0 to 5000000, and must be from 0 to 9999"),
    ],
)
def test_an_npz_has_labels_beside_its_images(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str | None
) -> None:
    x = np.random.default_rng(0).integers(256, size=(6, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", x=x, **arrays)
    if message is None:
        split = loaded(tmp_path / "own.npz")
        assert split.events.classes == 3
        assert agree(split, x, [0, 1, 2, 0, 1, 2])
        return
    with pytest.raises(DataError, match=r"^[^\n]*$") as caught:
        loaded(tmp_path / "own.npz")
    assert message in str(caught.value)


def parquet(folder: Path, labels: dict[str, list[Any] | None]) -> str:
    folder.mkdir()
    for which, some in labels.items():
        content = {"img": []} if some is None else {"img": [], "label": some}
        for i in range(4):
            file = folder / "picture.png"
            Image.fromarray(np.full((32, 32, 3), 10 * i + len(which), dtype=np.uint8)).save(file)
            content["img"].append({"bytes": file.read_bytes(), "path": None})
            file.unlink()
        pq.write_table(pa.table(content), folder / f"{which}-00000-of-00001.parquet")
    return str(folder)


def test_cifar10_has_the_labels_of_its_parquet_files(tmp_path: Path) -> None:
    path = parquet(tmp_path / "hub", {"train": [9, 0, 4, 4], "test": [1, 2, 3, 9]})
    split = DATA.parse({"name": "cifar10", "path": path, "labels": True}).load([0])
    assert split.events == Images((3, 32, 32), 10)
    assert split.train_label.tolist() == [[9, 0, 4, 4]]
    assert split.held_out_label.tolist() == [[1, 2, 3, 9]]
    some = DATA.parse({"name": "cifar10", "path": path, "labels": True, "n": 2, "fresh_rows": 2}).load([3])
    levels = {0: 9, 10: 0, 20: 4, 30: 4}
    for rows, labels in ((some.train, some.train_label), (some.aside, some.aside_label)):
        assert [levels[int(row.min()) - 5] for row in rows[0]] == labels[0].tolist()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, "train-00000-of-00001.parquet has no column label: set data.labels to false"),
        ([0, 1, 10, 2], "the label of image 2 is '10', and must be 0 to 9"),
        ([0, None, 1, 2], "the label of image 1 is 'None', and must be 0 to 9"),
        (["cat", "dog", "cat", "dog"], "the label of image 0 is 'cat', and must be 0 to 9"),
    ],
)
def test_cifar10_without_sound_labels(tmp_path: Path, train: list[Any] | None, message: str) -> None:
    path = parquet(tmp_path / "hub", {"train": train, "test": [1, 2, 3, 9]})
    with pytest.raises(DataError, match=r"^[^\n]*$") as caught:
        DATA.parse({"name": "cifar10", "path": path, "labels": True}).load([0])
    assert message in str(caught.value)
    assert DATA.parse({"name": "cifar10", "path": path}).load([0]).train_label is None


# Labels and rows, drawn and counted


def test_samples_keep_labels_through_everything() -> None:
    def rows(seed: int, n: int) -> Samples:
        x = Streams((seed,)).normal("x", (n, 1), dtype=torch.float64)
        return Samples.full(x, 0, (x[..., 0] > 0).long())

    def sound(samples: Samples) -> bool:
        return all(
            torch.equal(samples.classes(r), (samples.arm(r)[:, 0] > 0).long())  # type: ignore[arg-type]
            for r in range(len(samples.x))
        )

    a, b = rows(0, 9), rows(1, 5)
    both = stack([a, b])
    for made in (
        Samples.union([a, b]),
        both,
        both.select([1]),
        a.first(3),
        a.take(torch.tensor([4, 1])),
        a.keep(a.x[0, :, 0] > 0),
    ):
        assert sound(made)
    assert sound(resampled(a.weighed(torch.rand(9, generator=torch.Generator().manual_seed(0))), Streams((0,))))
    with pytest.raises(ValueError, match="some sets have classes and others none"):
        Samples.union([a, dataclasses.replace(b, label=None)])
    with pytest.raises(ValueError, match=r"label \(1, 4\) disagree"):
        dataclasses.replace(b, label=torch.zeros(1, 4, dtype=torch.int64))


def test_shares_count_rows_by_their_weights_and_labels_are_drawn_by_them() -> None:
    told, label = Classes(classes=4), torch.tensor([[0, 1, 1, 3]])
    data = Samples.full(torch.zeros(1, 4, 1), 0, label)
    assert told.shares(data).tolist() == [[0.25, 0.5, 0, 0.25]]
    weighed = told.shares(data.weighed(torch.tensor([2.0, 1.0, 0.0, 1.0])))
    assert weighed.tolist() == [[0.5, 0.25, 0, 0.25]]
    drawn = told.drawn(weighed, 40_000, Streams((3,)))
    found = torch.bincount(drawn[0], minlength=4) / 40_000
    assert torch.allclose(found, weighed[0].float(), atol=0.01)
    assert found[2] == 0
    only = told.drawn(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), 1000, Streams((3,)))
    assert only.unique().tolist() == [1]
    even = Classes(classes=4, labels="uniform").drawn(weighed, 40_000, Streams((3,)))
    assert torch.allclose(torch.bincount(even[0]) / 40_000, torch.tensor(0.25), atol=0.01)


def test_classes_are_kept_from_the_network_as_often_as_asked() -> None:
    labels = torch.zeros(1, 20_000, dtype=torch.int64)
    told = Classes(classes=2, dropout=0.3).told(labels, Draws(Streams((0,)), range(20_000)))
    assert float((told == UNKNOWN).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(Classes(classes=2).told(labels, Draws(Streams((0,)), range(20_000))), labels)


def test_the_network_is_told_of_one_hot_vectors_and_of_zeros_where_it_is_not_to_know() -> None:
    one = edm(conditional={"classes": 3})
    params = averaged(one.init(EVENT, Streams((0,))))
    x, t = Streams((0,)).normal("x", (3, *EVENT)), torch.zeros(1, 1)
    net = one.network(params, EVENT)
    found = one.tell(net, torch.tensor([[2, UNKNOWN, 0]]))(x, t)
    hot = torch.tensor([[[0.0, 0, 1], [0, 0, 0], [1, 0, 0]]])
    assert torch.equal(found, unet.evaluate(params, one.unet(EVENT), x, t, labels=hot))
    assert one.unet(EVENT) == ddpmpp(
        img_resolution=8, img_channels=1, label_dim=3, model_channels=8, channel_mult=(1, 2), num_blocks=1,
        attn_resolutions=(), dropout=0.0, group_channels=4,
    )  # fmt: skip


@pytest.mark.slow
def test_a_conditional_network_learns_what_its_classes_look_like() -> None:
    """Class 0 is black and class 1 white: after some training samples are what their labels say."""
    label = torch.arange(64).unsqueeze(0) % 2
    x = (255 * label.to(torch.uint8)).view(1, 64, 1, 1, 1).expand(1, 64, 1, 8, 8).contiguous()
    one = edm(
        conditional={"classes": 2}, batch_size=16, steps=6, ema=None, optimizer={"learning_rate": 3e-3, "ramp": None}
    )
    streams = Streams((0,))
    state = one.fit(one.init(EVENT, streams), Samples.full(x, 0, label), Budget(steps=120), streams)
    drawn, of = one.sample(state, 30, streams)[0].double().mean((1, 2, 3)), one.labels(state, 30, streams)[0]
    assert float(drawn[of == 1].mean() - drawn[of == 0].mean()) > 150


def test_class_shares_of_a_fully_synthetic_loop_drift_as_categories_do() -> None:
    """E H_t/H_0 = (1 − 1/n)^t (theory of the categorical loop), within four standard errors over 300 seeds."""
    n, generations, seeds = 12, 8, tuple(range(300))
    told = Classes(classes=5)
    label = torch.arange(n).expand(len(seeds), n) % 5
    state = told.shares(Samples.full(torch.zeros(len(seeds), n, 1), 0, label))
    first = 1 - state.square().sum(1)
    for t in range(generations):
        drawn = told.drawn(state, n, Streams(seeds, t))
        state = told.shares(Samples.full(torch.zeros(len(seeds), n, 1), t + 1, drawn))
        ratio = (1 - state.square().sum(1)) / first
        error = float(ratio.std() / math.sqrt(len(seeds)))
        assert abs(float(ratio.mean()) - replaced_heterozygosity(n, t + 1)) < 4 * error


# Metrics


def test_metrics_of_classes_are_what_they_say() -> None:
    real, generated = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 1])
    assert class_tv(real, generated, 4) == pytest.approx((0.25 + 0.5 + 0.25) / 2)
    assert class_tv(real, real, 4) == 0
    assert effective_classes(torch.arange(20) % 5) == pytest.approx(5)
    assert effective_classes(torch.zeros(9, dtype=torch.int64)) == 1
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 3, generator=rng, dtype=torch.float64), torch.arange(60) % 3
    moved = x + torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)[y].unsqueeze(1)
    found = class_frechet(x, moved, y, y, 4)
    assert found == pytest.approx({0: 0, 1: 3, 2: 27}, abs=1e-9)
    assert sorted(class_frechet(x, moved, y, torch.where(y == 1, 2, y), 4)) == [0, 2]


def test_class_agreement_is_how_often_the_features_name_the_label() -> None:
    y = torch.tensor([[0, 1, 2, 2]])
    evidence = Evidence(
        generator=edm(), state={}, first={}, untrained={}, train=torch.zeros(1, 4, 1), held_out=torch.zeros(1, 4, 1),
        generated=torch.tensor([[[0.0], [1.0], [1.0], [2.0]]]), classes=3, generated_label=y,
        named=lambda features: features[:, 0].long(),
    )  # fmt: skip
    assert METRICS["class_agreement"].compute(evidence).tolist() == [0.75]


def test_the_classifier_of_the_features_names_digits(tmp_path: Path) -> None:
    from selfloop.features.classifier import Classifier

    x, y = labelled_images("digits")
    classifier = Classifier(width=32, epochs=2)
    named = classifier.named(classifier(x[:500]))
    assert float((named == y[:500]).double().mean()) > 0.85
    assert classifier.names == 10
    np.savez(tmp_path / "own.npz", x=x[:200, 0].numpy(), y=y[:200].numpy() % 3)
    features = {"name": "classifier", "labelled": str(tmp_path / "own.npz"), "epochs": 1}
    built = experiment(metrics=["class_agreement"], features=features)
    with pytest.raises(DataError, match="features classifier name 3 classes, and the data are of 10"):
        next(run(built, tmp_path / "run"))
