"""The conformance data are checked before use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save


@pytest.fixture
def copied(golden, tmp_path):
    """A directory of the same form whose one file holds one tensor."""
    content = save({"x": torch.arange(3.0)})
    entry = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "tensors": {"x": {"shape": [3], "dtype": "float32", "meaning": "three numbers"}},
    }
    (tmp_path / "a.safetensors").write_bytes(content)
    (tmp_path / "manifest_test.json").write_text(json.dumps({"files": {"a.safetensors": entry}}))
    return replace(golden, directory=tmp_path)


def test_a_sound_file_is_read(copied):
    record = copied.record("test", "a")
    assert torch.equal(record["x"], torch.arange(3.0))
    assert record.meaning("x") == "three numbers"


def test_a_changed_file_is_refused(copied):
    path = copied.directory / "a.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssertionError, match=r"a\.safetensors is not the file that its manifest describes"):
        copied.record("test", "a")


def test_what_is_not_recorded_is_skipped_and_what_is_lost_is_not(copied):
    for family in ("test", "of no manifest"):
        with pytest.raises(pytest.skip.Exception, match=r"b\.safetensors is not recorded"):
            copied.record(family, "b")
    (copied.directory / "a.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        copied.record("test", "a")
