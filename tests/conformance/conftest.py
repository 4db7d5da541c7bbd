"""Conformance data: tensors that the reference implementations computed, found and checked by their manifests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor


@dataclass(frozen=True)
class Record:
    """One file: its manifest entry and its tensors."""

    entry: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        """How the file was made."""
        return self.entry["config"]

    @property
    def scalars(self) -> dict[str, Any]:
        """Numbers that are no tensors."""
        return self.entry["scalars"]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def meaning(self, key: str) -> str:
        """Return the manifest's words on a tensor."""
        return self.entry["tensors"][key]["meaning"]

    def prefixes(self, suffix: str) -> list[str]:
        """Return what stands before ``suffix`` in the names of the tensors, at least one."""
        found = sorted(key.removesuffix(suffix) for key in self.tensors if key.endswith(suffix))
        assert found, f"no tensor is called …{suffix}"
        return found

    def parameters(self) -> dict[str, Tensor]:
        """Return the network's parameters with a replica axis of one; float16 held float32 values without loss."""
        found = {key: value for key, value in self.tensors.items() if key.startswith("sd.")}
        assert found, "no parameters"
        return {key.removeprefix("sd."): value.float().unsqueeze(0) for key, value in found.items()}


@dataclass(frozen=True)
class Golden:
    """A directory of conformance data."""

    directory: Path

    def files(self, family: str) -> dict[str, dict[str, Any]]:
        """Return the files that a family's manifest describes, by name; none where there is no manifest."""
        manifest = self.directory / f"manifest_{family}.json"
        return json.loads(manifest.read_text(encoding="utf-8"))["files"] if manifest.exists() else {}

    def _checked(self, family: str, name: str) -> tuple[dict[str, Any], bytes]:
        entry = self.files(family).get(name)
        if entry is None:
            pytest.skip(f"{name} is not recorded in {self.directory}")
        content = (self.directory / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert digest == entry["sha256"], f"{self.directory / name} is not the file that its manifest describes"
        return entry, content

    def record(self, family: str, stem: str) -> Record:
        """Load ``stem``.safetensors, refusing another checksum, shape or dtype than the manifest's."""
        entry, content = self._checked(family, f"{stem}.safetensors")
        tensors = load(content)
        assert tensors.keys() == entry["tensors"].keys()
        for key, declared in entry["tensors"].items():
            assert list(tensors[key].shape) == declared["shape"], key
            assert tensors[key].dtype == getattr(torch, declared["dtype"]), key
        return Record(entry, tensors)

    def facts(self) -> dict[str, Any]:
        """Load facts.json."""
        return json.loads(self._checked("facts", "facts.json")[1])


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Golden:
    """Return the directory that ``--golden`` names, or the default one."""
    given = pytestconfig.getoption("golden")
    directory = pytestconfig.invocation_params.dir / given if given else pytestconfig.rootpath / "../shared/golden"
    if not directory.is_dir():
        pytest.skip(f"no conformance data: {directory} is no directory (--golden DIR names another)")
    return Golden(directory)
