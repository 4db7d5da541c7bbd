"""Coverage-guided fuzzing of every reader and of settings, by atheris (libFuzzer), each in a process of its own.

A try is one input. Errors of selfloop's own kind may come out of a reader; anything else is a failure, and so are a
warning, ten seconds without an end, and 2 GB of memory. What is found is kept in ``findings``, replayed by the tests.

``python -m tests.campaign.fuzz KIND INPUTS FOUND -max_total_time=600`` is the process of one reader.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaign import Try, corpus

FINDINGS = Path(__file__).parent / "findings"
"""A file a finding: ``KIND-WORDS.b64`` with the input in base64."""

_READERS = (
    "core",
    "interop",
    "data",
    "store",
    "experiment",
    "arms",
    "analysis.sequences",
    "analysis.sources",
    "shards",
)
_SECONDS, _MEGABYTES = 10, 2600  # a bare process has 600
_DONE = re.compile(rb"stat::number_of_executed_units: *([0-9]+)")


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        kind: its name.
        seeds: sound inputs.
        read: gives an input to the readers, in a folder of its own; what it raises beside errors of selfloop's own kind
            is a failure.
    """

    kind: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], None]


def wrong(target: Target, content: bytes, folder: Path) -> str:
    """Return what is wrong with how an input is read, in a line; "" where nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for hidden in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning, ImportWarning):
                warnings.simplefilter("ignore", hidden)
            target.read(content, folder)
    except Exception as error:
        own = [each for each in traceback.extract_tb(error.__traceback__) if "selfloop" in each.filename]
        where = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        return f"{type(error).__name__}{where}: {' '.join(str(error).split())[:160]}"
    return ""


def _each(*readers: Callable[[], object]) -> None:
    """Call readers, each of which may refuse what it is given in one line."""
    from selfloop import SelfloopError

    for read in readers:
        try:
            read()
        except SelfloopError as error:
            if len(line := str(error)) > 2000 or "\n" in line:
                raise ValueError(f"not one line: {line[:80]!r}") from error


def _put(content: bytes, folder: Path, name: str) -> Path:
    (path := folder / name).write_bytes(content)
    return path


def _checkpoint(content: bytes, folder: Path) -> None:
    from selfloop import interop

    path = _put(content, folder, "x.pt")
    _each(lambda: interop.describe(interop.read_checkpoint(path)))


def _weights(content: bytes, folder: Path) -> None:
    from selfloop.core.files import load_sealed, map_tensors
    from selfloop.interop.diffusers import read_weights

    path = _put(content, folder, "x.bin" if content[:2] in (b"PK", b"\x80\x02") else "x.safetensors")
    _each(lambda: read_weights(path), lambda: map_tensors(path), lambda: load_sealed(path))


def _array(content: bytes, folder: Path) -> None:
    from selfloop.data.reading import images
    from selfloop.data.reading.tables import read_rows

    path = _put(content, folder, "x.npz" if content[:2] == b"PK" else "x.npy")
    _each(
        lambda: read_rows(str(path)),
        lambda: images.read_images(path),
        lambda: images.read_labelled_array(path),
        lambda: images.labelled_images(str(path)),
    )


def _table(name: Callable[[bytes], str]) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        from selfloop.data.reading.summary import summary
        from selfloop.data.reading.tables import EVERYTHING, read_rows
        from selfloop.data.reading.texts import read_texts

        path = _put(content, folder, name(content))
        _each(
            lambda: read_rows(str(path)),
            lambda: summary(str(path), EVERYTHING, None),
            lambda: read_texts(str(path), None, "document"),
        )

    return read


def _picture(content: bytes, folder: Path) -> None:
    from selfloop.data.reading import images

    if content[:2] == b"PK":
        path = _put(content, folder, "x.zip")
        _each(lambda: images.read_labelled_pictures(path), lambda: images.read_pictures(path))
    else:
        _each(lambda: images.decode(_with_checksums(content), "picture 'x'"))


def _with_checksums(content: bytes) -> bytes:
    """Return a PNG whose chunks have the checksums of what is in them, behind which a fuzzer would not come."""
    found, at = bytearray(content), 8
    while content.startswith(b"\x89PNG") and at + 12 <= len(found):
        end = at + 8 + int.from_bytes(found[at : at + 4], "big")
        if end + 4 > len(found):
            break
        struct.pack_into(">I", found, end, zlib.crc32(found[at + 4 : end]))
        at = end + 4
    return bytes(found)


def _corpus(content: bytes, folder: Path) -> None:
    from selfloop.data.reading.texts import read_texts

    path = _put(content, folder, "x.jsonl" if content[:1] in (b"{", b'"') else "x.txt")
    _each(
        lambda: read_texts(str(path), None, "document"),
        lambda: read_texts(str(path), None, "line", empty=True),
    )


def _cifar(content: bytes, folder: Path) -> None:
    from selfloop.data.reading.cifar import read_cifar10

    if content.startswith(b"\x80"):
        shutil.rmtree(folder / "batches", ignore_errors=True)
        (folder / "batches").mkdir()
        for name in corpus.batches():
            _put(content, folder / "batches", Path(name).name)
        _each(lambda: read_cifar10(folder / "batches", labels=True))
        return
    path = _put(_with_sums(content), folder, "x.tar")
    _each(lambda: read_cifar10(path, labels=True))


def _with_sums(content: bytes) -> bytes:
    """Return a tar whose blocks that look like headers have their checksum."""
    found = bytearray(content)
    for at in range(0, len(found) - 511, 512):
        if found[at + 257 : at + 262] == b"ustar":
            found[at + 148 : at + 156] = b" " * 8
            found[at + 148 : at + 156] = b"%06o\0 " % sum(found[at : at + 512])
    return bytes(found)


def _json(content: bytes, folder: Path) -> None:
    from selfloop.data.reading.tokenizer_files import _of_json
    from selfloop.interop.diffusers import read_config

    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        _put(content, folder, name)
    _each(lambda: _of_json(folder / "tokenizer.json", "tokenizer"), lambda: read_config(folder))


def _settings(content: bytes, folder: Path) -> None:
    from selfloop import Experiment

    text, absent = content.decode("utf-8", "surrogateescape"), len(content) % 2 == 0
    _each(
        lambda: Experiment.parse(text, absent=absent).yaml(),
        lambda: Experiment.load(_put(content, folder, "x.yaml")),
    )


def _words(content: bytes, folder: Path) -> None:
    """Give each line of text to whatever takes words of a command line."""
    from selfloop.analysis.sequences import common_name, sequences
    from selfloop.analysis.sources import read_events
    from selfloop.core.paths import here
    from selfloop.core.settings import from_yaml, read_assignments
    from selfloop.experiment import Experiment, member
    from selfloop.features.base import FEATURES
    from selfloop.shards import Shard
    from selfloop.trackers.base import TRACKERS

    base = Experiment(name="x", data="gaussian", generator="gaussian", generations=1)
    for word in content.decode("utf-8", "surrogateescape").replace("\0", "").splitlines()[:8]:
        _each(
            lambda word=word: base.override(word),
            lambda word=word: read_assignments([word]),
            lambda word=word: Shard.parse(word),
            lambda word=word: member(FEATURES, word),
            lambda word=word: member(TRACKERS, word),
            lambda word=word: from_yaml(word, "--types"),
            lambda word=word: here(word),
        )
        if "://" not in word and ".." not in word and not word.startswith(("/", "~")):  # nothing but this folder
            _each(
                lambda word=word: sequences([f"{folder}/{word}"]),
                lambda word=word: read_events(f"{folder}/{word}"),
                lambda word=word: common_name(word),
            )


def _seeds_of_words() -> list[bytes]:
    words = (
        "data.n=64",
        "grid.mixing.lam=[0, inf]",
        "3/16",
        "{name: torchscript, path: x.pt}",
        "gen_{t}.csv",
        "run@3/5",
    )
    return [word.encode() for word in (*words, "s3://bucket/run", "{zip: category}", "run{s}/gen_{t}.csv@train")]


RUN_FILES = ("experiment.yaml", "environment.json", "generation-0001/manifest.json", "real.safetensors", "samples")
"""What of a run is fuzzed, chosen by the first byte of the input; the rest is what its checksum covers."""


@functools.cache
def sound_run() -> Path:
    """Return a small run of a table, made once a process."""
    from selfloop import Experiment, run

    folder = Path(tempfile.mkdtemp(prefix="selfloop-campaign-run-"))
    _put(corpus.texts_of_tables()[0], folder, "x.csv")
    settings = {
        "name": "x",
        "data": {"name": "table", "path": str(folder / "x.csv"), "types": {"age": "number"}, "held_out": 4},
        "generator": "copula",
        "generations": 1,
        "grid": {"mixing.lam": [0.0, 1.0]},
    }
    list(run(Experiment.build(settings), folder / "run"))
    return folder / "run"


def _bodies() -> list[bytes]:
    run = sound_run()
    about = json.loads(
        json.loads(_header(run / "real.safetensors")["__metadata__"]["sealed"])["about"],
    )
    bodies = [
        (run / "experiment.yaml").read_bytes().partition(b"\n")[2],
        *((run / name).read_bytes().split(b"\n", 2)[2] for name in RUN_FILES[1:3]),
        json.dumps(about).encode(),
        (run / "generation-0001" / "samples-000.safetensors").read_bytes(),
    ]
    return [bytes([which]) + body for which, body in enumerate(bodies)]


def _header(path: Path) -> Any:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def _run(content: bytes, folder: Path) -> None:
    """Read a run of which one file is somebody else's, and sealed as if it were ours."""
    from selfloop import Run

    shutil.rmtree(folder / "run", ignore_errors=True)
    shutil.copytree(sound_run(), folder / "run")
    resealed(folder / "run", RUN_FILES[content[0] % len(RUN_FILES)] if content else RUN_FILES[0], content[1:])
    opened: list[Run] = []
    _each(lambda: opened.append(Run.open(folder / "run")))
    for run in opened:
        _each(
            run.records,
            run.damage,
            run.to_frame,
            lambda run=run: str(run),
            lambda run=run: run.metrics,
            lambda run=run: run.losses(1),
            lambda run=run: run.real(0).events.restore(run.samples(1, 0)),
        )


def resealed(run: Path, name: str, body: bytes) -> None:
    """Put a body into a file of a run, with the checksum that makes it valid."""
    from selfloop.core.files import _SEAL, load_sealed, read_sealed, write_sealed
    from selfloop.store.head import _SEAL as HEAD
    from selfloop.store.head import FORMAT

    digest = hashlib.sha256(body).hexdigest()
    if name == "experiment.yaml":
        (run / name).write_bytes(HEAD.format(format=FORMAT, digest=digest).encode() + body)
        environment = read_sealed(run / "environment.json")  # which knows the settings that it belongs with
        write_sealed(run / "environment.json", environment | {"experiment": [digest]})
    elif name.endswith(".json"):
        (run / name).write_bytes(_SEAL % digest.encode() + body)
    elif name == "real.safetensors":
        import safetensors.torch

        from selfloop.core.files import _compact, _digest

        tensors, _ = load_sealed(run / name)
        text = body.decode("utf-8", "replace")
        sealed = {"sealed": _compact({"about": text, "sha256": _digest(tensors, text)})}
        (run / name).write_bytes(safetensors.torch.save(tensors, metadata=sealed))
    else:
        file = run / "generation-0001" / "samples-000.safetensors"
        file.write_bytes(body)
        manifest = read_sealed(file.with_name("manifest.json"))
        manifest["stacks"]["000"]["files"][file.name] |= {"sha256": digest, "bytes": len(body)}
        write_sealed(file.with_name("manifest.json"), manifest)


def _ending_of_columns(content: bytes) -> str:
    return "x.parquet" if content.startswith(b"PAR1") else "x.feather"


def _seeds_of_json() -> list[bytes]:
    config = {"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3, "block_out_channels": [8, 8]}
    tokenizer = {
        "version": "1.0",
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "eos_token": {"content": "a"},
    }
    return [json.dumps(each).encode() for each in (config, tokenizer)]


TARGETS = {
    target.kind: target
    for target in (
        Target("settings", corpus.experiments, _settings),
        Target("run directory", _bodies, _run),
        Target("checkpoint", corpus.checkpoints, _checkpoint),
        Target("weights", corpus.weights, _weights),
        Target("array", corpus.arrays, _array),
        Target("separated text", corpus.texts_of_tables, _table(lambda content: "x.csv")),
        Target("Parquet and Feather", corpus.column_files, _table(_ending_of_columns)),
        Target("database", lambda: [corpus.database()], _table(lambda content: "x.db")),
        Target("pictures", corpus.pictures, _picture),
        Target("text", corpus.corpora, _corpus),
        Target("CIFAR-10", lambda: [corpus.tarred(corpus.batches()), corpus.batch(1)], _cifar),
        Target("JSON", _seeds_of_json, _json),
        Target("words", _seeds_of_words, _words),
    )
}


def findings(kind: str) -> list[tuple[str, bytes]]:
    """Return what was found of a kind before: its name and the input."""
    stem = kind.replace(" ", "-").lower()
    return [(path.stem, base64.b64decode(path.read_bytes())) for path in sorted(FINDINGS.glob(f"{stem}-[0-9]*.b64"))]


def tries(minutes: float, seed: int, folder: Path) -> Iterator[Try]:
    """Fuzz every reader for its share of the time."""
    for target in TARGETS.values():
        (place := folder / target.kind.replace(" ", "-")).mkdir()
        yield from fuzzed(target, 60 * minutes / len(TARGETS), seed, place)


def fuzzed(target: Target, seconds: float, seed: int, folder: Path) -> Iterator[Try]:
    """Fuzz one reader for so long: yield what went well as one, and each failure, known by where it arose, once."""
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit("fuzzing needs atheris: pip install atheris")
    inputs, found = folder / "inputs", folder / "found"
    for each in (inputs, found):
        each.mkdir(exist_ok=True)
    for number, content in enumerate([*target.seeds(), *(held for _, held in findings(target.kind))]):
        (inputs / f"seed-{number:03d}").write_bytes(content)
    end, done = time.monotonic() + seconds, 0
    while (left := int(end - time.monotonic())) > 0:
        flags = (f"-max_total_time={left}", f"-timeout={_SECONDS}", f"-rss_limit_mb={_MEGABYTES}", f"-seed={seed + 1}")
        call = [sys.executable, "-m", "tests.campaign.fuzz", target.kind, inputs, found, *flags, "-print_final_stats=1"]
        with (folder / "log.txt").open("wb") as log:
            code = subprocess.run([*map(str, call), f"-artifact_prefix={found}/"], stderr=log, stdout=log).returncode
        counted = _DONE.search((folder / "log.txt").read_bytes())
        done += int(counted[1]) if counted else 1
        if code and not any(found.glob("*-*")):
            tail = (folder / "log.txt").read_bytes()[-300:].decode(errors="replace")
            yield Try("fuzz", target.kind, "the process", f"ended with {code}: {' '.join(tail.split())}")
            break
        seed += 1
        for died in found.glob("*-*"):  # libFuzzer's own: crash-, timeout-, oom-
            died.rename(found / f"{died.name.replace('-', '_')}.input")
            (found / f"{died.name.replace('-', '_')}.line").write_text(f"the process ended: {died.name}")
    failures = sorted(found.glob("*.line"))
    yield Try("fuzz", target.kind, f"{seconds:.0f} s", inputs=max(done - len(failures), 1))
    for line in failures:
        yield Try(
            "fuzz", target.kind, base64.b64encode(line.with_suffix(".input").read_bytes()).decode(), line.read_text()
        )


def _process(kind: str, inputs: str, found: str, *flags: str) -> None:
    """Fuzz until libFuzzer ends the process; note each failure by the place where it arose, once."""
    import atheris

    for name in ("zipfile", "tarfile"):
        sys.modules.pop(name)
    with atheris.instrument_imports(include=["selfloop", "zipfile", "tarfile", "yaml"], exclude=_compiled()):
        for name in ("zipfile", "tarfile", "yaml", *(f"selfloop.{name}" for name in _READERS)):
            importlib.import_module(name)
        target, seen = TARGETS[kind], set[str]()
        own = Path(tempfile.mkdtemp(prefix="selfloop-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        for content in target.seeds():
            wrong(target, content, own)

    def one(content: bytes) -> None:
        line = wrong(target, content, own)
        where = line.partition(": ")[0]
        if line and where not in seen:
            seen.add(where)
            name = hashlib.sha256(where.encode()).hexdigest()[:12]
            (Path(found) / f"{name}.input").write_bytes(content)
            (Path(found) / f"{name}.line").write_text(line, errors="backslashreplace")

    atheris.Setup([sys.argv[0], *flags, inputs], one)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _compiled() -> list[str]:
    """Return the modules that numba compiles, which takes no instrumented code."""
    (root,) = importlib.util.find_spec("selfloop").submodule_search_locations  # type: ignore[union-attr, misc]
    files = [path for path in Path(root).rglob("*.py") if "numba" in path.read_text(encoding="utf-8")]
    return [".".join(("selfloop", *path.relative_to(root).with_suffix("").parts)) for path in files]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _process(*sys.argv[1:])
