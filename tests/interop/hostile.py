"""Files that attack their reader, made by code: some run commands, some lie about sizes, some are broken."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spelling import (
    FLOATS,
    LOAD_BYTES,
    MACHINE,
    MODULE_DICT,
    ORDERED,
    REBUILD,
    archive,
    call,
    checkpoint,
    data,
    identity,
    mapping,
    members,
    module,
    name,
    patched,
    pickled,
    plain,
    snapshot,
    storage,
    stream,
    tensor,
    text,
    zipped,
)


class Reduced:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts


class ReducedEx(Reduced):
    """The same by ``__reduce_ex__``, with items to append."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return *self.parts, None, iter(())


def running(canary: Path) -> dict[str, bytes]:
    """Return files each of which makes Python's unpickler, or torch's without ``weights_only``, create ``canary``."""
    touch, write, argv = f"touch {canary}", f"open({str(canary)!r}, 'w').close()", ["touch", str(canary)]
    spells: dict[str, tuple[Any, ...]] = {"os.system": (os.system, touch), "eval": (eval, write), "exec": (exec, write)}
    return {
        **{
            f"{what}, protocol {protocol}": pickle.dumps(Reduced(*spell), protocol)
            for what, spell in spells.items()
            for protocol in range(6)
        },
        "reduce_ex": pickle.dumps(ReducedEx(os.system, touch), 4),
        "subprocess": pickle.dumps(Reduced(subprocess.call, argv), 4),
        "open for writing": pickle.dumps(Reduced(open, str(canary), "w"), 4),
        "mkdir": pickle.dumps(Reduced(os.mkdir, str(canary)), 4),
        "in a torch archive": archive(checkpoint(loss=Reduced(os.system, touch))),
        "in torch's older format": archive(
            checkpoint(loss=Reduced(os.system, touch)), _use_new_zipfile_serialization=False
        ),
        "archive in embedded bytes": pickled(call(LOAD_BYTES, data(archive(Reduced(os.system, touch))))),
        **_names(touch),
        **_instructions(touch),
        **_hidden(touch),
    }


def _names(touch: str) -> dict[str, bytes]:
    """Return pickles that reach a function by roundabout names."""
    get, system = name("builtins", "getattr"), name("os", "system")
    module_os = call(name("importlib", "import_module"), text("os"))
    lazy = call(name("builtins", "map"), system, plain([touch]))
    chain = call(get, call(name("builtins", "__import__"), text("os")), text("system"))
    item = call(call(name("operator", "itemgetter"), text("system")), call(name("builtins", "vars"), module_os))
    method = call(name("operator", "methodcaller"), text("system"), text(touch))
    return {
        "posix.system": pickled(call(name("posix", "system"), text(touch))),
        "posix.system by GLOBAL": b"\x80\x02cposix\nsystem\n" + text(touch) + b"\x85R.",
        "dotted name": pickled(call(name("subprocess", "os.system"), text(touch))),
        "import and getattr": pickled(call(chain, text(touch))),
        "item of a module's dict": pickled(call(item, text(touch))),
        "methodcaller": pickled(call(method, module_os)),
        "attrgetter": pickled(call(call(call(name("operator", "attrgetter"), text("system")), module_os), text(touch))),
        "partial": pickled(call(call(name("functools", "partial"), system, text(touch)))),
        "list of a map": pickled(call(name("builtins", "list"), lazy)),
        "name from memo pieces": pickled(
            text("system") + b"\x940" + text("posix") + b"\x940h\x01h\x00\x93" + text(touch) + b"\x85R"
        ),
        "name kept far out in the memo": pickled(
            system + b"r\xff\xff\x00\x000j\xff\xff\x00\x00" + text(touch) + b"\x85R"
        ),
    }


def _instructions(touch: str) -> dict[str, bytes]:
    """Return pickles that call by other instructions than REDUCE."""
    system, line = name("os", "system"), touch.encode()
    lazy = call(name("builtins", "map"), system, plain([touch]))
    setter = mapping(__setstate__=system)
    return {
        "INST": b"(S'" + line + b"'\nios\nsystem\n.",
        "INST after PROTO": b"\x80\x02(" + text(touch) + b"ios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + line + b"'\no.",
        "OBJ after PROTO": b"\x80\x02(" + system + text(touch) + b"o.",
        "NEWOBJ of an iterator": pickled(name("builtins", "tuple") + lazy + b"\x85\x81"),
        "NEWOBJ_EX of an iterator": pickled(name("builtins", "tuple") + lazy + b"\x85}\x92"),
        "BUILD that sets __setstate__": pickled(
            name("builtins", "Exception") + b")\x81" + setter + b"b" + text(touch) + b"b"
        ),
        "BUILD that sets slots": pickled(
            name("types", "SimpleNamespace") + b")\x81N" + setter + b"\x86b" + text(touch) + b"b"
        ),
    }


def _hidden(touch: str) -> dict[str, bytes]:
    """Return files that are sound but for one place."""
    run = call(name("os", "system"), text(touch))
    evil = pickle.dumps(Reduced(os.system, touch), 2)
    return {
        "value of a dict": pickled(mapping(ema=run)),
        "element of a set": pickled(b"\x8f(" + run + b"\x90"),
        "taken off the stack": pickled(run + b"0" + ORDERED),
        "setting of a sound snapshot": snapshot(dataset_kwargs=mapping(path=run)),
        "state of a module": pickled(mapping(ema=MODULE_DICT + mapping(a=run) + b"b")),
        "hooks of a tensor": snapshot(tensor(rest=b"\x89" + run)),
        "pickle in bytes": pickled(call(name("_pickle", "loads"), data(evil))),
        "pickle as embedded bytes": pickled(call(LOAD_BYTES, data(evil))),
        "object of an embedded stream": snapshot(tensor(of=storage(stream(value=run)))),
        "facts of an embedded stream": snapshot(
            tensor(of=storage(stream(heads=(0x1950A86A20F9469CFC6C, 1001, Reduced(os.system, touch)))))
        ),
    }


def oddly_called() -> dict[str, bytes]:
    """Return pickles that twist calls, states and names without a command of their own."""
    number = name("numpy._core.multiarray", "scalar")
    double = call(name("numpy", "dtype"), text("f8"), b"\x89", b"\x88")
    swapped = double + plain((3, ">", None, None, None, -1, -1, 0)) + b"b"
    persistent = name("torch_utils.persistence", "_reconstruct_persistent_obj")
    values = {
        "Popen by NEWOBJ": name("subprocess", "Popen") + plain((["touch", "x"],)) + b"\x81",
        "extension code": b"\x82\x01",
        "extension code of four bytes": b"\x84\xff\xff\xff\x7f",
        "persistent id of a command": text("touch x") + b"Q",
        "persistent id by PERSID": b"Ptouch x\n",
        "name of a number": b"K\x01K\x02\x93",
        "name of an unprintable": name("\x1b[2J\nos", "system\r\n"),
        "name below an allowed one": name("collections", "OrderedDict.__init__"),
        "name with a space": b"ccollections OrderedDict\nx\n",
        "call of a number": b"K\x01)R",
        "call of a class": name("torch.nn.modules.container", "ModuleDict") + b")R",
        "call with a list": name("collections", "OrderedDict") + b"]R",
        "OrderedDict of items": call(name("collections", "OrderedDict"), plain([("a", 1)])),
        "set of lists": call(name("builtins", "set"), plain([[]])),
        "instance of a function": name("collections", "OrderedDict") + b")\x81",
        "instance with arguments": name("torch.nn.modules.container", "ModuleDict") + b"K\x01\x85\x81",
        "state of a number": b"K\x01}b",
        "state of a record that is a tuple": MODULE_DICT + b"N}\x86b",
        "state of a NumPy type": swapped,
        "NumPy type of objects": call(name("numpy", "dtype"), text("O8"), b"\x89", b"\x88"),
        "NumPy type of records": call(name("numpy", "dtype"), plain([("a", "f8")]), b"\x89", b"\x88"),
        "NumPy number cut short": call(number, double, data(b"\0\0")),
        "NumPy number of text": call(number, double, text("1")),
        "codec that unpacks": call(name("_codecs", "encode"), text("x"), text("zlib_codec")),
        "codec of long text": call(name("_codecs", "encode"), text("x" * 10**6), text("latin1")),
        "persistent object of a module": call(persistent, mapping(type=text("module"), state=mapping())),
        "persistent object of nothing": call(persistent),
        "embedded text": call(LOAD_BYTES, text("x")),
        "embedded archive": call(LOAD_BYTES, data(archive())),
        "embedded in embedded": storage(stream(value=storage())),
        "parameter of text": call(name("torch._utils", "_rebuild_parameter"), text("x"), b"\x88", ORDERED),
        "quantized tensor": call(name("torch._utils", "_rebuild_qtensor"), storage()),
        "text as ema": mapping(ema=text("x")),
        "tensor as ema": mapping(ema=tensor()),
        "nothing": b"N",
        "far memo index": b"Nr\xff\xff\xff\xff",
        "state dict of text": mapping(model=mapping(w=text("x")), optimizer=mapping(state=mapping()), epoch=b"K\x01"),
        "optimiser of text": mapping(model=mapping(), optimizer=mapping(state=text("x")), epoch=b"K\x01"),
        "bytes as a setting": mapping(ema=module(), loss_fn=data(b"x")),
        "parameters of text": mapping(ema=module(_parameters=text("x"))),
        "parameter of a number": mapping(ema=module(b"K\x01")),
        "hidden buffers of a tensor": mapping(ema=module(_non_persistent_buffers_set=tensor())),
        "arguments of a tensor": mapping(ema=module(_init_args=tensor())),
        "child of text": mapping(ema=module(_modules=mapping(a=text("x")))),
        "parameter with a long name": mapping(ema=module(_modules=mapping(**{"a" * 10**6: module()}))),
        "one name twice": mapping(
            ema=module(_modules=mapping(a=module()), _parameters=mapping(**{"a.weight": tensor()}))
        ),
    }
    return {what: pickled(value) for what, value in values.items()}


def lying() -> dict[str, bytes]:
    """Return files that claim sizes, offsets and lengths which they do not hold."""
    views = {
        "negative offset": tensor(offset=-1),
        "offset beyond the storage": tensor(offset=1),
        "offset of 2⁶²": tensor(offset=2**62),
        "offset of 2⁹⁰": tensor(offset=2**90),
        "offset of text": tensor(offset="0"),
        "negative size": tensor(size=(-2, 3)),
        "size of 2⁸⁰": tensor(size=(2**40, 2**40)),
        "size of 2²⁰ by stride 0": tensor(size=(2**20, 1), stride=(0, 0)),
        "size that overflows to 6": tensor(size=(2**63 + 3, 2), stride=(0, 0)),
        "size of floats": tensor(size=(2.0, 3.0)),
        "size of flags": tensor(size=(True, True)),
        "size of lists": tensor(size=([2], [3])),
        "size of nothing": tensor(size=None),
        "empty but huge": tensor(size=(0, 2**33, 2**33), stride=(1, 1, 1)),
        "negative stride": tensor(stride=(-3, 1)),
        "stride beyond the storage": tensor(stride=(4, 1)),
        "stride of 2⁶²": tensor(stride=(2**62, 1)),
        "stride of another length": tensor(stride=(1,)),
        "seventeen axes": tensor(size=(1,) * 17, stride=(1,) * 17),
        "tensor of no storage": tensor(of=b"N"),
        "tensor of a tensor": tensor(of=tensor()),
        "tensor with metadata": tensor(rest=b"\x89" + ORDERED + mapping(conj=b"\x88")),
        "tensor whose hooks are a tensor": tensor(rest=b"\x89" + tensor()),
        "too few arguments": call(REBUILD, storage()),
        "too many arguments": tensor(rest=b"\x89" + ORDERED * 9),
    }
    streams = {
        "storage of 2⁶⁰": stream(value=identity(2**60)),
        "storage of -6": stream(value=identity(-6)),
        "storage of text": stream(value=identity("6")),
        "storage of one more": stream(value=identity(7)),
        "length of 2⁶²": stream(held=2**62),
        "length of -1": stream(held=-1),
        "storage cut short": stream(bytes(23)),
        "storage too long": stream(bytes(25)),
        "storage of no type": stream(value=identity(kind=b"N")),
        "storage of a function": stream(value=identity(kind=name("collections", "OrderedDict"))),
        "storage of a view": stream(value=identity(view=plain(("v", 0, 6)))),
        "two claims on a storage": stream(value=identity(1) + b"0" + identity(2)),
        "storages without names": stream(keys=()),
        "storages of other names": stream(keys=("a",)),
        "storage named twice": stream(keys=("k", "k")),
        "storages named by numbers": stream(keys=(1,)),
        "another protocol": stream(heads=(0x1950A86A20F9469CFC6C, 1002, MACHINE)),
        "a big-endian machine": stream(heads=(0x1950A86A20F9469CFC6C, 1001, MACHINE | {"little_endian": False})),
        "another magic number": stream(heads=(0x1950A86A20F9469CFC6D, 1001, MACHINE)),
        "bytes behind the stream": stream(end=b"x"),
    }
    bodies = {
        "LONG1 of 255 bytes": b"\x8a\xff\x01",
        "LONG4 of 2 GiB": b"\x8b\xff\xff\xff\x7f\x01",
        "LONG4 of less than nothing": b"\x8b\xff\xff\xff\xff\x01",
        "long decimal": b"L" + b"9" * 10**5 + b"L\n",
        "BINUNICODE of 4 GiB": b"X\xff\xff\xff\xffx",
        "BINUNICODE8 of 2⁶⁰": b"\x8d" + struct.pack("<Q", 2**60) + b"x",
        "BINUNICODE8 of 2⁶⁴": b"\x8d" + struct.pack("<Q", 2**64 - 1) + b"x",
        "BINBYTES of 4 GiB": b"B\xff\xff\xff\xffx",
        "BINBYTES8 of 2⁶⁰": b"\x8e" + struct.pack("<Q", 2**60) + b"x",
        "BYTEARRAY8 of 2⁶⁰": b"\x96" + struct.pack("<Q", 2**60) + b"x",
        "BINSTRING of less than nothing": b"T\xff\xff\xff\xffx",
        "frame of 2⁶⁰": b"\x95" + struct.pack("<Q", 2**60) + b"N",
        "frame of one more": b"\x95" + struct.pack("<Q", 3) + b"N",
        "buffer out of band": b"\x97",
        "broken UTF-8": b"X\x02\x00\x00\x00\xff\xfe",
        "memo that is empty": b"h\x00",
        "memo index of 2³¹": b"j\x00\x00\x00\x80",
        "name without an end": b"cos",
    }
    return (
        {what: snapshot(view) for what, view in views.items()}
        | {f"embedded: {what}": snapshot(tensor(of=storage(content))) for what, content in streams.items()}
        | {what: pickled(body) for what, body in bodies.items()}
    )


def exhausting() -> dict[str, bytes]:
    """Return small files that would cost time or memory without end."""
    big = stream(bytes(10**6), held=250_000, value=identity(250_000))
    lists = doubled(b"]", 60, lambda one, other: b"](" + one + other + b"e")
    tuples = doubled(b")", 60, lambda one, other: one + other + b"\x86")
    modules = doubled(
        MODULE_DICT, 28, lambda one, other: MODULE_DICT + mapping(_modules=mapping(a=one, b=other)) + b"b"
    )
    view = call(REBUILD, again(), plain(0), plain((250_000,)), plain((1,)), b"\x89", ORDERED)
    collisions = b"".join(b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N" for i in range(1, 50_000))
    values = {
        "marks without end": b"(" * 2_000_000,
        "dicts without end": b"}" * 2_000_000,
        "sets without end": b"\x8f" * 2_000_000,
        "lists 400,000 deep": b"]" * 400_000 + b"a" * 399_999,
        "tuples 900,000 deep": b")" + b"\x85" * 900_000,
        "settings 1,000 deep": mapping(ema=module(), loss_fn=b"]" * 1000 + b"a" * 999),
        "modules 1,000 deep": mapping(ema=_deep(1000)),
        "settings doubled 60 times": mapping(ema=module(), loss_fn=lists),
        "key doubled 60 times": b"}" + tuples + b"Ns",
        "element doubled 60 times": b"\x8f(" + tuples + b"\x90",
        "arguments doubled 60 times": mapping(ema=module(_init_args=tuples)),
        "modules doubled 28 times": mapping(ema=modules),
        "list in itself": mapping(ema=module(), loss_fn=b"]" + keep() + again() + b"a"),
        "dict in itself": mapping(ema=module(), loss_fn=b"}" + keep() + text("a") + again() + b"s"),
        "module in itself": mapping(ema=MODULE_DICT + keep() + mapping(_modules=mapping(a=again())) + b"b"),
        "module that is its own state": mapping(ema=MODULE_DICT + b"}" + keep() + text("_modules") + again() + b"sb"),
        "keys that collide": b"}(" + collisions + b"u",
        "set made 5,000 times": b"]("
        + b"".join(plain(i) for i in range(1000))
        + b"e"
        + keep()
        + call(name("builtins", "set"), again()) * 5000,
        "embedded bytes read 1,000 times": data(big) + keep() + call(LOAD_BYTES, again()) * 1000,
        "storage shown 1,000 times": call(LOAD_BYTES, data(big)) + keep() + view * 1000,
    }
    return {what: pickled(value) for what, value in values.items()}


def keep(index: int = 0) -> bytes:
    """Put the last value into the memo, where no other instruction does."""
    return b"r" + struct.pack("<I", 2**20 + index)


def again(index: int = 0) -> bytes:
    return b"j" + struct.pack("<I", 2**20 + index)


def doubled(value: bytes, times: int, pair: Callable[[bytes, bytes], bytes]) -> bytes:
    """Return a pair of one value twice, which is a pair of one value twice, and so on."""
    for index in range(times):
        value = pair(value + keep(index), again(index))
    return value


def _deep(depth: int) -> bytes:
    """Return modules that hold one another."""
    return (MODULE_DICT + b"}" + text("_modules") + b"}" + text("a")) * depth + b"N" + b"ssb" * depth


def broken() -> dict[str, bytes]:
    """Return files that are no checkpoint, or a part of one."""
    sound, packed = snapshot(), archive()
    older = archive(_use_new_zipfile_serialization=False)
    wholes = {"pickle": sound, "archive": packed, "older format": older}
    bodies = {
        "no value": b"",
        "two values": b"NN",
        "value on a mark": b"N(",
        "key without a value": b"}(Nu",
        "list filled as a dict": b"]K\x01K\x02s",
        "dict filled as a list": b"}K\x01a",
        "list filled as a set": b"](K\x01\x90",
        "record filled as a dict": MODULE_DICT + b"K\x01K\x02s",
        "tuple of what is not there": b"K\x01\x86",
        "tuple across a mark": b"K\x01(K\x02\x86",
        "marks that were not set": b"K\x01t",
        "key of nothing": b"}NNs",
        "key of a float": b"}" + plain(1.5) + b"Ns",
        "no instruction": b"\xff",
        "text of Python 2": b"U\x01x",
    }
    return {
        **{
            f"{what} cut after {part} of 24 parts": whole[: len(whole) * part // 24]
            for what, whole in wholes.items()
            for part in range(1, 24)
        },
        **{f"{what} without its last byte": whole[:-1] for what, whole in wholes.items()},
        **{f"{what} with a byte behind it": wholes[what] + b"x" for what in ("pickle", "older format")},
        **{what: pickled(body) for what, body in bodies.items()},
        "empty": b"",
        "text": b"import os\nos.system('touch x')\n",
        "text that begins like a zip": b"PK is no archive\n",
        "JSON": b'{"ema": 1}',
        "zeros": bytes(1000),
        "ones": b"\xff" * 1000,
        "packed by gzip": gzip.compress(sound),
        "protocol 1": sound[2:],
        "protocol 77": b"\x80\x4d" + sound[2:],
        "two pickles": sound + sound,
    }


def zips() -> dict[str, bytes]:
    """Return archives that torch would not write."""
    found = members(archive())
    sound = zipped(found)
    directory = sound.rindex(b"PK\x05\x06")
    bomb = bytes(2**24)
    flipped = bytearray(sound)
    flipped[sound.index(found["archive/data/0"])] ^= 1
    return {
        "no data.pkl": zipped({key: held for key, held in found.items() if "pkl" not in key}),
        "two data.pkl": zipped(found, more=[("other/data.pkl", found["archive/data.pkl"])]),
        "data.pkl at the root": zipped({key.removeprefix("archive/"): held for key, held in found.items()}),
        "empty archive": zipped({}),
        "directory alone": sound[directory:],
        "storage missing": zipped({key: held for key, held in found.items() if "data/0" not in key}),
        "storage too short": zipped(found | {"archive/data/0": bytes(20)}),
        "storage too long": zipped(found | {"archive/data/0": bytes(28)}),
        "storage of an odd length": zipped(found | {"archive/data/0": bytes(23)}),
        "big-endian": zipped(found | {"archive/byteorder": b"big"}),
        "data.pkl with a byte behind it": zipped(found | {"archive/data.pkl": found["archive/data.pkl"] + b"x"}),
        "archive in an archive": zipped(found | {"archive/data.pkl": sound}),
        "pickle packed": zipped(found, zipfile.ZIP_DEFLATED),
        "packed by bzip2": zipped(found, zipfile.ZIP_BZIP2),
        "packed by LZMA": zipped(found, zipfile.ZIP_LZMA),
        "bomb as a storage": zipped(found | {"archive/data/0": bomb}, zipfile.ZIP_DEFLATED),
        "bomb as the pickle": zipped(found | {"archive/data.pkl": b"\x80\x02" + b"(" * 2**24}, zipfile.ZIP_DEFLATED),
        "bomb that says it is stored": patched(
            zipped(found | {"archive/data/0": bomb}, zipfile.ZIP_DEFLATED), "data/0", method=0
        ),
        "unknown packing": patched(sound, "data/0", method=77),
        "encrypted": patched(sound, "data/0", flags=1),
        "wrong checksum": patched(sound, "data/0", crc=1),
        "wrong checksum of the pickle": patched(sound, "data.pkl", crc=1),
        "changed byte": bytes(flipped),
        "size of 4 GiB": patched(sound, "data/0", packed=2**32 - 16, size=2**32 - 16),
        "size of 4 GiB of nothing": patched(sound, "data/0", size=2**32 - 16),
        "place beyond the end": patched(sound, "data/0", offset=2**32 - 16),
        "place at the end": patched(sound, "data/0", offset=len(sound) - 1),
        "place of another": patched(sound, "data/0", offset=0),
        "member over the next": patched(sound, "data/0", packed=200, size=200),
        "member twice": zipped(found, more=[("archive/data/0", found["archive/data/0"])]),
        "data.pkl twice": zipped(found, more=[("archive/data.pkl", found["archive/data.pkl"])]),
        "member outside": zipped(found, more=[("archive/../../etc/x", b"")]),
        "member at the root of the disk": zipped(found, more=[("/etc/x", b"")]),
        "member of Windows": zipped(found, more=[("archive\\..\\x", b"")]),
        "directory of 4 GiB": sound[: directory + 12] + struct.pack("<I", 2**32 - 2) + sound[directory + 16 :],
        "directory of 9 MB": _crowded(),
        "pickle of a command": zipped(found | {"archive/data.pkl": pickle.dumps(Reduced(os.system, "touch x"), 2)}),
        "persistent id of a path": zipped(
            found | {"archive/data.pkl": pickled(_refer(text("../../../etc/passwd")), 2)}
        ),
        "persistent id of text": zipped(found | {"archive/data.pkl": pickled(text("x") + b"Q", 2)}),
        "storage of another type": zipped(
            found | {"archive/data.pkl": pickled(_refer(text("0"), name("torch", "HalfStorage")), 2)}
        ),
        "storage of 10⁶⁰⁰ numbers": zipped(found | {"archive/data.pkl": pickled(_refer(text("0"), count=10**600), 2)}),
        "embedded in an archive": zipped(found | {"archive/data.pkl": pickled(call(LOAD_BYTES, data(sound)), 2)}),
    }


def _refer(key: bytes, kind: bytes = FLOATS, count: int = 6) -> bytes:
    return b"(" + text("storage") + kind + key + text("cpu") + plain(count) + b"tQ"


def _crowded() -> bytes:
    """Return an archive of nothing but directory: 140,000 entries that point at one place."""
    local = b"PK\x03\x04" + bytes(22) + struct.pack("<HH", 20, 0) + b"a" * 20
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 20) + bytes(16) + b"a" * 20
    entries = entry * 140_000
    return local + entries + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 65535, 65535, len(entries), len(local), 0)


def quiet() -> dict[str, bytes]:
    """Return every case that has no command to run."""
    groups = {
        "odd": oddly_called(),
        "lying": lying(),
        "exhausting": exhausting(),
        "broken": broken(),
        "zip": zips(),
    }
    return {f"{group}: {what}": content for group, cases in groups.items() for what, content in cases.items()}
