"""Directories of embedded servers: empty, prepared, and one that runs for whoever only looks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.postgres.embedded.server import EmbeddedPostgres
from tests.domain.postgres.embedded.servers import short_dir
from tests.ready_cluster import copy_cluster


@pytest.fixture
def base_dir() -> Iterator[Path]:
    with short_dir() as place:
        yield place


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedPostgres]:
    """One running server for the tests that only look at it."""
    with short_dir() as place, EmbeddedPostgres(place, is_durable=False) as server:
        yield server


@pytest.fixture
def prepared(base_dir: Path) -> Path:
    """The directory of a cluster that has run and was stopped."""
    copy_cluster(base_dir)
    return base_dir
