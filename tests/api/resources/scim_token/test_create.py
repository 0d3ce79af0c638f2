"""`POST /scim-token`: one test per outcome, with the whole answer."""

from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from tests.api.expected import (
    FIELDS,
    assert_invalid,
    assert_problem,
    create,
)
from tests.api.resources.scim_token.words import (
    ABSENT,
    CONTROL,
    NO_UUID,
    SECRET_SHAPED,
    SHOWN,
    head,
)
from tests.service import Caller, RunningService
from tests.turns import by_turns

JSON: Final = {"Content-Type": "application/json"}
MAX_BODY: Final = 64 * 1024
NOT_JSON: Final = "The body is not well-formed JSON."
NO_NAME: Final = "must be a string of 1 to 255 characters"
NO_INSTANT: Final = "must be an instant, such as 2021-08-10T10:00:00.000Z"


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
    by_turns(
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
        one_of=3,
    ),
)
def test_a_body_of_another_shape_is_refused(
    service: RunningService, admin: Caller, body: Any, pointer: str, detail: str
) -> None:
    before = head(service)
    assert_invalid(service.client.post("/scim-token", auth=admin, json=body), pointer, detail)
    assert head(service) == before


@pytest.mark.parametrize(
    ("name", "detail"),
    by_turns(
        [
            (" ", "must not be blank"),
            ("\N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}", "must not be blank"),
            ("a\0b", CONTROL),
            ("a\nb", CONTROL),
            ("a\x7fb", CONTROL),
            ("a\x85b", CONTROL),
        ],
        one_of=3,
    ),
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
    by_turns(
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
        one_of=3,
    ),
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
    by_turns(
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
        one_of=3,
    ),
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
