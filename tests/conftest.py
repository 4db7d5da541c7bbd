"""Options of the whole test run."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--golden DIR``; where no test path is named, pytest wants it as ``--golden=DIR``."""
    parser.addoption(
        "--golden",
        metavar="DIR",
        type=Path,
        help="conformance data (default: ../shared/golden beside the repository); those checks are skipped without it",
    )
