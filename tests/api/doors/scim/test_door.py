"""`/scim/v2`: authentication before everything, SCIM errors, discovery;
no yes before its use is kept.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from api.doors.scim.target import PLAINLY
from domain.authority import Operator
from domain.commands import ClockAndIds, NewScimToken
from domain.secret import SecretKind, mint
from tests.api.expected import INSTANT, create, instant, topics, use
from tests.conftest import CLOCK_AND_IDS, now
from tests.service import Caller, RunningService, until
from tests.turns import by_turns

ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
CHALLENGE: Final = 'Bearer realm="scim"'
INVALID_TOKEN: Final = 'Bearer realm="scim", error="invalid_token"'
MISSING: Final = "Send the token in the Authorization header: Bearer, one space, the token."
MALFORMED: Final = "The token is not one of this service; check that it was pasted whole."
DOUBLED: Final = 'The header says "Bearer" twice; paste the token alone into the token field.'
BLANKS: Final = "There are blanks around or inside the token; remove them."
SCHEME: Final = "The scheme must be Bearer."
REFUSED: Final = "The token is not valid."
LET_IN: Final = "No SCIM service stands behind this address."


def assert_scim_error(answer: httpx.Response, status: int, detail: str) -> None:
    """RFC 7644 §3.12: the status is a string."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/scim+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    if answer.request.method == "HEAD":
        assert answer.content == b""
    else:
        assert list(answer.json()) == ["schemas", "status", "detail"]
        assert answer.json() == {"schemas": [ERROR], "status": str(status), "detail": detail}


def present(
    service: RunningService, authorization: str, *, method: str = "GET", path: str = "/Users"
) -> httpx.Response:
    headers = [(b"authorization", authorization.encode("latin-1"))]
    return service.client.request(method, f"/scim/v2{path}", headers=headers)


@pytest.fixture
def token(service: RunningService, admin: Caller, team: UUID) -> dict[str, Any]:
    return create(service, admin, team=team)


def presentations(service: RunningService, token_id: object) -> list[dict[str, Any]]:
    """How the uses of a token that are committed by now were presented."""
    rows = service.query(
        "SELECT state FROM ledger.events WHERE originator_id = %s AND topic = 'scim_token.used.v1'"
        " ORDER BY originator_version",
        token_id,
    )
    return [json.loads(bytes(state))["presentation"] for (state,) in rows]


@pytest.mark.parametrize(
    ("method", "path"),
    by_turns(
        product(
            ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"],
            ["", "/", "/Users", "/Users/1", "/Schemas", "/nowhere", "/../scim-token"],
        ),
        one_of=9,
    ),
)
def test_without_a_token_every_method_and_path_is_401(
    service: RunningService, method: str, path: str
) -> None:
    answer = service.client.request(method, httpx.URL(f"{service.url}/scim/v2{path}"))
    if path == "/../scim-token":  # the client itself resolves the dots
        assert answer.status_code == 401
        return
    assert_scim_error(answer, 401, MISSING)
    assert answer.headers["www-authenticate"] == CHALLENGE


@pytest.mark.parametrize(
    ("authorization", "detail"),
    by_turns(
        [
            ("Bearer Bearer {secret}", DOUBLED),
            ("bearer bearer {secret}", DOUBLED),
            ("Bearer \t{secret}", BLANKS),
            ("Bearer {first} {rest}", BLANKS),
            ("Bearer {cut}", MALFORMED),
            ("Bearer {secret}x", MALFORMED),
            ("Bearer {typo}", MALFORMED),
            ("Bearer {quoted}", MALFORMED),
            ("Bearer", MALFORMED),
            ("Bearer é", MALFORMED),
            ("nonsense", MALFORMED),
            ("{cut}", MALFORMED),
            ("Basic {secret}", SCHEME),
            ("Token {secret}", SCHEME),
        ],
        one_of=3,
    ),
)
def test_an_authorization_that_is_almost_right_is_told_what_to_change(
    service: RunningService, token: dict[str, Any], authorization: str, detail: str
) -> None:
    secret = token["token"]
    sent = authorization.format(
        secret=secret,
        cut=secret[:-1],
        first=secret[:20],
        rest=secret[20:],
        typo=secret[:-1] + ("a" if secret[-1] != "a" else "b"),
        quoted=f'"{secret}"',
    )
    answer = present(service, sent)
    assert_scim_error(answer, 401, detail)
    assert answer.headers["www-authenticate"] == INVALID_TOKEN
    assert secret[10:30] not in answer.text
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR ", ""])
def test_the_scheme_in_any_case_or_none_lets_in(
    service: RunningService, token: dict[str, Any], scheme: str
) -> None:
    assert_scim_error(present(service, f"{scheme}{token['token']}"), 501, LET_IN)
    (presentation,) = presentations(service, token["id"])
    assert presentation.get("form", "bearer") == ("bearer" if scheme else "bare")


def test_two_authorization_headers_are_refused(
    service: RunningService, token: dict[str, Any]
) -> None:
    header = ("Authorization", f"Bearer {token['token']}")
    assert service.client.get("/scim/v2/Users", headers=[header, header]).status_code == 400
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


def test_a_token_in_the_query_is_not_read(service: RunningService, token: dict[str, Any]) -> None:
    answer = service.client.get("/scim/v2/Users", params={"access_token": token["token"]})
    assert_scim_error(answer, 401, MISSING)
    assert token["token"] not in service.log.read_text()


def _unknown(_: RunningService, __: Caller) -> str:
    return mint(SecretKind.SCIM_LIVE, uuid4().bytes * 2).reveal()


def _of_production_elsewhere(_: RunningService, __: Caller) -> str:
    return mint(SecretKind.SCIM_TEST, uuid4().bytes * 2).reveal()


def _revoked(service: RunningService, admin: Caller) -> str:
    made = create(service, admin)
    assert service.client.delete(f"/scim-token/{made['id']}", auth=admin).status_code == 200
    return str(made["token"])


def _over(service: RunningService, _: Caller) -> str:
    at = now()
    still = ClockAndIds(
        clock=lambda: at, new_id=CLOCK_AND_IDS.new_id, entropy=CLOCK_AND_IDS.entropy
    )
    ask = NewScimToken(uuid4(), "over soon", at + timedelta(milliseconds=200))
    _made, secret = service.command(
        lambda ledger: ledger.create_scim_token(ask, by=Operator(uuid4())), clock_and_ids=still
    )
    until(lambda: now() > at + timedelta(milliseconds=200), what="the expiry")
    return secret.reveal()


def _rotated_away(service: RunningService, admin: Caller) -> str:
    made = create(service, admin)
    path = f"/scim-token/{made['id']}/rotate"
    assert service.client.post(path, auth=admin, json={"overlap_seconds": 0}).status_code == 200
    return str(made["token"])


@pytest.mark.parametrize(
    "made", [_unknown, _of_production_elsewhere, _revoked, _over, _rotated_away]
)
def test_tokens_that_are_not_good_all_look_alike(
    service: RunningService, admin: Caller, made: Callable[[RunningService, Caller], str]
) -> None:
    answer = use(service, made(service, admin))
    assert_scim_error(answer, 401, REFUSED)
    assert answer.headers["www-authenticate"] == INVALID_TOKEN
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


def test_why_a_known_token_was_refused_goes_to_the_ledger(
    service: RunningService, admin: Caller, token: dict[str, Any]
) -> None:
    service.client.delete(f"/scim-token/{token['id']}", auth=admin)
    for _ in range(3):  # one a minute is enough
        assert use(service, token["token"]).status_code == 401
    assert topics(service, token["id"])[2:] == ["scim_token.refused.v1"]


def test_a_use_is_committed_before_the_answer(
    service: RunningService, token: dict[str, Any]
) -> None:
    for number in range(1, 6):
        assert use(service, token["token"]).status_code == 501
        assert topics(service, token["id"])[1:] == ["scim_token.used.v1"] * number


def test_a_use_tells_how_it_came_and_nothing_of_a_person(
    service: RunningService, token: dict[str, Any]
) -> None:
    service.client.patch(
        "/scim/v2/Users/ada@example.com?filter=userName%20eq%20%22ada%22",
        headers={
            "Authorization": f"Bearer {token['token']}",
            "User-Agent": "Okta SCIM Client 1.0.0",
        },
        json={"secret": "of Ada"},
    )
    (presentation,) = presentations(service, token["id"])
    assert presentation == {
        "door": "scim",
        "source": "127.0.0.1",
        "user_agent": "Okta SCIM Client 1.0.0",
        "method": "PATCH",
        "path_class": "Users/{id}",
    }


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("José".encode(), "José"),
        ("José".encode("latin-1"), "José"),
        ("Okta 🚀".encode(), "Okta 🚀"),
        (b"Okta \x80", "Okta \ufffd"),
        ("a\u202eb".encode(), "a\ufffdb"),
        ("é".encode() * 300, "é" * 200),
    ],
)
def test_a10_a_user_agent_is_told_as_it_was_meant(
    service: RunningService, token: dict[str, Any], raw: bytes, kept: str
) -> None:
    headers = [(b"authorization", f"Bearer {token['token']}".encode()), (b"user-agent", raw)]
    for path in ("/scim/v2/Users", "/gateway/nginx", "/gateway/forward", "/gateway/envoy/x"):
        service.client.get(path, headers=headers)
    told = [presentation["user_agent"] for presentation in presentations(service, token["id"])]
    assert told == [kept] * 4


@pytest.mark.parametrize(
    "method",
    by_turns(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"], one_of=3),
)
def test_what_is_not_discovery_is_501(
    service: RunningService, token: dict[str, Any], method: str
) -> None:
    assert_scim_error(present(service, f"Bearer {token['token']}", method=method), 501, LET_IN)
    assert topics(service, token["id"])[1:] == ["scim_token.used.v1"]


def test_an_address_that_is_not_plain_is_refused_behind_a_token(
    service: RunningService, token: dict[str, Any]
) -> None:
    """Whether or not a service stands behind it; without a token it is 401, as any other."""
    path = "/Users/%2e%2e%2fGroups"
    assert_scim_error(present(service, f"Bearer {token['token']}", path=path), 400, PLAINLY)
    assert_scim_error(present(service, "Bearer", path=path), 401, MALFORMED)
    assert topics(service, token["id"])[1:] == ["scim_token.used.v1"]


# Discovery


def test_the_service_provider_config_is_open(service: RunningService) -> None:
    answer = service.client.get("/scim/v2/ServiceProviderConfig")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/scim+json"
    assert answer.json() == {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": False},
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": False, "maxResults": 0},
        "changePassword": {"supported": False},
        "sort": {"supported": False},
        "etag": {"supported": False},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "The SCIM token, in the Authorization header: "
                "Bearer, one space, the token.",
                "specUri": "https://www.rfc-editor.org/info/rfc6750",
                "primary": True,
            }
        ],
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": "/scim/v2/ServiceProviderConfig",
        },
    }


@pytest.mark.parametrize("sent", ["s", "/x", "%2Fx", "%20", ".json", ";v=1", "/../Schemas", "%00"])
def test_what_only_begins_like_the_service_provider_config_is_not_open(
    service: RunningService, sent: str
) -> None:
    answer = service.client.get(f"/scim/v2/ServiceProviderConfig{sent}")
    assert_scim_error(answer, 401, MISSING)


def test_the_service_provider_config_refuses_a_bad_token(
    service: RunningService, token: dict[str, Any]
) -> None:
    unknown = mint(SecretKind.SCIM_LIVE, uuid4().bytes * 2).reveal()
    for sent, detail in ((unknown, REFUSED), ("nonsense", MALFORMED)):
        answer = present(service, f"Bearer {sent}", path="/ServiceProviderConfig")
        assert_scim_error(answer, 401, detail)
    good = present(service, f"Bearer {token['token']}", path="/ServiceProviderConfig")
    assert good.status_code == 200
    assert topics(service, token["id"])[1:] == ["scim_token.used.v1"]


@pytest.mark.parametrize("path", ["/ResourceTypes", "/Schemas", "/Schemas/"])
def test_resource_types_and_schemas_are_empty_lists_behind_a_token(
    service: RunningService, token: dict[str, Any], path: str
) -> None:
    assert_scim_error(service.client.get(f"/scim/v2{path}"), 401, MISSING)
    answer = present(service, f"Bearer {token['token']}", path=path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/scim+json"
    assert answer.json() == {
        "schemas": [LIST],
        "totalResults": 0,
        "startIndex": 1,
        "itemsPerPage": 0,
        "Resources": [],
    }


@pytest.mark.parametrize("name", ["ServiceProviderConfig", "ResourceTypes", "Schemas"])
def test_discovery_reads_only(service: RunningService, token: dict[str, Any], name: str) -> None:
    bearer = f"Bearer {token['token']}"
    head = present(service, bearer, method="HEAD", path=f"/{name}")
    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
        answer = present(service, bearer, method=method, path=f"/{name}")
        assert_scim_error(answer, 405, "Discovery is read-only.")
        assert answer.headers["allow"] == "GET, HEAD"
    filtered = present(service, bearer, path=f'/{name}?filter=name eq "User"')
    assert_scim_error(filtered, 403, "Discovery cannot be filtered.")
    member = present(service, bearer, path=f"/{name}/User")
    assert_scim_error(member, 404, "There is no such resource.")


# Revocation


def test_a_revoke_that_was_answered_is_seen_by_the_next_presentation(
    service: RunningService, admin: Caller
) -> None:
    for _ in range(5):
        made = create(service, admin)
        assert use(service, made["token"]).status_code == 501
        service.client.delete(f"/scim-token/{made['id']}", auth=admin)
        assert use(service, made["token"]).status_code == 401


def test_the_last_use_is_what_a_read_tells(
    service: RunningService, admin: Caller, token: dict[str, Any]
) -> None:
    def last_used_at() -> Any:
        return service.client.get(f"/scim-token/{token['id']}", auth=admin).json()["last_used_at"]

    assert last_used_at() is None
    use(service, token["token"])
    first = last_used_at()
    assert INSTANT.fullmatch(first)
    use(service, token["token"])
    assert instant(last_used_at()) >= instant(first)
    use(service, token["token"][:-1])
    assert topics(service, token["id"])[1:] == ["scim_token.used.v1"] * 2
