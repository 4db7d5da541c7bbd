"""CIFAR-10's archive and batches, Adult's zip: bombs, names outside, links, devices, members twice, pickles."""

from __future__ import annotations

import functools
import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Iterator

from tests.campaign import corpus
from tests.campaign.attacks import Attack, Content, file, files
from tests.campaign.attacks.checkpoints import CANARY

_HARM = "an archive writes where its names say, runs its pickles, or unpacks without end"


def attacks() -> Iterator[Attack]:
    """Yield them."""
    for name, content in _tars().items():
        data = "{name: cifar10, path: x.tar.gz}"
        command = ("run", "fig4-small", "--set", f"data={data}", "--workers", "0", "--out", "run")
        call = ("tests.campaign.attacks.archives:cifar", "x.tar.gz")
        yield Attack("tar", name, file("x.tar.gz", content), command, _HARM, call=call, heavy=callable(content))
    for name, content in _batches().items():
        write = files(dict.fromkeys((f"b/{name.split('/')[-1]}" for name in corpus.batches()), content))
        data = "{name: cifar10, path: b}"
        command = ("run", "fig4-small", "--set", f"data={data}", "--workers", "0", "--out", "run")
        call = ("tests.campaign.attacks.archives:cifar", "b")
        yield Attack("tar", f"batch: {name}", write, command, _HARM, call=call, heavy=callable(content))
    for name, content in _adults().items():
        data = "{name: adult, path: x.zip}"
        command = ("run", "fig4-small", "--set", f"data={data}", "--workers", "0", "--out", "run")
        yield Attack("zip", name, file("x.zip", content), command, _HARM, heavy=callable(content))


def cifar(path: str) -> None:
    """Read CIFAR-10 with its labels."""
    from pathlib import Path

    from selfloop.data.reading.cifar import read_cifar10

    read_cifar10(Path(path), labels=True)


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {CANARY}",)


def _member(name: str, **fields: object) -> bytes:
    """Return a tar of CIFAR-10 in which a member is another thing."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for each, held in corpus.batches().items():
            info = tarfile.TarInfo(each)
            info.size = len(held)
            if each.endswith(name):
                for key, value in fields.items():
                    setattr(info, key, value)
            archive.addfile(info, io.BytesIO(held) if info.isfile() and info.size == len(held) else None)
    return content.getvalue()


def _tars() -> dict[str, Content]:
    sound = corpus.tarred(corpus.batches())
    traps = dict.fromkeys(corpus.batches(), pickle.dumps(_Trap(), 2))
    return {
        "pickles that run": corpus.tarred(traps),
        "symlink": _member("test_batch", type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
        "hard link": _member("test_batch", type=tarfile.LNKTYPE, linkname="../../../etc/passwd", size=0),
        "hard link to itself": _member(
            "test_batch", type=tarfile.LNKTYPE, linkname="cifar-10-batches-py/test_batch", size=0
        ),
        "device": _member("test_batch", type=tarfile.CHRTYPE, devmajor=1, devminor=5, size=0),
        "pipe": _member("test_batch", type=tarfile.FIFOTYPE, size=0),
        "folder": _member("test_batch", type=tarfile.DIRTYPE, size=0),
        "names outside": corpus.tarred({f"../../{name}": held for name, held in traps.items()}),
        "names at the root": corpus.tarred({f"/tmp/{name}": held for name, held in traps.items()}),
        "members twice": sound[:-1024] + sound,
        "size of 8 GiB": _member("test_batch", size=2**33),
        "size of 2⁶²": _member("test_batch", size=2**62),
        "size of −1": _negative(sound),
        "a gzip bomb": lambda: gzip.compress(bytes(2 * 10**9), 9),
        "a gzip bomb behind a header": lambda: gzip.compress(sound[:512] + bytes(2 * 10**9), 9),
        "10⁶ empty members": lambda: gzip.compress(corpus.tarred({"x": b""})[:512] * 10**6, 9),
        "gzip within gzip": gzip.compress(gzip.compress(sound)),
        "gzip cut short": gzip.compress(sound)[:-100],
        "a header of 1 GB": functools.partial(_long_name, 10**9),
        "headers of PAX of nonsense": functools.partial(_pax, b"99999999999999999999 path=x\n"),
        "headers of PAX that call": functools.partial(_pax, b"30 GNU.sparse.map=__import__,1\n"),
        "headers of PAX with a size": functools.partial(_pax, b"30 size=-9999999999999999999\n\n"),
        "sparse": functools.partial(_pax, b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"),
        "overwritten": sound[:600] + b"\xff" * 2000 + sound[2600:],
        "empty": b"",
        "a zip": corpus.zipped(corpus.batches()),
    }


def _negative(sound: bytes) -> bytes:
    found = bytearray(sound)
    found[124:136] = b"\xff" * 12
    found[148:156] = b" " * 8
    found[148:156] = b"%06o\0 " % sum(found[:512])
    return bytes(found)


def _header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _long_name(size: int) -> bytes:
    return gzip.compress(_header(tarfile.GNUTYPE_LONGNAME, size) + b"a" * size, 1)


def _pax(content: bytes) -> bytes:
    held = content.ljust(512, b"\0")
    return _header(tarfile.XHDTYPE, len(content)) + held + corpus.tarred(corpus.batches())


def _batches() -> dict[str, Content]:
    import hostile
    from spelling import name, pickled, text

    numbers = pickle.dumps({"data": [[1] * 3072], "labels": [0]}, 2)
    return {
        "a pickle that runs": pickle.dumps({"data": _Trap(), "labels": [0]}, 2),
        "an array made by a command": pickled(hostile.call(name("os", "system"), text(f"touch {CANARY}"))),
        "numbers in place of an array": numbers,
        "rows of another width": pickle.dumps({"data": corpus.np.zeros((2, 3071), "u1"), "labels": [0, 1]}, 2),
        "rows of floats": pickle.dumps({"data": corpus.np.zeros((2, 3072)), "labels": [0, 1]}, 2),
        "objects": pickle.dumps({"data": corpus.np.array([[_Trap()] * 2] * 2), "labels": [0, 1]}, 2),
        "2⁶² rows": pickle.dumps({"data": corpus.np.zeros((2, 3072), "u1"), "labels": [0, 1]}, 2).replace(
            b"K\x02M\x00\x0c", b"\x8a\x08" + (2**62).to_bytes(8, "little") + b"M\x00\x0c"
        ),
        "a list 10⁶ deep": b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b".",
        "marks without end": b"\x80\x02" + b"(" * (5 * 10**6),
        "70 MB": lambda: b"\x80\x02" + bytes(7 * 10**7),
        "empty": b"",
    }


def _adults() -> dict[str, Content]:
    return {
        "a bomb": lambda: corpus.zipped({"adult.csv": bytes(2 * 10**9)}, zipfile.ZIP_DEFLATED),
        "a bomb below its limit": lambda: corpus.zipped(
            {"adult.csv": b"a,b\n" + b"1,2\n" * (8 * 10**6)}, zipfile.ZIP_DEFLATED
        ),
        "a million columns": lambda: corpus.zipped({"adult.csv": b",".join(b"c%d" % i for i in range(10**6)) + b"\n"}),
        "another table": corpus.zipped({"adult.csv": b"a,b\n1,2\n"}),
        "not UTF-8": corpus.zipped({"adult.csv": b"\xff\xfe\n\xff"}),
        "NUL": corpus.zipped({"adult.csv": bytes(1000)}),
        "another name": corpus.zipped({"../adult.csv": b"a\n"}),
        "empty": corpus.zipped({}),
        "no zip": b"PK",
    }
