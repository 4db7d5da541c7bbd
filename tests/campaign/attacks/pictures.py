"""Pictures that unpack to more than there is, that are cut short, that lie about what they are; folders and zips."""

from __future__ import annotations

import functools
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.campaign import corpus
from tests.campaign.attacks import Attack, Content, Write, file, files

_HARM = "a small picture takes memory or time without end, or its reader ends in a traceback"


def attacks() -> Iterator[Attack]:
    """Yield them: pictures in a folder and in a zip, then odd folders and zips."""
    for name, (ending, content) in _pictures().items():
        yield _compared(name, _in_folder(ending, content), "pictures", heavy=callable(content))
        yield _compared(f"{name}, in a zip", _in_zip(ending, content), "x.zip", heavy=callable(content))
    for name, content in _zips().items():
        yield _compared(f"zip: {name}", file("x.zip", content), "x.zip", heavy=callable(content))
    for name, write in _folders().items():
        yield _compared(f"folder: {name}", write, "pictures")
    for name, content in _labels().items():
        write = files(
            {"pictures/dataset.json": content, "pictures/a.png": corpus.png(), "pictures/b.png": corpus.png()}
        )
        data = "{name: image_files, path: pictures, labels: true}"
        command = ("run", "fig4-small", "--set", f"data={data}", "--workers", "0", "--out", "run")
        yield Attack("labels", name, write, command, _HARM, heavy=callable(content))


_TAKEN = {"folder: symlink to a picture outside"}  # links are followed: whoever names a folder names what it links to


def _compared(name: str, write: Write, path: str, heavy: bool = False) -> Attack:
    codes = (0, 2) if name in _TAKEN else (2,)
    call = ("selfloop.analysis.sources:read_events", path)
    return Attack("pictures", name, write, ("metrics", path, path), _HARM, codes, call, heavy)


def _in_folder(ending: str, content: Content) -> Write:
    return files({f"pictures/a.{ending}": content, f"pictures/b.{ending}": content})


def _in_zip(ending: str, content: Content) -> Write:
    def made() -> bytes:
        held = content if isinstance(content, bytes) else content()
        return corpus.zipped({f"a.{ending}": held, f"b.{ending}": held})

    return file("x.zip", made)


def _pictures() -> dict[str, tuple[str, Content]]:
    jpeg, gif, webp = (corpus.picture(kind) for kind in ("JPEG", "GIF", "WEBP"))
    png = corpus.picture("PNG")
    text = corpus.chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9))
    profile = corpus.chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8), 9))
    sizes = struct.pack(">HH", 65000, 65000)
    return {
        "PNG of 10⁵ × 10⁵": ("png", corpus.png(10**5, 10**5, b"")),
        "PNG of 2³¹ × 2³¹": ("png", corpus.png(2**31 - 1, 2**31 - 1, b"")),
        "PNG of 2³² − 1": ("png", corpus.png(2**32 - 1, 2**32 - 1, b"")),
        "PNG of 0 × 0": ("png", corpus.png(0, 0, b"")),
        "PNG of 1 × 2³¹": ("png", corpus.png(1, 2**31 - 1, b"")),
        "PNG whose pixels are 1 GB": ("png", lambda: corpus.png(8, 8, bytes(10**9))),
        "PNG with text of 100 MB": ("png", corpus.png(more=text)),
        "PNG with 100 texts of 100 MB": ("png", corpus.png(more=text * 100)),
        "PNG with a profile of 100 MB": ("png", corpus.png(more=profile)),
        "PNG with a chunk of 2 GiB": ("png", png[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + png[33:]),
        "PNG cut short": ("png", png[:-30]),
        "PNG without an end": ("png", png[:-12] + b"\0" * 4),
        "PNG of 10⁵ empty chunks": ("png", corpus.png(more=corpus.chunk(b"IDAT", b"") * 10**5)),
        "PNG with another checksum": ("png", png[:40] + b"\xff" + png[41:]),
        "PNG of a kind that there is not": ("png", png[:24] + b"\x07\x09" + png[26:]),
        "PNG animated 10⁶ times": ("png", corpus.png(more=corpus.chunk(b"acTL", struct.pack(">II", 10**6, 0)))),
        "JPEG of 65,000 × 65,000": ("jpg", _sized(jpeg, sizes)),
        "JPEG of 0 × 0": ("jpg", _sized(jpeg, bytes(4))),
        "JPEG cut short": ("jpg", jpeg[: len(jpeg) // 2]),
        "JPEG of its head": ("jpg", jpeg[:4]),
        "JPEG with EXIF of nonsense": ("jpg", _with_exif(jpeg, b"II*\0" + b"\xff" * 200)),
        "JPEG with EXIF that points at itself": (
            "jpg", _with_exif(jpeg, b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + b"\x08\0\0\0"),
        ),
        "JPEG of 10⁴ scans": ("jpg", lambda: _scans(10**4)),
        "GIF called PNG": ("png", gif),
        "GIF": ("gif", gif),
        "GIF of 65,000 × 65,000": ("png", gif[:6] + struct.pack("<HH", 65000, 65000) + gif[10:]),
        "WebP called PNG": ("png", webp),
        "WebP": ("webp", webp),
        "WebP of 16,000 × 16,000": ("webp", webp[:26] + struct.pack("<HH", 16000, 16000) + webp[30:]),
        "TIFF called PNG": ("png", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 100),
        "EPS, which runs a program": ("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(../canary) (w) file\n"),
        "SVG of a file": ("svg", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;</svg>'),
        "text": ("png", b"hello"),
        "empty": ("png", b""),
        "ImageMagick's script": ("png", b"push graphic-context\nfill 'url(|touch ../canary)'\n"),
    }  # fmt: skip


def _sized(jpeg: bytes, size: bytes) -> bytes:
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + size + jpeg[at + 9 :]


def _with_exif(jpeg: bytes, content: bytes) -> bytes:
    held = b"Exif\0\0" + content
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(held) + 2) + held + jpeg[2:]


def _scans(count: int) -> bytes:
    """Return a progressive JPEG that goes over all of its pixels so many times."""
    from PIL import Image

    content = io.BytesIO()
    Image.new("L", (4000, 4000)).save(content, "JPEG", progressive=True)
    jpeg = content.getvalue()
    at = jpeg.rindex(b"\xff\xda")
    return jpeg[:at] + jpeg[at:-2] * (count // 100) + b"\xff\xd9"


def _zips() -> dict[str, Content]:
    png = corpus.png()
    rows = lambda side: corpus.png(side, side, bytes((1 + side) * side))  # noqa: E731
    return {
        "400 pictures of 4,000 × 4,000": lambda: corpus.zipped(
            dict.fromkeys((f"{i}.png" for i in range(400)), rows(4000))
        ),
        "a picture within a bomb": lambda: corpus.zipped({"a.png": bytes(2 * 10**9)}, zipfile.ZIP_DEFLATED),
        "zips within zips": corpus.zipped({"a.zip": corpus.zipped({"a.zip": corpus.zipped({"a.png": png})})}),
        "overlapping members": functools.partial(_overlapping, 500),
        "names outside": corpus.zipped({"../../canary.png": png, "a.png": b"x"}),
        "names at the root": corpus.zipped({"/tmp/selfloop-canary.png": png, "a.png": b"x"}),
        "names of Windows": corpus.zipped({"..\\..\\canary.png": png, "C:\\canary.png": png, "a.png": b"x"}),
        "names that differ in slashes": corpus.zipped({"x/a.png": png, "x\\a.png": png}),
        "symlink": functools.partial(_linked, 0o120777),
        "device": functools.partial(_linked, 0o020666),
        "names that are the same": functools.partial(corpus.twice, "a.png", png),
        "names of a terminal": corpus.zipped({"\x1b[2J\u202e.png": b"x"}),
        "10⁵ members": lambda: corpus.zipped(dict.fromkeys((f"{i}.txt" for i in range(10**5)), b"")),
        "a name of 60,000 letters": corpus.zipped({"a" * 60_000 + ".png": b"x"}),
        "directory cut short": corpus.zipped({"a.png": png})[:-10],
        "encrypted": functools.partial(_patched, flags=1),
        "packed in a way that there is not": functools.partial(_patched, method=99),
        "size of 4 GiB": functools.partial(_patched, size=2**32 - 2),
        "another checksum": functools.partial(_patched, crc=1),
        "empty": corpus.zipped({}),
        "no zip": b"PK\x03\x04" + bytes(100),
        "labels of 200 MB": lambda: corpus.zipped(
            {"a.png": png, "dataset.json": b" " * (2 * 10**8)}, zipfile.ZIP_DEFLATED
        ),
    }


def _overlapping(count: int) -> bytes:
    """Return a zip of members that are all the same bytes: quoted-overlap, after Fifield 2019."""
    held = zlib.compress(bytes(2**24), 9)[2:-4]
    crc, name = zlib.crc32(bytes(2**24)), b"0000.png"
    local = (
        struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(held), 2**24, len(name), 0) + name + held
    )
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, len(held), 2**24, 8, 0, 0, 0, 0, 0, 0)
        + b"%04d.png" % i
        for i in range(count)
    )
    return local + directory + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(local), 0)


def _linked(mode: int) -> bytes:
    content, info = io.BytesIO(), zipfile.ZipInfo("a.png")
    info.external_attr = mode << 16
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(info, "../../../etc/passwd")
    return content.getvalue()


def _patched(**fields: int) -> bytes:
    from spelling import patched

    return patched(corpus.zipped({"x/a.png": corpus.png()}), "a.png", **fields)


def _folders() -> dict[str, Write]:
    def made(act: Callable[[Path], object], ending: str = "png") -> Write:
        def write(folder: Path) -> None:
            (folder / "pictures").mkdir()
            (folder / "pictures" / "z.png").write_bytes(b"x")
            act(folder / "pictures" / f"a.{ending}")

        return write

    def loop(path: Path) -> None:
        (path.parent / "in").mkdir()
        (path.parent / "in" / "again").symlink_to("..")

    def outside(path: Path) -> None:
        (path.parents[2] / "outside.png").write_bytes(corpus.png())
        path.symlink_to("../../outside.png")

    return {
        "pipe": made(lambda path: os.mkfifo(path)),
        "pipe without an ending": made(lambda path: os.mkfifo(path.with_suffix(""))),
        "link to endless zeros": made(lambda path: path.symlink_to("/dev/zero")),
        "link to a terminal": made(lambda path: path.symlink_to("/dev/tty")),
        "link to nothing": made(lambda path: path.symlink_to("nothing")),
        "link to itself": made(lambda path: path.symlink_to(path.name)),
        "folder within itself": made(loop),
        "symlink to a picture outside": made(outside),
        "folder called as a picture": made(lambda path: path.mkdir()),
        "sparse file of 1 TB": made(lambda path: (path.touch(), os.truncate(path, 10**12))),
        "name of a terminal": made(lambda path: path.with_name("\x1b[2J\u202e.png").write_bytes(b"x")),
        "name that is no UTF-8": made(
            lambda path: Path(os.fsdecode(bytes(path.parent) + b"/\xff\xfe.png")).write_bytes(b"x")
        ),
        "folders 500 deep": made(lambda path: _deep(path.parent, 500)),
    }


def _deep(folder: Path, depth: int) -> None:
    place = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 20, dir_fd=place)
        inner = os.open("d" * 20, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def _labels() -> dict[str, Content]:
    def of(labels: object) -> bytes:
        return json.dumps({"labels": labels}).encode()

    return {
        "JSON 10⁵ deep": b'{"labels": ' + b"[" * 10**5,
        "a number of 10⁵ digits": b'{"labels": [["a.png", ' + b"9" * 10**5 + b'], ["b.png", 1]]}',
        "NaN": b'{"labels": [["a.png", NaN], ["b.png", 1]]}',
        "−1": of([["a.png", -1], ["b.png", 0]]),
        "2⁶²": of([["a.png", 2**62], ["b.png", 0]]),
        "truth": of([["a.png", True], ["b.png", False]]),
        "lists": of([[["a.png"], 0], ["b.png", 1]]),
        "dicts": of({"a.png": {"x": 1}, "b.png": 1}),
        "one name twice": of([["a.png", 0], ["a.png", 1], ["b.png", 1]]),
        "names outside": of([["../../a.png", 0], ["b.png", 1]]),
        "60 MB of empty lists": lambda: b'{"labels": [' + b"[]," * (2 * 10**7) + b"[]]}",
        "not UTF-8": b'{"labels": [["\xff", 0]]}',
        "a lone surrogate": b'{"labels": [["\\ud800", 0], ["a.png", 0], ["b.png", 1]]}',
        "empty": b"",
    }
