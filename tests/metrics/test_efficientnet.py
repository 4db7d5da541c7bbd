"""Features by EfficientNet-Lite0: where its package is, where it is not, and who chooses it where nobody named any."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import selfloop
from selfloop.core.errors import DataError
from selfloop.core.events import Images
from selfloop.experiment import Experiment
from selfloop.features import EfficientNet, efficientnet
from selfloop.features.unnamed import unnamed as suited
from selfloop.metrics.base import METRICS
from selfloop.outside import judge
from selfloop.store import Run

NET = {"channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.0, "group_channels": 4}


def pictures(n: int, channels: int = 3, side: int = 8, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, size=(n, channels, side, side), dtype=np.uint8))


def colour(tmp_path: Path) -> Experiment:
    np.savez(tmp_path / "x.npz", x=pictures(40).permute(0, 2, 3, 1).numpy())
    return Experiment.build(
        {
            "name": "t",
            "data": {"name": "image_files", "path": str(tmp_path / "x.npz"), "n": 30, "held_out": 10},
            "generator": {"name": "edm", "net": NET, "batch_size": 10, "steps": 2},
            "budget": {"steps": 1},
            "metrics": ["frechet_held_out", "variance_ratio"],
            "generations": 1,
        }
    )


class Stub(EfficientNet):
    """As if the network were there: the means of channels, a thousandth of a level apart."""

    def key(self) -> str:
        return "stub"

    def __call__(self, x: Tensor, progress: object = None) -> Tensor:
        return x.float().mean((2, 3))


# without the package


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    monkeypatch.setattr(efficientnet, "installed", lambda: False)
    for ask in (lambda: EfficientNet().key(), lambda: EfficientNet()(pictures(2))):
        with pytest.raises(
            DataError, match=r"^features efficientnet needs package .*pip install 'selfloop\[images\]'$"
        ):
            ask()


class Refusing(MetaPathFinder):
    """Does not find the packages, in the way of finders that raise."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.startswith("efficientnet"):
            raise ModuleNotFoundError(fullname)


@pytest.mark.parametrize("package", efficientnet._PACKAGES)
def test_packages_are_absent_in_more_ways_than_one(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, package, None)
        assert not efficientnet.installed()
    for name in efficientnet._PACKAGES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    assert not efficientnet.installed()


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    path = tmp_path / "w.pth"
    torch.save({"_fc.weight": torch.zeros(2)}, path)
    for content in (path.read_bytes(), b"", b"no weights", path.read_bytes()[:100]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"^features efficientnet: .*holds no weights of it") as caught:
            efficientnet._network(path)
        assert len(str(caught.value).splitlines()) == 1


# with it


def test_features_are_those_of_the_network_as_its_authors_run_it() -> None:
    """Folding the normalisation into convolutions and batches of a few change digits alone."""
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    found, x = EfficientNet(), pictures(9)
    module = lite.EfficientNet.from_name("efficientnet-lite0").eval()
    module.load_state_dict(torch.load(found._path, weights_only=True))
    features = found(x)
    side = (efficientnet.SIDE, efficientnet.SIDE)
    resized = torch.nn.functional.interpolate(x.float(), side, mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = module.extract_features((resized - 127) / 128).mean((2, 3))
    assert features.shape == (9, 1280)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    grey = pictures(2, channels=1)
    torch.testing.assert_close(found(grey), found(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    assert "579344248a93e230" in found.key()  # as the name of the file has it


# where nobody named any


@pytest.mark.parametrize("there", [True, False])
def test_colour_pictures_alone_are_looked_at_by_it(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr("selfloop.features.unnamed.installed", lambda: there)
    name = "efficientnet" if there else "identity"
    shown = Images((3, 16, 16))
    features, words = suited([(shown, pictures(1)), (shown, pictures(1))])
    assert features.name == name
    assert ("no FIDs" if there else "pip install 'selfloop[images]'") in words
    for others in ([pictures(1, channels=1)], [pictures(1), None], [None], [pictures(1), pictures(1, channels=1)]):
        features, words = suited([(shown, each) for each in others])
        assert (features.name, words) == ("identity", "")


def test_a_run_keeps_the_features_that_it_was_made_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, told = colour(tmp_path), list[str]()
    monkeypatch.setattr("selfloop.features.unnamed.installed", lambda: False)
    list(selfloop.run(experiment, tmp_path / "pixels", notice=told.append))
    assert told[0].startswith("features: pixel levels")
    assert told[0] in (tmp_path / "pixels" / "log.txt").read_text()
    assert Run.open(tmp_path / "pixels").metric("frechet_held_out").title == "Fréchet distance to held-out data"

    monkeypatch.setattr("selfloop.features.unnamed.installed", lambda: True)
    monkeypatch.setattr("selfloop.features.unnamed.EfficientNet", Stub)
    assert len(list(selfloop.run(experiment.override("generations=2"), tmp_path / "pixels", notice=told.append))) == 1
    assert Run.open(tmp_path / "pixels").experiment.features.name == "identity"
    assert len(told) == 1


def test_whoever_names_features_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfloop.features.unnamed.installed", lambda: True)
    experiment, told = colour(tmp_path), list[str]()
    assert not experiment.names_features
    assert not experiment.override("generations=2").names_features
    assert not Experiment.build(experiment.given()).names_features
    named = experiment.override("features={name: identity}")
    assert named.names_features
    assert named.override("generations=2").names_features
    list(selfloop.run(named, tmp_path / "out", notice=told.append))
    assert told == []


def test_judging_chooses_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfloop.features.unnamed.installed", lambda: False)
    made = [pictures(20, seed=t).permute(0, 2, 3, 1).numpy() for t in range(4)]
    settings = {"metrics": ["frechet_held_out"], "out": tmp_path / "out"}
    with pytest.warns(UserWarning, match=r"features: pixel levels, .* pip install 'selfloop\[images\]'"):
        assert judge(made[0], made[1:3], **settings).run.experiment.features.name == "identity"
    monkeypatch.setattr("selfloop.features.unnamed.installed", lambda: True)
    assert judge(made[0], made[1:], **settings).run.experiment.features.name == "identity"  # as it was begun


# names


def test_numbers_say_of_which_features_they_are() -> None:
    titles = {
        "frechet_held_out": "FD-EffNet to held-out data",
        "frechet_infinity_train": "FD∞-EffNet to training data",
        "kid_train": "KD-EffNet to training data",
        "variance_ratio": METRICS["variance_ratio"].title,
    }
    for name, title in titles.items():
        assert METRICS[name].measured("pixel levels", EfficientNet.unit, EfficientNet.label).title == title
        assert METRICS[name].measured("pixel levels", "feature units").title == METRICS[name].title
    about = METRICS["frechet_held_out"].measured("pixel levels", EfficientNet.unit, EfficientNet.label)
    assert about.unit == "EffNet units²"
    assert about.direction == "lower is better, biased up by about 1/N"
