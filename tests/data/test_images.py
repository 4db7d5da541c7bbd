"""Pictures and labelled images: what is read is what was written, and files of no use are refused in one line."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from selfloop.core.errors import DataError
from selfloop.data import Digits
from selfloop.data.reading import images
from selfloop.data.reading.images import channels_first, labelled_images, read_pictures

Files = dict[str, bytes]


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def encoded(x: np.ndarray, kind: str = "PNG", mode: str | None = None, **more: object) -> bytes:
    """Return a picture (H, W) or (H, W, C) as the bytes of a file, converted to a mode if one is given."""
    stream, image = io.BytesIO(), Image.fromarray(x)
    (image if mode is None else image.convert(mode)).save(stream, kind, **more)
    return stream.getvalue()


GREY, COLOUR = encoded(pixels(4, 6)), encoded(pixels(4, 6, 3))


def folder(path: Path, files: Files) -> Path:
    for name, content in files.items():
        (path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "p" / name).write_bytes(content)
    return path / "p"


def packed(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path / "p.zip"


either = pytest.mark.parametrize("write", [folder, packed])
Write = Callable[[Path, Files], Path]


def refused(call: Callable[[], object], *words: str) -> None:
    """Call, expecting a refusal in one printable line that holds all the words."""
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), message
    for word in words:
        assert word in message


# pictures that can be read


@either
@pytest.mark.parametrize("shape", [(3, 4, 6), (2, 5, 4, 3), (1, 1, 1)])
def test_png_keeps_its_pixels(tmp_path: Path, write: Write, shape: tuple[int, ...]) -> None:
    x = pixels(*shape)
    found = read_pictures(write(tmp_path, {f"{i}.png": encoded(picture) for i, picture in enumerate(x)}))
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    np.testing.assert_array_equal(found.numpy(), x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2))


@either
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_its_pixels_nearly(tmp_path: Path, write: Write, channels: int) -> None:
    smooth = np.add.outer(np.arange(0, 128, 8), np.arange(0, 128, 8)).astype(np.uint8)
    x = smooth if channels == 1 else np.stack([smooth, smooth, smooth], 2)
    files = {"a.jpg": encoded(x, "JPEG", quality=95), "b.JPEG": encoded(x, "JPEG", quality=95)}
    found = read_pictures(write(tmp_path, files))
    assert found.shape == (2, channels, 16, 16)
    assert np.abs(found.numpy().astype(int) - smooth).max() <= 4


@either
def test_the_order_is_that_of_the_names_and_other_files_are_passed_over(tmp_path: Path, write: Write) -> None:
    names = ["b.png", "a/2.png", "a-1.PNG", "a/10.png", "B.png", "c.jpg.png"]
    x = dict(zip(names, pixels(6, 4, 6), strict=True))
    files = {name: encoded(picture) for name, picture in x.items()}
    found = read_pictures(write(tmp_path, files | {"notes.txt": b"none", "png": b"none", "a/labels.npy": b"none"}))
    np.testing.assert_array_equal(found[:, 0].numpy(), [x[name] for name in sorted(names)])


def test_folders_that_are_called_like_pictures_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "p" / "x.png").mkdir(parents=True)
    assert len(read_pictures(folder(tmp_path, {"x.png/1.png": GREY}))) == 1
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.mkdir("x.png")
        archive.writestr("x.png/1.png", GREY)
    assert len(read_pictures(tmp_path / "p.zip")) == 1


# pictures that cannot


@either
@pytest.mark.parametrize(
    ("second", "words"),
    [
        (encoded(pixels(6, 4)), ["(1, 6, 4)", "(1, 4, 6)", "must be alike"]),
        (COLOUR, ["(3, 4, 6)", "(1, 4, 6)", "must be alike"]),
        (encoded(pixels(4, 6, 4)), ["mode RGBA"]),
        (encoded(pixels(4, 6), mode="P"), ["mode P"]),
        (encoded(pixels(4, 6), mode="1"), ["mode 1"]),
        (encoded(pixels(4, 6), mode="LA"), ["mode LA"]),
        (encoded(pixels(4, 6).astype(np.uint16) * 256), ["mode I;16"]),
        (encoded(pixels(4, 6, 4), "JPEG", mode="CMYK"), ["mode CMYK"]),
        (encoded(pixels(4, 6), "GIF"), ["damaged, or neither PNG nor JPEG"]),
        (encoded(pixels(4, 6), "BMP"), ["damaged, or neither PNG nor JPEG"]),
        (b"", ["damaged, or neither PNG nor JPEG"]),
        (b"no picture", ["damaged, or neither PNG nor JPEG"]),
        (GREY[:20], ["damaged, or neither PNG nor JPEG"]),
        (GREY[: len(GREY) // 2], ["damaged, or neither PNG nor JPEG"]),
        (GREY[:40] + bytes(8) + GREY[48:], ["damaged, or neither PNG nor JPEG"]),
        (encoded(pixels(40, 60), "JPEG")[:900], ["damaged, or neither PNG nor JPEG"]),
    ],
)
def test_one_picture_of_another_kind_is_refused_by_name(
    tmp_path: Path, write: Write, second: bytes, words: list[str]
) -> None:
    path = write(tmp_path, {"a.png": GREY, "b\nad.png": second, "c.png": GREY})
    refused(lambda: read_pictures(path), "picture 'b\\nad.png'", *words)


@either
@pytest.mark.parametrize("side", [5_000, 10_000, 100_000])
def test_a_header_that_claims_a_giant_is_refused_before_its_pixels(tmp_path: Path, write: Write, side: int) -> None:
    """The middle one is of a size at which Pillow only warns."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = GREY[:12] + header + struct.pack(">I", zlib.crc32(header)) + GREY[33:]
    path = write(tmp_path, {"bomb.png": bomb})
    refused(lambda: read_pictures(path), "'bomb.png'")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["PNG", "JPEG"]), st.data())
def test_damage_anywhere_is_read_or_refused_but_never_an_error(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(pixels(9, 7, 3), kind))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder(tmp_path, {"x.png": bytes(content[: data.draw(st.integers(0, len(content)))])})
    with contextlib.suppress(DataError):
        assert read_pictures(path).dtype == torch.uint8


@either
def test_nothing_to_read_is_refused(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path, {"notes.txt": b"none"})
    refused(lambda: read_pictures(path), "holds no .png, .jpg, .jpeg file")


@either
def test_sets_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    path = write(tmp_path, {f"{i}.png": GREY for i in range(4)})
    monkeypatch.setattr(images, "LIMIT", 4 * 4 * 6)
    assert len(read_pictures(path)) == 4
    monkeypatch.setattr(images, "LIMIT", 4 * 4 * 6 - 1)
    refused(lambda: read_pictures(path), "more than", "of pixels")


@either
def test_files_beyond_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    path = write(tmp_path, {"a.png": GREY, "giant.png": encoded(pixels(90, 90))})
    monkeypatch.setattr(images, "_FILE", len(GREY))
    refused(lambda: read_pictures(path), "giant.png", "MiB")


# zips


def edited(path: Path, offset: int, form: str, value: int) -> None:
    """Overwrite a field of the last entry of a zip's directory."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.rindex(b"PK\x01\x02") + offset, value)
    path.write_bytes(content)


def test_a_member_that_claims_to_be_a_giant_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path, {"b.png": GREY})
    edited(path, 24, "<I", 2**28 + 1)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("unpacked"))
    refused(lambda: read_pictures(path), "'b.png'", "larger than 256 MiB")


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (24, "<I", 10),  # the size: less than there is
        (16, "<I", 1),  # the checksum
        (10, "<H", 99),  # packed in a way that is not known
        (8, "<H", 1),  # encrypted
        (42, "<I", 7),  # where the member starts
        (42, "<I", 2**31),
        (20, "<I", 12),  # the packed size: less than there is
    ],
)
def test_members_that_are_not_what_the_directory_says(tmp_path: Path, offset: int, form: str, value: int) -> None:
    path = packed(tmp_path, {"a.png": GREY, "b.png": GREY})
    edited(path, offset, form, value)
    refused(lambda: read_pictures(path), "p.zip")


def test_damaged_members(tmp_path: Path) -> None:
    path = packed(tmp_path, {"a.png": bytes(1000) + GREY})
    content = bytearray(path.read_bytes())
    content[36:40] = b"\xff" * 4
    path.write_bytes(content)
    refused(lambda: read_pictures(path), "p.zip")


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_zips_that_are_none_or_cut(tmp_path: Path, share: float) -> None:
    path = packed(tmp_path, {"a.png": GREY, "b.png": GREY})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(lambda: read_pictures(path), "p.zip", "not a zip that can be read")
    path.write_bytes(GREY)
    refused(lambda: read_pictures(path), "p.zip", "not a zip that can be read")


def test_a_zip_that_is_not_there(tmp_path: Path) -> None:
    refused(lambda: read_pictures(tmp_path / "nowhere.zip"), "nowhere.zip")


def test_names_that_lead_out_of_the_zip_are_only_read(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    x = pixels(3, 4, 6)
    names = ["../../evil.png", f"{tmp_path}/evil.png", "fine.png"]
    path = packed(place, {name: encoded(picture) for name, picture in zip(names, x, strict=True)})
    before = tree(tmp_path)
    np.testing.assert_array_equal(read_pictures(path)[:, 0].numpy(), x)
    assert tree(tmp_path) == before


# arrays


def test_channels_first() -> None:
    x = pixels(5, 4, 6, 3)
    np.testing.assert_array_equal(channels_first(x, "x").numpy(), x.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(channels_first(x[..., :1], "x").numpy(), x[..., 0][:, None])
    np.testing.assert_array_equal(channels_first(x[..., 2], "x").numpy(), x[..., 2][:, None])
    assert channels_first(x, "x").is_contiguous()


@pytest.mark.parametrize(
    "x",
    [
        pixels(5, 4),
        pixels(5, 4, 6, 2),
        pixels(5, 3, 4, 6),
        pixels(5, 4, 6, 3, 1),
        pixels(0, 4, 6),
        pixels(5, 4, 6).astype(np.float32),
        pixels(5, 4, 6).astype(np.int8),
    ],
    ids=lambda x: f"{x.dtype} {x.shape}",
)
def test_channels_first_refuses_what_are_no_images(x: np.ndarray) -> None:
    refused(lambda: channels_first(x, "that array"), "that array", str(x.dtype), str(x.shape))


# labelled images


def test_labelled_digits() -> None:
    x, y = labelled_images("digits")
    digits = load_digits()
    assert (x.shape, x.dtype, y.dtype) == ((1797, 1, 8, 8), torch.uint8, torch.int64)
    assert (int(x.min()), int(x.max())) == (0, 255)
    np.testing.assert_array_equal((x[:, 0].double() * 16 / 255).round().numpy(), digits.images)
    np.testing.assert_array_equal(y.numpy(), digits.target)


@pytest.mark.parametrize("shape", [(12, 4, 6), (12, 4, 6, 1), (12, 4, 6, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "int32", ">i8"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_labelled_images_from_a_file(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, save: Callable[..., None]
) -> None:
    x, y = pixels(*shape), np.arange(12).astype(dtype) % 3
    save(tmp_path / "own.npz", y=y, x=x, names=np.array(["a"]))
    images, labels = labelled_images(str(tmp_path / "own.npz"))
    assert torch.equal(images, channels_first(x, "x"))
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(labels.numpy(), np.arange(12) % 3)


X, Y = pixels(12, 4, 6), np.arange(12) % 3


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": Y}, ["no array 'x'"]),
        ({"x": X}, ["no array 'y'"]),
        ({}, ["no array 'x'"]),
        ({"x": X.astype(float), "y": Y}, ["x in", "float64 (12, 4, 6)"]),
        ({"x": X.reshape(12, 24), "y": Y}, ["x in", "uint8 (12, 24)"]),
        ({"x": pixels(12, 4, 6, 4), "y": Y}, ["x in", "uint8 (12, 4, 6, 4)"]),
        ({"x": X[:0], "y": Y[:0]}, ["x in", "(0, 4, 6)"]),
        ({"x": X, "y": Y[:11]}, ["y must be 12 whole numbers"]),
        ({"x": X, "y": np.eye(12, dtype=int)}, ["y must be 12 whole numbers"]),
        ({"x": X, "y": Y.astype(float)}, ["y must be 12 whole numbers"]),
        ({"x": X, "y": Y.astype(str)}, ["y must be 12 whole numbers"]),
        ({"x": X, "y": Y - 1}, ["y must be 12 whole numbers"]),
        ({"x": X[:9], "y": Y[:9]}, ["at least 10 images"]),
    ],
)
def test_labelled_images_refuse(tmp_path: Path, arrays: dict[str, np.ndarray], words: list[str]) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    refused(lambda: labelled_images(str(tmp_path / "own.npz")), "own.npz", *words)


class _Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_labelled_images_are_not_unpickled(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "own.npz"
    np.savez(path, x=np.array([_Trap(mark)] * 12), y=Y)
    refused(lambda: labelled_images(str(path)), "own.npz", "cannot be read")
    path.write_bytes(pickle.dumps(_Trap(mark)))
    refused(lambda: labelled_images(str(path)), "own.npz", "cannot be read")
    assert not mark.exists()


def test_labelled_images_that_are_not_there_or_no_archive(tmp_path: Path) -> None:
    refused(lambda: labelled_images(str(tmp_path / "nowhere.npz")), "nowhere.npz")
    np.save(tmp_path / "own.npy", X)
    refused(lambda: labelled_images(str(tmp_path / "own.npy")), "own.npy")
    refused(lambda: labelled_images(str(tmp_path)), "cannot be read")


def test_labelled_images_beyond_the_limit_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "own.npz", x=np.zeros((1000, 8, 8), np.uint8), y=np.zeros(1000, int))
    monkeypatch.setattr(images, "LIMIT", 2**16)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked"))
    refused(lambda: labelled_images(str(tmp_path / "own.npz")), "own.npz", "unpacks to more than")


@pytest.mark.parametrize(("offset", "form", "value"), [(24, "<I", 10), (10, "<H", 99), (8, "<H", 1), (16, "<I", 1)])
def test_labelled_images_in_a_damaged_archive(tmp_path: Path, offset: int, form: str, value: int) -> None:
    np.savez_compressed(tmp_path / "own.npz", x=X, y=Y)
    edited(tmp_path / "own.npz", offset, form, value)
    refused(lambda: labelled_images(str(tmp_path / "own.npz")), "own.npz")


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**46, 8, 8)})
    np.savez(tmp_path / "own.npz", y=Y)
    with zipfile.ZipFile(tmp_path / "own.npz", "a") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(64))
    refused(lambda: labelled_images(str(tmp_path / "own.npz")), "own.npz")


# the digits' rows as pictures


def test_digits_as_pixels_are_the_labelled_images() -> None:
    split = Digits().load((0,))
    rows = torch.cat([split.train[0], split.held_out[0]])
    found = split.events.pixels(rows)
    assert (found.shape, found.dtype) == ((1797, 1, 8, 8), torch.uint8)
    assert torch.equal((found.flatten(1).double() * 16 / 255).round(), split.restore(rows))
    known = labelled_images("digits")[0]
    assert sorted(map(bytes, found.numpy())) == sorted(map(bytes, known.numpy()))


def test_pixels_are_rounded_and_clipped() -> None:
    split = Digits(n=2, held_out=1).load((0,))
    levels = torch.tensor([-9.0, -0.1, 0.02, 0.04, 8.0, 15.99, 16.1, 900.0]).repeat(8)
    found = split.events.pixels(((levels.double() - split.events.shift) / split.events.scale).unsqueeze(0))
    assert found[0, 0].tolist() == [[0, 0, 0, 1, 128, 255, 255, 255]] * 8
    assert split.events.pixels(split.train[0].float()).equal(split.events.pixels(split.train[0]))
