"""What a Feather file (Arrow IPC) unpacks to, which its messages say: pyarrow tells it when all is unpacked already.

The footer lists where messages lie, a message where its buffers do, and a packed buffer begins with its length. All but
that are flatbuffers: a table begins with how far back its vtable lies, which has where each field is; numbers of fields
are those of Arrow's ``File.fbs`` and ``Message.fbs`` (columnar format 1.5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAGIC = b"ARROW1"
_DICTIONARIES, _BATCHES = 2, 3  # of a footer
_HEADER_KIND, _HEADER = 1, 2  # of a message
_DICTIONARY_BATCH = 2  # the kind whose header has the batch as its field 1
_BUFFERS, _COMPRESSION = 2, 3  # of a record batch


def unpacked_size(content: bytes) -> int:
    """Return how many bytes the packed buffers of a Feather file take, as they say themselves.

    Raises:
        ValueError: it is none, or damaged.
    """
    try:
        if not content.startswith(_MAGIC) or not content.endswith(_MAGIC):
            raise ValueError("it does not begin and end as Feather files do")
        (length,) = struct.unpack_from("<i", content, len(content) - 10)
        footer = _root(content, _within(content, len(content) - 10 - length))
        return sum(
            _of_message(content, *block)
            for number in (_DICTIONARIES, _BATCHES)
            for block in _structs(content, _field(content, footer, number), "<qi4xq")
        )
    except struct.error as error:
        raise ValueError("it points to what lies beyond its end") from error


def _of_message(content: bytes, start: int, length: int, _: int) -> int:
    """Return what the packed buffers of a message take; its body comes after its ``length`` bytes."""
    prefix = 8 if content[start : start + 4] == b"\xff\xff\xff\xff" else 4
    message = _root(content, _within(content, start + prefix))
    batch = _followed(content, _field(content, message, _HEADER))
    kind = _field(content, message, _HEADER_KIND)
    if kind is not None and content[kind] == _DICTIONARY_BATCH and batch is not None:
        batch = _followed(content, _field(content, batch, 1))
    if batch is None or _field(content, batch, _COMPRESSION) is None:
        return 0
    total = 0
    for offset, size in _structs(content, _field(content, batch, _BUFFERS), "<qq"):
        if size >= 8:
            (said,) = struct.unpack_from("<q", content, _within(content, start + length + offset))
            total += max(said, 0)  # −1: it is there as it is
    return total


def _within(content: bytes, place: int) -> int:
    if not 0 <= place < len(content):
        raise ValueError("it points to what lies beyond its end")
    return place


def _root(content: bytes, place: int) -> int:
    """Return where the table of a flatbuffer begins."""
    return _within(content, place + struct.unpack_from("<I", content, place)[0])


def _field(content: bytes, table: int, number: int) -> int | None:
    """Return where a field of a table lies, None where it is left out."""
    vtable = _within(content, table - struct.unpack_from("<i", content, table)[0])
    (size,) = struct.unpack_from("<H", content, vtable)
    if 4 + 2 * number + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", content, vtable + 4 + 2 * number)
    return _within(content, table + offset) if offset else None


def _followed(content: bytes, field: int | None) -> int | None:
    """Return where a field leads that is a table or a vector."""
    return None if field is None else _root(content, field)


def _structs(content: bytes, field: int | None, form: str) -> Iterator[tuple[int, ...]]:
    """Yield the structs of a vector, of which there are no more than the file has room for."""
    place = _followed(content, field)
    if place is None:
        return
    (count,) = struct.unpack_from("<I", content, place)
    if count * struct.calcsize(form) > len(content) - place:
        raise ValueError("it points to what lies beyond its end")
    for i in range(count):
        yield struct.unpack_from(form, content, place + 4 + i * struct.calcsize(form))
