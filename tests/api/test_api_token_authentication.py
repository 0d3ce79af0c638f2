"""Who calls: API tokens are looked at before validation and before routing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import uuid4

import pytest

from domain.secret import SecretKind, mint
from tests.api.expected import assert_unauthenticated, topics
from tests.conftest import now
from tests.service import Caller, RunningService, until
from tests.turns import by_turns

ABSENT: Final = "7f3c2b61-0f51-4a0c-9c53-2f0b6c6a7d11"
MISSING: Final = "Send the token in the Authorization header: Bearer, one space, the token."
MALFORMED: Final = "The token is not one of this service; check that it was pasted whole."
NOT_VALID: Final = "The API token is not valid."
EVERYWHERE: Final[list[tuple[str, str]]] = [
    ("POST", "/scim-token"),
    ("GET", "/scim-token"),
    ("GET", "/scim-token?limit=0"),
    ("PUT", "/scim-token"),
    ("OPTIONS", "/scim-token"),
    ("GET", f"/scim-token/{ABSENT}"),
    ("GET", "/scim-token/Okta"),
    ("GET", "/nowhere"),
    ("PROPFIND", "/"),
    ("GET", "/scim/v20/Users"),
    ("GET", "/docsabove"),
]


@pytest.mark.parametrize(("method", "path"), by_turns(EVERYWHERE, one_of=3))
def test_without_a_token_every_route_is_401(
    service: RunningService, method: str, path: str
) -> None:
    answer = service.client.request(method, path, content=b"{" if method == "POST" else None)
    assert_unauthenticated(answer, MISSING, was_presented=False)


def test_a_large_body_without_a_token_is_401(service: RunningService) -> None:
    answer = service.client.post("/scim-token", content=b" " * (64 * 1024 + 1))
    assert_unauthenticated(answer, MISSING, was_presented=False)


def test_a_token_in_the_query_is_not_read(service: RunningService, admin: Caller) -> None:
    for name in ("access_token", "token", "Authorization"):
        answer = service.client.get("/scim-token", params={name: admin.secret})
        assert_unauthenticated(answer, MISSING, was_presented=False)
    assert admin.secret not in service.log.read_text()


def test_a_token_in_the_body_is_not_read(service: RunningService, admin: Caller) -> None:
    answer = service.client.post("/scim-token", data={"access_token": admin.secret})
    assert_unauthenticated(answer, MISSING, was_presented=False)


@pytest.mark.parametrize(
    ("header", "detail", "was_presented"),
    [
        ("Basic dXNlcjpwYXNz", "The scheme must be Bearer.", False),
        ("Digest", "The scheme must be Bearer.", False),
        ("{secret}", "The scheme must be Bearer.", False),
        ("Bearer", MALFORMED, True),
        ("Bearer nonsense", MALFORMED, True),
        ("Bearer {cut}", MALFORMED, True),
        ("Bearer \t{secret}", "There are blanks around or inside the token; remove them.", True),
        (
            "Bearer Bearer {secret}",
            'The header says "Bearer" twice; paste the token alone into the token field.',
            True,
        ),
    ],
)
def test_an_authorization_that_is_almost_right_is_told_what_to_change(
    service: RunningService, admin: Caller, header: str, detail: str, was_presented: bool
) -> None:
    sent = header.format(secret=admin.secret, cut=admin.secret[:-1])
    answer = service.client.get("/scim-token", headers={"Authorization": sent})
    assert_unauthenticated(answer, detail, was_presented=was_presented)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_read_in_any_case(
    service: RunningService, admin: Caller, scheme: str
) -> None:
    headers = {"Authorization": f"{scheme} {admin.secret}"}
    assert service.client.get("/scim-token?limit=1", headers=headers).status_code == 200


def test_two_authorization_headers_are_refused(service: RunningService, admin: Caller) -> None:
    header = ("Authorization", f"Bearer {admin.secret}")
    answer = service.client.get("/scim-token", headers=[header, header])
    assert answer.status_code == 400
    assert answer.json() == {
        "type": "/problems/bad-request",
        "title": "Bad request",
        "status": 400,
        "detail": "More than one Authorization header.",
        "instance": f"urn:uuid:{answer.headers['x-request-id']}",
    }
    assert answer.headers["content-type"] == "application/problem+json"


def _unknown(_: RunningService) -> str:
    return mint(SecretKind.API_LIVE, uuid4().bytes * 2).reveal()


def _revoked(service: RunningService) -> str:
    caller = service.api_token()
    service.command(lambda ledger: ledger.revoke_api_token(caller.id))
    return caller.secret


def _over(service: RunningService) -> str:
    caller = service.api_token(lifetime=timedelta(milliseconds=1))
    ends_at = now() + timedelta(milliseconds=2)
    until(lambda: now() > ends_at, what="the expiry")
    return caller.secret


@pytest.mark.parametrize("made", [_unknown, _revoked, _over])
def test_api_tokens_that_are_not_good_all_look_alike(
    service: RunningService, made: Callable[[RunningService], str]
) -> None:
    answer = service.client.get("/scim-token", headers={"Authorization": f"Bearer {made(service)}"})
    assert_unauthenticated(answer, NOT_VALID, was_presented=True)
    assert set(answer.headers) == {
        *(
            "date",
            "www-authenticate",
            "cache-control",
            "content-type",
            "content-length",
            "x-request-id",
        )
    }


def test_a_revoked_api_token_ends_at_once(service: RunningService) -> None:
    caller = service.api_token()
    assert service.client.get("/scim-token", auth=caller).status_code == 200
    service.command(lambda ledger: ledger.revoke_api_token(caller.id))
    answer = service.client.get("/scim-token", auth=caller)
    assert_unauthenticated(answer, NOT_VALID, was_presented=True)


def test_uses_of_an_api_token_are_recorded_once_a_minute(service: RunningService) -> None:
    caller = service.api_token()
    for _ in range(5):
        assert service.client.get("/scim-token", auth=caller).status_code == 200
    assert topics(service, caller.id) == ["api_token.created.v1", "api_token.used.v1"]
    service.query(
        "UPDATE ledger.stream_heads SET last_used_at = last_used_at - interval '1 minute' "
        "WHERE originator_id = %s",
        caller.id,
    )
    for _ in range(2):
        assert service.client.get("/scim-token", auth=caller).status_code == 200
    assert topics(service, caller.id)[1:] == ["api_token.used.v1"] * 2
