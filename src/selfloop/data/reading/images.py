"""Pictures from outside: folders and zips of PNG and JPEG, arrays of images, labelled sets. Never trusted.

Sizes are checked before anything is unpacked, nothing in a file is executed, and what is refused is refused by name.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import unicodedata
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from selfloop.core.errors import DataError, quoted
from selfloop.data.reading.npy import DAMAGE, Header, read_arrays, read_headers
from selfloop.data.reading.unpacked import refuse_bomb

LIMIT = 2**33
"""The most pixels' bytes that are read into memory (8 GiB)."""

_LARGEST = 2**24  # pixels of one picture
_FILE = 2**28  # bytes of one picture's file
_CLASSES = 10_000
_LABELS = "dataset.json"
_ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif")
_OTHERS = tuple(
    f".{kind}"
    for kind in (
        *("apng", "avif", "bmp", "cr2", "dib", "dng", "exr", "gif", "hdr", "heic", "heif", "ico", "j2k", "jp2", "jxl"),
        *("nef", "pbm", "pgm", "pnm", "ppm", "psd", "svg", "tga", "tif", "tiff", "webp"),
    )
)
"""Pictures too, of kinds that are not read."""

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # how files of the two kinds begin, whatever they are called

_APART = frozenset(("__macosx", "@eadir", "$recycle.bin", "#recycle", "system volume information", "lost+found"))
"""Folders that systems make beside the user's, in lower case; those of editors are hidden by a dot."""


class Pictures(NamedTuple):
    """Pictures, and their classes where these are known.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64, from 0; None where there are none.
        names: of the classes in the order of their numbers, () where they have none.
    """

    pixels: Tensor
    labels: Tensor | None = None
    names: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """How many classes there are, 0 where pictures have none: as many as names, else up to the greatest label."""
        return 0 if self.labels is None else len(self.names) or 1 + int(self.labels.max())


def read_pictures(path: Path) -> Tensor:
    """Read all PNG and JPEG files below a folder, or in a zip, in the order of their names: what a file manager shows.

    Links are followed. What systems and editors put beside pictures is passed over: whatever is hidden, and what is in
    folders such as __MACOSX and @eaDir, and files of other kinds than pictures. Pictures of other kinds, and archives,
    are refused, not passed over; a file whose name has no ending is a picture if it begins as one.

    Returns:
        (N, C, H, W) uint8, C = 1 where all are grey and 3 where all are in colour.

    Raises:
        DataError: there is none, one is damaged, too large or of another kind, or they differ in size or in being grey;
            the message names it.
    """
    return _read_pictures(path)[1]


def read_labelled_pictures(path: Path) -> Pictures:
    """Read pictures as :func:`read_pictures` does, and their classes.

    Those are in ``dataset.json`` as EDM's data sets have it, ``{"labels": [["00000/img00000000.png", 6], …]}``; without
    that file they are the folders in which the pictures lie, numbered in the order of their names.

    Raises:
        DataError: as of :func:`read_pictures`, or a picture has no class, or one that is none.
    """
    names, pixels = _read_pictures(path)
    content = _dataset_json(path)
    if content is not None:
        return Pictures(pixels, _of_json(content, names, path))
    _refuse_deeper(names, path)
    folders = [name.split("/")[0] if "/" in name else "" for name in names]
    if "" in folders:
        picture = names[folders.index("")]
        raise DataError(f"{_named(picture, path)} has no label: there is no {_LABELS}, and no folder that it lies in")
    known = sorted(set(folders), key=_order)
    _refuse_many(len(known), path)
    number = {name: i for i, name in enumerate(known)}
    return Pictures(pixels, torch.tensor([number[folder] for folder in folders]), tuple(known))


def _refuse_deeper(names: Sequence[str], path: Path) -> None:
    """Refuse a file of labels beside pictures further down, whose folders are then no classes."""
    with contextlib.nullcontext() if path.is_dir() else zipfile.ZipFile(path) as archive:
        packed = set() if archive is None else set(archive.namelist())
        for folder in sorted({parent for name in names for parent in PurePosixPath(name).parents}):
            if str(folder / _LABELS) in packed or (path / folder / _LABELS).is_file():
                advice = "name that folder, or pack what is in it"
                raise DataError(f"{quoted(path)} has its {_LABELS} in folder {quoted(folder)}: {advice}")


def _refuse_many(classes: int, path: Path) -> None:
    if classes > _CLASSES:
        raise DataError(f"{quoted(path)} has {classes} classes, more than {_CLASSES}")


def _dataset_json(path: Path) -> bytes | None:
    """Return the content of the file of labels in a folder or zip; None where there is none."""
    try:
        if path.is_dir():
            file = path / _LABELS
            if not file.is_file():
                return None
            if file.stat().st_size > _FILE:
                raise DataError(f"{quoted(file)} is larger than {_FILE >> 20} MiB")
            return file.read_bytes()
        with zipfile.ZipFile(path) as archive:
            if _LABELS not in archive.namelist():
                return None
            return _unpacked(archive, archive.getinfo(_LABELS), f"{_LABELS} in {quoted(path)}")
    except DAMAGE as error:
        raise DataError(f"{_LABELS} in {quoted(path)} cannot be read: {quoted(error)}") from error


def _of_json(content: bytes, names: Sequence[str], path: Path) -> Tensor:
    """Return the classes of pictures of some names, (N,) int64."""
    what = f"{_LABELS} in {quoted(path)}"
    try:
        found = json.loads(content)
        rows = found["labels"] if isinstance(found, dict) else None
        pairs = rows if isinstance(rows, list) else []
        labels = dict(pairs)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f'{what} is damaged: it must be {{"labels": [["name.png", 0], …]}}') from error
    if len(labels) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise DataError(f"{what} has more than one label for picture {quoted(twice)}")
    for name in names:
        if name not in labels:
            raise DataError(f"{what} has no label for picture {quoted(name)}")
        if not _is_class(labels[name]):
            raise DataError(
                f"{what}: the label of picture {quoted(name)} is {quoted(labels[name], 40)}, and must be a whole "
                f"number from 0 to {_CLASSES - 1}"
            )
    return torch.tensor([labels[name] for name in names], dtype=torch.int64)


def _is_class(label: object) -> bool:
    return isinstance(label, int) and not isinstance(label, bool) and 0 <= label < _CLASSES


def _read_pictures(path: Path) -> tuple[list[str], Tensor]:
    """Return the names of pictures, and the pictures."""
    members = _of_folder(path) if path.is_dir() else _of_zip(path)
    pictures: list[np.ndarray] = []
    names: list[str] = []
    total = packed = 0
    for name, content in members:
        if not PurePosixPath(name).suffix and not content.startswith(_MAGIC):
            continue
        picture = decode(content, _named(name, path))
        if pictures and picture.shape != pictures[0].shape:
            raise DataError(
                f"{_named(name, path)} has shape {picture.shape} (channels, height, width), and {quoted(names[0])} "
                f"{pictures[0].shape}: all must be alike"
            )
        total, packed = total + picture.nbytes, packed + len(content)
        refuse_bomb(total, packed, quoted(path))
        if total > LIMIT:
            raise DataError(f"{quoted(path)} holds more than {LIMIT >> 30} GiB of pixels")
        pictures.append(picture)
        names.append(name)
    if not pictures:
        raise DataError(f"{quoted(path)} holds no {', '.join(_ENDINGS[:3])} file")
    return names, torch.from_numpy(np.stack(pictures))


Member = tuple[str, bytes]


def _named(name: str, path: Path) -> str:
    return f"picture {quoted(name)} in {quoted(path)}"


def _is_picture(name: str, path: Path) -> bool:
    """Whether a file of this name, parts separated by "/", may be a picture to read.

    Raises:
        DataError: it is a picture that is not read, or may hold some.
    """
    *folders, own = name.split("/")
    if any(part.lower() in _APART or _hidden(part) for part in folders) or _hidden(own):
        return False
    ending = PurePosixPath(own).suffix.lower()
    if ending in _OTHERS:
        raise DataError(f"{_named(name, path)} is neither PNG nor JPEG: convert it, or take it away")
    if ending in _ARCHIVES:
        raise DataError(f"{_named(name, path)} is an archive: unpack it, or take it away")
    return ending in ("", *_ENDINGS)


def _hidden(part: str) -> bool:
    return part.startswith(".") and part not in (".", "..")


def _order(name: str) -> tuple[str, str]:
    """Return the key by which names are sorted: accents are one character or two, as file systems will."""
    return unicodedata.normalize("NFC", name), name


def _of_folder(path: Path) -> Iterator[Member]:
    for name in sorted(_files(path), key=_order):
        file, what = path / name, _named(name, path)
        try:
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{what} is no regular file")
            if status.st_size > _FILE:
                raise DataError(f"{what} is larger than {_FILE >> 20} MiB")
            content = file.read_bytes()
        except OSError as error:
            link = " (a link that leads nowhere)" if file.is_symlink() else ""
            raise DataError(f"{what} cannot be read: {error.strerror}{link}") from error
        yield name, content


def _files(path: Path) -> Iterator[str]:
    """Yield the names of the pictures below a folder, "/" between the parts, in any order."""

    def refuse(error: OSError) -> None:
        raise DataError(f"folder {quoted(error.filename)} cannot be read: {error.strerror}") from error

    for folder, inner, names in os.walk(path, followlinks=True, onerror=refuse):
        below = Path(folder).relative_to(path)
        inner[:] = [name for name in inner if name.lower() not in _APART and not _hidden(name)]
        for name in inner:
            _refuse_circle(path, below / name)
        for name in names:
            if _is_picture(whole := (below / name).as_posix(), path):
                yield whole


def _refuse_circle(path: Path, folder: Path) -> None:
    """Refuse a folder that is a link to one that it is in."""
    here = path / folder
    try:
        circle = here.is_symlink() and any(
            here.samefile(above) for above in (path, *(path / p for p in folder.parents))
        )
    except OSError as error:
        raise DataError(f"folder {quoted(here)} cannot be read: {error.strerror}") from error
    if circle:
        raise DataError(f"folder {quoted(folder)} in {quoted(path)} is a link to a folder that it lies in")


def _of_zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos: dict[str, zipfile.ZipInfo] = {}
            for info in archive.infolist():
                if not info.filename:
                    raise DataError(f"{quoted(path)} holds a file without a name: pack it again")
                if not info.is_dir() and _is_picture(name := info.filename.replace("\\", "/"), path):
                    if name in infos:
                        raise DataError(f"{_named(name, path)} is there twice")
                    infos[name] = info
            for name in sorted(infos, key=_order):
                yield name, _unpacked(archive, infos[name], _named(name, path))
    except DAMAGE as error:
        raise DataError(f"{quoted(path)} is not a zip that can be read: {quoted(error)}") from error


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> bytes:
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(f"{what} is a link: pack the picture itself")
    if info.file_size > _FILE:
        raise DataError(f"{what} is larger than {_FILE >> 20} MiB")
    try:
        return archive.read(info)  # of no more bytes than the directory says
    except DAMAGE as error:
        raise DataError(f"{what} cannot be unpacked: {quoted(error)}") from error


def decode(content: bytes, what: str) -> np.ndarray:
    """Return one picture as a viewer shows it, (C, H, W) uint8, C = 1 where it is grey.

    Its header's size is checked before its pixels are unpacked. It is turned as its orientation tag says; palettes are
    resolved, and so is an alpha channel by which nothing is transparent.

    Raises:
        DataError: it is damaged or too large, moves, has transparent pixels, 16 bits or the colours of print.
    """
    try:
        with _opened(content) as image:
            if image.width * image.height > _LARGEST:
                raise DataError(f"{what} claims {image.width} × {image.height} pixels, more than {_LARGEST}")
            if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{what} is animated: only still pictures are read")
            image.load()
            pixels = np.array(_shown(_upright(image, what), what))  # its own: what PIL lends is read-only
    except (*DAMAGE, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} is damaged, or neither PNG nor JPEG") from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _shown(image: Image.Image, what: str) -> Image.Image:
    """Return a picture in grey (L) or colour (RGB)."""
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        kinds = "8 bits a level, in grey, in colour or by a palette"
        raise DataError(f"{what} has mode {image.mode}: only pictures of {kinds} are read")
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        alpha = image.convert("LA" if grey else "RGBA")
        if np.asarray(alpha)[..., -1].min() < 255:
            raise DataError(f"{what} has transparent pixels: lay it on a background")
        image = alpha
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _upright(image: Image.Image, what: str) -> Image.Image:
    """Return a picture turned as its orientation tag says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags other than the orientation that are damaged
            return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow lets what its reader of TIFF stumbles over through
        raise DataError(f"{what} has a damaged EXIF header, so that it is not known which way is up") from error


def _opened(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        # Of a size below which this module's own limit is, and of tags that are damaged.
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))


def channels_first(x: np.ndarray, what: str) -> Tensor:
    """Return uint8 (N, H, W) or (N, H, W, 1 or 3) images as (N, C, H, W).

    Raises:
        DataError: another shape or number type, or one that may be a colour picture by itself.
    """
    if x.dtype == np.uint8 and x.ndim == 3 and x.shape[2] in (1, 3):
        raise DataError(
            f"{what} holds uint8 {x.shape}, one colour picture or many grey ones {x.shape[2]} wide: give it four axes, "
            "(N, height, width, 1 or 3)"
        )
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)) or not len(x):
        raise DataError(
            f"{what} holds {x.dtype} {x.shape}: images are uint8 (N, height, width) or (N, height, width, 3)"
        )
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return torch.from_numpy(x if isinstance(x, np.memmap) else np.ascontiguousarray(x))


def read_images(path: Path, key: str | None = None) -> Tensor | None:
    """Return the images of an NPY or NPZ file as (N, C, H, W); None where there are none.

    Args:
        path: of the file; in an NPZ there may be labels, statistics and the like beside the images.
        key: the name of the array in an NPZ; None is that of the only one that holds images.

    Raises:
        DataError: it holds more than the limit, several arrays of images, or none of that name.
    """
    try:
        headers = read_headers(path)
        names = [name for name, header in headers.items() if _are_images(header)]
        if key is not None and key not in names:
            there = f"there are {', '.join(map(quoted, names))}" if names else "there is none"
            raise DataError(f"{quoted(path)} has no array of uint8 images that is called {quoted(key)}: {there}")
        if key is None and len(names) > 1:
            found = ", ".join(map(quoted, names))
            raise DataError(
                f"{quoted(path)} holds several arrays of images, {found}: save the one alone, or say which by data.key"
            )
        if not names:
            return None  # the reader of tables says what is wrong with it
        name = names[0] if key is None else key
        return channels_first(read_arrays(path, LIMIT, (name,))[name], quoted(path))
    except DAMAGE:
        return None


def read_labelled_array(path: Path, key: str | None = None) -> Pictures | None:
    """Return the images of an NPZ as :func:`read_images` does, and the whole numbers beside them, their classes.

    Raises:
        DataError: as :func:`read_images`, or there is no array (N,) of whole numbers from 0 beside N images, or more.
    """
    images = read_images(path, key)
    if images is None:
        return None
    source, wanted = quoted(path), f"whole numbers ({len(images)},), one a picture"
    headers = read_headers(path) if path.suffix.lower() == ".npz" else {}
    names = [name for name, header in headers.items() if len(header.shape) == 1 and header.dtype.kind in "iu"]
    if len(names) != 1:
        there = f"there are {', '.join(map(quoted, names))}" if names else "there are none"
        raise DataError(
            f"{source}: labels are an array of {wanted}, beside the images, and {there}: save the one alone"
        )
    try:
        found = read_arrays(path, LIMIT, names)[names[0]]
    except DAMAGE as error:
        raise DataError(f"{source}: the labels {quoted(names[0])} cannot be read") from error
    if found.shape != (len(images),):
        raise DataError(f"{source}: the labels {quoted(names[0])} are {found.shape}, and must be {wanted}")
    if not 0 <= int(found.min()) <= int(found.max()) < _CLASSES:
        limits = f"{int(found.min())} to {int(found.max())}"
        raise DataError(f"{source}: the labels {quoted(names[0])} are {limits}, and must be from 0 to {_CLASSES - 1}")
    return Pictures(images, torch.from_numpy(found.astype(np.int64)))


def _are_images(header: Header) -> bool:
    return header.dtype == np.uint8 and len(header.shape) >= 3


def labelled_images(source: str) -> tuple[Tensor, Tensor]:
    """Return images and their labels: "digits", or an NPZ with ``x`` and ``y``.

    Returns:
        (N, C, H, W) uint8 and (N,) int64 labels from 0.

    Raises:
        DataError: the file cannot be read, or does not hold labelled images.
    """
    if source == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        return torch.from_numpy(pixels[:, None].copy()), torch.from_numpy(digits.target.astype(np.int64))
    try:
        if not source.lower().endswith(".npz"):
            raise ValueError("the ending is not .npz")
        arrays = read_arrays(Path(source), LIMIT, ("x", "y"))
    except DAMAGE as error:
        raise DataError(f"{quoted(source)} cannot be read as an NPZ of labelled images") from error
    if missing := {"x", "y"} - set(arrays):
        raise DataError(f"{quoted(source)} has no array {sorted(missing)[0]!r}: x are images, y their labels")
    x, y = arrays["x"], arrays["y"]
    images = channels_first(x, f"x in {quoted(source)}")
    if y.shape != (len(x),) or y.dtype.kind not in "iu" or len(x) < 10 or not 0 <= y.min() <= y.max() < _CLASSES:
        raise DataError(f"{quoted(source)}: y must be {len(x)} whole numbers from 0, for at least 10 images")
    return images, torch.from_numpy(y.astype(np.int64))
