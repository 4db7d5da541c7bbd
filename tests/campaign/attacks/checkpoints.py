"""Pickles that run commands, archives that lie, safetensors whose header does, GGUF and TorchScript."""

from __future__ import annotations

import functools
import json
import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.campaign import corpus
from tests.campaign.attacks import Attack, Write, file, files

CANARY = Path("../canary")
"""What a payload that is executed creates."""

_RUNS, _COSTS = "a checkpoint runs commands of its author", "a small checkpoint takes memory or time without end"


def attacks() -> Iterator[Attack]:
    """Yield them."""
    import hostile  # the checkpoints of tests/interop

    for name, content in hostile.running(CANARY).items():
        yield _imported("pickle that runs", name, file("x.pt", content), _RUNS)
    for name in hostile.quiet():
        yield _imported("checkpoint that lies", name, file("x.pt", functools.partial(_quiet, name)), _COSTS)
    for name, content in _elsewhere().items():
        yield _weights("pickle that runs", name, content, _RUNS)
    for name, content in headers().items():
        yield _weights("safetensors", name, {"w/diffusion_pytorch_model.safetensors": content}, _COSTS)
    for name, content in _configs().items():
        yield _weights("safetensors", f"config.json: {name}", content, "the folder of a model stops or runs something")
    for name, content in _ggufs().items():
        yield _text_model("GGUF and tokenizers", name, content)
    for name, content in _scripts().items():
        settings = "{name: torchscript, path: x.pt}"
        command = ("metrics", "a.npy", "a.npy", "--features", settings)
        pixels = functools.partial(corpus.npy, corpus.np.zeros((12, 8, 8, 3), corpus.np.uint8))
        write = files({"a.npy": pixels, "x.pt": content})
        yield Attack("TorchScript", name, write, command, "a file of features runs Python")


def _quiet(name: str) -> bytes:
    import hostile

    return hostile.quiet()[name]


def _imported(kind: str, name: str, write: Write, harm: str) -> Attack:
    command = ("import", "x.pt", "--out", "out")
    codes = (0, 2) if name in _HARMLESS else (2,)
    return Attack(kind, name, write, command, harm, codes, ("selfloop.interop:read_checkpoint", "x.pt"))


_HARMLESS = {"exhausting: modules doubled 28 times", "exhausting: settings doubled 60 times"}

_GIVEN = """
name: x
data: {name: digit_images, n: 32, held_out: 16}
generator: {name: diffusers, checkpoint: w, unet: {block_out_channels: [8, 8], layers_per_block: 1, norm_num_groups: 2,
  down_block_types: [DownBlock2D, DownBlock2D], up_block_types: [UpBlock2D, UpBlock2D]}}
generations: 1
budget: {steps: 1}
"""


def _weights(kind: str, name: str, content: dict[str, bytes], harm: str) -> Attack:
    write = files({"x.yaml": _GIVEN.encode(), **content})
    command = ("run", "x.yaml", "--out", "run", "--workers", "0")
    return Attack(
        kind, f"weights: {name}", write, command, harm, (2,), ("tests.campaign.attacks.checkpoints:weights", "w")
    )


def weights(folder: str) -> None:
    """Read what a folder has of a model."""
    from selfloop.interop.diffusers import read_config, read_weights

    read_config(Path(folder))
    read_weights(Path(folder))


def _elsewhere() -> dict[str, dict[str, bytes]]:
    """Return the pickles that run, where weights are expected."""
    import hostile
    from spelling import archive

    system = hostile.Reduced(os.system, f"touch {CANARY}")
    held = {
        "a pickle": pickle.dumps(system, 4),
        "in an archive": archive({"w": system}),
        "in torch's older format": archive({"w": system}, _use_new_zipfile_serialization=False),
        "called safetensors": b"",
    }
    found = {name: {"w/diffusion_pytorch_model.bin": content} for name, content in held.items()}
    return found | {"called safetensors": {"w/diffusion_pytorch_model.safetensors": held["a pickle"]}}


@functools.cache
def headers() -> dict[str, bytes]:
    """Return safetensors whose headers claim what is not there."""

    def held(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
        return {"dtype": dtype, "shape": shape, "data_offsets": offsets}

    one, eight = {"a": held()}, bytes(8)
    twice = b'{"a":' + json.dumps(held()).encode() + b',"a":' + json.dumps(held()).encode() + b"}"
    return {
        "length of 2⁶³": corpus.safetensors(one, eight, 2**63),
        "length of 2⁶⁴ − 1": corpus.safetensors(one, eight, 2**64 - 1),
        "length of 100 MB": corpus.safetensors(one, eight, 10**8),
        "length of 0": corpus.safetensors(one, eight, 0),
        "length alone": struct.pack("<Q", 8),
        "empty": b"",
        "overlapping offsets": corpus.safetensors({"a": held(), "b": held(offsets=(4, 12))}, bytes(12)),
        "the same bytes twice": corpus.safetensors({"a": held(), "b": held()}, eight),
        "a gap": corpus.safetensors({"a": held(offsets=(8, 16))}, bytes(16)),
        "negative offsets": corpus.safetensors({"a": held(offsets=(-8, 0))}, eight),
        "offsets the wrong way round": corpus.safetensors({"a": held(offsets=(8, 0))}, eight),
        "offsets beyond the end": corpus.safetensors({"a": held(offsets=(2**40, 2**40 + 8))}, eight),
        "offsets of text": corpus.safetensors({"a": held(offsets=("0", "8"))}, eight),
        "key twice": corpus.safetensors(twice, eight),
        "dtype that there is not": corpus.safetensors({"a": held("F33")}, eight),
        "dtype of a number": corpus.safetensors({"a": held(7)}, eight),  # type: ignore[arg-type]
        "shape of 2⁴⁰ × 2⁴⁰": corpus.safetensors({"a": held(shape=(2**40, 2**40))}, eight),
        "shape that overflows to 2": corpus.safetensors({"a": held(shape=(2**63 + 1, 2))}, eight),
        "shape of −2": corpus.safetensors({"a": held(shape=(-2,))}, eight),
        "shape of 0 × 2⁶²": corpus.safetensors({"a": held(shape=(0, 2**62), offsets=(0, 0))}),
        "a million axes": corpus.safetensors({"a": held(shape=(1,) * 10**6 + (2,))}, eight),
        "JSON 10⁵ deep": corpus.safetensors(b'{"a":' * 10**5 + b"1" + b"}" * 10**5),
        "lists 10⁵ deep": corpus.safetensors(b"[" * 10**5 + b"]" * 10**5),
        "a list": corpus.safetensors(b"[]"),
        "no JSON": corpus.safetensors(b"x" * 40),
        "NUL in a name": corpus.safetensors({"a\0b": held()}, eight),
        "name of a path": corpus.safetensors({"../../canary": held()}, eight),
        "metadata of numbers": corpus.safetensors({"__metadata__": {"a": 1}, "a": held()}, eight),
        "not UTF-8": corpus.safetensors(b'{"\xff":1}'),
        "2·10⁵ tensors": corpus.safetensors({f"{i}": held(shape=(0,), offsets=(0, 0)) for i in range(2 * 10**5)}),
        "cut short": corpus.safetensors({"a": held(offsets=(0, 8))}, bytes(7)),
        "bytes behind it": corpus.safetensors(one, bytes(9)),
    }


def _configs() -> dict[str, dict[str, bytes]]:
    sound = {"w/diffusion_pytorch_model.safetensors": corpus.safetensors({})}
    held = {
        "JSON 10⁵ deep": b"[" * 10**5,
        "4 MB": b" " * 2**22,
        "a number of 10⁵ digits": b'{"_class_name": "UNet2DModel", "sample_size": ' + b"9" * 10**5 + b"}",
        "NaN": b'{"_class_name": "UNet2DModel", "sample_size": NaN}',
        "another class": b'{"_class_name": "../../x"}',
        "layers without end": b'{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, '
        b'"out_channels": 1, "layers_per_block": 1000000000}',
        "channels without end": b'{"_class_name": "UNet2DModel", "in_channels": 1, "out_channels": 1, '
        b'"block_out_channels": [1000000000, 1000000000]}',
        "not UTF-8": b"\xff\xfe\0",
    }
    return {name: {"w/config.json": content, **sound} for name, content in held.items()}


_OF_TEXT = """
name: x
data: {name: text, path: x.txt, tokenizer: file, tokenizer_path: FILE, block: 8}
generator: ngram
generations: 1
"""


def _text_model(kind: str, name: str, content: dict[str, bytes]) -> Attack:
    (path,) = content
    write = files({"x.yaml": _OF_TEXT.replace("FILE", path).encode(), "x.txt": b"a line\n" * 40, **content})
    command = ("run", "x.yaml", "--out", "run", "--workers", "0")
    harm = "a tokenizer stops the process or takes its memory"
    call = ("selfloop.data.reading.tokenizer_files:read_tokenizer_file", path)
    return Attack(kind, name, write, command, harm, (2,), call)


def _ggufs() -> dict[str, dict[str, bytes]]:
    def gguf(tensors: int, keys: int, more: bytes = b"") -> bytes:
        return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + more

    text = struct.pack("<Q", 2**62)
    deep = b"[" * 10**5 + b"]" * 10**5
    held = {
        "2⁶³ keys": gguf(0, 2**63),
        "2⁶³ tensors": gguf(2**63, 0),
        "key of 2⁶² bytes": gguf(0, 1, text + b"x"),
        "array of 2⁶² arrays": gguf(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 9, 2**62)),
        "cut short": b"GGUF\x03",
        "empty": b"",
        "version 10⁹": b"GGUF" + struct.pack("<IQQ", 10**9, 0, 0),
    }
    found = {f"GGUF: {name}": {"x.gguf": content} for name, content in held.items()}
    others = {
        "JSON 10⁵ deep": deep,
        "no object": b"[1]",
        "another kind of model": b'{"version": "1.0", "model": {"type": "../../x"}}',
        "a vocabulary of 2⁶³": b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 9223372036854775807}, "merges": []}}',
        "not UTF-8": b"\xff",
        "a pickle": b"\x80\x04cos\nsystem\nX\x02\0\0\0ls\x85R.",
    }
    return found | {f"tokenizer.json: {name}": {"tokenizer.json": content} for name, content in others.items()}


def _scripts() -> dict[str, bytes]:
    import hostile
    from spelling import archive

    system = hostile.Reduced(os.system, f"touch {CANARY}")
    return {
        "a pickle": pickle.dumps(system, 2),
        "torch's zip with a command": archive(system),
        "torch's zip of tensors": archive(),
        "zip of nothing": corpus.zipped({"x/data.pkl": b"\x80\x02}.", "x/version": b"3"}),
        "zip with code that is no TorchScript": corpus.zipped(
            {
                "x/data.pkl": b"\x80\x02c__torch__\nA\n)\x81.",
                "x/constants.pkl": b"\x80\x02).",
                "x/code/__torch__.py": b"import os\nos.system('touch ../canary')\n",
                "x/version": b"3",
            }
        ),
        "empty": b"",
    }
