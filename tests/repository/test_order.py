"""Files that a run begins with or that share a service: those that are named are there."""

from pathlib import Path

import pytest

from tests.schedule import LONGEST, SHARING

TESTS = Path(__file__).parents[1]


def test_every_file_that_a_run_begins_with_is_there() -> None:
    found = {f"{path.parent.name}/{path.stem}" for path in TESTS.rglob("test_*.py")}
    assert set(LONGEST) <= found


@pytest.mark.parametrize("name", [name for names in SHARING for name in names])
def test_every_file_that_shares_a_service_is_there(name: str) -> None:
    assert (TESTS.parent / name).exists()
