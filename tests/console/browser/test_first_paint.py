"""A page, as full as it gets, is painted in a few times what the emptiest one takes."""

from typing import Final

import pytest

from tests.console.browser.chromium import first_paint_ms
from tests.console.browser.conftest import Open
from tests.console.test_budgets import ASKED, Full, full
from tests.service import Caller, RunningService

__all__ = ["full"]

pytestmark = pytest.mark.browser

EMPTIEST: Final = "/console/sign-in"
ROUNDS: Final = 7
TIMES_MAX: Final = 5
"""Alone on the machine a full page takes twice as long as the emptiest."""


@pytest.fixture(scope="module")
def service(full: Full) -> RunningService:
    return full.service


@pytest.fixture(scope="module")
def admin(service: RunningService) -> Caller:
    return service.api_token()


@pytest.mark.parametrize("route", ASKED)
def test_the_first_paint(full: Full, signed_in: Open, route: str) -> None:
    path = full.path(route) + ASKED[route].format(**full.names)
    with signed_in() as page:
        rounds = [
            (first_paint_ms(page, EMPTIEST), first_paint_ms(page, path)) for _ in range(ROUNDS)
        ]
    emptiest, took = (min(times) for times in zip(*rounds, strict=True))
    assert took <= TIMES_MAX * emptiest
