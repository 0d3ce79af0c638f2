"""`/scim-token`: one test per outcome, with the whole answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from domain.api_token import Permission
from domain.authority import Operator
from domain.commands import NewScimToken, Sources
from tests.api.expected import (
    CHALLENGE,
    FIELDS,
    SCIM_SECRET,
    UUID_TEXT,
    assert_invalid,
    assert_not_found,
    assert_problem,
    create,
    instant,
    topics,
    use,
)
from tests.api.trail import audit
from tests.conftest import SOURCES, Database, now
from tests.service import PEPPER_KEY, Caller, RunningService, running_service, until
from tests.stopwatch import Stopwatch

JSON: Final = {"Content-Type": "application/json"}
MAX_BODY: Final = 64 * 1024
ABSENT: Final = "7f3c2b61-0f51-4a0c-9c53-2f0b6c6a7d11"
NOT_JSON: Final = "The body is not well-formed JSON."
CONTROL: Final = "must not hold control characters"
NO_UUID: Final = "must be a UUID, such as 05daecaf-4365-42e8-8370-8127de5dd717"
NO_OVERLAP: Final = "must be a whole number from 0 to 2592000"
NO_LIMIT: Final = "must be a whole number from 1 to 1000"
NO_STATUS: Final = "must be one of: active, all, expired, revoked"
NO_NAME: Final = "must be a string of 1 to 255 characters"
NO_INSTANT: Final = "must be an instant, such as 2021-08-10T10:00:00.000Z"
SHOWN: Final = (
    "This request was carried out before; its secret was shown then. Revoke or rotate the token."
)
SECRET_SHAPED: Final = "scim_live_" + "a" * 49
UNAVAILABLE: Final = "The ledger cannot answer right now; nothing was lost. Try again."


def head(service: RunningService) -> int:
    """How many events of SCIM tokens there are:
    nothing happened to any between two equal answers.
    """
    statement = "SELECT count(*) FROM ledger.events WHERE starts_with(topic, 'scim_token.')"
    return int(service.query(statement)[0][0])


def post(service: RunningService, caller: Caller, content: bytes, **headers: str) -> httpx.Response:
    return service.client.post("/scim-token", auth=caller, content=content, headers=JSON | headers)


# Create: what is refused changes nothing


def test_an_unknown_field_is_refused(service: RunningService, admin: Caller, team: UUID) -> None:
    before = head(service)
    body = {"team_id": str(team), "name": "Okta", "expire_at": "2999-01-01T00:00:00Z"}
    assert_invalid(
        service.client.post("/scim-token", auth=admin, json=body),
        "/expire_at",
        "is not a field of this resource",
    )
    assert head(service) == before


def test_created_by_comes_from_the_token_and_never_from_the_body(
    service: RunningService, team: UUID
) -> None:
    caller = service.api_token()
    assert create(service, caller, team=team)["created_by"] == str(caller.user_id)
    body = {"team_id": str(team), "name": "Okta", "created_by": str(uuid4())}
    assert_invalid(
        service.client.post("/scim-token", auth=caller, json=body),
        "/created_by",
        "is not a field of this resource",
    )


def test_a_secret_in_a_field_name_is_not_echoed(service: RunningService, admin: Caller) -> None:
    body = {"team_id": ABSENT, "name": "Okta", SECRET_SHAPED: "x"}
    answer = service.client.post("/scim-token", auth=admin, json=body)
    assert_invalid(answer, "/*", "is not a field of this resource")


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"name": "Okta"}, "/team_id", "is required"),
        ({"team_id": ABSENT}, "/name", "is required"),
        ({"team_id": "Okta", "name": "Okta"}, "/team_id", NO_UUID),
        ({"team_id": SECRET_SHAPED, "name": "Okta"}, "/team_id", NO_UUID),
        ({"team_id": 7, "name": "Okta"}, "/team_id", NO_UUID),
        ({"team_id": None, "name": "Okta"}, "/team_id", NO_UUID),
        ({"team_id": ABSENT, "name": None}, "/name", NO_NAME),
        ({"team_id": ABSENT, "name": ["Okta"]}, "/name", NO_NAME),
        ({"team_id": ABSENT, "name": ""}, "/name", NO_NAME),
        ({"team_id": ABSENT, "name": "n" * 256}, "/name", NO_NAME),
        ({"team_id": ABSENT, "name": "\N{ROCKET}" * 256}, "/name", NO_NAME),
        ([], "", "must be an object"),
        (7, "", "must be an object"),
    ],
)
def test_a_body_of_another_shape_is_refused(
    service: RunningService, admin: Caller, body: Any, pointer: str, detail: str
) -> None:
    before = head(service)
    assert_invalid(service.client.post("/scim-token", auth=admin, json=body), pointer, detail)
    assert head(service) == before


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        (" ", "must not be blank"),
        ("\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}", "must not be blank"),
        ("a\0b", CONTROL),
        ("a\nb", CONTROL),
        ("a\x7fb", CONTROL),
        ("a\x85b", CONTROL),
    ],
)
def test_a_name_against_the_rules_is_refused(
    service: RunningService, admin: Caller, team: UUID, name: str, detail: str
) -> None:
    before = head(service)
    answer = service.client.post(
        "/scim-token", auth=admin, json={"team_id": str(team), "name": name}
    )
    assert_invalid(answer, "/name", detail)
    assert head(service) == before


@pytest.mark.parametrize(
    "name",
    [
        "Okta provisioning",
        " led and trailed by blanks ",
        "n" * 255,
        "\N{ROCKET}" * 255,
        "\N{FAMILY}\N{ZERO WIDTH JOINER}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
        "توفير أوكتا",
        "\N{RIGHT-TO-LEFT MARK}רוטקו",
        "e\N{COMBINING ACUTE ACCENT} is not é",
        """{"quotes": 'and \\ slashes'} <b>&amp;</b> %00 ${x}""",
        "プロビジョニング",
    ],
)
def test_a_name_in_any_script_comes_back_exactly_as_sent(
    service: RunningService, admin: Caller, team: UUID, name: str
) -> None:
    token = create(service, admin, team=team, name=name)
    assert token["name"] == name
    read = service.client.get(f"/scim-token/{token['id']}", auth=admin)
    assert read.json()["name"] == name
    listed = service.client.get(
        "/scim-token", auth=admin, params={"team_id": str(team), "name": name}
    )
    assert [found["name"] for found in listed.json()["result"]] == [name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"secret=1",
        b'{"name": "a\0b"}',
        b'{"name": NaN}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xed\xa0\x80"}',
        '{"name": "Okta"}'.encode("utf-16"),
        b"[" * 60_000,
        b"1" * 60_000,
        b'{"name": "Okta"} {}',
    ],
    ids=[
        "none",
        "open",
        "bytes",
        "form",
        "NUL",
        "NaN",
        "surrogate",
        "raw surrogate",
        "UTF-16",
        "deep",
        "long",
        "two",
    ],
)
def test_what_is_not_json_is_refused(
    service: RunningService, admin: Caller, content: bytes
) -> None:
    before = head(service)
    assert_problem(post(service, admin, content), 400, "bad-request", NOT_JSON)
    assert head(service) == before


@pytest.mark.parametrize("content", [b'{"name": "a", "name": "b"}', b'{"x": {"a": 1, "a": 1}}'])
def test_a_field_named_twice_is_refused(
    service: RunningService, admin: Caller, content: bytes
) -> None:
    assert_problem(
        post(service, admin, content), 400, "bad-request", "The body names a field twice."
    )


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_of_more_than_64_kib_is_refused(
    service: RunningService, admin: Caller, team: UUID, is_chunked: bool
) -> None:
    def sent(size: int) -> httpx.Response:
        start = f'{{"team_id": "{team}", "name": "Okta"'.encode()
        body = start + b" " * (size - len(start) - 1) + b"}"
        pieces = (body[at : at + 1000] for at in range(0, size, 1000))
        return service.client.post(
            "/scim-token", auth=admin, content=pieces if is_chunked else body, headers=JSON
        )

    assert sent(MAX_BODY).status_code == 201
    before = head(service)
    assert_problem(sent(MAX_BODY + 1), 413, "too-large", "The body is larger than 64 KiB.")
    assert head(service) == before


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data"],
)
def test_another_content_type_is_refused(
    service: RunningService, admin: Caller, team: UUID, media_type: str
) -> None:
    content = f'{{"team_id": "{team}", "name": "Okta"}}'.encode()
    answer = post(service, admin, content, **{"Content-Type": media_type})
    assert_problem(answer, 415, "unsupported-media-type", "The body must be application/json.")


def test_a_charset_beside_the_content_type_is_welcome(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    content = f'{{"team_id": "{team}", "name": "Okta"}}'.encode()
    assert (
        post(
            service, admin, content, **{"Content-Type": "Application/JSON; charset=UTF-8"}
        ).status_code
        == 201
    )


# Create: expiry


def test_expires_at_is_present_only_when_it_was_set(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    assert list(create(service, admin, team=team)) == [*FIELDS, "token"]
    assert list(create(service, admin, team=team, expires_at=None)) == [*FIELDS, "token"]
    token = create(service, admin, team=team, expires_at="2999-01-01T00:00:00Z")
    assert list(token) == [*FIELDS, "expires_at", "token"]
    assert token["expires_at"] == "2999-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("2999-01-01T00:00:00+02:00", "2998-12-31T22:00:00.000Z"),
        ("2999-01-01T00:00:00.123999-00:30", "2999-01-01T00:30:00.123Z"),
    ],
)
def test_expires_at_of_any_zone_is_answered_in_utc(
    service: RunningService, admin: Caller, sent: str, answered: str
) -> None:
    token = create(service, admin, expires_at=sent)
    assert token["expires_at"] == answered
    rotated = service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin, json={})
    assert rotated.json()["expires_at"] == answered
    assert (
        service.client.get(f"/scim-token/{token['id']}", auth=admin).json()["expires_at"]
        == answered
    )


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ("2020-01-01T00:00:00Z", "must be in the future"),
        ("0001-01-01T00:00:00+12:00", "must be in the future"),
        (
            # An instant that cannot be read back once stopped the view for everybody.
            "9999-12-31T23:59:59-12:00",
            "must be before the year 9999; without it, there is no end",
        ),
        (
            "2999-01-01T00:00:00",
            "needs a time zone, such as a Z at the end",
        ),
        (
            "9999-01-01T00:00:00Z",
            "must be before the year 9999; without it, there is no end",
        ),
        ("tomorrow", NO_INSTANT),
        (4_000_000_000, NO_INSTANT),
    ],
)
def test_expires_at_past_or_without_a_zone_is_refused(
    service: RunningService, admin: Caller, team: UUID, *, sent: object, detail: str
) -> None:
    before = head(service)
    body = {"team_id": str(team), "name": "Okta", "expires_at": sent}
    answer = service.client.post("/scim-token", auth=admin, json=body)
    assert_invalid(answer, "/expires_at", detail)
    assert head(service) == before


# Idempotency


def test_a_repeated_key_names_the_token_and_mints_nothing(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    body = {"team_id": str(team), "name": "Okta"}
    key = {"Idempotency-Key": str(uuid4())}
    first = service.client.post("/scim-token", auth=admin, json=body, headers=key)
    assert first.status_code == 201
    before = head(service)
    for _ in range(3):  # the platform's client repeats a 409
        again = service.client.post("/scim-token", auth=admin, json=body, headers=key)
        assert_problem(again, 409, "secret-already-shown", SHOWN, token_id=first.json()["id"])
    assert head(service) == before


def test_a_key_with_another_body_is_refused(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    body = {"team_id": str(team), "name": "Okta"}
    first = service.client.post("/scim-token", auth=admin, json=body, headers=key)
    before = head(service)
    for path, other in [
        ("/scim-token", body | {"name": "Entra"}),
        (f"/scim-token/{first.json()['id']}/rotate", {}),
    ]:
        answer = service.client.post(path, auth=admin, json=other, headers=key)
        detail = "The Idempotency-Key was used for another request."
        assert_problem(answer, 422, "idempotency-key-reused", detail)
    assert head(service) == before


def test_a_key_is_the_callers_own(service: RunningService, admin: Caller, team: UUID) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    body = {"team_id": str(team), "name": "Okta"}
    other = service.api_token()
    ids = {
        service.client.post("/scim-token", auth=caller, json=body, headers=key).json()["id"]
        for caller in (admin, other)
    }
    assert len(ids) == 2


def test_a_key_of_yesterday_mints_anew(service: RunningService, admin: Caller, team: UUID) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    body = {"team_id": str(team), "name": "Okta"}
    first = service.client.post("/scim-token", auth=admin, json=body, headers=key).json()

    def age(by: str) -> None:
        statement = "UPDATE ledger.commands SET at = at - %s::interval WHERE originator_id = %s"
        service.query(statement, by, first["id"])

    age("23 hours 59 minutes")
    assert service.client.post("/scim-token", auth=admin, json=body, headers=key).status_code == 409
    age("1 minute")
    second = service.client.post("/scim-token", auth=admin, json=body, headers=key)
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]
    assert second.json()["token"] != first["token"]


def test_a_refused_request_does_not_use_its_key_up(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    key = {"Idempotency-Key": str(uuid4())}
    bad, good = ({"team_id": str(team), "name": name} for name in (" ", "Okta"))
    assert service.client.post("/scim-token", auth=admin, json=bad, headers=key).status_code == 400
    assert service.client.post("/scim-token", auth=admin, json=good, headers=key).status_code == 201


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb"])
def test_a_malformed_key_is_refused(
    service: RunningService, admin: Caller, team: UUID, key: str
) -> None:
    body = {"team_id": str(team), "name": "Okta"}
    answer = service.client.post(
        "/scim-token", auth=admin, json=body, headers={"Idempotency-Key": key}
    )
    assert_invalid(
        answer,
        "Idempotency-Key",
        "must be 1 to 255 printable characters",
        about="The Idempotency-Key is not valid.",
    )


# Read


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


@pytest.mark.parametrize("id_", ["Okta", "123", "%00", SECRET_SHAPED])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("DELETE", ""), ("POST", "/rotate")])
def test_a_path_that_is_no_uuid_is_not_found(
    service: RunningService, admin: Caller, method: str, suffix: str, id_: str
) -> None:
    answer = service.client.request(method, f"/scim-token/{id_}{suffix}", auth=admin)
    assert_not_found(answer)
    assert id_ not in answer.text


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

AS_FOREIGNER: Final[list[tuple[str, str, Any]]] = [
    ("GET", "/scim-token/{id}", None),
    ("DELETE", "/scim-token/{id}", None),
    ("POST", "/scim-token/{id}/rotate", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), AS_FOREIGNER)
def test_a_foreign_token_answers_like_a_missing_one(
    service: RunningService, admin: Caller, team: UUID, *, method: str, path: str, body: Any
) -> None:
    foreigner = service.api_token(teams=[uuid4()])
    token = create(service, admin, team=team)

    def ask(id_: object) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        answer = service.client.request(method, path.format(id=id_), auth=foreigner, json=body)
        assert_not_found(answer)
        headers = [
            (name, "" if name == "x-request-id" else value)
            for name, value in answer.headers.items()
        ]
        return answer.json() | {"instance": ""}, [
            header for header in headers if header[0] != "date"
        ]

    assert ask(token["id"]) == ask(uuid4())
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


def test_a_foreign_team_gets_no_token(service: RunningService, team: UUID) -> None:
    foreigner = service.api_token(teams=[uuid4()])
    body = {"team_id": str(team), "name": "Okta"}
    before = head(service)
    assert_not_found(service.client.post("/scim-token", auth=foreigner, json=body))
    assert head(service) == before


def test_a_list_of_a_foreign_team_is_empty(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    own = uuid4()
    caller = service.api_token(teams=[own])
    create(service, admin, team=team)
    token = create(service, admin, team=own)
    foreign = service.client.get("/scim-token", auth=caller, params={"team_id": str(team)})
    assert foreign.json() == {"limit": 100, "next_cursor": None, "result": []}
    for query in ({}, {"team_id": str(own)}):
        listed = service.client.get("/scim-token", auth=caller, params=query)
        assert [found["id"] for found in listed.json()["result"]] == [token["id"]]


# Permissions


@pytest.mark.parametrize(
    ("method", "path", "body", "permission"),
    [
        ("POST", "/scim-token", {"team_id": ABSENT, "name": "Okta"}, Permission.SCIM_TOKENS_WRITE),
        ("GET", "/scim-token", None, Permission.SCIM_TOKENS_READ),
        ("GET", f"/scim-token/{ABSENT}", None, Permission.SCIM_TOKENS_READ),
        ("DELETE", f"/scim-token/{ABSENT}", None, Permission.SCIM_TOKENS_WRITE),
        ("POST", f"/scim-token/{ABSENT}/rotate", {}, Permission.SCIM_TOKENS_WRITE),
    ],
)
def test_a_missing_permission_is_named(
    service: RunningService, method: str, path: str, body: Any, permission: Permission
) -> None:
    caller = service.api_token(*(other for other in Permission if other is not permission))
    answer = service.client.request(method, path, auth=caller, json=body)
    assert_problem(
        answer, 403, "permission-denied", f"The API token lacks the permission {permission}."
    )
    assert answer.headers["www-authenticate"] == (
        f'{CHALLENGE}, error="insufficient_scope", scope="{permission}"'
    )


# Delete


def test_delete_is_final_and_repeats_its_answer(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}"
    for _ in range(3):
        answer = service.client.delete(path, auth=admin)
        assert answer.status_code == 200
        assert answer.json() == {"id": token["id"]}
        assert answer.headers["content-type"] == "application/json"
    assert topics(service, token["id"]) == ["scim_token.created.v1", "scim_token.revoked.v1"]
    assert use(service, token["token"]).status_code == 401
    assert_not_found(service.client.get(path, auth=admin))
    assert_not_found(service.client.post(f"{path}/rotate", auth=admin, json={}))
    listed = service.client.get("/scim-token", auth=admin, params={"team_id": str(team)})
    assert listed.json()["result"] == []


def test_a_missing_token_cannot_be_deleted(service: RunningService, admin: Caller) -> None:
    assert_not_found(service.client.delete(f"/scim-token/{uuid4()}", auth=admin))


def test_an_api_token_cannot_be_deleted_as_a_scim_token(
    service: RunningService, admin: Caller
) -> None:
    assert_not_found(service.client.delete(f"/scim-token/{admin.id}", auth=admin))
    assert service.client.get("/scim-token", auth=admin, params={"limit": 1}).status_code == 200


# Rotate


def test_rotate_shows_a_second_secret_and_the_first_goes_on(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    answer = service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin, json={})
    assert answer.status_code == 200
    assert answer.headers["location"] == f"/scim-token/{token['id']}"
    assert answer.headers["cache-control"] == "no-store"
    rotated = answer.json()
    assert list(rotated) == [*FIELDS, "rotated_at", "token"]
    assert SCIM_SECRET.fullmatch(rotated["token"])
    assert rotated["token"] != token["token"]
    assert rotated["updated_at"] == rotated["rotated_at"]
    moved = {name: rotated[name] for name in ("updated_at", "rotated_at", "token")}
    assert rotated == token | moved
    for secret in (token["token"], rotated["token"]):
        assert use(service, secret).status_code == 501
    read = service.client.get(f"/scim-token/{token['id']}", auth=admin).json()
    assert list(read) == [*FIELDS, "rotated_at"]


def test_rotate_without_overlap_ends_the_first_secret(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}/rotate"
    rotated = service.client.post(path, auth=admin, json={"overlap_seconds": 0})
    assert use(service, token["token"]).status_code == 401
    assert use(service, rotated.json()["token"]).status_code == 501


def test_a_key_of_one_tokens_rotation_is_no_repeat_for_another(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    """E6: what is asked for is the path, too."""
    one, other = create(service, admin, team=team), create(service, admin, team=team)
    key = {"Idempotency-Key": str(uuid4())}
    assert service.client.post(
        f"/scim-token/{one['id']}/rotate", auth=admin, json={}, headers=key
    ).is_success
    answer = service.client.post(
        f"/scim-token/{other['id']}/rotate", auth=admin, json={}, headers=key
    )
    assert_problem(
        answer, 422, "idempotency-key-reused", "The Idempotency-Key was used for another request."
    )
    assert topics(service, other["id"]) == ["scim_token.created.v1"]


def test_a_second_rotation_has_to_wait_a_moment(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    """B11."""
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}/rotate"
    assert service.client.post(path, auth=admin, json={}).status_code == 200
    again = service.client.post(path, auth=admin, json={"overlap_seconds": 0})
    assert_problem(
        again, 429, "too-many-requests", "The token was rotated a moment ago. Wait, then try again."
    )
    assert 1 <= int(again.headers["retry-after"]) <= 10
    assert topics(service, token["id"]) == ["scim_token.created.v1", "scim_token.rotated.v1"]


def test_a_third_good_secret_is_refused(service: RunningService, admin: Caller, team: UUID) -> None:
    """B11.

    The rotation before was an hour ago: its event and the state that it led to are set back.
    """
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}/rotate"
    rotated_at = service.client.post(path, auth=admin, json={}).json()["rotated_at"]
    earlier = f"{datetime.fromisoformat(rotated_at) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S.000Z}"
    service.query(
        "UPDATE ledger.aggregates "
        "SET state = convert_to(jsonb_set(convert_from(state, 'UTF8')::jsonb, "
        "'{rotated_at}', to_jsonb(%s::text))::text, 'UTF8') WHERE originator_id = %s",
        earlier,
        token["id"],
    )
    again = service.client.post(path, auth=admin, json={"overlap_seconds": 60})
    assert_problem(
        again,
        409,
        "rotation-underway",
        "The token has two good secrets already. Wait until the older one ends, or rotate it with "
        "overlap_seconds 0, which ends both at once.",
    )
    assert service.client.post(path, auth=admin, json={"overlap_seconds": 0}).status_code == 200


def test_a_repeated_rotation_mints_nothing(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    token = create(service, admin, team=team)
    path, key = f"/scim-token/{token['id']}/rotate", {"Idempotency-Key": str(uuid4())}
    assert service.client.post(path, auth=admin, json={}, headers=key).status_code == 200
    again = service.client.post(path, auth=admin, json={}, headers=key)
    assert_problem(again, 409, "secret-already-shown", SHOWN, token_id=token["id"])
    assert topics(service, token["id"]) == ["scim_token.created.v1", "scim_token.rotated.v1"]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"overlap_seconds": -1}, "/overlap_seconds", NO_OVERLAP),
        ({"overlap_seconds": 2_592_001}, "/overlap_seconds", NO_OVERLAP),
        ({"overlap_seconds": "1"}, "/overlap_seconds", NO_OVERLAP),
        ({"overlap": 1}, "/overlap", "is not a field of this resource"),
    ],
)
def test_an_overlap_out_of_range_is_refused(
    service: RunningService, admin: Caller, team: UUID, *, body: Any, pointer: str, detail: str
) -> None:
    token = create(service, admin, team=team)
    answer = service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin, json=body)
    assert_invalid(answer, pointer, detail)
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


def test_a_rotation_without_a_body_is_one_with_the_usual_overlap(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    """D4: every field may be left out, so all of them may."""
    token = create(service, admin, team=team)
    answer = service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin)
    assert answer.status_code == 200
    assert answer.json()["token"] != token["token"]
    assert use(service, token["token"]).status_code == 501  # let in, and forwarded to nobody
    document = service.client.get("/docs/openapi.json").json()
    assert (
        document["paths"]["/scim-token/{token_id}/rotate"]["post"]["requestBody"]["required"]
        is False
    )


@pytest.mark.parametrize("reason", ["left the company", "x" * 200, "نقل", "\N{ROCKET}"])
def test_a_revocation_says_why(
    service: RunningService, admin: Caller, team: UUID, reason: str
) -> None:
    """D8: as the command line has it, in the trail."""
    token = create(service, admin, team=team)
    answer = service.client.delete(
        f"/scim-token/{token['id']}", auth=admin, params={"reason": reason}
    )
    assert (answer.status_code, answer.json()) == (200, {"id": token["id"]})
    (row,) = audit(service, admin, token_id=token["id"], kind="scim_token.revoked")
    assert row["reason"] == reason


@pytest.mark.parametrize(
    ("reason", "detail"),
    [
        ("", "must be 1 to 200 characters"),
        ("x" * 201, "must be 1 to 200 characters"),
        (" ", "must not be blank"),
        ("a\nb", CONTROL),
        ("\u202eolleh", "must not hold bidirectional overrides"),
        ("\u2800", "must hold a character that can be seen"),
        (SECRET_SHAPED, "must not hold a secret"),
    ],
)
def test_a_reason_against_the_rules_is_refused(
    service: RunningService, admin: Caller, team: UUID, reason: str, detail: str
) -> None:
    token = create(service, admin, team=team)
    answer = service.client.delete(
        f"/scim-token/{token['id']}", auth=admin, params={"reason": reason}
    )
    assert_invalid(answer, "reason", detail, about="A parameter is not valid.")
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


def test_all_that_is_wrong_with_a_new_token_is_told_at_once(
    service: RunningService, admin: Caller
) -> None:
    """D4: in words of the API, and never what was sent."""
    body = {"team_id": 7, "name": "\u2066", "expires_at": "2020-01-01T00:00:00Z", "expire_at": None}
    assert_problem(
        service.client.post("/scim-token", auth=admin, json=body),
        400,
        "validation",
        "The body is not valid.",
        errors=[
            {"pointer": "/team_id", "detail": NO_UUID},
            {"pointer": "/name", "detail": "must not hold bidirectional overrides"},
            {"pointer": "/expires_at", "detail": "must be in the future"},
            {"pointer": "/expire_at", "detail": "is not a field of this resource"},
        ],
    )


# List


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


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/scim-token", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("DELETE", "/scim-token", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("PROPFIND", "/scim-token", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("PATCH", f"/scim-token/{ABSENT}", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("POST", f"/scim-token/{ABSENT}", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("GET", f"/scim-token/{ABSENT}/rotate", {"POST", "OPTIONS"}),
    ],
)
def test_another_method_is_refused_with_those_that_work(
    service: RunningService, admin: Caller, method: str, path: str, allowed: set[str]
) -> None:
    answer = service.client.request(method, path, auth=admin)
    assert_problem(answer, 405, "method-not-allowed", "The resource does not support this method.")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/nowhere", "/scim-tokens", f"/scim-token/{ABSENT}/nothing"])
def test_an_unknown_route_is_not_found(service: RunningService, admin: Caller, path: str) -> None:
    assert_not_found(service.client.get(path, auth=admin))


# Every answer


def test_every_answer_has_a_request_id_of_its_own(service: RunningService, admin: Caller) -> None:
    answers = [
        service.client.get("/scim-token?limit=1", auth=admin),
        service.client.get("/scim-token?limit=0", auth=admin),
        service.client.get("/nowhere", auth=admin),
        service.client.get("/nowhere"),
        service.client.get("/healthz"),
        service.client.get("/docs"),
        service.client.get("/docs/assets/swagger-ui.css"),
        service.client.get("/scim/v2/Users"),
        service.client.options("/scim-token", auth=admin),
        service.client.get("/healthz", headers={"X-Request-Id": "mine"}),
    ]
    ids = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(len(id_) == 1 and UUID_TEXT.fullmatch(id_[0]) for id_ in ids)
    assert len({id_[0] for id_ in ids}) == len(answers)


# Unavailable


@contextmanager
def locked(service: RunningService, statement: str) -> Iterator[None]:
    """Hold a lock of the database that the service needs."""
    with psycopg.connect(service.database.owner) as connection:
        connection.execute(statement.encode())
        yield


def test_a_command_that_cannot_be_stored_is_503_and_changes_nothing(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    body = {"team_id": str(team), "name": "Okta"}
    assert service.client.get("/scim-token?limit=1", auth=admin).status_code == 200
    before = head(service)
    with locked(service, "SELECT ledger.lock_appends()"):
        watch = Stopwatch()
        answer = service.client.post("/scim-token", auth=admin, json=body)
        took_s = watch.read_s()
    assert_problem(answer, 503, "unavailable", UNAVAILABLE)
    assert answer.headers["retry-after"] == "1"
    assert took_s < 2.5  # 2 s are promised; the machine is shared
    assert head(service) == before
    assert create(service, admin, team=team)["team_id"] == str(team)


def test_a_read_that_would_be_stale_is_503(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    with locked(service, "LOCK TABLE ledger.projection_positions IN SHARE MODE"):
        token = create(service, admin, team=team)
        answer = service.client.get(f"/scim-token/{token['id']}", auth=admin)
    assert_problem(answer, 503, "unavailable", UNAVAILABLE)
    assert answer.headers["retry-after"] == "1"
    assert service.client.get(f"/scim-token/{token['id']}", auth=admin).status_code == 200


# Foundations of the tests above


def _expired(service: RunningService, team: UUID) -> UUID:
    """A token whose expiry has passed by now."""
    at = now()
    still = Sources(clock=lambda: at, new_id=SOURCES.new_id, entropy=SOURCES.entropy)
    ask = NewScimToken(team, "expired", at + timedelta(milliseconds=5))
    token, _ = service.command(
        lambda ledger: ledger.create_scim_token(ask, by=Operator(uuid4())), sources=still
    )
    until(lambda: now() > at + timedelta(milliseconds=5), what="the expiry")
    return token.id
