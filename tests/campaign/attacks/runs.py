"""Run directories that somebody else made: names that lead out, links, pipes, values beyond reason, all checksums valid."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.campaign.attacks import Attack, Write
from tests.campaign.attacks.checkpoints import headers
from tests.campaign.attacks.pages import MARKUP, TERMINAL, pages
from tests.campaign.fuzz import resealed, sound_run

_HARM = "a run directory makes its reader write elsewhere, run something, hang, or end in a traceback"
_READING = ("report", "verify", "export", "compare", "stability")
_MANIFEST, _ABOUT, _SAMPLES = "generation-0001/manifest.json", "real.safetensors", "samples"


def attacks() -> Iterator[Attack]:
    """Yield them: each run by the commands that read what was changed."""
    for name, write in _changes().items():
        for command in _READING:
            yield _read(name, write, command)
    for name, write in _places().items():
        for command in ("report", "verify", "status", "export", "ls"):
            yield _read(name, write, command)
        yield _read(name, write, "run")
    for name, content in headers().items():
        changed = _body(_SAMPLES, lambda body, content=content: content)
        for command in ("verify", "report"):
            yield _read(f"samples: {name}", changed, command)
    for name, write in _beside().items():
        for command in ("status", "report", "ls", "run"):
            yield _read(name, write, command)


def _read(name: str, write: Write, command: str) -> Attack:
    words = {
        "export": ("export", "R", "out.csv"),
        "compare": ("compare", "R", "sound", "--out", "compared"),
        "metrics": ("metrics", "R@train", "R@1"),
        "forecast": ("forecast", "R"),
        "ls": ("ls", "."),
        "run": ("run", "x.yaml", "--out", "R", "--workers", "0"),
    }.get(command, (command, "R"))
    # A run whose numbers are odd is still a run: what is read of it may be right, or refused.
    return Attack("run directory", f"{name} ({command})", write, words, _HARM, (0, 1, 2), check=pages)


def _given(folder: Path) -> Path:
    """Put two copies of a sound run there, and an experiment that it goes on with; return the one to change."""
    shutil.copytree(sound_run(), folder / "R")
    shutil.copytree(sound_run(), folder / "sound")
    (folder / "x.yaml").write_bytes(
        (sound_run() / "experiment.yaml").read_bytes().replace(b"generations: 1", b"generations: 2")
    )
    return folder / "R"


def _body(name: str, change: Callable[[bytes], bytes]) -> Write:
    """Return what changes the body of a file of a run, and seals it again."""

    def write(folder: Path) -> None:
        run = _given(folder)
        resealed(run, name, change(bodies()[name]))

    return write


@functools.cache
def bodies() -> dict[str, bytes]:
    """Return what the checksums of a sound run cover, by file."""
    from tests.campaign.fuzz import RUN_FILES, _bodies

    return {name: held[1:] for name, held in zip(RUN_FILES, _bodies(), strict=True)}


def _json(name: str, change: Callable[[Any], object]) -> Write:
    """Return what changes a JSON file of a run, by changing what it holds in place."""

    def changed(body: bytes) -> bytes:
        content = json.loads(b"{" + body.lstrip(b"{"))
        change(content)
        return json.dumps(content).encode()[(name != _ABOUT) :]

    return _body(name, changed)


def _everywhere(old: str, new: str) -> Write:
    """Return what writes one word for another in all that a run says."""

    def write(folder: Path) -> None:
        run = _given(folder)
        spelt = json.dumps(new)[1:-1]
        for name, body in bodies().items():
            if name != _SAMPLES:
                resealed(
                    run,
                    name,
                    body.replace(old.encode(), (f'"{spelt}"' if name == "experiment.yaml" else spelt).encode()),
                )
        for t in (0, 1):
            file = run / f"generation-{t:04d}" / "manifest.json"
            body = file.read_bytes().split(b"\n", 2)[2]
            resealed(run, f"generation-{t:04d}/manifest.json", body.replace(old.encode(), spelt.encode()))
        lines = (run / "metrics.jsonl").read_bytes()
        (run / "metrics.jsonl").write_bytes(lines.replace(old.encode(), spelt.encode()))

    return write


def _samples_of(held: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest notes on the samples of a stack, by its files' names."""
    return next(noted for name, noted in held.items() if name.startswith("samples"))


def _changes() -> dict[str, Write]:
    def record(**values: object) -> Callable[[Any], object]:
        return lambda content: [each.update(values) for each in content["records"]]

    def metric(value: object) -> Callable[[Any], object]:
        return lambda content: [
            each["metrics"].update(dict.fromkeys(each["metrics"], value)) for each in content["records"]
        ]

    def described(**values: object) -> Callable[[Any], object]:
        return lambda content: [each.update(values) for each in content["metrics"].values()]

    def files(change: Callable[[dict[str, Any]], object]) -> Callable[[Any], object]:
        return lambda content: [change(stack["files"]) for stack in content["stacks"].values()]

    def form(**values: object) -> Callable[[Any], object]:
        return lambda content: content["descriptions"][0].setdefault("form", {}).update(values)

    def part(number: int, **values: object) -> Callable[[Any], object]:
        return lambda content: content["events"][0]["parts"][number].update(values)

    names = {
        "a path": "../../../canary",
        "an absolute path": "/tmp/selfloop-canary",
        "markup": MARKUP,
        "a terminal": TERMINAL,
        "a formula": "=HYPERLINK('http://x','y')",
        "nothing": "",
        "dots": "..",
        "300 letters": "x" * 300,
        "a NUL": "a\0b",
        "a newline": "a\nb",
        "a bracket": "[red]x[/red]",
        "dollars": "$\\frac{$",
    }
    called = {f"a metric called by {what}": _everywhere("levels_kept", name) for what, name in names.items()}
    columns = {f"a column called by {what}": _everywhere("wage", name) for what, name in names.items()}
    levels = {f"a level called by {what}": _everywhere("Paris", name) for what, name in names.items()}
    regimes = {f"a regime called by {what}": _everywhere("augment", name) for what, name in names.items()}
    return called | columns | levels | regimes | {
        "values of 10³⁰⁸": _json(_MANIFEST, metric(1e308)),
        "values of −10³⁰⁸": _json(_MANIFEST, metric(-1e308)),
        "values of 10⁻³⁰⁸": _json(_MANIFEST, metric(1e-308)),
        "values of a thousand digits": _json(_MANIFEST, metric(10**1000)),
        "values of None": _json(_MANIFEST, metric(None)),
        "values of text": _json(_MANIFEST, metric("x")),
        "values of truth": _json(_MANIFEST, metric(True)),
        "no metrics": _json(_MANIFEST, record(metrics={})),
        "other metrics": _json(_MANIFEST, record(metrics={"../x": 1.0})),
        "seeds of 10³⁰": _json(_MANIFEST, record(seed=10**30)),
        "an arm of −1": _json(_MANIFEST, record(arm=-1)),
        "an arm of 10¹⁸": _json(_MANIFEST, record(arm=10**18)),
        "a status of markup": _json(_MANIFEST, record(status=MARKUP)),
        "a regime of markup": _json(_MANIFEST, record(regime=MARKUP)),
        "a regime of a terminal": _json(_MANIFEST, record(regime=TERMINAL)),
        "a ratio of −1": _json(_MANIFEST, record(ratio=-1.0)),
        "a ratio of 10³⁰⁸": _json(_MANIFEST, record(ratio=1e308)),
        "born of text": _json(_MANIFEST, record(born={"x": 1})),
        "born of 10³⁰": _json(_MANIFEST, record(born={"0": 10**30})),
        "real rows of −1": _json(_MANIFEST, record(n_real=-1)),
        "real rows of 10³⁰": _json(_MANIFEST, record(n_real=10**30)),
        "a device of markup": _json(_MANIFEST, record(device=MARKUP)),
        "a failed step of 10³⁰": _json(_MANIFEST, record(failed_step=10**30)),
        "references of 10³⁰⁸": _json(_MANIFEST, record(reference={"levels_kept": 1e308})),
        "a generation of another": _json(_MANIFEST, lambda content: content.update(generation=7)),
        "files outside": _json(_MANIFEST, files(lambda held: held.update({"../../x.safetensors": next(iter(held.values()))}))),
        "files of no size": _json(_MANIFEST, files(lambda held: _samples_of(held).update(bytes=0))),
        "files of 10³⁰ bytes": _json(_MANIFEST, files(lambda held: _samples_of(held).update(bytes=10**30))),
        "sources of markup": _json(
            _MANIFEST,
            files(lambda held: _samples_of(held).update(
                sources=[{"name": MARKUP, "sha256": "0" * 64, "rows": 10**18}] * 2)),
        ),
        "a stack of another name": _json(_MANIFEST, lambda content: content.update(stacks={"999999999": content["stacks"]["000"]})),
        "a stack outside": _json(_MANIFEST, lambda content: content.update(stacks={"../0": content["stacks"]["000"]})),
        "no stacks": _json(_MANIFEST, lambda content: content.update(stacks={}, records=[])),
        "JSON 10⁵ deep": _body(_MANIFEST, lambda body: b'"x": ' + b"[" * 10**5),
        "JSON of a list": _body(_MANIFEST, lambda body: b"]"),
        "no JSON": _body("environment.json", lambda body: b"\xff\xfe"),
        "a seal twice": _body("environment.json", lambda body: b'"seal": 1,\n' + body),
        "a title of markup": _json("environment.json", described(title=MARKUP, definition=MARKUP, unit=MARKUP, note=MARKUP)),
        "a title of a terminal": _json("environment.json", described(title=TERMINAL, definition=TERMINAL, unit=TERMINAL, note=TERMINAL)),
        "a title of mathematics": _json("environment.json", described(title="$\\frac{", unit="$x$ \\input{/etc/passwd}")),
        "a title of a megabyte": _json("environment.json", described(title="x" * 10**6)),
        "a version of 10³⁰": _json("environment.json", described(version=10**30)),
        "a goal of 10³⁰⁸": _json("environment.json", described(version=-1, goal=1e308)),
        "an environment of markup": _json("environment.json", lambda content: content.update({MARKUP: {MARKUP: [MARKUP]}})),
        "an environment of a terminal": _json("environment.json", lambda content: content.update(machine={TERMINAL: TERMINAL})),
        "an environment 500 deep": _json("environment.json", lambda content: content.update(x=_nested(500))),
        "features of markup": _json("environment.json", lambda content: content.update(features=MARKUP)),
        "an identity of another": _json("environment.json", lambda content: content.update(run="x")),
        "arms of others": _json("environment.json", lambda content: content.update(arms=[[{MARKUP: 1}, 10**30]] * 2)),
        "columns of other data": _json(_ABOUT, part(0, name="other")),
        "a column of no type": _json(_ABOUT, part(0, dtype="object")),
        "a column of a type that calls": _json(_ABOUT, part(0, dtype="__import__('os')")),
        "a column from 10³⁰⁸ to −10³⁰⁸": _json(_ABOUT, part(0, low=1e308, high=-1e308)),
        "a column of scale 0": _json(_ABOUT, part(0, scale=0.0, shift=1e308)),
        "a column of 10⁹ decimals": _json(_ABOUT, part(0, decimals=10**9)),
        "a column of −10⁹ decimals": _json(_ABOUT, part(0, decimals=-(10**9))),
        "levels that are numbers": _json(_ABOUT, part(2, levels=[1, 2, 3])),
        "levels that are lists": _json(_ABOUT, part(2, levels=[[], [], []])),
        "levels that are alike": _json(_ABOUT, part(2, levels=["a", "a", "a"])),
        "a million levels": _json(_ABOUT, part(2, levels=[f"{i}" for i in range(10**6)])),
        "no levels": _json(_ABOUT, part(2, levels=[])),
        "no parts": _json(_ABOUT, lambda content: content["events"][0].update(parts=[])),
        "parts of 10³⁰": _json(_ABOUT, lambda content: content["events"][0].update(parts=10**30)),
        "events of another kind": _json(_ABOUT, lambda content: content["events"][0].update(kind=MARKUP)),
        "events that are pictures": _json(_ABOUT, lambda content: content.update(events=[{"kind": "images", "shape": [3, 10**6, 10**6]}])),
        "events that are text": _json(
            _ABOUT, lambda content: content.update(events=[{"kind": "text", "block": 10**9, "tokenizer": {"kind": "bytes"}}])
        ),
        "events that are a raster": _json(
            _ABOUT,
            lambda content: content.update(events=[{
                "kind": "vectors", "columns": ["a"], "shift": [0.0], "scale": [1.0],
                "raster": {"height": 10**6, "width": 10**6, "black": 0.0, "white": 1.0},
            }]),
        ),
        "events of a tokenizer 10⁴ deep": _json(
            _ABOUT,
            lambda content: content.update(events=[{"kind": "text", "block": 8, "tokenizer": {"kind": "subwords", "json": "[" * 10**4}}]),
        ),
        "a form of 10⁹ places": _json(_ABOUT, form(places={"wage": 10**9})),
        "a form of −10⁹ places": _json(_ABOUT, form(places={"wage": -(10**9)})),
        "a form of places of text": _json(_ABOUT, form(places={"wage": "x"})),
        "a form of no separator": _json(_ABOUT, form(separator="")),
        "a form of a long separator": _json(_ABOUT, form(separator="ab")),
        "a form of a newline of markup": _json(_ABOUT, form(newline=MARKUP)),
        "a form of a decimal mark of a formula": _json(_ABOUT, form(decimal="=1+")),
        "a form of times of 10⁶ letters": _json(_ABOUT, form(times={"seen": "%Y" * 10**5})),
        "a form of times of text": _json(_ABOUT, form(times={"seen": 7})),
        "a form of an ending outside": _json(_ABOUT, form(ending="/../../x")),
        "a form of a schema of nonsense": _json(_ABOUT, form(schema="AAAA")),
        "a form of a schema that is no base64": _json(_ABOUT, form(schema="\u00e9")),
        "a form of a table that closes a quote": _json(_ABOUT, form(table='x"; DROP TABLE y; --')),
        "a form of other words": _json(_ABOUT, form(other=1)),
        "sets of others": _json(_ABOUT, lambda content: content.update(sets={"x": {"data": 0, "row": 0, "sha256": "0", "n": 1}})),
        "sets of 10¹⁸ rows": _json(_ABOUT, lambda content: [each.update(n=10**18) for each in content["sets"].values()]),
        "files beside it outside": _json(_ABOUT, lambda content: content.update(files=["../../data-0123456789abcdef.safetensors"])),
        "a description of markup": _body("experiment.yaml", lambda body: body.replace(b"description: ''", f"description: {json.dumps(MARKUP)}".encode())),
        "a description of a terminal": _body("experiment.yaml", lambda body: body.replace(b"description: ''", b'description: "\\e[2J\\u202e"')),
        "data that are zeros": _body("experiment.yaml", lambda body: body.replace(b"x.csv", b"x.csv\n  held_out_path: /dev/zero")),
        "a generator of markup": _body("experiment.yaml", lambda body: body.replace(b"name: copula", f"name: {json.dumps(MARKUP)}".encode())),
        "a generator outside": _body("experiment.yaml", lambda body: body.replace(b"name: copula", b"name: ../../x")),
        "data of markup": _body("experiment.yaml", lambda body: body.replace(b"name: table", f"name: {json.dumps(MARKUP)}".encode())),
        "features that are a program": _body("experiment.yaml", lambda body: body.replace(b"name: identity", b"name: torchscript\n  path: /dev/zero")),
        "a grid of markup": _body("experiment.yaml", lambda body: body.replace(b"mixing.lam", json.dumps(f"mixing.{MARKUP}").encode())),
        "10⁶ generations": _body("experiment.yaml", lambda body: body.replace(b"generations: 1", b"generations: 100000")),
        "10⁶ seeds": _body("experiment.yaml", lambda body: body.replace(b"seeds: 1", b"seeds: 1000000")),
        "settings that are no UTF-8": _body("experiment.yaml", lambda body: b"\xff\xfe" + body),
        "settings that are a bomb": _body(
            "experiment.yaml",
            lambda body: "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else 'x'}]" for i in range(12)).encode(),
        ),
        "settings of an object": _body("experiment.yaml", lambda body: b"x: !!python/object/apply:os.system ['touch ../canary']\n" + body),
        **{f"samples of {what}": _tensors(change) for what, change in _odd_samples().items()},
    }  # fmt: skip


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"x": value}
    return value


def _odd_samples() -> dict[str, Callable[[dict[str, np.ndarray]], object]]:
    return {
        "counts of −1": lambda x: x.update(count=np.full_like(x["count"], -1)),
        "counts of 10¹⁸": lambda x: x.update(count=np.full_like(x["count"], 10**18)),
        "counts of floats": lambda x: x.update(count=x["count"] + 0.5),
        "born of −1": lambda x: x.update(born=x["born"] * 0 - 1),
        "born of floats": lambda x: x.update(born=x["born"] * np.nan),
        "rows of NaN": lambda x: x.update(x=x["x"] * np.nan),
        "rows of infinity": lambda x: x.update(x=x["x"] * 0 + np.inf),
        "rows of 10³⁰⁸": lambda x: x.update(x=x["x"].astype(np.float64) * 0 + 1e308),
        "rows of whole numbers": lambda x: x.update(x=x["x"].astype(np.int8)),
        "rows of truth": lambda x: x.update(x=x["x"] > 0),
        "rows of another width": lambda x: x.update(x=x["x"][..., :1]),
        "rows of one axis": lambda x: x.update(x=x["x"][:, 0, 0]),
        "rows of seven axes": lambda x: x.update(x=x["x"].reshape(*x["x"].shape, 1, 1, 1, 1)),
        "no rows": lambda x: x.update(x=x["x"][:, :0], born=x["born"][:, :0], count=x["count"] * 0),
        "labels of −1": lambda x: x.update(label=x["born"].astype(np.int64) - 9),
        "labels of 10¹⁸": lambda x: x.update(label=x["born"].astype(np.int64) + 10**18),
        "other names": lambda x: x.update({"../../x": x["x"]}),
    }


def _tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Write:
    from safetensors.numpy import load, save

    def changed(body: bytes) -> bytes:
        held = load(body)
        change(held)
        return save({name: np.ascontiguousarray(x) for name, x in held.items()})

    return _body(_SAMPLES, changed)


def _places() -> dict[str, Write]:
    """Return what puts something else in the place of a file of a run."""
    names = {
        "experiment.yaml": "experiment.yaml",
        "environment.json": "environment.json",
        "a manifest": _MANIFEST,
        "metrics.jsonl": "metrics.jsonl",
        "real.safetensors": "real.safetensors",
        "samples": "generation-0001/samples-000.safetensors",
        "a state": "generation-0001/state-000.safetensors",
        "a generation": "generation-0001",
        "the generation to come": "generation-0002",
        "the lock": "lock",
        "the log": "log.txt",
        "the report": "report",
        "the page": "report/index.html",
        "a table of the report": "report/levels_kept.csv",
        "the page that is being written": "report/.index.html.tmp",
        "the metrics that are being written": ".metrics.jsonl.tmp",
        "the settings that are being written": ".experiment.yaml.tmp",
        "a status": ".status-000.json",
        "what is left of a fit": ".fit-0002-000-done.safetensors",
    }
    made: dict[str, Callable[[Path], object]] = {
        "a pipe": lambda path: os.mkfifo(path),
        "a link to endless zeros": lambda path: path.symlink_to("/dev/zero"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link out": lambda path: path.symlink_to(_outside(path, folder=False)),
        "a link to a folder outside": lambda path: path.symlink_to(_outside(path, folder=True)),
        "a folder": lambda path: path.mkdir(),
    }

    def placed(name: str, make: Callable[[Path], object]) -> Write:
        def write(folder: Path) -> None:
            path = _given(folder) / name
            path.parent.mkdir(exist_ok=True)
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            make(path)

        return write

    return {f"{what} as {how}": placed(name, make) for what, name in names.items() for how, make in made.items()}


def _outside(path: Path, folder: bool) -> Path:
    """Make something outside of the run that must stay as it is."""
    place = next(parent for parent in path.parents if parent.name == "in").parent / "outside"
    place.mkdir(exist_ok=True)
    (place / "kept").write_text("kept")
    return place if folder else place / "kept"


def _beside() -> dict[str, Write]:
    """Return runs with something beside their files."""

    def put(name: str, content: bytes) -> Write:
        def write(folder: Path) -> None:
            path = _given(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)

        return write

    def said(words: object) -> Write:
        def write(folder: Path) -> None:
            from selfloop import Run
            from selfloop.core.files import write_sealed
            from selfloop.report.shown import mark

            run = _given(folder)
            (run / "report").mkdir(exist_ok=True)
            write_sealed(run / "report" / "advice.json", {"shows": mark(Run.open(run)), "said": words})

        return write

    def crowded(folder: Path) -> None:
        run = _given(folder)
        for i in range(20_000):
            (run / f".fit-{i:04d}-000-x").touch()

    begin = "time=2024-01-01T00:00:00.000+00:00 event=begin pid=%s host=%s workers=%s generation=%s of=%s\n"
    logs = {
        "a terminal": begin % ("1", json.dumps(TERMINAL), "1", "0", "1"),
        "a process of text": begin % ("x", "y", "1", "0", "1"),
        "a process of 10³⁰": begin % ("1" * 30, "y", "1", "0", "1"),
        "a process of −1": begin % ("-1", "y", "1", "0", "1"),
        "a generation of text": begin % ("1", "y", "1", "x", "1"),
        "a generation of 10⁶ digits": begin % ("1", "y", "1", "9" * 10**6, "1"),
        "a time of nonsense": (begin % ("1", "y", "1", "0", "1")).replace("2024-01", "9999-99"),
        "a time without a zone": (begin % ("1", "y", "1", "0", "1")).replace("+00:00", ""),
        "a beginning of nothing": "time=2024-01-01T00:00:00+00:00 event=begin\n",
        "a generation of nothing": begin % ("1", "y", "1", "0", "1")
        + "time=2024-01-01T00:00:00+00:00 event=generation\n",
        "quotes without end": 'time="' + "\\" * 10**5,
        "no lines": "x" * 10**6,
        "events of nothing": "time=x\n" * 1000,
    }
    statuses = {
        "a terminal": json.dumps({"generation": 1, "doing": TERMINAL, "at": TERMINAL}),
        "JSON 10⁵ deep": "[" * 10**5,
        "a list": "[1]",
        "numbers of 10⁵ digits": '{"generation": ' + "9" * 10**5 + "}",
        "NaN": '{"generation": NaN, "step": NaN, "loss": NaN, "seconds": NaN}',
        "text": '{"generation": "x", "step": "y", "steps": [], "loss": {}, "seconds": null, "time": "x"}',
        "nothing": "",
    }
    return (
        {f"a log of {what}": put("log.txt", text.encode()) for what, text in logs.items()}
        | {
            "a log of zeros": put("log.txt", bytes(10**6)),
            "a log that is no UTF-8": put("log.txt", b"time=\xff\xfe\n" * 100),
        }
        | {f"a status of {what}": put(".status-000.json", text.encode()) for what, text in statuses.items()}
        | {
            "advice of markup": said([MARKUP]),
            "advice of a terminal": said([TERMINAL]),
            "advice of a word": said(MARKUP),
            "advice of numbers": said([1, None, {}]),
            "advice 10⁵ deep": put("report/advice.json", b"[" * 10**5),
            "a page of nothing": put("report/index.html", b""),
            "a page of 10²⁰ digits": put(
                "report/index.html",
                b'<meta name="selfloop-shows" content="generation %s, %s">' % (b"9" * 20, b"0" * 64),
            ),
            "a fit of nonsense": put(".fit-0002-000-done.safetensors", b"x" * 100),
            "20,000 fits": crowded,
            "a generation of 10⁹ digits": lambda folder: (_given(folder) / f"generation-{'9' * 200}").mkdir(),
        }
    )
