"""Names of others: columns, words, folders, files, plugins; where results are written; URLs."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.campaign import corpus
from tests.campaign.attacks import Attack, Write, files
from tests.campaign.attacks.pages import FORMULA, MARKUP, TERMINAL, pages

_HARM = "a name becomes markup, a formula, a command of the terminal, or a path"

NAMES: Mapping[str, str] = {
    "markup": MARKUP,
    "a terminal": TERMINAL,
    "a formula": FORMULA,
    "a path": "../../../canary",
    "an absolute path": "/tmp/selfloop-canary",
    "YAML": "a: 1\ngenerator: !!python/object/apply:os.system ['touch ../canary']",
    "a newline": "a\nb",
    "a comment": "a # b",
    "braces": "{{ 7 * 7 }}{% x %}${x}%s{0}",
    "mathematics": "$\\frac{x",
    "brackets": "[bold red]x[/bold red]",
    "10⁴ letters": "x" * 10**4,
    "a lone accent": "\u0301" * 50,
    "quotes": "'\"`;--",
}


def attacks() -> Iterator[Attack]:
    """Yield them."""
    for name, word in NAMES.items():
        write = files({"x.csv": _table(word), "x.yaml": _OF_TABLE})
        for command in (
            ("run", "x.yaml", "--out", "run", "--workers", "0"),
            ("data", "x.csv"),
            ("data", "x.csv", "--json"),
            ("init", "made.yaml", "--data", "x.csv"),
            ("metrics", "x.csv", "x.csv"),
            ("judge", "x.csv", "x.csv", "x.csv", "--out", "run"),
        ):
            yield Attack(
                "names", f"columns and words of {name}: {command[0]}", write, command, _HARM, _ANY, check=_written
            )
        if "/" not in word and len(word) < 200:
            held = corpus.png()
            write = files({f"p/{word}/{i}.png": held for i in range(12)} | {f"p/b/{i}.png": held for i in range(12)})
            command = ("run", "x.yaml", "--out", "run", "--workers", "0")
            labelled = lambda folder, write=write: (write(folder), (folder / "x.yaml").write_bytes(_OF_PICTURES))  # noqa: E731
            yield Attack("names", f"a class called by {name}", labelled, command, _HARM, _ANY, check=pages)
            write = files({f"g/{word}{i}.csv": _table("wage") for i in range(4)} | {"x.csv": _table("wage")})
            for pattern in ("g", f"g/{word}{{t}}.csv", "g/*"):
                yield Attack("names", f"generations called by {name}: {pattern[:8]}", write,
                             ("judge", "x.csv", pattern, "--out", "run"), _HARM, _ANY, check=pages)  # fmt: skip
        for words in _commands(word):
            write = files({"x.csv": _table("wage"), "x.yaml": _OF_TABLE})
            yield Attack("words", f"{name} in {' '.join(words)[:30]}", write, words, _HARM, (0, 2), check=pages)
    yield from _outs()
    yield from _urls()
    yield from _plugins()


_ANY = (0, 2, 3, 4, 5)
_OF_TABLE = b"""
name: x
data: {name: table, path: x.csv, held_out: 6}
generator: copula
generations: 1
"""
_OF_PICTURES = b"""
name: x
data: {name: image_files, path: p, labels: true, held_out: 4}
generator: {name: otcfm_images, channels: 8, batch_size: 4}
generations: 1
budget: {steps: 1}
"""


def _table(word: str) -> bytes:
    """Return a table in which a word is the name of a column, and some of the words of another."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([word, "town", "age"])
    for i in range(24):
        writer.writerow([i * i % 11 + 0.5, (word, "Rome", "Oslo")[i % 3], 20 + (7 * i) % 40])
    return text.getvalue().encode()


def _written(folder: Path) -> str:
    """Return what is wrong with pages and tables, or with an experiment that was written for a table."""
    from selfloop import Experiment, SelfloopError

    made = folder / "made.yaml"
    if made.is_file():
        try:
            experiment = Experiment.load(made)
        except SelfloopError as error:
            return f"what init wrote is refused: {error}"
        if "canary" in str(experiment.generator):
            return "a name has become a setting"
    return pages(folder)


def _commands(word: str) -> list[tuple[str, ...]]:
    return [
        ("run", word),
        ("run", "x.yaml", "--set", f"{word}=1"),
        ("run", "x.yaml", "--set", f"data.path={word}"),
        ("run", "x.yaml", "--set", f"name={word}"),
        ("run", "x.yaml", "--engine", word),
        ("run", "x.yaml", "--track", word),
        ("run", "x.yaml", "--shard", word),
        ("report", word),
        ("verify", word),
        ("status", word),
        ("compare", word, word),
        ("export", word, "x.parquet"),
        ("import", word),
        ("metrics", word, word),
        ("metrics", "x.csv", "x.csv", "--only", word),
        ("metrics", "x.csv", "x.csv", "--features", word),
        ("judge", "x.csv", word),
        ("judge", "x.csv", "x.csv", "--control", word),
        ("judge", "x.csv", "x.csv", "--metric", word),
        ("data", word),
        ("data", "x.csv", "--types", word),
        ("data", "x.csv", "--leave-out", word),
        ("merge", word, "--out", "run"),
        ("list", word),
        ("reproduce", word),
        ("init", word),
        ("--import", word, "list"),
        (word,),
    ]


def _outs() -> Iterator[Attack]:
    """Yield places for results that are none."""
    small = files(
        {
            "x.yaml": b"name: x\ndata: gaussian\ngenerator: gaussian\ngenerations: 1\n",
            "x.csv": _table("wage"),
            "there": b"kept",
        }
    )

    def with_pipe(folder: Path) -> None:
        small(folder)
        os.mkfifo(folder / "pipe")
        (folder / "link").symlink_to("pipe")
        (folder / "circle").symlink_to("circle")

    for out in (
        "there",
        "there/run",
        "pipe",
        "circle",
        "/dev/null",
        "/dev/full",
        "/proc/self/x",
        "x" * 300,
        "a\nb/\x1b[2J",
        "",
    ):
        for command in (
            ("run", "x.yaml", "--workers", "0", "--out", out),
            ("run", "x.yaml", "--workers", "0", "--out", "run", "--metrics-file", out),
            ("judge", "x.csv", "x.csv", "x.csv", "--out", out),
            ("import", "x.csv", "--out", out),
            ("init", out),
        ):
            yield Attack(
                "places",
                f"{command[0]} to {out[:20]!r}",
                with_pipe,
                command,
                "a command writes over what is there",
                _ANY,
            )
    for out in (
        "there",
        "pipe/x.csv",
        "pipe.csv",
        "circle.csv",
        "/dev/null/x.csv",
        "x.xlsx",
        "x.html",
        "",
    ):
        for option in ("", "--csv", "--parquet", "--png"):
            words = ("export", "R", option, out) if option else ("export", "R", out)
            yield Attack(
                "places",
                f"export {option} to {out}",
                _with_run(with_pipe),
                words,
                "a command writes over what is there",
                (2,) if out != "x.html" and "pipe.csv" not in out and "circle.csv" not in out else (0, 2),
            )


def _with_run(write: Write) -> Write:
    import shutil

    from tests.campaign.fuzz import sound_run

    return lambda folder: (write(folder), shutil.copytree(sound_run(), folder / "R"))


def _urls() -> Iterator[Attack]:
    """Yield URLs that lead nowhere, elsewhere, or in circles."""
    words = (
        "file:///etc/passwd", "file:///dev/zero", "file://../x.csv", "local:///dev/zero", "memory://x.csv", "memory://../../x.csv",
        "http://127.0.0.1:9/x.csv", "http://[::1/x.csv", "http://127.0.0.1:99999/x.csv", "http://\x1b[2J/x.csv", "http://a b/x.csv",
        "s3://", "s3://a", "s3://user:password@bucket/x.csv", "s3:///", "s3://" + "a" * 300 + "/x.csv",
        "zip://../../x.csv::file:///etc/passwd", "zip://x.csv::zip://y.zip::zip://z.zip::memory://a", "::", "a::b://c", "zip://::",
        "reference://x.csv", "reference://::memory://x", "simplecache::memory://x.csv", "filecache::file:///etc/passwd",
        "dir://x", "data:text/csv,a", "data://text/csv;base64,YSxi", "javascript://x", "nothing://x", "x" * 200 + "://y",
        "ftp://127.0.0.1:1/x.csv", "sftp://127.0.0.1:1/x.csv", "git://.:x@/y", "github://a:b@c/d", "tar://x::memory://y",
        "file:///proc/self/environ", "file://" + "/.." * 200 + "/etc/passwd", "\u202ehttp://x/y.csv", "HTTP://127.0.0.1:9/X.CSV",
    )  # fmt: skip
    write = files({"x.yaml": _OF_TABLE, "x.csv": _table("wage")})
    for url in words:
        for command in (
            ("run", "x.yaml", "--workers", "0", "--out", "run", "--set", f"data.path={url}"),
            ("metrics", url, url),
            ("report", url),
            ("judge", "x.csv", url),
        ):
            yield Attack(
                "URLs",
                f"{url[:40]} ({command[0]})",
                write,
                command,
                "a URL hangs, writes elsewhere, or ends in a traceback",
            )


def _plugins() -> Iterator[Attack]:
    """Yield installed packages whose entry points have odd names, lead nowhere, or fail when they are imported."""
    failing: dict[str, str] = {
        "raises": "raise ValueError('\\x1b[2J\\u202e' * 9)",
        "exits": "raise SystemExit(0)",
        "exits with words": "import sys\nsys.exit('bye')",
        "never ends its recursion": "def f(): f()\nf()",
        "has no syntax": "def",
        "is not UTF-8": "\udcff",
        "raises what cannot be written": "class E(Exception):\n    def __str__(self): raise E()\nraise E()",
        "raises a group": "raise ExceptionGroup('x', [ValueError('y\\n' * 99)])",
        "stops a generator": "raise GeneratorExit",
        "takes the memory": "x = bytearray(2**45)",
        "is empty": "",
        "has a class of nothing": "class A: pass",
        "has a class whose name raises": "class M(type):\n    __qualname__ = property(lambda self: 1 / 0)\nclass A(metaclass=M): pass",
        "has settings that raise": "from selfloop import Frozen\nclass A(Frozen):\n    name: str = 1 / 0",
    }
    for name, code in failing.items():
        for command in (("list", "data"), ("list",), ("run", "x.yaml", "--set", "data={name: a}", "--out", "run")):
            write = _package("a", "odd:A", code)
            codes = (0, 2)
            yield Attack(
                "plugins",
                f"one that {name}: {' '.join(command)[:9]}",
                write,
                command,
                "a plugin that fails takes the program along",
                codes,
            )
    for name in ("\x1b[2J", "../../x", MARKUP.replace("=", "-"), "gaussian", "x" * 10**4, "\u202ea", "a b", "[x]"):
        for command in (("list", "data"), ("list",), ("recipes",)):
            write = _package(name, "odd:A", "class A: pass")
            yield Attack("plugins", f"called {name[:12]!r}: {' '.join(command)}", write, command, _HARM, (0, 2))
    for target in ("os:system", "odd", "odd:", ":", "../x:y", "odd:A.B.C", "odd:A [x]", "a b", "subprocess:Popen"):
        write = _package("a", target, "class A: pass")
        yield Attack(
            "plugins", f"at {target}", write, ("list", "data"), "a plugin runs a function of the system", (0, 2)
        )


def _package(name: str, target: str, code: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        about = folder / "packages" / "odd-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[selfloop.data]\n{name} = {target}\n", encoding="utf-8")
        (folder / "packages" / "odd.py").write_text(code, errors="surrogateescape")
        (folder / "x.yaml").write_bytes(_OF_TABLE)

    return write
