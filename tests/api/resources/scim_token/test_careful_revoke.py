"""`DELETE` with `If-Unused-Since`, and why a command was given: whole answers."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from tests.api.expected import assert_invalid, assert_not_found, assert_problem, create, topics, use
from tests.api.resources.scim_token.words import CONTROL, SECRET_SHAPED
from tests.api.trail import audit
from tests.service import Caller, RunningService
from tests.turns import by_turns

NO_INSTANT: Final = "must be an instant, such as 2021-08-10T10:00:00.000Z"
NO_PARAMETER: Final = "A parameter is not valid."
USED_SINCE: Final = "The token was used since then. It was not revoked."


def revoke(
    service: RunningService, caller: Caller, token_id: str, since: str, **query: str
) -> httpx.Response:
    return service.client.delete(
        f"/scim-token/{token_id}",
        auth=caller,
        params=query,
        headers={"If-Unused-Since": since},
    )


def later(at: str, **by: float) -> str:
    return f"{datetime.fromisoformat(at) + timedelta(**by):%Y-%m-%dT%H:%M:%S.%fZ}"


def test_a_token_that_was_used_since_then_is_told_when_and_goes_on(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    use(service, token["token"])
    path = f"/scim-token/{token['id']}"
    used_at = service.client.get(path, auth=admin).json()["last_used_at"]
    for since in (token["created_at"], used_at, later(used_at, milliseconds=-1)):
        answer = revoke(service, admin, token["id"], since)
        assert_problem(answer, 412, "used-since", USED_SINCE, last_used_at=used_at)
    assert topics(service, token["id"]) == ["scim_token.created.v1", "scim_token.used.v1"]
    assert use(service, token["token"]).status_code == 501


def test_a_token_that_nobody_used_since_then_is_revoked(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    use(service, token["token"])
    path = f"/scim-token/{token['id']}"
    since = later(service.client.get(path, auth=admin).json()["last_used_at"], milliseconds=1)
    for _ in range(2):  # repeated, it answers the same
        answer = revoke(service, admin, token["id"], since, reason="unused")
        assert (answer.status_code, answer.json()) == (200, {"id": token["id"]})
    assert use(service, token["token"]).status_code == 401
    (row,) = audit(service, admin, token_id=token["id"], kind="scim_token.revoked")
    assert row["reason"] == "unused"


def test_a_token_that_was_never_used_is_revoked(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    answer = revoke(service, admin, token["id"], "1971-01-01T00:00:00+02:00")
    assert (answer.status_code, answer.json()) == (200, {"id": token["id"]})


def test_a_foreign_token_is_not_told_to_be_used(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin)
    use(service, token["token"])
    foreigner = service.api_token(teams=[team])
    assert_not_found(revoke(service, foreigner, token["id"], token["created_at"]))


@pytest.mark.parametrize(
    ("since", "detail"),
    by_turns(
        [
            ("", NO_INSTANT),
            ("yesterday", NO_INSTANT),
            ("1628589600", NO_INSTANT),
            ("Tue, 10 Aug 2021 10:00:00 GMT", NO_INSTANT),
            ("2021-02-30T10:00:00Z", NO_INSTANT),
            ("2021-08-10T10:00:00", "needs a time zone, such as a Z at the end"),
            ("1969-12-31T23:59:59Z", "is out of range"),
            ("2999-01-01T00:00:00Z", "is in the future"),
            (SECRET_SHAPED, NO_INSTANT),
        ],
        one_of=3,
    ),
)
def test_a_header_that_is_no_instant_is_refused_and_revokes_nothing(
    service: RunningService, admin: Caller, team: UUID, since: str, detail: str
) -> None:
    token = create(service, admin, team=team)
    answer = revoke(service, admin, token["id"], since)
    assert_invalid(answer, "If-Unused-Since", detail, about=NO_PARAMETER)
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


def test_a_header_that_is_there_twice_is_refused(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    answer = service.client.delete(
        f"/scim-token/{token['id']}",
        auth=admin,
        headers=[("If-Unused-Since", token["created_at"])] * 2,
    )
    assert_invalid(
        answer,
        "If-Unused-Since",
        "must not be given more than once",
        about="A header is given more than once.",
    )
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


def test_mistakes_in_query_and_header_are_told_at_once(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    answer = revoke(service, admin, token["id"], "now", reason=" ", why="x")
    assert_problem(
        answer,
        400,
        "validation",
        NO_PARAMETER,
        errors=[
            {"pointer": "reason", "detail": "must not be blank"},
            {"pointer": "why", "detail": "is not a parameter of this resource"},
            {"pointer": "If-Unused-Since", "detail": NO_INSTANT},
        ],
    )


# Why


@pytest.mark.parametrize(
    "reason", by_turns(["new tenant", "x" * 200, "نقل", "\N{ROCKET}"], one_of=2)
)
def test_a_creation_and_a_rotation_say_why(
    service: RunningService, admin: Caller, team: UUID, reason: str
) -> None:
    token = create(service, admin, team=team, reason=reason)
    assert "reason" not in token
    path = f"/scim-token/{token['id']}"
    rotated = service.client.post(f"{path}/rotate", auth=admin, json={"reason": reason})
    assert rotated.status_code == 200
    assert "reason" not in rotated.json()
    assert "reason" not in service.client.get(path, auth=admin).json()
    for kind in ("scim_token.created", "scim_token.rotated"):
        (row,) = audit(service, admin, token_id=token["id"], kind=kind)
        assert row["reason"] == reason
    feed = service.client.get("/events", auth=service.api_token(teams=[team]))
    of_token = [event["data"] for event in feed.json() if token["id"] in event.get("subject", "")]
    assert [row["reason"] for row in of_token] == [reason, reason]


@pytest.mark.parametrize(
    ("reason", "detail"),
    by_turns(
        [
            ("", "must be a string of 1 to 200 characters"),
            ("x" * 201, "must be a string of 1 to 200 characters"),
            (7, "must be a string of 1 to 200 characters"),
            (" ", "must not be blank"),
            ("a\nb", CONTROL),
            (SECRET_SHAPED, "must not hold a secret"),
        ],
        one_of=3,
    ),
)
def test_a_reason_against_the_rules_is_refused(
    service: RunningService, admin: Caller, team: UUID, reason: Any, detail: str
) -> None:
    token = create(service, admin, team=team)
    for path, body in (
        ("/scim-token", {"team_id": str(team), "name": "Okta"}),
        (f"/scim-token/{token['id']}/rotate", {}),
    ):
        answer = service.client.post(path, auth=admin, json=body | {"reason": reason})
        assert_invalid(answer, "/reason", detail)
    assert topics(service, token["id"]) == ["scim_token.created.v1"]
