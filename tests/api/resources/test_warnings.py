"""Warnings over HTTP: told by the running service, in trail and feed, once with two of them."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.api.expected import create, instant
from tests.api.trail import audit, text
from tests.conftest import now
from tests.service import Caller, RunningService, until

SOON = timedelta(days=20)


def warnings(service: RunningService, caller: Caller, token_id: str) -> list[dict[str, Any]]:
    """Rows of the trail that are neither of a command nor of a use."""
    return [
        row
        for row in audit(service, caller, f"/scim-token/{token_id}/events")
        if row["kind"] == "scim_token.expiring"
    ]


def test_that_a_token_ends_soon_is_in_trail_and_feed(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team, expires_at=text(now() + SOON))
    until(lambda: warnings(service, admin, token["id"]) != [], what="the warning")
    (row,) = warnings(service, admin, token["id"])
    assert row | {"position": 0, "at": "", "use_id": ""} == {
        "position": 0,
        "at": "",
        "kind": "scim_token.expiring",
        "outcome": "success",
        "reason": None,
        "team_id": str(team),
        "token_id": token["id"],
        "user_id": None,
        "api_token_id": None,
        "door": None,
        "source": None,
        "user_agent": None,
        "method": None,
        "path_class": None,
        "note": f"ends at {token['expires_at']}, within 30 days",
        "count": 1,
        "use_id": "",
        "operator": None,
    }
    feed = service.client.get(
        "/events", auth=admin, params={"after": row["position"] - 1, "limit": 1}
    ).json()
    assert feed[0]["data"] == row
    assert (feed[0]["type"], feed[0]["subject"]) == (row["kind"], f"scim_token/{token['id']}")
    assert instant(feed[0]["time"]) >= instant(token["created_at"])


def test_a_warning_leaves_the_token_as_it_was(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team, expires_at=text(now() + SOON))
    del token["token"]
    until(lambda: warnings(service, admin, token["id"]) != [], what="the warning")
    assert service.client.get(f"/scim-token/{token['id']}", auth=admin).json() == token


def test_two_services_warn_once(two_services: tuple[RunningService, RunningService]) -> None:
    one, other = two_services
    admin = one.api_token()
    tokens = [create(one, admin, expires_at=text(now() + SOON)) for _ in range(10)]
    last = create(other, admin, expires_at=text(now() + SOON))
    until(lambda: warnings(other, admin, last["id"]) != [], what="the last warning")
    assert [len(warnings(one, admin, token["id"])) for token in tokens] == [1] * 10
