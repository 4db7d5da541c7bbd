"""The Fréchet distance, precision, recall, density and coverage against FLD, EDM and prdc."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.metrics import density_coverage, frechet, precision_recall
from selfloop.metrics.neighbours import radii

HALF = torch.finfo(torch.float32).eps / 2  # what rounding to float32 changes, relative


@pytest.fixture(scope="module")
def features(golden):
    return golden.record("metrics", "metrics_features")


def each(features) -> Iterator[tuple[str, Tensor, Tensor, dict[str, Any]]]:
    """Return name, real and generated rows, and what the references say of them, of every set."""
    assert features.scalars
    for name, theirs in features.scalars.items():
        yield name, features[f"{name}.real"], features[f"{name}.gen"], theirs


def numbered(theirs: dict[str, Any], pattern: str) -> dict[int, dict[str, float]]:
    """Return the entries whose whole name the pattern matches, by the k in it, at least one."""
    found = {int(match[1]): value for key, value in theirs.items() if (match := re.fullmatch(pattern, key))}
    assert found, f"no entry is called {pattern}"
    return found


def shares(precision: float, recall: float, real: Tensor, generated: Tensor) -> tuple[int, int]:
    """Return how many rows of either set were counted: the references' shares are partly float32."""
    return round(precision * len(generated)), round(recall * len(real))


def check_shares(real: Tensor, generated: Tensor, k: int, convention: str, theirs: dict[str, float], name: str) -> None:
    ours = precision_recall(real, generated, k, convention)
    expected = shares(theirs["precision"], theirs["recall"], real, generated)
    assert shares(ours.precision, ours.recall, real, generated) == expected, (name, k, convention)


def test_frechet_distance(features):
    """To 1e-11 of the variance; where N ≤ d the references take roots of noise, of √ε = 1.5e-8 a direction."""
    for name, real, generated, theirs in each(features):
        variance = float(real.double().var(0).sum() + generated.double().var(0).sum())
        singular = min(len(real), len(generated)) <= real.shape[1]
        close = variance * (1.5e-8 if singular else 1e-11)
        ours = frechet(real, generated)
        assert ours == pytest.approx(theirs["edm_fid_formula"], rel=0, abs=close), name
        assert ours == pytest.approx(theirs["exact_fid_eigh"], rel=0, abs=close), name


def test_frechet_distance_of_fld(features):
    """FLD takes its means in float32, which a second moment changes by 6e-8 of it, however small the distance."""
    for name, real, generated, theirs in each(features):
        second = sum(float(x.double().square().mean(0).sum()) for x in (real, generated))
        assert frechet(real, generated) == pytest.approx(theirs["fld_FID"], rel=0, abs=HALF * second), name


def test_precision_and_recall(features):
    for name, real, generated, theirs in each(features):
        for k, exact in numbered(theirs, r"exact_strict_k(\d+)").items():
            check_shares(real, generated, k, "reference", exact, name)
        for k, exact in numbered(theirs, r"exact_le_k(\d+)").items():
            check_shares(real, generated, k - 1, "standard", exact, name)


def test_precision_and_recall_of_fld(features):
    """But for the k and sets of which the record says that FLD's float32 distances lost them."""
    compared = 0
    for name, real, generated, theirs in each(features):
        for k, equal in numbered(theirs, r"fld_equals_exact_strict_k(\d+)").items():
            if equal:
                check_shares(real, generated, k, "reference", theirs[f"fld_k{k}"], name)
                compared += 1
    assert compared


def test_density_and_coverage(features):
    """The package prdc on float64 features, and a brute force; its precision and recall are strict as well."""
    for name, real, generated, theirs in each(features):
        for pattern in (r"exact_prdc_k(\d+)", r"prdc_k(\d+)_float64"):
            for k, found in numbered(theirs, pattern).items():
                ours = density_coverage(real, generated, k)
                size = k * len(generated)
                assert round(ours.density * size) == round(found["density"] * size), (name, pattern, k)
                assert round(ours.coverage * len(real)) == round(found["coverage"] * len(real)), (name, pattern, k)
                check_shares(real, generated, k + 1, "reference", found, name)


def test_radii(features):
    """The record's k counts the row itself."""
    for name, real, generated, _ in each(features):
        for label, x in (("real", real), ("gen", generated)):
            for k, exact in numbered(features.tensors, rf"{name}\.radii_{label}_k(\d+)").items():
                np.testing.assert_allclose(radii(x, k - 1), exact.numpy(), rtol=1e-12, atol=0, err_msg=name)
