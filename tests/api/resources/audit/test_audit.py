"""`/audit` and `/scim-token/{id}/events`:
every fact, by every filter, to nobody else; in which formats: `test_formats.py`.
"""

import base64
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewScimToken
from domain.secret import Pepper, parse, secret_id
from tests.api.expected import assert_invalid, assert_not_found, assert_problem, create, use
from tests.api.trail import (
    audit,
    auditor,
    events_of,
    kinds,
    later,
    own,
    plain,
    present,
    text,
    token,
    walk,
)
from tests.service import PEPPER_KEY, Caller, RunningService
from tests.turns import by_turns

__all__ = ["auditor", "plain", "token"]

INVALID = "A parameter is not valid."


def placeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in {"position", "at", "use_id"}}


# What is told


def test_the_whole_life_of_a_token_is_told(
    service: RunningService, auditor: Caller, team: UUID, token: dict[str, Any]
) -> None:
    agent = {"user_agent": "Okta", "method": "PATCH", "path_class": "Users/{id}", "note": "bare"}
    present(service, token["token"], source="192.0.2.1", **agent)
    service.client.delete(f"/scim-token/{token['id']}", auth=auditor)
    use(service, token["token"])

    refused, revoked, used, created = audit(service, auditor, events_of(token))
    same = {
        "team_id": str(team),
        "token_id": token["id"],
        "outcome": "success",
        "reason": None,
        "count": 1,
    }
    same |= {"operator": None, "cause": None}
    pepper = Pepper([PEPPER_KEY.encode()])
    secret = secret_id(pepper.digest(parse(token["token"])).value)
    over_http = dict.fromkeys(("door", "method", "path_class", "note")) | {
        "source": "127.0.0.1",
        "user_agent": service.client.headers["User-Agent"],
    }
    by_auditor = {**same, **own(auditor), **over_http}
    assert placeless(created) == {**by_auditor, "kind": "scim_token.created", "secret": secret}
    assert placeless(revoked) == {**by_auditor, "kind": "scim_token.revoked", "secret": None}
    assert placeless(used) == {
        **same,
        "user_id": None,
        "api_token_id": None,
        "door": "scim",
        "source": "192.0.2.1",
        **agent,
        "kind": "scim_token.used",
        "secret": secret,
    }
    assert created["at"] == token["created_at"]
    assert [refused[name] for name in ("kind", "outcome", "reason", "secret")] == [
        "scim_token.refused",
        "refused",
        "revoked",
        secret,
    ]
    assert created["position"] < used["position"] < revoked["position"] < refused["position"]


def test_the_use_id_is_the_one_that_the_upstream_was_told(
    service: RunningService, auditor: Caller, token: dict[str, Any]
) -> None:
    answer = service.client.get(
        "/gateway/nginx", headers={"Authorization": f"Bearer {token['token']}"}
    )

    assert audit(service, auditor, events_of(token))[0]["use_id"] == answer.headers["x-scim-use-id"]


def test_a_change_at_the_command_line_is_signed_by_nobody_but_the_user_named(
    service: RunningService, auditor: Caller, team: UUID
) -> None:
    user = uuid4()
    made, _ = service.command(
        lambda ledger: ledger.create_scim_token(NewScimToken(team, "CLI"), by=Operator(user))
    )

    (row,) = audit(service, auditor, token_id=made.id)
    assert (row["user_id"], row["api_token_id"]) == (str(user), None)


def test_no_answer_holds_a_secret_or_a_digest(
    service: RunningService, auditor: Caller, token: dict[str, Any], plain: httpx.Client
) -> None:
    use(service, token["token"])
    rotated = service.client.post(f"/scim-token/{token['id']}/rotate", auth=auditor, json={}).json()
    pepper = Pepper([PEPPER_KEY.encode()])
    hidden: list[str] = [token["token"], rotated["token"]]
    for secret in tuple(hidden):
        digest = pepper.digest(parse(secret)).value
        hidden += [
            digest.hex(),
            base64.b64encode(digest).decode(),
            base64.urlsafe_b64encode(digest).decode(),
        ]

    for format_ in ("json", "ndjson", "csv"):
        answer = plain.get(events_of(token), auth=auditor, params={"format": format_})
        assert "scim_token.rotated" in answer.text
        assert not any(each in answer.text for each in hidden)
    feed = service.client.get("/events", auth=auditor).text
    assert "scim_token.rotated" in feed
    assert not any(each in feed for each in hidden)


# Filters


def test_each_filter_leaves_what_it_says(service: RunningService, team: UUID) -> None:
    ada, bob = service.api_token(teams=[team]), service.api_token(teams=[team])
    of_ada = create(service, ada, team=team)
    start = later()
    of_bob = create(service, bob, team=team)
    present(service, of_bob["token"], source="192.0.2.1")
    end = later()
    present(service, of_ada["token"], source="2001:db8::1")
    service.client.delete(f"/scim-token/{of_ada['id']}", auth=bob)
    use(service, of_ada["token"])

    def found(**params: Any) -> list[str]:
        return kinds(audit(service, ada, order="oldest", team_id=team, **params))

    created, used, revoked, refused = (
        f"scim_token.{kind}" for kind in ("created", "used", "revoked", "refused")
    )
    assert found() == [created, created, used, used, revoked, refused]
    assert found(token_id=of_bob["id"]) == [created, used]
    assert found(user_id=ada.user_id) == [created]
    assert found(api_token_id=bob.id) == [created, revoked]
    assert found(user_id=ada.user_id, api_token_id=bob.id) == []
    assert found(kind=[created, revoked]) == [created, created, revoked]
    assert found(outcome="refused") == [refused]
    assert found(outcome="success", kind=[refused, revoked]) == [revoked]
    assert found(source="192.0.2.1") == [used]
    assert found(source="192.0.2.0/24") == [used]
    assert found(source="::ffff:192.0.2.1") == [used]
    assert found(source="2001:db8::1%any text", token_id=of_ada["id"]) == [used]
    assert found(source="2001:db8::/32", token_id=of_ada["id"]) == [used]
    assert found(source="198.51.100.0/24") == []
    assert found(**{"from": text(start), "to": text(end)}) == [created, used]
    assert found(**{"from": text(end)}) == [used, revoked, refused]
    assert found(to=text(start)) == [created]
    assert found(**{"from": "2999-01-01T00:00:00Z"}) == []


def test_from_is_the_first_instant_and_to_the_first_after(
    service: RunningService, auditor: Caller, token: dict[str, Any]
) -> None:
    at = token["created_at"]

    assert kinds(audit(service, auditor, events_of(token), **{"from": at})) == [
        "scim_token.created"
    ]
    assert audit(service, auditor, events_of(token), to=at) == []


def test_newest_comes_first_unless_asked_otherwise(
    service: RunningService, auditor: Caller, token: dict[str, Any]
) -> None:
    use(service, token["token"])
    newest = audit(service, auditor, events_of(token))

    assert kinds(newest) == ["scim_token.used", "scim_token.created"]
    assert audit(service, auditor, events_of(token), order="newest") == newest
    assert audit(service, auditor, events_of(token), order="oldest") == newest[::-1]


@pytest.mark.parametrize(
    ("params", "pointer", "detail"),
    by_turns(
        [
            (
                {"source": "192.0.2.300"},
                "source",
                "must be an address or a network, such as 192.0.2.0/24",
            ),
            ({"from": "2021-08-10T10:00:00"}, "from", "needs a time zone, such as a Z at the end"),
            ({"to": "1969-12-31T23:59:59Z"}, "to", "is out of range"),
            ({"to": "9999-12-31T23:59:59Z"}, "to", "is out of range"),
            ({"from": "yesterday"}, "from", "must be an instant, such as 2021-08-10T10:00:00.000Z"),
            (
                {"from": "2021-08-11T00:00:00Z", "to": "2021-08-10T00:00:00Z"},
                "from",
                "must not be after `to`",
            ),
            ({"order": "random"}, "order", "must be one of: newest, oldest"),
            ({"outcome": "maybe"}, "outcome", "must be one of: refused, success"),
            ({"limit": "0"}, "limit", "must be a whole number, 1 at least"),
            ({"limit": "1001"}, "limit", "must be at most 1000; NDJSON and CSV have no limit"),
            (
                {"token_id": "1"},
                "token_id",
                "must be a UUID, such as 05daecaf-4365-42e8-8370-8127de5dd717",
            ),
            ({"secret": "5E1F09AB"}, "secret", "must be eight hex digits, in small letters"),
            (
                {"secret": "5e1f09ab"},
                "secret",
                "needs token_id: a secret's id is one among those of its token",
            ),
            ({"format": "xml"}, "format", "must be one of: json, ndjson, csv"),
            ({"next_cursor": "AAAA"}, "next_cursor", "is not one of this list"),
        ],
        one_of=3,
    ),
)
def test_a_parameter_that_means_nothing_is_refused(
    service: RunningService, auditor: Caller, params: dict[str, str], pointer: str, detail: str
) -> None:
    about = "The cursor is not one of this list." if pointer == "next_cursor" else INVALID
    assert_invalid(
        service.client.get("/audit", auth=auditor, params=params), pointer, detail, about=about
    )


def test_a_kind_that_does_not_exist_is_refused(service: RunningService, auditor: Caller) -> None:
    answer = service.client.get(
        "/audit", auth=auditor, params={"kind": ["scim_token.used", "Used"]}
    )

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "kind"
    assert "scim_token.revoked" in answer.json()["errors"][0]["detail"]


def test_a_parameter_with_a_typo_does_not_widen_the_answer(
    service: RunningService, auditor: Caller
) -> None:
    assert_invalid(
        service.client.get("/audit", auth=auditor, params={"team": str(uuid4())}),
        "team",
        "is not a parameter of this resource",
        about="A parameter is not known.",
    )


# Pages


@pytest.mark.parametrize("order", by_turns(["newest", "oldest"], one_of=2))
def test_pages_show_each_row_once_while_more_are_written(
    service: RunningService, auditor: Caller, team: UUID, token: dict[str, Any], order: str
) -> None:
    for number in range(7):
        present(service, token["token"], user_agent=f"agent {number}")
    there = {row["position"] for row in audit(service, auditor, team_id=team)}

    seen = []
    for page in walk(service, auditor, team_id=team, order=order, limit=3):
        assert len(page) <= 3
        seen += [row["position"] for row in page]
        if len(seen) < len(there):
            use(service, token["token"])
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen, reverse=order == "newest")
    assert there <= set(seen)


def test_a_cursor_is_good_for_its_own_filter_and_order_only(
    service: RunningService, auditor: Caller, team: UUID, token: dict[str, Any]
) -> None:
    use(service, token["token"])
    params: dict[str, Any] = {"team_id": str(team), "limit": 1}
    cursor = service.client.get("/audit", auth=auditor, params=params).json()["next_cursor"]
    tokens = service.client.get("/scim-token", auth=auditor, params={"next_cursor": cursor})
    assert tokens.status_code == 400

    for changed in ({"order": "oldest"}, {"outcome": "success"}, {"team_id": str(uuid4())}):
        answer = service.client.get(
            "/audit", auth=auditor, params=params | changed | {"next_cursor": cursor}
        )
        assert answer.status_code == 400


# Who may see it


def test_a_caller_sees_their_teams_only(
    service: RunningService, auditor: Caller, admin: Caller, token: dict[str, Any]
) -> None:
    elsewhere = create(service, admin, team=uuid4())

    assert {row["token_id"] for row in audit(service, auditor)} == {token["id"]}
    assert audit(service, auditor, team_id=elsewhere["team_id"]) == []
    assert audit(service, auditor, token_id=elsewhere["id"]) == []
    assert audit(service, auditor, user_id=admin.user_id) == []
    assert_not_found(service.client.get(events_of(elsewhere), auth=auditor))
    assert_not_found(service.client.get(f"/scim-token/{uuid4()}/events", auth=auditor))
    assert audit(service, admin, token_id=elsewhere["id"]) != []


def test_several_teams_come_merged_in_order(service: RunningService, admin: Caller) -> None:
    teams = [uuid4() for _ in range(3)]
    tokens = [create(service, admin, team=team) for team in (*teams, *teams)]
    auditor = service.api_token(teams=[*teams, uuid4()])

    for order in ("newest", "oldest"):
        pages = list(walk(service, auditor, order=order, limit=4))
        assert [len(page) for page in pages] == [4, 2]
        seen = [row["token_id"] for page in pages for row in page]
        assert seen == [token["id"] for token in (tokens if order == "oldest" else tokens[::-1])]
    assert len(audit(service, auditor, token_id=tokens[1]["id"])) == 1


def test_what_belongs_to_no_team_is_for_those_who_may_see_all(
    service: RunningService, auditor: Caller, admin: Caller
) -> None:
    assert (
        kinds(audit(service, admin, token_id=auditor.id, order="oldest"))[0] == "api_token.created"
    )
    assert audit(service, auditor, token_id=auditor.id) == []


def test_without_the_permission_it_is_403(service: RunningService, token: dict[str, Any]) -> None:
    reader = service.api_token(Permission.SCIM_TOKENS_READ, teams=[UUID(token["team_id"])])
    for path in ("/audit", events_of(token), f"/scim-token/{token['id']}/usage", "/events"):
        assert_problem(
            service.client.get(path, auth=reader),
            403,
            "permission-denied",
            "The API token lacks the permission audit:read.",
        )
