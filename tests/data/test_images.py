"""Pictures and labelled images: what is read is what was written, and files of no use are refused in one line."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import unicodedata
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
from selfloop.data.image_files import ImageFiles
from selfloop.data.reading import images, npy
from selfloop.data.reading.images import channels_first, labelled_images, read_images, read_pictures

Files = dict[str, bytes]


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def encoded(x: np.ndarray, kind: str = "PNG", mode: str | None = None, **more: object) -> bytes:
    """Return a picture (H, W) or (H, W, C) as the bytes of a file, converted to a mode if one is given."""
    stream, image = io.BytesIO(), Image.fromarray(x)
    (image if mode is None else image.convert(mode)).save(stream, kind, **more)
    return stream.getvalue()


def _animated() -> bytes:
    stream, frames = io.BytesIO(), [Image.fromarray(pixels(4, 6, seed=seed)) for seed in range(3)]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
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


@either
@pytest.mark.parametrize(
    ("x", "more"),
    [
        (pixels(4, 6), {"mode": "1"}),
        (pixels(4, 6), {"mode": "LA"}),
        (pixels(4, 6, 3), {"mode": "RGBA"}),
        (pixels(4, 6) // 128 * 255, {"mode": "P"}),
        (pixels(4, 6, 3), {"mode": "P"}),
    ],
    ids=["bilevel", "opaque grey", "opaque colour", "palette of greys", "palette"],
)
def test_a_picture_is_what_a_viewer_shows(tmp_path: Path, write: Write, x: np.ndarray, more: dict[str, str]) -> None:
    found = read_pictures(write(tmp_path, {"a.png": encoded(x, **more)}))[0].numpy()
    expected = Image.fromarray(x).convert(more["mode"]).convert("L" if more["mode"] in ("1", "LA") else "RGB")
    np.testing.assert_array_equal(
        found.squeeze(), np.asarray(expected).transpose(2, 0, 1) if found.shape[0] == 3 else expected
    )


@either
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_its_tag_says(tmp_path: Path, write: Write, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    x = np.kron(np.array([[0, 80, 160], [40, 120, 240]], np.uint8), np.ones((16, 16), np.uint8))
    upright = {
        1: x,
        2: x[:, ::-1],
        3: x[::-1, ::-1],
        4: x[::-1],
        5: x.T,
        6: np.rot90(x, -1),
        7: x[::-1, ::-1].T,
        8: np.rot90(x),
    }[orientation]  # EXIF 2.32, table 6: where the zeroth row and column lie
    found = read_pictures(write(tmp_path, {"a.png": encoded(x, kind, exif=exif)}))[0, 0].numpy()
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= 4


@either
def test_a_damaged_orientation_is_refused_or_passed_over(tmp_path: Path, write: Write) -> None:
    path = write(
        tmp_path, {"a.png": encoded(pixels(4, 6), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(60)))}
    )
    with contextlib.suppress(DataError):
        assert read_pictures(path).shape == (1, 1, 4, 6)


HIDDEN = [
    "__MACOSX/m/._a.png", "._a.png", ".hidden.png", ".git/a.png", "m/.ipynb_checkpoints/a-checkpoint.png",
    "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/a.png", "lost+found/a.gif", ".DS_Store", "Thumbs.db",
]  # fmt: skip


@either
def test_what_a_file_manager_hides_is_passed_over(tmp_path: Path, write: Write) -> None:
    path = write(
        tmp_path, dict.fromkeys(HIDDEN, b"\0\5\x16\7") | {"m/a.png": GREY, "B.JPEG": encoded(pixels(4, 6), "JPEG")}
    )
    assert len(read_pictures(path)) == 2


@either
@pytest.mark.parametrize("name", ["a.gif", "m/b.WebP", "c.tif", "d.bmp", "e.heic"])
def test_pictures_of_other_kinds_are_not_passed_over(tmp_path: Path, write: Write, name: str) -> None:
    path = write(tmp_path, {"m/a.png": GREY, name: b"any"})
    refused(lambda: read_pictures(path), f"picture {name!r}", "neither PNG nor JPEG", "convert it")


@either
def test_a_picture_without_an_ending_is_one_and_an_archive_is_refused(tmp_path: Path, write: Write) -> None:
    files = {"a.png": GREY, "b": GREY, "README": b"what these are"}
    assert len(read_pictures(write(tmp_path, files))) == 2
    path = write(tmp_path, files | {"more.ZIP": b"PK"})
    refused(lambda: read_pictures(path), "'more.ZIP'", "is an archive")


@either
def test_the_order_does_not_depend_on_how_accents_are_written(tmp_path: Path, write: Write) -> None:
    names = ["e.png", "\u00e9.png", "f.png", "z.png", "a\u0301b.png", "az.png"]
    sets = []
    for form in ("NFC", "NFD"):
        (tmp_path / form).mkdir()
        files = {unicodedata.normalize(form, name): encoded(pixels(4, 6, seed=k)) for k, name in enumerate(names)}
        sets.append(read_pictures(write(tmp_path / form, files)))
    assert torch.equal(*sets)


def test_folders_too_deep_for_a_path_are_refused(tmp_path: Path) -> None:
    path, here = folder(tmp_path, {"1.png": GREY}), os.getcwd()
    try:
        os.chdir(path)
        for _ in range(20):
            os.mkdir("a" * 250)
            os.chdir("a" * 250)
    finally:
        os.chdir(here)
    refused(lambda: read_pictures(path), "cannot be read: File name too long")


class TestLinks:
    def test_those_to_folders_and_files_are_followed(self, tmp_path: Path) -> None:
        folder(tmp_path / "store", {"1.png": GREY, "deep/2.png": GREY})
        path = folder(tmp_path, {"cat/1.png": COLOUR[:0] + GREY})
        (path / "dog").symlink_to(tmp_path / "store" / "p")
        (path / "single.png").symlink_to(tmp_path / "store" / "p" / "1.png")
        assert len(read_pictures(path)) == 4

    def test_one_that_leads_nowhere_is_refused(self, tmp_path: Path) -> None:
        path = folder(tmp_path, {"1.png": GREY})
        (path / "2.png").symlink_to(tmp_path / "gone.png")
        refused(lambda: read_pictures(path), "picture '2.png'", "a link that leads nowhere")

    @pytest.mark.parametrize("target", [".", "..", "../.."])
    def test_one_that_leads_back_is_refused(self, tmp_path: Path, target: str) -> None:
        path = folder(tmp_path, {"a/1.png": GREY})
        (path / "a" / "again").symlink_to(target)
        if target == "../..":
            (tmp_path / "q.png").write_bytes(GREY)
        refused(lambda: read_pictures(path), "again", "a link to a folder that it lies in")

    def test_one_in_a_zip_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
            link = zipfile.ZipInfo("a.png")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "../b.png")
        refused(lambda: read_pictures(tmp_path / "p.zip"), "picture 'a.png'", "is a link")

    def test_what_is_no_regular_file_is_refused(self, tmp_path: Path) -> None:
        path = folder(tmp_path, {"1.png": GREY})
        os.mkfifo(path / "2.png")
        refused(lambda: read_pictures(path), "picture '2.png'", "no regular file")


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
        (encoded(pixels(4, 6, 4)), ["transparent pixels"]),
        (encoded(pixels(4, 6), mode="P", transparency=int(pixels(4, 6)[0, 0])), ["transparent pixels"]),
        (encoded(pixels(4, 6, 3), transparency=tuple(pixels(4, 6, 3)[0, 0].tolist())), ["transparent pixels"]),
        (encoded(np.stack([pixels(4, 6), pixels(4, 6, seed=1)], 2)), ["transparent pixels"]),
        (_animated(), ["is animated"]),
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
        pixels(8, 8, 3),
        pixels(8, 8, 1),
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


# arrays beside others


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_are_found_beside_labels_and_statistics(tmp_path: Path, save: Callable[..., None]) -> None:
    x, path = pixels(5, 4, 6, 3), tmp_path / "own.NPZ"
    with path.open("wb") as file:
        save(file, labels=np.arange(5), mean=np.zeros((4, 6)), ids=np.arange(5, dtype=np.uint8), pictures=x)
    expected = channels_first(x, "x")
    for key in (None, "pictures"):
        found = read_images(path, key)
        assert found is not None
        assert torch.equal(found, expected)
    refused(lambda: read_images(path, "labels"), "own.NPZ", "called 'labels'", "there are 'pictures'")


def test_several_arrays_of_images_are_refused_or_named(tmp_path: Path) -> None:
    train, test = pixels(5, 4, 6), pixels(3, 4, 6)
    np.savez(tmp_path / "own.npz", train_images=train, test_images=test, train_labels=np.arange(5))
    refused(lambda: read_images(tmp_path / "own.npz"), "'train_images', 'test_images'", "data.key")
    split = ImageFiles(path=str(tmp_path / "own.npz"), key="test_images").load([0])
    assert split.train.shape[1] + split.held_out.shape[1] == 3


def test_only_an_npz_has_keys(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key names an array in an NPZ"):
        ImageFiles(path=str(tmp_path), key="x")


def _header(text: str, version: int = 1, length: int | None = None) -> bytes:
    content = text.encode() + b"\n"
    count = len(content) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + count.to_bytes(2 if version == 1 else 4, "little") + content


def _described(shape: str, descr: str = "'|u1'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


@pytest.mark.parametrize(
    "content",
    [
        _header(_described("(-1, 4, 6)")),
        _header(_described("(-2, -3, 4)")),
        _header(_described("(True, 4, 6)")),
        _header(_described("(10**12, 10**12, 10**12)")),
        _header(_described("(4611686018427387904, 4, 4)")),
        _header(_described("(0, 4, 6)")),
        _header(_described("(99999999999999999999, 0, 6)")),
        _header(_described("(" + "9" * 5000 + ", 1, 1)")),
        _header(_described("(1,) * 900")),
        _header("(" * 9000),
        _header("-" * 9000 + "1"),
        _header("[" * 150 + "]" * 150),
        _header(_described("(1, 2, 3)", "'|O'")),
        _header(_described("(1, 2, 3)", "'|V0'")),
        _header(_described("(1, 2, 3)", "'<U999999999'")),
        _header(_described("(1, 2, 3)", "[('a', '|u1', (1000000, 1000000))]")),
        _header(_described("(1, 2, 3)", "[('\\x1b[31m', '|u1')]")),
        _header("", version=2, length=2**32 - 1),
        _header(_described("(1, 2, 3)"), version=2, length=2**31),
        _header("x" * 60_000),
        _header("", version=3),
        _header(_described("(1, 2, 3)"), version=9),
        b"\x93NUMPY",
    ],
)
@pytest.mark.parametrize("archived", [False, True])
def test_absurd_headers_cost_nothing(tmp_path: Path, content: bytes, archived: bool) -> None:
    path = tmp_path / ("own.npz" if archived else "own.npy")
    if archived:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content + bytes(6))
    else:
        path.write_bytes(content + bytes(6))
    tracemalloc.start()
    with contextlib.suppress(DataError):
        assert read_images(path) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23
    refused(lambda: ImageFiles(path=str(path)).load([0]), path.name)


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 3)])
def test_fortran_s_order_is_only_an_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = pixels(*shape)
    np.save(tmp_path / "own.npy", np.asfortranarray(x))
    found = read_images(tmp_path / "own.npy")
    assert found is not None
    assert torch.equal(found, channels_first(x, "x"))


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


@pytest.mark.parametrize("shape", [(40, 6, 6), (40, 6, 6, 3)])
def test_a_large_array_is_mapped_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    data = ImageFiles(path=str(tmp_path / "x.npy"), n=20, held_out=5)
    whole = data.load([0, 1])
    monkeypatch.setattr(npy, "_MAPPED", 0)
    monkeypatch.setattr(images, "LIMIT", 100)
    mapped = data.load([0, 1])
    assert torch.equal(mapped.train, whole.train)
    assert torch.equal(mapped.held_out, whole.held_out)
    held = npy.read_arrays(tmp_path / "x.npy", 0)[""]
    assert isinstance(held, np.memmap)
    held[:] = 0  # of this process alone
    assert np.array_equal(np.load(tmp_path / "x.npy"), pixels)
