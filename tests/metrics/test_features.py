"""Extractors: a small classifier that trains to the same bits, TorchScript files, and the cache of both."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from platformdirs import user_cache_path
from torch import Tensor

from selfloop.core import paths
from selfloop.core.config import Inside
from selfloop.core.errors import ConfigError, DataError
from selfloop.data.reading.cifar import read_cifar10
from selfloop.data.reading.images import labelled_images
from selfloop.data.reading.labelled import read_labelled
from selfloop.engines.threads import as_in_a_worker
from selfloop.features import FEATURES, Classifier, Identity, TorchFidelity, TorchScript, base, cached, classifier


def quick() -> Classifier:
    """Return a classifier that trains in less than a second, with nothing read or trained yet."""
    return Classifier(width=8, epochs=1)


def images(n: int, channels: int = 1, side: int = 8, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, size=(n, channels, side, side), dtype=np.uint8))


def refused(call: Classifier | TorchScript | TorchFidelity, x: Tensor, *words: str) -> None:
    """Ask for features, expecting a refusal in one line that holds all the words."""
    with pytest.raises(DataError) as caught:
        call(x)
    assert len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """A cache directory in which the classifier of digits was trained, and its features of 300 digits.

    In training neither torch's random state nor its number of threads changes.
    """
    place = tmp_path_factory.mktemp("trained")
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELFLOOP_CACHE", str(place))
        torch.set_num_threads(2)
        try:
            with as_in_a_worker():
                inner = Classifier()(labelled_images("digits")[0][:300])
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)
    return place, inner


def weights(place: Path) -> list[Path]:
    return sorted(place.glob("classifier-*.safetensors"))


# rows as they are


def test_identity_returns_rows() -> None:
    x = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(Identity()(x), x.view(2, 12))
    assert "pixels" not in Identity.needs


def test_a_configuration_selects_them_by_name() -> None:
    select = FEATURES.parse
    assert select({"name": "identity"}) == Identity()
    assert select({"name": "classifier", "width": 8, "epochs": 1}) == quick()
    assert select({"name": "torchscript", "path": "x.pt"}) == TorchScript(path="x.pt")
    for wrong in (
        {"name": "classifier", "width": 0},
        {"name": "classifier", "epochs": 1.5},
        {"name": "torchscript", "sha256": "abc"},
        {"name": "torch_fidelity", "network": "vgg"},
    ):
        with pytest.raises(Inside):
            select(wrong)
    with pytest.raises(ConfigError, match="no features is called 'inception'"):
        select({"name": "inception"})


def test_every_key_is_another() -> None:
    keys = [c.key() for c in (Identity(), quick(), Classifier(width=8, epochs=2), Classifier(width=9, epochs=1))]
    assert len(set(keys)) == len(keys)
    assert Classifier(width=8, epochs=1).key() == quick().key()


# the classifier


@pytest.mark.parametrize("variable", ["elsewhere", ""])
def test_the_cache_is_where_the_environment_says_or_the_users(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("SELFLOOP_CACHE", variable)
    assert paths.cache() == (Path(variable) if variable else user_cache_path("selfloop"))


@pytest.mark.slow
def test_the_classifier_knows_the_digits(trained: tuple[Path, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """At least 97 % of the fifth of the digits that it was not trained on."""
    place, inner = trained
    monkeypatch.setenv("SELFLOOP_CACHE", str(place))
    assert 0.97 <= Classifier().accuracy <= 1
    assert inner.shape == (300, 64)
    assert inner.dtype == torch.float32
    assert inner.min() == 0
    assert torch.isfinite(inner).all()


def test_features_tell_the_digits_apart(trained: tuple[Path, Tensor]) -> None:
    """The nearest mean of the features of 200 digits names 9 in 10 of 100 others."""
    _, inner = trained
    y = labelled_images("digits")[1][:300]
    means = torch.stack([inner[:200][y[:200] == digit].mean(0) for digit in range(10)])
    assert (torch.cdist(inner[200:], means).argmin(1) == y[200:]).double().mean() > 0.9


def test_a_second_one_reads_the_weights(trained: tuple[Path, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    place, inner = trained
    monkeypatch.setenv("SELFLOOP_CACHE", str(place))
    monkeypatch.setattr(classifier, "_trained", lambda *_: pytest.fail("trained again"))
    assert len(weights(place)) == 1
    with as_in_a_worker():
        assert torch.equal(Classifier()(labelled_images("digits")[0][:300]), inner)


@pytest.mark.slow
def test_training_again_gives_the_same_bytes(trained: tuple[Path, Tensor], cache: Path) -> None:
    """Whatever the caller's threads and number type, and with nothing left behind but the file."""
    place, _ = trained
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64)
    try:
        Classifier().accuracy  # noqa: B018
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
    assert list(cache.iterdir()) == weights(cache)
    assert [p.name for p in weights(cache)] == [p.name for p in weights(place)]
    assert weights(cache)[0].read_bytes() == weights(place)[0].read_bytes()


def test_training_leaves_the_random_state_alone(cache: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    quick()(images(3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert len(weights(cache)) == 1


def test_a_classifier_of_the_users_own_images(tmp_path: Path, cache: Path) -> None:
    """Bright and dark pictures in colour, 6 × 5, are told apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=100)
    x = (rng.integers(0, 100, size=(100, 6, 5, 3)) + 150 * y[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "own.npz", x=x, y=y)
    own = Classifier(labelled=str(tmp_path / "own.npz"), width=4, epochs=20)
    assert own.accuracy == 1
    assert own(images(7, 3, 9)).shape == (7, 4)
    refused(own, images(7), "classifier")


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(4, 8, 8, dtype=torch.uint8),
        torch.zeros(4, 2, 8, 8, dtype=torch.uint8),
        torch.zeros(4, 64),
        torch.zeros(4, 1, 8, 8),
        torch.zeros(4, 8, 8, 1, dtype=torch.uint8),
        torch.zeros(4, 3, 8, 8, dtype=torch.uint8),  # the digits are grey
    ],
    ids=lambda x: f"{x.dtype} {tuple(x.shape)}",
)
def test_refuses_what_are_no_images_of_its_kind(cache: Path, x: Tensor) -> None:
    refused(quick(), x, "features classifier", str(tuple(x.shape)))


def test_refuses_labelled_images_that_are_not_there(cache: Path) -> None:
    refused(Classifier(labelled="nowhere.npz"), images(3), "nowhere.npz")


# TorchScript


class Means(torch.nn.Module):
    """The mean of every channel, times a weight; one channel only unless features are asked for."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        means = self.weight * x.float().mean(dim=[2, 3])
        return means if return_features else means[:, :1]


def script(path: Path, weight: float = 1.0) -> TorchScript:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit
        torch.jit.script(Means(weight)).save(str(path))
    return TorchScript(path=str(path))


def test_torchscript_gets_colour_and_its_arguments(tmp_path: Path) -> None:
    scripted, x = script(tmp_path / "means.pt"), images(5, 3)
    found = scripted(x)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, x.float().mean((2, 3)))
    assert TorchScript(path=scripted.path, arguments={})(x).shape == (5, 1)


def test_a_traced_network_that_takes_pictures_alone_needs_no_arguments(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit
        torch.jit.trace(lambda x: x.float().mean(dim=[2, 3]), images(2, 3)).save(str(tmp_path / "traced.pt"))
    x = images(5, 3)
    torch.testing.assert_close(TorchScript(path=str(tmp_path / "traced.pt"))(x), x.float().mean((2, 3)))


def test_torchscript_gets_grey_images_thrice(tmp_path: Path) -> None:
    x = images(5)
    torch.testing.assert_close(script(tmp_path / "means.pt")(x), x.float().mean((2, 3)).expand(5, 3))


def test_many_images_go_in_batches_and_progress_is_told(tmp_path: Path) -> None:
    x, seen = images(300, 3), []
    found = script(tmp_path / "means.pt")(x, lambda done, total: seen.append((done, total)))
    assert seen == [(128, 300), (256, 300), (300, 300)]
    torch.testing.assert_close(found, x.float().mean((2, 3)))


def test_a_bare_name_is_looked_for_in_the_cache(cache: Path) -> None:
    cache.mkdir()
    script(cache / "means.pt")
    assert TorchScript(path="means.pt")(images(5)).shape == (5, 3)


def test_the_hash_is_held_against_the_file(tmp_path: Path) -> None:
    path = tmp_path / "means.pt"
    script(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    right = TorchScript(path=str(path), sha256=digest)
    assert right(images(5)).shape == (5, 3)
    assert digest in right.key()
    assert digest in TorchScript(path=str(path)).key()
    wrong = TorchScript(path=str(path), sha256="0" * 64)
    refused(wrong, images(5), str(path), digest, "0" * 64)
    with pytest.raises(DataError, match="SHA-256"):
        wrong.key()


def test_a_missing_file_is_asked_for_by_address_and_place(cache: Path) -> None:
    address = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt"
    refused(TorchScript(), images(3), address, f"put it at {cache / 'inception-2015-12-05.pt'}")
    refused(TorchScript(path="other.pt"), images(3), "'other.pt'", f"put it at {cache / 'other.pt'}")
    with pytest.raises(DataError, match="no file"):
        TorchScript().key()


class _Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_file_that_is_no_torchscript_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "x.pt"
    script(path)
    cut = path.read_bytes()[:-100]
    torch.save(_Trap(mark), path)
    for content in (b"", b"no network", pickle.dumps(_Trap(mark)), path.read_bytes(), cut):
        path.write_bytes(content)
        refused(TorchScript(path=str(path)), images(3), "x.pt", "not a TorchScript file")
    assert not mark.exists()


def test_a_network_that_does_not_take_the_arguments_is_refused(tmp_path: Path) -> None:
    path = script(tmp_path / "means.pt").path
    refused(
        TorchScript(path=path, arguments={"return_featrues": True}),
        images(3),
        "features torchscript",
        "return_featrues",
    )


# torch-fidelity


def test_torch_fidelity_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)  # as if it were not installed
    refused(TorchFidelity(), images(3, 3), "pip install 'selfloop[images]'")
    with pytest.raises(DataError, match=re.escape("selfloop[images]")):
        TorchFidelity().key()


def test_the_extra_that_is_named_exists() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any("torch-fidelity" in need for need in project["optional-dependencies"].get("images", []))


# the cache of features


def computed(extractor: Classifier | TorchScript | Identity, x: Tensor) -> tuple[Tensor, bool]:
    """Return the features, and whether they were computed rather than read."""
    calls: list[int] = []
    found = cached(extractor, x, lambda done, total: calls.append(done))
    return found, bool(calls)


def kept(place: Path) -> int:
    return len(list(place.glob("features-*.safetensors")))


LARGE = 87_382  # images whose three float32 features take a MiB


def test_features_of_a_large_set_are_kept(tmp_path: Path, cache: Path) -> None:
    scripted, x = script(tmp_path / "means.pt"), images(LARGE, side=1)
    first, was_computed = computed(scripted, x)
    assert was_computed
    assert first.nbytes >= 1 << 20
    assert kept(cache) == 1
    base._kept.cache_clear()
    again, was_computed = computed(TorchScript(path=scripted.path), x.clone())
    assert not was_computed
    assert torch.equal(again, first)
    x[5] ^= 1
    other, was_computed = computed(scripted, x)
    assert was_computed
    assert torch.equal(other[6:], first[6:])
    assert not torch.equal(other[5], first[5])
    assert kept(cache) == 2


def test_features_are_kept_apart_by_weights_and_arguments(tmp_path: Path, cache: Path) -> None:
    x = images(LARGE, side=1)
    first, _ = computed(script(tmp_path / "means.pt"), x)
    second, was_computed = computed(script(tmp_path / "means.pt", weight=2.0), x)  # another file of that name
    assert was_computed
    torch.testing.assert_close(second, 2 * first)
    third, was_computed = computed(TorchScript(path=script(tmp_path / "means.pt").path, arguments={}), x)
    assert was_computed
    assert third.shape == (LARGE, 1)


def test_small_sets_and_rows_are_not_kept(tmp_path: Path, cache: Path) -> None:
    assert computed(script(tmp_path / "means.pt"), images(LARGE - 1, side=1))[1]
    rows = torch.zeros(1 << 18, 2)
    assert cached(Identity(), rows).shape == rows.shape
    assert kept(cache) == 0


def test_shape_is_part_of_what_a_set_is(tmp_path: Path, cache: Path) -> None:
    x = images(LARGE, side=2)
    scripted = script(tmp_path / "means.pt")
    first, _ = computed(scripted, x)
    second, was_computed = computed(scripted, x.view(-1, 1, 1, 4))
    assert was_computed
    torch.testing.assert_close(second, first)
    assert kept(cache) == 2


# the classifier of colour pictures


def coloured(n: int, side: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures (N, side, side, 3) of three classes, each with its colour in a corner, and the classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    x = rng.integers(0, 200, size=(n, side, side, 3), dtype=np.uint8)
    for i, each in enumerate(y):
        x[i, : side // 2, : side // 2, each] = 255
    return x, y


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Parquet files as the hub serves CIFAR-10: 200 pictures to train on, 10 to test, and their labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("cifar")
    for name, n in (("train", 200), ("test", 10)):
        x, y = coloured(n, 32)
        pq.write_table(
            pa.table({"img": [{"bytes": png(each)} for each in x], "label": y.tolist()}), folder / f"{name}-0.parquet"
        )
    return folder


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_a_classifier_of_cifars_labels(cifar: Path, cache: Path) -> None:
    few = Classifier(labelled=str(cifar), width=8, epochs=20)
    assert few.accuracy > 0.8
    assert few.channels() == (3,)
    x, y = coloured(60, 32, seed=1)
    inner = few(torch.from_numpy(x).permute(0, 3, 1, 2))
    assert inner.shape == (60, 8)
    assert (few.named(inner).numpy() == y).mean() > 0.8
    first = weights(cache)[0].read_bytes()
    weights(cache)[0].unlink()
    Classifier(labelled=str(cifar), width=8, epochs=20).accuracy  # noqa: B018
    assert weights(cache)[0].read_bytes() == first


def test_what_a_picture_shows_does_not_depend_on_those_beside_it(cifar: Path, cache: Path) -> None:
    """Normalisation is settled when training ends."""
    few = Classifier(labelled=str(cifar), width=8, epochs=1)
    x = images(40, 3, 32)
    torch.testing.assert_close(few(x)[:3], few(x[:3]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (7, 5)])
def test_colour_pictures_of_any_size(tmp_path: Path, cache: Path, height: int, width: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, size=(30, height, width, 3), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(30) % 2)
    own = Classifier(labelled=str(tmp_path / "own.npz"), width=4, epochs=1)
    assert torch.isfinite(own(images(5, 3, 9))).all()


def test_passes_are_few_where_there_is_much_and_recorded() -> None:
    assert Classifier().epochs == Classifier(labelled="own.npz").epochs == 30
    assert Classifier(labelled="cifar-10-python.tar.gz").epochs < 10
    assert Classifier(labelled="cifar", epochs=30).epochs == 30
    assert FEATURES.plain(Classifier(labelled="cifar"))["epochs"] < 10


def test_folders_are_classes_too(tmp_path: Path, cache: Path) -> None:
    x, y = coloured(20)
    for i, each in enumerate(x):
        (tmp_path / "p" / f"class{y[i]}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(tmp_path / "p" / f"class{y[i]}" / f"{i}.png")
    found, labels = read_labelled(str(tmp_path / "p"))
    assert found.shape == (20, 3, 8, 8)
    assert sorted(labels.tolist()) == sorted(y.tolist())


@pytest.mark.parametrize(
    ("labels", "pictures", "words"),
    [
        ([None] + [0] * 11, {}, "label of image 0"),
        ([0] * 3 + [10] + [0] * 8, {}, "label of image 3 is '10'"),
        ([0] * 5 + [-1] + [0] * 6, {}, "label of image 5"),
        (None, {}, "no column label"),
        ([0] * 12, {7: b"no picture"}, "picture 7 in train-0.parquet is damaged, or neither PNG nor JPEG"),
        ([0] * 12, {7: None}, "picture 7 in train-0.parquet is not there"),
        ([0] * 12, {2: png(np.zeros((8, 8, 3), np.uint8))}, "picture 2 in train-0.parquet has shape"),
        ([0] * 12, {11: png(np.zeros((32, 32, 3), np.uint8))[:-40]}, "picture 11 in train-0.parquet is damaged"),
    ],
)
def test_rows_of_cifar_that_are_none_are_named(
    tmp_path: Path, labels: list[int | None] | None, pictures: dict[int, bytes | None], words: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = [png(each) for each in coloured(12, 32)[0]]
    content = [{"bytes": pictures.get(i, each)} for i, each in enumerate(whole)]
    table = {"img": content} if labels is None else {"img": content, "label": labels}
    for name in ("train", "test"):
        pq.write_table(pa.table(table), tmp_path / f"{name}-0.parquet")
    refused(Classifier(labelled=str(tmp_path)), images(3, 3), words)


def test_a_damaged_page_is_noticed_where_its_writer_noted_a_checksum(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    noise = np.random.default_rng(0).integers(0, 256, size=(100, 32, 32, 3), dtype=np.uint8)
    table = pa.table({"img": [{"bytes": each.tobytes()} for each in noise]})
    for name in ("train", "test"):
        pq.write_table(table, tmp_path / f"{name}-0.parquet", compression="none", write_page_checksum=True)
    content = bytearray((tmp_path / "train-0.parquet").read_bytes())
    content[50_000] ^= 1
    (tmp_path / "train-0.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train-0.parquet is damaged at picture 0 or after it: .*checksum"):
        read_cifar10(tmp_path)
