"""No page of the console is forgotten: each has a walk by keyboard, its looks, and hostile text.

These need no browser, so a new page without its walk fails where everything is tested.
"""

from typing import Final

import pytest

from tests.console.browser import test_injections, test_keyboard, test_looks, test_setup
from tests.console.browser.routes import (
    LEADS_ON,
    ROUTES,
    SHOWN,
    Route,
    assert_visited,
    route,
    said_by,
    said_by_all,
    visits,
)

WALKED: Final = ROUTES - LEADS_ON


def test_every_page_and_form_is_walked_by_keyboard() -> None:
    assert WALKED - said_by_all([test_keyboard, test_setup]) == set()


def test_every_page_is_looked_at() -> None:
    assert SHOWN - said_by_all([test_looks]) == set()


def test_every_page_is_given_hostile_text() -> None:
    assert SHOWN - said_by_all([test_injections]) == set()


@pytest.mark.parametrize("each", sorted(ROUTES), ids=" ".join)
def test_an_address_belongs_to_its_own_route(each: Route) -> None:
    """Or a walk of one page would count for another."""
    address = each.path.replace("{token_id:uuid}", "0" * 8 + "-0000" * 3 + "-" + "0" * 12)
    for part in ("{name:str}", "{token:str}", "{code:str}"):
        address = address.replace(part, "x")
    assert route(each.method, f"http://127.0.0.1{address}?query=1") == each


def test_planted_a_walk_that_does_not_go_where_it_says_is_found() -> None:
    @visits("GET /console/audit", "GET /console/system")
    def walk() -> None: ...

    audit, system = sorted(said_by(walk))
    assert_visited(walk, {audit, system, None})
    with pytest.raises(AssertionError, match="/console/system"):
        assert_visited(walk, {audit, None})
