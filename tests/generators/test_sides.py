"""Pictures of sides that a network cannot halve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfloop import Experiment, run
from selfloop.core.errors import ConfigError

NET = {"channels": 8, "multipliers": [1, 1, 1, 1, 1], "blocks": 1, "attention": [], "dropout": 0.0, "group_channels": 4}


def digits(name: str, **settings: Any) -> Experiment:
    """Return a loop over digits, whose sides of 8 pixels can be halved thrice and not four times."""
    return Experiment.model_validate(
        {
            "name": "sides",
            "data": {"name": "digit_images", "n": 6, "held_out": 4},
            "generator": {"name": name, "net": NET, "batch_size": 2} | settings,
            "mixing": {"name": "augment", "lam": 1},
            "generations": 1,
            "budget": {"steps": 1},
            "metrics": ["variance_ratio"],
        }
    )


@pytest.mark.parametrize("name", ["edm", "ddpm_images", "otcfm_images"])
def test_they_are_refused_where_they_are_not_to_be_padded(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        list(run(digits(name, pad=False), tmp_path / "run"))
    said = str(error.value)
    assert said == (
        f"generator {name}: images of 8 × 8 cannot be halved 4 times; generator.pad true makes them up to 16 × 16"
    )
    assert not (tmp_path / "run").exists()


def test_they_are_padded_otherwise(tmp_path: Path) -> None:
    generation, _ = run(digits("edm", steps=2), tmp_path / "run")
    assert generation.records[0]["status"] == "ok"


def test_sides_that_can_be_halved_are_not_refused(tmp_path: Path) -> None:
    net = NET | {"multipliers": [1, 1, 1, 1]}
    generation, _ = run(digits("edm", steps=2, pad=False, net=net), tmp_path / "run")
    assert generation.records[0]["status"] == "ok"
