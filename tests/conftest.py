"""Options of the whole test run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from selfloop.engines.threads import as_in_a_worker as settings_of_a_worker


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--golden DIR``; where no test path is named, pytest wants it as ``--golden=DIR``."""
    parser.addoption(
        "--golden",
        metavar="DIR",
        type=Path,
        help="conformance data (default: ../shared/golden beside the repository); those checks are skipped without it",
    )


@pytest.fixture
def as_in_a_worker() -> Iterator[None]:
    """Run as the engines do, where bits are compared."""
    with settings_of_a_worker():
        yield
