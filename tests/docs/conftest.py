"""What the documents' tests need: a service of their own, and a clone of the repository."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import new_database, roomy_directory
from tests.docs.documents import ROOT
from tests.service import RunningService, running_service


@pytest.fixture(scope="session")
def service(server: str) -> Iterator[RunningService]:
    with new_database(server) as database, running_service(database) as started:
        yield started


@pytest.fixture
def clone() -> Iterator[Path]:
    """The tracked files and those not ignored, as a clone has them."""
    with tempfile.TemporaryDirectory(
        prefix="scim-ledger-readme-", dir=roomy_directory()
    ) as directory:
        Path(directory).chmod(0o711)  # as root, the database's user must reach its data
        clone = Path(directory) / "clone"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, clone / name)
        yield clone
