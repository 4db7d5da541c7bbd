"""YAML that makes objects, repeats itself, nests, overflows or is no file; settings that are no settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.attacks import Attack, Content, Write, file

_HARM = "a file of settings runs a program, or takes memory or time without end"
_BASE = "name: x\ndata: gaussian\ngenerator: gaussian\ngenerations: 1\n"


def attacks() -> Iterator[Attack]:
    """Yield them: as an experiment, and where a word of the command line is YAML."""
    for name, content in _files().items():
        write, call = file("x.yaml", content), ("selfloop:Experiment.load", "x.yaml")
        yield Attack("YAML", name, write, _run("x.yaml"), _HARM, call=call, heavy=callable(content))
    for name, text in _values().items():
        write, codes = file("x.yaml", _BASE.encode()), (0, 2) if name == "a tab" else (2,)  # which is white space
        yield Attack("YAML", f"a word: {name}", write, (*_run("x.yaml"), "--set", f"data={text}"), _HARM, codes)
        yield Attack("YAML", f"features: {name}", write, ("metrics", "x.yaml", "x.yaml", "--features", text), _HARM)
        yield Attack("YAML", f"a tracker: {name}", write, (*_run("x.yaml"), "--track", text), _HARM)
    for name, more in _settings().items():
        write, call = file("x.yaml", (_BASE + more).encode()), ("selfloop:Experiment.load", "x.yaml")
        yield Attack("settings", name, write, _run("x.yaml"), _HARM, call=call)
    for name, made in _odd().items():
        yield Attack("YAML", f"file: {name}", made, _run("x.yaml"), _HARM, call=("selfloop:Experiment.load", "x.yaml"))


def _run(path: str) -> tuple[str, ...]:
    return ("run", path, "--out", "run", "--workers", "0")


def _values() -> dict[str, str]:
    return {
        "an object": "!!python/object/apply:os.system ['touch ../canary']",
        "a module": "!!python/module:os",
        "a function": "!!python/name:os.system",
        "an unknown tag": "!x {name: gaussian}",
        "nested": "[" * 5000 + "]" * 5000,
        "a billion laughs": "[&a [x, x], &b [*a, *a], &c [*b, *b], "
        + ", ".join(f"&d{i} [*c, *c]" for i in range(200))
        + "]",
        "in itself": "&a {name: gaussian, x: *a}",
        "a number of 5,000 digits": "9" * 5000,
        "two documents": "{name: gaussian}\n---\n{name: gaussian}",
        "a key of a list": "{? [1] : 2}",
        "a merge of itself": "&a {<<: *a}",
        "a tab": "{name:\tgaussian\n\t}",
        "a terminal": '{name: "\x1b[2J\u202e"}',
    }


def _files() -> dict[str, Content]:
    objects = {
        f"tag {tag}": f"{_BASE}description: {tag} {value}\n".encode()
        for tag, value in {
            "!!python/object/apply:os.system": "['touch ../canary']",
            "!!python/object/apply:subprocess.Popen": "[[touch, ../canary]]",
            "!!python/object/new:os.system": "['touch ../canary']",
            "!!python/object:os._wrap_close": "{}",
            "!!python/name:os.system": "''",
            "!!python/module:os": "''",
            "!!python/tuple": "[1, 2]",
            "!!python/long": "1",
            "!!python/bytes": "aGk=",
            "!!python/object/apply:eval": "[\"open('../canary', 'w')\"]",
            "!!binary": "aGk=",
            "!!timestamp": "2024-01-01",
            "!!set": "{a, b}",
            "!!omap": "[a: 1]",
            "!!pairs": "[a: 1]",
            "!!merge": "x",
            "!!value": "=",
            "!!null": "x",
            "!!bool": "x",
            "!!int": "0x",
            "!!float": "1e",
            "!x": "y",
            "!<tag:yaml.org,2002:python/name:os.system>": "''",
        }.items()
    }
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))
    merges = "\n".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}], k{i}: 1}}" for i in range(1, 10))
    return objects | {
        "a billion laughs": f"a0: &a0 [x, x]\n{levels}\n".encode(),
        "a billion merges": f"m0: &m0 {{k: 1}}\n{merges}\n{_BASE}".encode(),
        "a quadratic of aliases": b"a: &a [" + b"x," * 2000 + b"]\nb: [" + b"*a," * 2000 + b"]\n",
        "an alias of itself": b"a: &a {b: *a}\n",
        "an alias of nothing": b"a: *b\n",
        "a merge of a number": b"a: {<<: 1}\n",
        "a merge of itself": b"a: &a {<<: *a}\n",
        "anchors twice": b"a: &a 1\nb: &a [*a]\nc: [*a, *a]\n",
        "10⁵ deep": b"[" * 10**5,
        "10⁵ deep in blocks": b"- " * 10**5,
        "10⁵ deep in keys": b"? " * 10**5,
        "10⁵ deep in braces": b"{a: " * 10**5,
        "a number of 10⁵ digits": f"{_BASE}description: {'9' * 10**5}\n".encode(),
        "a number to the base of 60": f"{_BASE}seeds: {':'.join(['59'] * 10**4)}\n".encode(),
        "a number of 10⁵ hexadecimal digits": f"{_BASE}seeds: 0x{'f' * 10**5}\n".encode(),
        "1e400": f"{_BASE}data: {{name: gaussian, n: 1e400}}\n".encode().replace(b"data: gaussian\n", b""),
        "NaN": f"{_BASE}budget: {{steps: .nan}}\n".encode(),
        "a key of a map": b"? {a: 1}\n: 1\n",
        "a key of a megabyte": b"a" * 10**6 + b": 1\n",
        "keys twice": b"name: x\nname: y\n",
        "10⁵ keys": b"".join(b"k%d: 1\n" % i for i in range(10**5)),
        "10⁶ bytes of one word": b"name: " + b"x" * 10**6,
        "2 MB": lambda: b"# " + b"x" * (2 * 10**6),
        "500 MB": lambda: b"name: " + b"x" * (5 * 10**8),
        "two documents": f"{_BASE}---\n{_BASE}".encode(),
        "no document": b"---\n...\n",
        "a directive": b"%YAML 9.9\n---\nname: x\n",
        "a tag directive": b"%TAG ! tag:yaml.org,2002:python/object/apply:\n---\na: !os.system ['touch ../canary']\n",
        "NUL": b"name: x\0y\n",
        "not UTF-8": b"name: \xff\xfe\n",
        "UTF-16": "name: x\n".encode("utf-16"),
        "UTF-32": "name: x\n".encode("utf-32"),
        "a mark in the middle": "name: x\n\ufeffdata: y\n".encode(),
        "a lone surrogate": b'name: "\\ud800"\n',
        "a terminal": f'{_BASE}"\\e[2J\\u202e": 1\n'.encode(),
        "a list": b"- name: x\n",
        "a word": b"x",
        "empty": b"",
        "a tab": b"name:\tx\n\tdata: y\n",
        "regular expressions": b"name: " + b"a" * 60 + b"!\ngrid: {" + b"a." * 10**4 + b"b: [1]}\n",
        "folded without end": b"description: >\n" + b"  x\n\n" * 10**5,
        "quotes without end": b'name: "' + b"x\\\n" * 10**5,
    }


def _settings() -> dict[str, str]:
    many = ", ".join(map(str, range(3000)))
    return {
        "name outside": "name: ../../x\n".replace("name", "description") + "extends: ../../../../etc/passwd\n",
        "extends itself": "extends: x.yaml\n",
        "extends a folder": "extends: ..\n",
        "extends zeros": "extends: /dev/zero\n",
        "extends a recipe outside": "extends: ../recipes/fig4\n",
        "a grid of 3,000 × 3,000 × 3,000": f"grid: {{mixing.lam: [{many}], data.n: [{many}], seeds: [{many}]}}\n",
        "a grid of 10¹⁸ seeds": "seeds: 1000000000000000000\n",
        "10⁹ seeds": "seeds: 1000000000\n",
        "10⁹ generations": "update: null\nbudget: {steps: 1000000000000000000}\nkeep_states: x\n",
        "10¹² rows": "grid: {data.n: [1000000000000]}\n",
        "10⁹ dimensions": "grid: {data: [{name: gaussian, d: 1000000000}]}\n",
        "a grid of classes": "grid: {data.__class__: [1]}\n",
        "a grid of nothing": "grid: {'': [1]}\n",
        "a grid of dots": "grid: {'.....': [1]}\n",
        "metrics outside": "metrics: [../../x]\n",
        "metrics of text": "metrics: variance_ratio\n",
        "10⁵ metrics": f"metrics: [{', '.join(['variance_ratio'] * 10**5)}]\n",
        "seeds of text": "seeds: [a]\n",
        "seeds of lists": "seeds: [[1]]\n",
        "an alarm of nothing": "alarm: {statistics: []}\n",
        "a tracker outside": "trackers: [../../x]\n",
        "a tracker that is no name": "trackers: [{name: 7}]\n",
        "data that are a program": "mixing: {name: parts, parts: [{source: 'os:system'}]}\n",
        "features of a device": "features: {name: torchscript, path: /dev/zero}\n",
        "a regime in a regime": f"mixing: {'{name: then, first: ' * 25}augment{', after: 1}' * 25}\n",
        "an update of text": 'update: \'__import__("os").system("touch ../canary")\'\n',
        "figures without end": f"figures: [{', '.join(['9' * 18] * 1000)}, x]\n",
    }


def _odd() -> dict[str, Write]:
    def linked(target: str) -> Write:
        return lambda folder: (folder / "x.yaml").symlink_to(target)

    return {
        "a pipe": lambda folder: os.mkfifo(folder / "x.yaml"),
        "a folder": lambda folder: (folder / "x.yaml").mkdir(),
        "zeros": linked("/dev/zero"),
        "random": linked("/dev/urandom"),
        "a link to itself": linked("x.yaml"),
        "a link to nothing": linked("nothing"),
        "not there": lambda folder: None,
        "sparse, of 1 TB": functools.partial(_sparse),
    }


def _sparse(folder: Path) -> None:
    with (folder / "x.yaml").open("wb") as held:
        held.truncate(10**12)
