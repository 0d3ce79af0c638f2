"""What of the library's suite takes seconds: it cannot be marked where it is written."""

from typing import Final

import pytest

LONG: Final = {"test_concurrent_no_conflicts", "test_concurrent_throughput", "test_performance"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them before the run's selection is made."""
    for item in items:
        if item.path.stem == "test_compliance" and item.name in LONG:
            item.add_marker(pytest.mark.long)
