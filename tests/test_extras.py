"""What an extra brings is missed by a sentence of ours that says what to install."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfloop
from selfloop import Run
from selfloop.core.errors import ConfigError, SelfloopError
from selfloop.core.frames import frame
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.core.tokens import _library
from selfloop.data.reading.tokenizer_files import _of_gguf
from selfloop.engines.base import ENGINES
from selfloop.engines.team import Team
from selfloop.features.base import FEATURES
from selfloop.generators.base import GENERATORS
from selfloop.learning.training import Budget
from selfloop.metrics.transport import wasserstein

STREAMS = Streams((0,))
DIFFUSERS = {"name": "diffusers", "unet": {"norm_num_groups": 4}}
MODEL = {"name": "transformers", "path": "folder"}
CTGAN = {"name": "estimator", "estimator": "CTGAN"}
ARF = {"name": "estimator", "estimator": "ARF"}
IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("package", "call", "install"),
    [
        ("zuko", lambda: GENERATORS.parse("flow").init((2,), STREAMS), "selfloop[flows]"),
        (
            "diffusers",
            lambda: GENERATORS.parse(DIFFUSERS).init((1, 8, 8), STREAMS),
            "selfloop[hf]",
        ),
        ("transformers", lambda: GENERATORS.parse(MODEL).init((2, 9), STREAMS), "selfloop[lm]"),
        ("ctgan", lambda: GENERATORS.parse(CTGAN).init((2,), STREAMS), "selfloop[ctgan]"),
        ("arfpy", lambda: GENERATORS.parse(ARF).init((2,), STREAMS), "selfloop[arfpy]"),
        ("torch_fidelity", lambda: FEATURES.parse("torch_fidelity").key(), "selfloop[images]"),
        ("torch_fidelity", lambda: FEATURES.parse("torch_fidelity")(IMAGES), "selfloop[images]"),
        ("lightning_fabric", lambda: Team.start("cpu", 2), "selfloop[devices]"),
        ("tokenizers", _library, "selfloop[text]"),
        ("gguf", lambda: _of_gguf(Path("model.gguf"), "model.gguf"), "selfloop[lm]"),
        ("pandas", lambda: frame([{"a": 1}]), "selfloop[frames]"),
        ("fsspec", lambda: Run.open("memory://bucket/run"), "selfloop[remote]"),
        ("ray", lambda: ENGINES.parse("ray").start(1).__enter__(), "selfloop[ray]"),
        ("ot", lambda: wasserstein(np.zeros((3, 2)), np.zeros((2, 2))), "POT"),
    ],
)
def test_what_is_not_installed(
    package: str, call: Callable[[], Any], install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SelfloopError) as error:
        call()
    asked = install if "[" not in install else f"'{install}'"
    assert re.fullmatch(rf".+ needs package [\w-]+: pip install {re.escape(asked)}", str(error.value))


def test_every_message_on_a_package_is_of_one_wording() -> None:
    own = Path(selfloop.core.errors.__file__)
    elsewhere = [
        f"{path.name}: {line.strip()}"
        for path in Path(selfloop.__file__).parent.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "pip install" in line and path != own and path.name not in ("unnamed.py", "corpora.py")
    ]
    assert elsewhere == []  # those two are advice on more than a package


@pytest.mark.parametrize("name", ["vae", "otcfm", "ddpm"])
def test_a_budget_of_epochs_means_nothing_to_a_fit_by_hand(name: str) -> None:
    generator, data = GENERATORS.parse(name), Samples.full(torch.zeros(1, 8, 2), born=0)
    with pytest.raises(ConfigError, match=r"how long 3 epochs are: give it budget.resolve\(n\)"):
        generator.fit(generator.init((2,), STREAMS), data, Budget(epochs=3.0), STREAMS)
