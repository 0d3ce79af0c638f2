"""Small reads and writes for the tests of a rebuild."""

import pytest

from projections.rebuild import bulk


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads and writes so small that a short history takes many,
    and rows written are found again.
    """
    for name, value in (("READ", 3), ("ROWS", 2)):
        monkeypatch.setattr(bulk, name, value)
