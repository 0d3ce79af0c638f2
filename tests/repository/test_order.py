"""A run begins with the files that take longest: those that are named are there."""

from pathlib import Path

from tests.conftest import LONGEST

TESTS = Path(__file__).parents[1]


def test_every_file_that_a_run_begins_with_is_there() -> None:
    found = {f"{path.parent.name}/{path.stem}" for path in TESTS.rglob("test_*.py")}
    assert set(LONGEST) <= found
