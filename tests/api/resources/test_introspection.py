"""`/verify`, `/introspect` and `/revoke`: one test per outcome, with the whole body."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest

from domain.api_token.permissions import Permission
from domain.secret import Pepper, SecretKind, mint, parse, secret_id
from tests.api.expected import (
    INSTANT,
    UUID_TEXT,
    WARNINGS,
    assert_invalid,
    assert_problem,
    assert_unauthenticated,
)
from tests.service import PEPPER_KEY, Caller, RunningService, until
from tests.turns import by_turns

UNKNOWN = mint(SecretKind.SCIM_LIVE, bytes(32)).reveal()


class Made(NamedTuple):
    """A token that was just created, and who created it."""

    id: UUID
    team_id: UUID
    secret: str
    caller: Caller


def create(service: RunningService, caller: Caller, **more: Any) -> Made:
    team_id = uuid4()
    answer = service.client.post(
        "/scim-token", auth=caller, json={"team_id": str(team_id), "name": "x", **more}
    )
    assert answer.status_code == 201, answer.text
    return Made(UUID(answer.json()["id"]), team_id, answer.json()["token"], caller)


@pytest.fixture
def caller(service: RunningService) -> Caller:
    return service.api_token()


@pytest.fixture
def made(service: RunningService, caller: Caller) -> Made:
    return create(service, caller)


def verify(
    service: RunningService, caller: Caller | None, token: str, **more: Any
) -> httpx.Response:
    options: dict[str, Any] = {} if caller is None else {"auth": caller}
    return service.client.post("/verify", json={"token": token, **more}, **options)


def introspect(service: RunningService, caller: Caller, token: str) -> httpx.Response:
    return service.client.post("/introspect", auth=caller, data={"token": token})


def burn(service: RunningService, **form: str) -> httpx.Response:
    return service.client.post("/revoke", data=form)


def events(service: RunningService, token_id: UUID) -> list[tuple[str, Any]]:
    """Topic and state of each event of a token, in order."""
    rows = service.query(
        "SELECT topic, convert_from(state, 'UTF8') FROM ledger.events "
        "WHERE originator_id = %s AND topic <> ALL(%s) ORDER BY originator_version",
        token_id,
        list(WARNINGS),
    )
    return [(topic, json.loads(state)) for topic, state in rows]


def topics(service: RunningService, token_id: UUID) -> list[str]:
    return [topic for topic, _ in events(service, token_id)]


class TestVerify:
    def test_a_good_token_is_let_in_and_its_use_recorded_before_the_answer(
        self, service: RunningService, made: Made
    ) -> None:
        answer = verify(service, made.caller, made.secret)
        assert answer.status_code == 200
        body = answer.json()
        assert body == {
            "active": True,
            "team_id": str(made.team_id),
            "token_id": str(made.id),
            "use_id": body["use_id"],
            "used_at": body["used_at"],
        }
        assert UUID_TEXT.fullmatch(body["use_id"])
        assert INSTANT.fullmatch(body["used_at"])
        assert answer.headers["cache-control"] == "no-store"
        ((at,),) = service.query(
            "SELECT at FROM ledger.events WHERE command_id = %s", body["use_id"]
        )
        assert at == datetime.fromisoformat(body["used_at"])

    def test_what_is_told_of_the_presenter_is_in_the_trail_and_no_more(
        self, service: RunningService, made: Made
    ) -> None:
        told = {
            "method": "patch",
            "path": "/scim/v2/Users/ada@example.com?filter=hunter2",
            "source": "::FFFF:203.0.113.7",
            "user_agent": "Okta SCIM Client 1.0.0" + "x" * 500,
        }
        assert verify(service, made.caller, made.secret, **told).json()["active"]
        (_, (topic, state)) = events(service, made.id)
        assert topic == "scim_token.used.v1"
        assert state["presentation"] == {
            "door": "verify",
            "source": "203.0.113.7",
            "user_agent": told["user_agent"][:200],
            "method": "PATCH",
            "path_class": "Users/{id}",
        }

    @pytest.mark.parametrize(
        ("told", "kept"),
        by_turns(
            [
                ({"method": "EVIL METHOD"}, {"method": "unknown"}),
                ({"user_agent": "a\x00b"}, {"user_agent": "a\ufffdb"}),
                ({"user_agent": "Jos\u00e9 \U0001f680"}, {"user_agent": "Jos\u00e9 \U0001f680"}),
                ({"user_agent": f"Okta {UNKNOWN}"}, {"user_agent": "Okta scim_live_***"}),
                ({"user_agent": ""}, {}),
                ({"source": f"::1%{UNKNOWN}"}, {"source": "::1"}),
                ({"source": "FE80::1%any text"}, {"source": "fe80::1"}),
                ({"path": "/elsewhere/ada"}, {"path_class": "other"}),
                ({"source": None, "path": None, "method": None, "user_agent": None}, {}),
            ],
            one_of=3,
        ),
    )
    def test_what_is_told_badly_is_not_kept(
        self, service: RunningService, made: Made, told: dict[str, Any], kept: dict[str, str]
    ) -> None:
        assert verify(service, made.caller, made.secret, **told).json()["active"]
        (_, (_, state)) = events(service, made.id)
        assert state["presentation"] == {"door": "verify", **kept}

    @pytest.mark.parametrize(
        "token",
        by_turns(
            [
                "",
                "x",
                "Bearer x",
                f"Bearer {UNKNOWN}",
                UNKNOWN + " ",
                UNKNOWN[:-1],
                UNKNOWN[:-1] + "0",
                "ä" * 59,
            ],
            one_of=3,
        ),
    )
    def test_a_malformed_one_is_told_apart(
        self, service: RunningService, caller: Caller, token: str
    ) -> None:
        answer = verify(service, caller, token)
        assert (answer.status_code, answer.json()) == (
            200,
            {"active": False, "reason": "malformed"},
        )

    def test_an_api_token_is_no_scim_token(self, service: RunningService, caller: Caller) -> None:
        assert verify(service, caller, caller.secret).json() == {
            "active": False,
            "reason": "malformed",
        }

    def test_an_unknown_one_is_told_apart(self, service: RunningService, caller: Caller) -> None:
        answer = verify(service, caller, UNKNOWN)
        assert (answer.status_code, answer.json()) == (200, {"active": False, "reason": "unknown"})
        assert answer.headers["cache-control"] == "no-store"

    def test_a_revoked_one_is_told_apart(self, service: RunningService, made: Made) -> None:
        service.client.delete(f"/scim-token/{made.id}", auth=made.caller)
        for _ in range(3):
            answer = verify(service, made.caller, made.secret)
            assert (answer.status_code, answer.json()) == (
                200,
                {"active": False, "reason": "revoked"},
            )
        assert topics(service, made.id)[1:] == ["scim_token.revoked.v1", "scim_token.refused.v1"]

    def test_an_expired_one_is_told_apart(self, service: RunningService, caller: Caller) -> None:
        ends_at = datetime.now(UTC) + timedelta(seconds=1.5)
        made = create(service, caller, expires_at=ends_at.isoformat())
        until(lambda: not verify(service, caller, made.secret).json()["active"], what="expiry")
        answer = verify(service, caller, made.secret)
        assert (answer.status_code, answer.json()) == (200, {"active": False, "reason": "expired"})
        assert datetime.now(UTC) >= ends_at

    def test_another_teams_token_is_unknown_and_nothing_is_recorded(
        self, service: RunningService, made: Made
    ) -> None:
        confined = service.api_token(teams=[uuid4()])
        assert verify(service, confined, made.secret).json() == {
            "active": False,
            "reason": "unknown",
        }
        assert verify(service, confined, UNKNOWN).json() == {"active": False, "reason": "unknown"}
        service.client.delete(f"/scim-token/{made.id}", auth=made.caller)
        assert verify(service, confined, made.secret).json() == {
            "active": False,
            "reason": "unknown",
        }
        assert topics(service, made.id) == ["scim_token.created.v1", "scim_token.revoked.v1"]

    def test_ones_own_teams_token_is_let_in(self, service: RunningService, made: Made) -> None:
        confined = service.api_token(teams=[uuid4(), made.team_id])
        assert verify(service, confined, made.secret).json()["active"]

    def test_the_caller_needs_an_api_token(self, service: RunningService, made: Made) -> None:
        assert verify(service, None, made.secret).status_code == 401
        answer = service.client.post(
            "/verify",
            headers={"Authorization": f"Bearer {made.secret}"},
            json={"token": made.secret},
        )
        detail = "This is a SCIM token; the base URL ends in /scim/v2"
        assert_unauthenticated(answer, detail, was_presented=True)
        assert topics(service, made.id) == ["scim_token.created.v1"]

    def test_the_caller_needs_the_permission(self, service: RunningService, made: Made) -> None:
        answer = verify(service, service.api_token(Permission.SCIM_TOKENS_WRITE), made.secret)
        assert_problem(
            answer, 403, "permission-denied", "The API token lacks the permission scim_tokens:read."
        )
        assert topics(service, made.id) == ["scim_token.created.v1"]

    def test_an_address_that_is_none_is_refused(self, service: RunningService, made: Made) -> None:
        answer = verify(service, made.caller, made.secret, source="nowhere")
        assert_invalid(answer, "/source", "must be an IP address")
        assert topics(service, made.id) == ["scim_token.created.v1"]

    def test_an_unknown_field_is_refused(self, service: RunningService, made: Made) -> None:
        answer = verify(service, made.caller, made.secret, tokens="x")
        assert_invalid(answer, "/tokens", "is not a field of this resource")

    def test_the_token_is_required(self, service: RunningService, caller: Caller) -> None:
        assert_invalid(
            service.client.post("/verify", auth=caller, json={}), "/token", "is required"
        )

    def test_get_is_not_a_way_to_ask(self, service: RunningService, caller: Caller) -> None:
        answer = service.client.get("/verify", auth=caller)
        assert answer.status_code == 405
        assert "POST" in answer.headers["allow"]


class TestIntrospect:
    def test_a_good_token_is_active_and_that_is_a_use(
        self, service: RunningService, made: Made
    ) -> None:
        answer = introspect(service, made.caller, made.secret)
        assert answer.status_code == 200
        body = answer.json()
        ((created_at,),) = service.query(
            "SELECT at FROM ledger.events WHERE originator_id = %s AND originator_version = 1",
            made.id,
        )
        assert body == {
            "active": True,
            "token_type": "Bearer",
            "scope": "scim",
            "sub": str(made.id),
            "client_id": str(made.team_id),
            "team_id": str(made.team_id),
            "use_id": body["use_id"],
            "iat": int(created_at.timestamp()),
        }
        assert answer.headers["cache-control"] == "no-store"
        (_, (topic, state)) = events(service, made.id)
        assert (topic, state["presentation"]) == ("scim_token.used.v1", {"door": "introspect"})

    def test_one_that_will_end_says_when(self, service: RunningService, caller: Caller) -> None:
        made = create(service, caller, expires_at="2100-01-01T00:00:00Z")
        assert introspect(service, caller, made.secret).json()["exp"] == 4102444800

    def test_a_secret_in_its_overlap_ends_with_it(
        self, service: RunningService, made: Made
    ) -> None:
        service.client.post(
            f"/scim-token/{made.id}/rotate", auth=made.caller, json={"overlap_seconds": 600}
        )
        ends_in = (
            introspect(service, made.caller, made.secret).json()["exp"]
            - datetime.now(UTC).timestamp()
        )
        assert 500 < ends_in <= 600

    @pytest.mark.parametrize("token", ["x", UNKNOWN, f"Bearer {UNKNOWN}"])
    def test_all_else_is_exactly_inactive(
        self, service: RunningService, caller: Caller, token: str
    ) -> None:
        answer = introspect(service, caller, token)
        assert (answer.status_code, answer.content) == (200, b'{"active":false}')
        assert answer.headers["content-type"] == "application/json"

    def test_so_are_revoked_and_foreign_ones_and_api_tokens(
        self, service: RunningService, made: Made
    ) -> None:
        foreign = introspect(service, service.api_token(teams=[uuid4()]), made.secret)
        assert foreign.content == b'{"active":false}'
        assert topics(service, made.id) == ["scim_token.created.v1"]
        service.client.delete(f"/scim-token/{made.id}", auth=made.caller)
        assert introspect(service, made.caller, made.secret).content == b'{"active":false}'
        assert introspect(service, made.caller, made.caller.secret).content == b'{"active":false}'

    def test_the_caller_needs_an_api_token_with_the_permission(
        self, service: RunningService, made: Made
    ) -> None:
        assert service.client.post("/introspect", data={"token": made.secret}).status_code == 401
        answer = introspect(service, service.api_token(Permission.AUDIT_READ), made.secret)
        assert answer.status_code == 403
        assert topics(service, made.id) == ["scim_token.created.v1"]


class TestRevoke:
    def test_whoever_holds_a_token_ends_it_at_once_and_once(
        self, service: RunningService, made: Made
    ) -> None:
        for _ in range(2):
            answer = burn(service, token=made.secret)
            assert (answer.status_code, answer.content) == (200, b"{}")
            assert answer.headers["cache-control"] == "no-store"
        headers = {"Authorization": f"Bearer {made.secret}"}
        assert service.client.get("/scim/v2/Schemas", headers=headers).status_code == 401
        assert events(service, made.id)[1] == (
            "scim_token.revoked.v1",
            {
                "revoked_by": None,
                "reason": None,
                "presentation": {
                    "door": "revoke",
                    "source": "127.0.0.1",
                    "user_agent": service.client.headers["User-Agent"],
                },
                "secret": secret_id(Pepper([PEPPER_KEY.encode()]).digest(parse(made.secret)).value),
            },
        )
        assert topics(service, made.id)[2:] == ["scim_token.refused.v1"]
        assert service.client.get(f"/scim-token/{made.id}", auth=made.caller).status_code == 404

    @pytest.mark.parametrize("token", ["x", UNKNOWN])
    def test_what_is_not_valid_needs_no_revocation(
        self, service: RunningService, token: str
    ) -> None:
        answer = burn(service, token=token)
        assert (answer.status_code, answer.content) == (200, b"{}")

    def test_a_secret_that_was_rotated_away_ends_nothing(
        self, service: RunningService, made: Made
    ) -> None:
        rotated = service.client.post(
            f"/scim-token/{made.id}/rotate", auth=made.caller, json={"overlap_seconds": 0}
        ).json()
        assert burn(service, token=made.secret).status_code == 200
        headers = {"Authorization": f"Bearer {rotated['token']}"}
        assert service.client.get("/scim/v2/Schemas", headers=headers).status_code == 200

    def test_an_api_token_is_not_revoked_here(
        self, service: RunningService, caller: Caller
    ) -> None:
        answer = burn(service, token=caller.secret)
        assert answer.status_code == 400
        assert answer.json() == {
            "error": "unsupported_token_type",
            "error_description": "Only SCIM tokens can be revoked here.",
        }
        assert service.client.get("/scim-token", auth=caller).status_code == 200

    def test_the_hint_is_ignored_and_so_is_what_we_do_not_know(
        self, service: RunningService, made: Made
    ) -> None:
        assert (
            burn(service, token=made.secret, token_type_hint="refresh_token", x="y").status_code
            == 200
        )
        assert topics(service, made.id)[1:] == ["scim_token.revoked.v1"]

    def test_a_token_in_the_query_is_not_read(self, service: RunningService, made: Made) -> None:
        answer = service.client.post(f"/revoke?token={made.secret}", data={"x": "y"})
        assert answer.status_code == 400
        assert topics(service, made.id) == ["scim_token.created.v1"]
        assert made.secret not in service.log.read_text()


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("path", ["/introspect", "/revoke"])
class TestForms:
    @pytest.mark.parametrize(
        ("content", "description"),
        by_turns(
            [
                (b"", "The token is missing."),
                (b"token=", "The token is missing."),
                (b"tokens=x", "The token is missing."),
                (b"token=x&token=x", "The body names a parameter twice."),
                (b"token=x&a=1&a=2", "The body names a parameter twice."),
                (b"token", "The body is not a well-formed form."),
                (b"token=\xff", "The body is not a well-formed form."),
                (b"token=%ff", "The body is not a well-formed form."),
                (b'{"token": "x"}', "The body is not a well-formed form."),
                (
                    b"&".join(b"a%d=1" % number for number in range(30)),
                    "The body is not a well-formed form.",
                ),
            ],
            one_of=3,
        ),
    )
    def test_a_bad_one_is_an_invalid_request(
        self, service: RunningService, caller: Caller, path: str, content: bytes, description: str
    ) -> None:
        answer = service.client.post(
            path, auth=caller, content=content, headers={"Content-Type": FORM}
        )
        assert answer.status_code == 400
        assert answer.json() == {"error": "invalid_request", "error_description": description}
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize(
        "type_",
        by_turns(
            ["application/json", "multipart/form-data; boundary=x", "text/plain", ""], one_of=3
        ),
    )
    def test_another_media_type_is_415(
        self, service: RunningService, caller: Caller, path: str, type_: str
    ) -> None:
        answer = service.client.post(
            path, auth=caller, content=b"token=x", headers={"Content-Type": type_}
        )
        assert_problem(
            answer,
            415,
            "unsupported-media-type",
            "The body must be application/x-www-form-urlencoded.",
        )

    def test_the_media_type_may_name_a_charset(
        self, service: RunningService, caller: Caller, path: str
    ) -> None:
        headers = {"Content-Type": f"{FORM.upper()} ; charset=UTF-8"}
        answer = service.client.post(path, auth=caller, content=b"token=x", headers=headers)
        assert answer.status_code == 200

    def test_one_that_is_too_large_is_413(
        self, service: RunningService, caller: Caller, path: str
    ) -> None:
        answer = service.client.post(path, auth=caller, data={"token": "x" * 70_000})
        assert_problem(answer, 413, "too-large", "The body is larger than 64 KiB.")


def test_the_operations_are_described(service: RunningService) -> None:
    document = service.client.get("/docs/openapi.json").json()
    operations = {
        path: document["paths"][path]["post"] for path in ("/verify", "/introspect", "/revoke")
    }
    assert [operation["operationId"] for operation in operations.values()] == [
        "verifyScimToken",
        "introspectScimToken",
        "burnScimToken",
    ]
    for path in ("/introspect", "/revoke"):
        schema = operations[path]["requestBody"]["content"][FORM]["schema"]
        assert schema["required"] == ["token"]
    assert {} in operations["/revoke"]["security"]
    for operation in operations.values():
        assert {"200", "400", "413", "415", "429", "503"} <= operation["responses"].keys()
        assert operation["responses"]["200"]["description"]
