"""The image, built once a module by the tests that run something in it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import roomy_directory
from tests.installation.container import image as images
from tests.installation.room import Room, require_root


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    require_root()
    with tempfile.TemporaryDirectory(prefix="scim-ledger-image-", dir=roomy_directory()) as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture(scope="module")
def image(base: Path) -> Room:
    return images.image(base)
