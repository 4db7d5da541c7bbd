"""Sets of images: what is loaded is what the files hold, as levels, and broken or hostile files are refused by name."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from selfloop.core.errors import ConfigError, DataError
from selfloop.data import CIFAR10, DigitImages, ImageFiles
from selfloop.experiment import Experiment

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def levels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def batch(rows: np.ndarray) -> bytes:
    """Return a batch as Python 2 pickled it by protocol 2: text as byte strings, the array by NumPy's old names."""

    def text(word: bytes) -> bytes:
        return b"U" + bytes([len(word)]) + word

    n = len(rows)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09U\x01bq\x0a\x87q\x0bRq\x0c"
        + (b"(K\x01M" + struct.pack("<H", n) + b"M\x00\x0c\x86q\x0d")
        + b"cnumpy\ndtype\nq\x0eU\x02u1q\x0fK\x00K\x01\x87q\x10Rq\x11"
        + b"(K\x03U\x01|q\x12NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x13b\x89"
        + b"T"
        + struct.pack("<i", rows.size)
        + rows.tobytes()
        + b"q\x14tq\x15b"
    )
    labels = b"]q\x05(" + b"".join(b"K" + bytes([i % 10]) for i in range(n)) + b"e"
    entries = text(b"batch_label") + text(b"training batch 1 of 5") + text(b"labels") + labels + text(b"data") + array
    return b"\x80\x02}q\x01(" + entries + b"u."


@pytest.fixture(scope="module")
def batches() -> dict[str, np.ndarray]:
    return {name: levels(20, 3072, seed=i) for i, name in enumerate(NAMES)}


def archive(path: Path, members: dict[str, bytes], folder: str = "cifar-10-batches-py") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_digits_are_the_table_s_levels() -> None:
    split = DigitImages(n=100, held_out=50).load([0, 1])
    assert split.train.shape == (2, 100, 1, 8, 8)
    assert split.held_out.shape == (2, 50, 1, 8, 8)
    assert split.train.dtype == torch.uint8
    assert split.events.pixels(split.train[0]) is not None
    assert torch.equal(split.events.pixels(split.train[0]), split.train[0])
    known = {tuple(np.rint(row * (255 / 16)).astype(int)) for row in load_digits().data}
    assert all(tuple(image.flatten().tolist()) in known for image in split.train[1])
    assert not torch.equal(split.train[0], split.train[1])
    assert torch.equal(DigitImages(n=100, held_out=50).load([1]).train[0], split.train[1])


def test_cifar_from_its_archive_its_folder_and_the_folder_above(tmp_path: Path, batches) -> None:
    members = {name: batch(rows) for name, rows in batches.items()} | {"readme.html": b"<p>", "batches.meta": b"junk"}
    path = archive(tmp_path / "cifar-10-python.tar.gz", members)
    folder = tmp_path / "above" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)
    train = np.concatenate([batches[name] for name in NAMES[:5]]).reshape(100, 3, 32, 32)
    for source in (path, folder, folder.parent):
        split = CIFAR10(path=str(source)).load([0, 5])
        assert split.train.shape == (2, 100, 3, 32, 32)
        assert np.array_equal(split.train[1].numpy(), train)
        assert np.array_equal(split.held_out[0].numpy(), batches["test_batch"].reshape(20, 3, 32, 32))
    some = CIFAR10(path=str(path), n=30, held_out=4).load([0, 5])
    assert some.train.shape == (2, 30, 3, 32, 32)
    assert not torch.equal(some.train[0], some.train[1])
    assert torch.equal(CIFAR10(path=str(path), n=30, held_out=4).load([5]).train[0], some.train[1])
    with pytest.raises(DataError, match="100 images to train, fewer than 101"):
        CIFAR10(path=str(path), n=101).load([0])


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path: Path, pictures: list[bytes], column: str = "img") -> None:
    rows = [{"bytes": content, "path": None} for content in pictures]
    pq.write_table(pa.table({column: rows, "label": list(range(len(rows)))}), path)


def test_cifar_from_parquet(tmp_path: Path) -> None:
    train, test = levels(7, 3, 32, 32), levels(3, 3, 32, 32, seed=1)
    parquet(tmp_path / "train-00000-of-00002.parquet", [png(x) for x in train[:4]])
    parquet(tmp_path / "train-00001-of-00002.parquet", [png(x) for x in train[4:]], column="image")
    parquet(tmp_path / "test-00000-of-00001.parquet", [png(x) for x in test])
    split = CIFAR10(path=str(tmp_path)).load([0])
    assert np.array_equal(split.train[0].numpy(), train)
    assert np.array_equal(split.held_out[0].numpy(), test)
    parquet(tmp_path / "test-00000-of-00001.parquet", [png(levels(3, 16, 16))])
    with pytest.raises(DataError, match=r"picture 0 in test-00000-of-00001.parquet has shape \(3, 16, 16\)"):
        CIFAR10(path=str(tmp_path)).load([0])
    parquet(tmp_path / "test-00000-of-00001.parquet", [b"not a picture"])
    with pytest.raises(DataError, match=r"picture 0 in test-00000-of-00001.parquet is damaged"):
        CIFAR10(path=str(tmp_path)).load([0])
    parquet(tmp_path / "test-00000-of-00001.parquet", [png(levels(1, 32, 32))])
    with pytest.raises(DataError, match=r"picture 0 in test-00000-of-00001.parquet has shape \(1, 32, 32\)"):
        CIFAR10(path=str(tmp_path)).load([0])
    rows = pq.read_table(tmp_path / "test-00000-of-00001.parquet")
    pq.write_table(rows.slice(0, 0), tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"test-00000-of-00001.parquet holds no pictures"):
        CIFAR10(path=str(tmp_path)).load([0])
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match=r"test-00000-of-00001.parquet is damaged or no Parquet file"):
        CIFAR10(path=str(tmp_path)).load([0])


def test_cifar_that_is_broken_is_refused_by_name(tmp_path: Path, batches) -> None:
    sound = {name: batch(rows) for name, rows in batches.items()}
    marker = tmp_path / "executed"
    bomb = b"\x80\x02cos\nsystem\nU" + bytes([len(f"touch {marker}")]) + f"touch {marker}".encode() + b"\x85R."
    broken = {
        "has no batch data_batch_3": {k: v for k, v in sound.items() if k != "data_batch_3"},
        "batch data_batch_2 is damaged": sound | {"data_batch_2": sound["data_batch_2"][:-100]},
        "batch test_batch asks for 'os.system'": sound | {"test_batch": bomb},
        "batch data_batch_1 does not hold images": sound | {"data_batch_1": b"\x80\x02}."},
        "batch data_batch_4 does not hold images as rows": sound
        | {"data_batch_4": sound["data_batch_4"].replace(b"M\x14\x00M\x00\x0c", b"M\x15\x00M\x00\x0c")},
    }
    for message, members in broken.items():
        with pytest.raises(DataError, match=message) as refusal:
            CIFAR10(path=str(archive(tmp_path / "cifar.tar.gz", members))).load([0])
        assert "\n" not in str(refusal.value)
    assert not marker.exists()
    (tmp_path / "cifar.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"is not a tar archive that can be read"):
        CIFAR10(path=str(tmp_path / "cifar.tar.gz")).load([0])
    with pytest.raises(DataError, match=r"does not exist: set data.path to cifar-10-python.tar.gz"):
        CIFAR10(path=str(tmp_path / "nowhere")).load([0])


def test_an_archive_leaves_nothing_outside(tmp_path: Path, batches) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    members = {f"../../{name}": batch(rows) for name, rows in batches.items()}
    split = CIFAR10(path=str(archive(inside / "cifar.tar.gz", members))).load([0])
    assert split.train.shape[1] == 100
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cifar.tar.gz", "inside"]


def test_files_of_images(tmp_path: Path) -> None:
    images = levels(12, 3, 16, 16)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        file.writestr("dataset.json", "{}")
        for i, image in enumerate(images):
            file.writestr(f"00000/img{i:08d}.png", png(image))
    np.save(tmp_path / "set.npy", images.transpose(0, 2, 3, 1))
    (tmp_path / "folder").mkdir()
    for i, image in enumerate(images):
        (tmp_path / "folder" / f"{i:03d}.png").write_bytes(png(image))
    sets = [
        ImageFiles(path=str(tmp_path / name), side=16, held_out=2).load([3])
        for name in ("set.zip", "set.npy", "folder")
    ]
    for split in sets:
        assert split.train.shape == (1, 10, 3, 16, 16)
        assert torch.equal(split.train, sets[0].train)
    assert ImageFiles(path=str(tmp_path / "set.npy")).load([0]).held_out.shape[1] == 1
    with pytest.raises(DataError, match="holds images of 16 × 16, not 64 × 64"):
        ImageFiles(path=str(tmp_path / "set.npy"), side=64).load([0])
    with pytest.raises(DataError, match="does not exist"):
        ImageFiles(path=str(tmp_path / "none.npy")).load([0])
    np.save(tmp_path / "floats.npy", np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match="is no folder, zip, NPY or NPZ of uint8 images"):
        ImageFiles(path=str(tmp_path / "floats.npy")).load([0])


def test_generators_and_data_of_different_events_are_refused() -> None:
    plain = {"name": "mixed", "generations": 1, "budget": {"steps": 1}}
    for data, generator, words in (
        ("two_moons", "edm", "generator edm makes images, and data two_moons holds vectors"),
        ("digit_images", "otcfm", "generator otcfm makes vectors, and data digit_images holds images"),
    ):
        with pytest.raises(ConfigError, match=words):
            Experiment.model_validate(plain | {"data": {"name": data}, "generator": {"name": generator}})
