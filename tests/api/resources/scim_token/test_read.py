"""`GET /scim-token` and `GET /scim-token/{id}`: one test per outcome, with the whole answer."""

from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import pytest

from domain.authority import Operator
from domain.commands import NewScimToken
from tests.api.expected import (
    FIELDS,
    assert_invalid,
    assert_problem,
    create,
    instant,
    use,
)
from tests.api.resources.scim_token.words import CONTROL, NO_UUID, SECRET_SHAPED
from tests.conftest import Database, now
from tests.service import PEPPER_KEY, Caller, RunningService, running_service, until

NO_LIMIT: Final = "must be a whole number from 1 to 1000"
NO_STATUS: Final = "must be one of: active, all, expired, revoked, suspended"


def test_a_token_is_read_without_its_secret(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    answer = service.client.get(f"/scim-token/{token['id']}", auth=admin)
    assert answer.status_code == 200
    assert list(answer.json()) == FIELDS
    assert answer.json() == {name: token[name] for name in FIELDS}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_a_use_moves_last_used_at_and_nothing_else(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    before = now()
    assert use(service, token["token"]).status_code == 501
    read = service.client.get(f"/scim-token/{token['id']}", auth=admin).json()
    assert before <= instant(read["last_used_at"]) <= now()
    assert read == {name: token[name] for name in FIELDS} | {"last_used_at": read["last_used_at"]}
    assert list(read) == FIELDS


# Foreign and missing look the same


def test_a_list_is_newest_first_and_pages_through(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    tokens = [create(service, admin, team=team, name=f"token {number}") for number in range(5)]
    expected = [token["id"] for token in reversed(tokens)]
    found: list[str] = []
    cursor, pages = "", 0
    while pages < 10:
        query: dict[str, str | int] = {"team_id": str(team), "limit": 2, "next_cursor": cursor}
        page = service.client.get("/scim-token", auth=admin, params=query).json()
        assert page["limit"] == 2
        found += [token["id"] for token in page["result"]]
        cursor, pages = page["next_cursor"], pages + 1
        if cursor is None:
            break
    assert (found, pages) == (expected, 3)


def test_a_full_last_page_is_the_last(service: RunningService, admin: Caller, team: UUID) -> None:
    for _ in range(2):
        create(service, admin, team=team)
    query: dict[str, str | int] = {"team_id": str(team), "limit": 2}
    page = service.client.get("/scim-token", auth=admin, params=query).json()
    assert len(page["result"]) == 2
    assert page["next_cursor"] is None


def test_a_list_tells_states_apart(service: RunningService, admin: Caller, team: UUID) -> None:
    active = create(service, admin, team=team, name="active")["id"]
    revoked = create(service, admin, team=team, name="revoked")["id"]
    service.client.delete(f"/scim-token/{revoked}", auth=admin)
    expired = _expired(service, team)

    def listed(**query: str) -> list[str]:
        answer = service.client.get(
            "/scim-token", auth=admin, params={"team_id": str(team)} | query
        )
        return [token["id"] for token in answer.json()["result"]]

    assert listed() == [active]
    assert listed(status="active") == [active]
    assert listed(status="revoked") == [revoked]
    assert listed(status="expired") == [str(expired)]
    assert listed(status="all") == [str(expired), revoked, active]


def test_a_revoked_token_in_a_list_says_since_when(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    service.client.delete(f"/scim-token/{token['id']}", auth=admin)
    query = {"team_id": str(team), "status": "revoked"}
    (found,) = service.client.get("/scim-token", auth=admin, params=query).json()["result"]
    assert list(found) == [*FIELDS, "revoked_at"]
    assert found["revoked_at"] == found["updated_at"]
    assert instant(token["created_at"]) <= instant(found["revoked_at"])


def test_a_list_by_name_matches_exactly(service: RunningService, admin: Caller, team: UUID) -> None:
    for name in ("Okta", "okta", "Okta "):
        create(service, admin, team=team, name=name)
    answer = service.client.get(
        "/scim-token", auth=admin, params={"team_id": str(team), "name": "Okta"}
    )
    assert [token["name"] for token in answer.json()["result"]] == ["Okta"]


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_limit_at_its_bounds_is_taken(service: RunningService, admin: Caller, limit: int) -> None:
    answer = service.client.get("/scim-token", auth=admin, params={"limit": limit})
    assert answer.status_code == 200
    assert answer.json()["limit"] == limit


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("limit=0", {"limit": NO_LIMIT}),
        ("limit=1001", {"limit": NO_LIMIT}),
        ("limit=-1", {"limit": NO_LIMIT}),
        ("limit=ten", {"limit": NO_LIMIT}),
        ("limit=", {"limit": NO_LIMIT}),
        ("limit=1.5", {"limit": NO_LIMIT}),
        ("team_id=Okta", {"team_id": NO_UUID}),
        (f"team_id={SECRET_SHAPED}", {"team_id": NO_UUID}),
        ("status=gone", {"status": NO_STATUS}),
        (
            "limit=0&team_id=Okta&status=gone",
            {"team_id": NO_UUID, "limit": NO_LIMIT, "status": NO_STATUS},
        ),
    ],
)
def test_a_parameter_out_of_range_is_refused(
    service: RunningService, admin: Caller, query: str, errors: dict[str, str]
) -> None:
    assert_problem(
        service.client.get(f"/scim-token?{query}", auth=admin),
        400,
        "validation",
        "A parameter is not valid.",
        errors=[{"pointer": pointer, "detail": detail} for pointer, detail in errors.items()],
    )


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("", "must be 1 to 255 characters"),
        ("n" * 256, "must be 1 to 255 characters"),
        ("%20", "must not be blank"),
        ("%00", CONTROL),
    ],
)
def test_a_name_filter_against_the_rules_is_refused(
    service: RunningService, admin: Caller, name: str, detail: str
) -> None:
    answer = service.client.get(f"/scim-token?name={name}", auth=admin)
    assert_invalid(answer, "name", detail, about="A parameter is not valid.")


def test_a_cursor_that_is_not_of_this_list_is_refused(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    for _ in range(2):
        create(service, admin, team=team)
    own: dict[str, str | int] = {"team_id": str(team), "limit": 1}
    cursor = service.client.get("/scim-token", auth=admin, params=own).json()["next_cursor"]
    confined = service.api_token(teams=[uuid4()])
    for caller, query in [
        (admin, own | {"next_cursor": "Okta"}),
        (admin, own | {"next_cursor": "\N{ROCKET}"}),
        (admin, own | {"next_cursor": ("A" if cursor[0] != "A" else "B") + cursor[1:]}),
        (admin, own | {"next_cursor": cursor + "A"}),
        (admin, own | {"next_cursor": cursor, "status": "all"}),
        (admin, own | {"next_cursor": cursor, "name": "Okta"}),
        (admin, own | {"next_cursor": cursor, "team_id": str(uuid4())}),
        (admin, {"next_cursor": cursor}),
        (confined, own | {"next_cursor": cursor}),
    ]:
        answer = service.client.get("/scim-token", auth=caller, params=query)
        about = "The cursor is not one of this list."
        assert_invalid(answer, "next_cursor", "is not one of this list", about=about)
    again = service.client.get("/scim-token", auth=admin, params=own | {"next_cursor": cursor})
    assert len(again.json()["result"]) == 1


@pytest.mark.long
def test_cursors_and_secrets_are_good_in_a_later_process_with_a_new_pepper(
    database: Database, team: UUID
) -> None:
    with running_service(database) as service:
        admin = service.api_token()
        tokens = [create(service, admin, team=team) for _ in range(3)]
        query: dict[str, str | int] = {"team_id": str(team), "limit": 2}
        page = service.client.get("/scim-token", auth=admin, params=query).json()
    keys = {"SCIM_LEDGER_PEPPER": f"{PEPPER_KEY},a-second-key-that-was-added-at-the-restart"}
    with running_service(database, environment=keys) as later:
        query["next_cursor"] = page["next_cursor"]
        rest = later.client.get("/scim-token", auth=admin, params=query).json()
        listed = [token["id"] for token in page["result"] + rest["result"]]
        assert listed == [token["id"] for token in reversed(tokens)]
        assert rest["next_cursor"] is None
        for secret in (tokens[0]["token"], create(later, admin, team=team)["token"]):
            assert use(later, secret).status_code == 501


# Methods and routes


def _expired(service: RunningService, team: UUID) -> UUID:
    """A token whose expiry has passed by now."""
    end = now() + timedelta(milliseconds=500)
    ask = NewScimToken(team, "expired", end)
    token, _ = service.command(lambda ledger: ledger.create_scim_token(ask, by=Operator(uuid4())))
    until(lambda: now() > end, what="the expiry")
    return token.id


def test_a_list_of_what_a_user_made_holds_nothing_else(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    other, caller = service.api_token(), service.api_token(teams=[team])
    own, foreign = create(service, admin, team=team), create(service, other, team=team)
    for made_by, token in ((admin, own), (other, foreign)):
        as_of = foreign["created_at"]  # the later of the two
        for more in ({}, {"team_id": str(team)}, {"name": "Okta"}, {"as_of": as_of}):
            query = {"created_by": str(made_by.user_id), **more}
            found = service.client.get("/scim-token", auth=caller, params=query).json()["result"]
            assert [each["id"] for each in found] == [token["id"]], more
    confined = service.api_token(teams=[uuid4()])
    query = {"created_by": str(admin.user_id)}
    assert service.client.get("/scim-token", auth=confined, params=query).json()["result"] == []


def test_a_list_of_what_ends_soon_leaves_out_what_has_no_end(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    create(service, admin, team=team)
    soon, later = (
        create(service, admin, team=team, expires_at=f"{now() + timedelta(days=days):%FT%TZ}")
        for days in (5, 50)
    )

    def ending(within: timedelta, **more: str) -> list[str]:
        query = {
            "team_id": str(team),
            "expires_before": f"{now() + within:%Y-%m-%dT%H:%M:%SZ}",
            **more,
        }
        answer = service.client.get("/scim-token", auth=admin, params=query)
        return [each["id"] for each in answer.json()["result"]]

    assert ending(timedelta(days=30)) == [soon["id"]]
    assert ending(timedelta(days=100)) == [later["id"], soon["id"]]
    assert ending(timedelta(days=100), created_by=str(uuid4())) == []
    assert ending(timedelta(days=1)) == []
    query = {"expires_before": "2021-08-10T10:00:00Z", "as_of": "2021-08-10T10:00:00Z"}
    answer = service.client.get("/scim-token", auth=admin, params=query)
    assert_invalid(
        answer,
        "expires_before",
        "cannot go with as_of",
        about="Two filters do not go together.",
    )
