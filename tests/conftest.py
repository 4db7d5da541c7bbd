"""Options of the whole test run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from helpers import Nursery, nursery

from selfloop.cli import terminal
from selfloop.engines import local
from selfloop.engines.threads import as_in_a_worker as settings_of_a_worker

# On a busy machine the making of inputs takes long, too, which says nothing of what is tested.
hypothesis.settings.register_profile("busy", suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

LONG = (
    "test_kill.py",
    "test_growth.py",
    "test_contract.py",
    "test_cli.py",
    "test_models.py",
    "test_verdict.py",
    "test_verify.py",
    "test_team.py",
    "test_array.py",
    "test_golden_unets.py",
    "test_plugin.py",
    "test_store.py",
    "test_package.py",
    "test_site.py",
)
"""The files that take longest come first, so that no process is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first; the tests of one file stay together and in their order."""
    rank = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--golden DIR``; where no test path is named, pytest wants it as ``--golden=DIR``."""
    parser.addoption(
        "--golden",
        metavar="DIR",
        type=Path,
        help="conformance data (default: ../shared/golden beside the repository); those checks are skipped without it",
    )


@pytest.fixture(autouse=True, scope="session")
def however_slow_the_machine_is() -> Iterator[None]:
    """Let no command of a test say that it is still at work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal, "SILENT", 3600.0)
        yield


@pytest.fixture
def as_in_a_worker() -> Iterator[None]:
    """Run as the engines do, where bits are compared."""
    with settings_of_a_worker():
        yield


@pytest.fixture(scope="session")
def nest() -> Iterator[Nursery]:
    """A process that forks others, started once."""
    with nursery() as started:
        yield started


@pytest.fixture(scope="session")
def _pool() -> Iterator[local.Workers]:
    started = local.Workers(2)
    yield started
    started.close()


@pytest.fixture
def shared_workers(_pool: local.Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lend runs with workers the same two processes, as a start takes seconds; other tests start and end their own."""

    class Lent:
        map = staticmethod(_pool.map)

        def close(self) -> None:
            """Leave the processes to the next run."""

    monkeypatch.setattr(local, "Workers", lambda workers: Lent())
