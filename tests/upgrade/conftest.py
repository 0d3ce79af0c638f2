"""A place for data directories."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    """Not below pytest's own 0700 directory: as root the server runs as another user."""
    made = Path(tempfile.mkdtemp(prefix="scim-ledger-upgrade-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)
