"""Files of tensors: mapped, so that what is not looked at takes no memory, and never changed by who reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from selfloop.core.errors import RunError
from selfloop.core.files import load_tensors, put_bytes, save_tensors

MEBIBYTES = 200

READER = """
import json, sys
from pathlib import Path
from selfloop.core.files import load_tensors

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssFile"))) / 1024

before = held()
tensors = load_tensors(Path(sys.argv[1]), json.loads(sys.argv[2]))
loaded = held() - before
total = int(tensors["x"][0, :: 1 << 20].sum())
print(json.dumps([loaded, total, Path("/proc/self/maps").read_text().count(sys.argv[1])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="memory is read from Linux's /proc")
def test_a_large_file_is_mapped_and_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    note = save_tensors(path, {"x": torch.full((1, MEBIBYTES << 20), 3, dtype=torch.uint8)})
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path), json.dumps(note)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    loaded, total, mappings = json.loads(done.stdout)
    assert total == 3 * MEBIBYTES
    assert loaded < MEBIBYTES / 8
    assert mappings > 0


def test_writing_into_what_was_read_does_not_change_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"x": torch.arange(200, dtype=torch.uint8).view(1, 200), "born": torch.ones(1, 3, dtype=torch.int16)}
    note, content = save_tensors(path, tensors), path.read_bytes()
    first = load_tensors(path, note)
    first["x"].zero_()
    first["born"] += 1
    again = load_tensors(path, note)
    assert path.read_bytes() == content
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert again["x"].dtype == torch.uint8


def test_a_file_that_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    note, content = save_tensors(path, {"x": torch.zeros(3)}), path.read_bytes()
    for damage, words in (
        (content[:-1], f"has {len(content) - 1} bytes instead of {len(content)}"),
        (content[:-1] + b"\x01", "is damaged: its SHA-256 is not the manifest's"),
    ):
        path.write_bytes(damage)
        with pytest.raises(RunError, match=words) as refusal:
            load_tensors(path, note)
        assert "\n" not in str(refusal.value)
    path.unlink()
    with pytest.raises(RunError, match="is missing"):
        load_tensors(path, note)
    path.mkdir()
    with pytest.raises(RunError, match="cannot be read: Is a directory"):
        load_tensors(path, note)


def test_a_file_that_goes_while_it_is_read_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    note = save_tensors(path, {"x": torch.zeros(3)}, put_bytes)

    def gone(path: Path) -> dict[str, Tensor]:
        path.unlink()
        raise FileNotFoundError(f"No such file or directory: {path}")  # as safetensors does, without an errno

    monkeypatch.setattr(safetensors.torch, "load_file", gone)
    with pytest.raises(RunError, match=r"state.safetensors' is missing"):
        load_tensors(path, note)
