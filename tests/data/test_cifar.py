"""CIFAR-10's archive as an attacker might make it: bounded in time and memory, and refused in one line."""

from __future__ import annotations

import gzip
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfloop.core.errors import DataError
from selfloop.data.reading.cifar import read_cifar10

Pack = Callable[[bytes], bytes]


def header(size: int, kind: bytes = b"0", name: str = "cifar-10-batches-py/readme.html") -> bytes:
    """Return a member's header that claims any size, also what no archiver would write."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        block[124:136] = (256**12 + size).to_bytes(12, "big")
    elif size >= 8**11:
        block[124:136] = b"\x80" + size.to_bytes(11, "big")
    else:
        block[124:136] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content.ljust(-(-len(content) // 512) * 512, b"\0")


NOTHING = bytes(1 << 20)
HUGE = "larger than a batch"
HOSTILE = {
    "a header of many gibibytes": (header(3 << 30, b"x") + NOTHING, HUGE),
    "a name of many gibibytes": (header(3 << 30, b"L") + NOTHING, HUGE),
    "an attribute that claims 4 EiB": (header(1 << 62, b"x") + NOTHING, HUGE),
    "a member to skip of 3 GiB": (header(3 << 30) + NOTHING, "more than CIFAR-10"),
    "a member to skip of 4 EiB": (header(1 << 62) + NOTHING, "more than CIFAR-10"),
    "a batch of 1 GiB": (header(1 << 30, name="data_batch_1") + NOTHING, HUGE),
    "a negative size": (header(-512) + NOTHING, "negative"),
    "a negative size later on": (header(0) + header(-1024) + NOTHING, "negative"),
    "a negative attribute": (header(-512, b"x") + NOTHING, HUGE),
    "an attribute that makes a size negative": (
        header(14, b"x") + padded(b"14 size=-1024\n") + header(0) + NOTHING,
        "negative",
    ),
    "an attribute of a length beyond all": (
        header(28, b"x") + padded(b"99999999999999999999 path=x\n") + header(0) + NOTHING,
        "too large",
    ),
    "attributes of attributes": (header(0, b"x") * 5000 + bytes(1024), "recursion"),
    "too many members": (header(0) * 5000 + bytes(1024), "too many"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
@pytest.mark.parametrize(("content", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused_within_bounds(tmp_path: Path, pack: Pack, content: bytes, words: str) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(pack(content))
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=words) as refusal:
        read_cifar10(path)
    assert str(refusal.value).isprintable()
    assert time.monotonic() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_links_stand_for_no_batch(tmp_path: Path) -> None:
    path = tmp_path / "cifar.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with pytest.raises(DataError, match="has no batch data_batch_1"):
        read_cifar10(path)


@given(content=st.binary(max_size=600), packed=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_in_one_line(tmp_path: Path, content: bytes, packed: bool) -> None:
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError) as refusal:
        read_cifar10(path)
    assert str(refusal.value).isprintable()


def test_what_is_almost_the_right_path(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"set data.path to the folder that holds both"):
        read_cifar10(tmp_path / "train-00000-of-00001.parquet")
    (tmp_path / "hub" / "plain_text").mkdir(parents=True)
    (tmp_path / "hub" / "plain_text" / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="has no Parquet file whose name begins with train"):
        read_cifar10(tmp_path / "hub")
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        read_cifar10(tmp_path / ("x" * 300))
