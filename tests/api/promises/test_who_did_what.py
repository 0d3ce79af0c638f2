"""Who did it, and from where: operators at the command line (B12), callers,
and who was refused (B13).
"""

import json
import os
import pwd
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from api.clock_and_ids import operator_name
from api.resources.api_calls import route_class
from domain.api_token.permissions import Permission
from tests.api.cli import forked_cli
from tests.api.expected import create, topics, use
from tests.api.trail import ROW, audit, later
from tests.conftest import Database
from tests.service import Caller, RunningService, service_environment
from tests.turns import by_turns

ME: Final = f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
CLIENT: Final = "203.0.113.7"
AGENT: Final = "back office/7 (José)"
FROM: Final = [(b"x-forwarded-for", CLIENT.encode()), (b"user-agent", AGENT.encode())]
WHO: Final = ("user_id", "api_token_id", "operator", "source", "user_agent")
UNASKED: Final = Permission.AUDIT_READ


def told(database: Database, *arguments: str) -> Any:
    """What a command of the shell prints, whatever its environment says about the user."""
    lies = {"USER": "mallory", "LOGNAME": "mallory", "USERNAME": "mallory"}
    done = forked_cli.run([*arguments, "--json"], service_environment(database.app) | lies)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def who(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in WHO}


def nobody_but(**known: Any) -> dict[str, Any]:
    return dict.fromkeys(WHO) | known


class TestTheOperator:
    def test_b12_what_is_done_at_the_command_line_is_the_operators_doing(
        self, database: Database
    ) -> None:
        user, team = str(uuid4()), str(uuid4())
        holder = told(database, "api-token", "create", "--user", user)
        told(database, "api-token", "revoke", holder["id"])
        made = told(database, "token", "create", "--team", team, "--name", "Okta", "--user", user)
        told(database, "token", "revoke", made["id"], "--reason", "left")
        rows = told(database, "audit", "list", "--oldest-first")
        assert all(list(row) == ROW for row in rows)
        assert [(row["kind"], row["token_id"], who(row)) for row in rows] == [
            ("api_token.created", holder["id"], nobody_but(operator=ME)),
            ("api_token.revoked", holder["id"], nobody_but(operator=ME)),
            ("scim_token.created", made["id"], nobody_but(operator=ME, user_id=user)),
            ("scim_token.revoked", made["id"], nobody_but(operator=ME)),
        ]

    def test_the_first_api_token_is_made_by_whoever_started_the_service(
        self, behind: RunningService
    ) -> None:
        ((state,),) = behind.query(
            "SELECT state FROM ledger.events ORDER BY notification_id LIMIT 1"
        )
        assert json.loads(bytes(state))["created_by"]["operator"] == ME

    def test_a_host_may_be_called_anything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "h\x00o\nst" + "x" * 500)
        name = operator_name()
        assert name.isprintable()
        assert len(name) == 200
        assert name.startswith(ME.partition("@")[0] + "@h\ufffdo\ufffdst")

    def test_a_uid_without_an_entry_is_told_by_its_number(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
        assert operator_name() == f"uid 4000000000@{socket.gethostname()}"


class TestCallers:
    def test_b13_each_command_over_http_tells_from_where_it_came(
        self, behind: RunningService
    ) -> None:
        admin = behind.api_token()
        token = ask(behind, admin, "POST", "/scim-token", json=named()).json()
        path = f"/scim-token/{token['id']}"
        assert (
            ask(behind, admin, "POST", f"{path}/rotate", json={"overlap_seconds": 0}).status_code
            == 200
        )
        assert ask(behind, admin, "DELETE", path).status_code == 200
        rows = audit(behind, admin, token_id=token["id"], order="oldest")
        ada = {"user_id": str(admin.user_id), "api_token_id": str(admin.id)}
        assert [(row["kind"].partition(".")[2], who(row)) for row in rows] == [
            (kind, nobody_but(**ada, source=CLIENT, user_agent=AGENT))
            for kind in ("created", "rotated", "revoked")
        ]
        (used,) = audit(behind, admin, token_id=str(admin.id), kind="api_token.used")
        assert (who(used), used["door"], used["method"], used["path_class"]) == (
            nobody_but(**ada, source=CLIENT, user_agent=AGENT),
            *("api", "POST", "scim-token"),
        )

    def test_b13_a_burn_tells_from_where_the_secret_came(self, behind: RunningService) -> None:
        admin = behind.api_token()
        token = create(behind, admin)
        behind.client.post("/revoke", data={"token": token["token"]}, headers=FROM)
        row = audit(behind, admin, token_id=token["id"])[0]
        assert row["kind"] == "scim_token.revoked"
        assert who(row) == nobody_but(source=CLIENT, user_agent=AGENT)
        assert row["door"] == "revoke"

    def test_b13_the_peer_of_a_direct_connection_is_a_source_and_a_gateway_is_none(
        self, service: RunningService
    ) -> None:
        admin = service.api_token()
        token = create(service, admin)
        use(service, token["token"])
        for path in ("/gateway/nginx", "/gateway/forward", "/gateway/envoy/x"):
            headers = {"Authorization": f"Bearer {token['token']}", "X-Forwarded-For": CLIENT}
            assert service.client.get(path, headers=headers).status_code == 200
        found = {row["door"]: row["source"] for row in audit(service, admin, token_id=token["id"])}
        direct = "127.0.0.1"
        assert found == {
            None: direct,
            "scim": direct,
            "nginx": None,
            "forward": None,
            "envoy": None,
        }


ROUTES: Final = [
    ("POST", "/scim-token", Permission.SCIM_TOKENS_WRITE, "scim-token"),
    ("GET", "/scim-token", Permission.SCIM_TOKENS_READ, "scim-token"),
    ("GET", "/scim-token/{id}", Permission.SCIM_TOKENS_READ, "scim-token/{id}"),
    ("DELETE", "/scim-token/{id}", Permission.SCIM_TOKENS_WRITE, "scim-token/{id}"),
    ("POST", "/scim-token/{id}/rotate", Permission.SCIM_TOKENS_WRITE, "scim-token/{id}/rotate"),
    (
        "PUT",
        "/scim-token/{id}/networks",
        Permission.SCIM_TOKENS_WRITE,
        "scim-token/{id}/networks",
    ),
    ("POST", "/verify", Permission.SCIM_TOKENS_READ, "verify"),
    ("POST", "/introspect", Permission.SCIM_TOKENS_READ, "introspect"),
    ("GET", "/projections", Permission.PROJECTIONS_MANAGE, "projections"),
    (
        "POST",
        "/projections/audit_trail/rebuild",
        Permission.PROJECTIONS_MANAGE,
        "projections/{id}/rebuild",
    ),
    ("GET", "/metrics", Permission.PROJECTIONS_MANAGE, "metrics"),
    ("POST", "/api-token", Permission.API_TOKENS_MANAGE, "api-token"),
    ("GET", "/api-token", Permission.API_TOKENS_MANAGE, "api-token"),
    ("GET", "/api-token/{id}", Permission.API_TOKENS_MANAGE, "api-token/{id}"),
    (
        "POST",
        "/api-token/{id}/rotate",
        Permission.API_TOKENS_MANAGE,
        "api-token/{id}/rotate",
    ),
    ("DELETE", "/api-token/{id}", Permission.API_TOKENS_MANAGE, "api-token/{id}"),
]


class TestTheRefused:
    @pytest.mark.parametrize(("method", "path", "lacking", "route"), by_turns(ROUTES, one_of=3))
    def test_b13_a_missing_permission_is_told_with_caller_route_and_source(
        self, behind: RunningService, method: str, path: str, lacking: Permission, route: str
    ) -> None:
        caller, auditor = behind.api_token(UNASKED), behind.api_token()
        given: dict[str, Any] = {"json": {}}
        if path == "/introspect":
            given = {"data": {"token": "x"}}
        elif method == "POST" and path in {"/scim-token", "/verify"}:
            given = {"json": named() if path == "/scim-token" else {"token": "x"}}
        answer = ask(behind, caller, method, path.replace("{id}", str(uuid4())), **given)
        assert answer.status_code == 403
        (row,) = audit(behind, auditor, token_id=str(caller.id), kind="api_token.refused")
        ids = {"user_id": str(caller.user_id), "api_token_id": str(caller.id)}
        assert who(row) == nobody_but(**ids, source=CLIENT, user_agent=AGENT)
        assert (row["outcome"], row["reason"], row["note"]) == (
            "refused",
            "permission",
            f"lacks {lacking}",
        )
        assert (row["door"], row["method"], row["path_class"]) == ("api", method, route)

    def test_b13_the_trail_itself_is_such_a_route(self, behind: RunningService) -> None:
        caller, auditor = behind.api_token(Permission.SCIM_TOKENS_READ), behind.api_token()
        for path in ("/audit", "/events", f"/scim-token/{uuid4()}/events"):
            assert ask(behind, caller, "GET", path).status_code == 403
        (row,) = audit(behind, auditor, token_id=str(caller.id), outcome="refused")
        assert (row["path_class"], row["note"]) == ("audit", "lacks audit:read")

    @pytest.mark.parametrize("why", ["revoked", "expired"])
    def test_b13_a_token_that_is_over_is_told_when_it_is_tried(
        self, behind: RunningService, why: str
    ) -> None:
        auditor = behind.api_token()
        caller = behind.api_token(
            lifetime=timedelta(milliseconds=200 if why == "expired" else 60_000)
        )
        if why == "revoked":
            behind.command(lambda ledger: ledger.revoke_api_token(caller.id))
        later()
        until_over(behind, caller)
        for _ in range(20):
            assert ask(behind, caller, "GET", f"/scim-token/{uuid4()}").status_code == 401
        rows = audit(behind, auditor, token_id=str(caller.id), outcome="refused")
        assert [(row["reason"], row["note"], row["source"]) for row in rows] == [
            (why, None, CLIENT)
        ]

    def test_a_flood_makes_one_event(self, behind: RunningService) -> None:
        caller = behind.api_token(UNASKED)
        for _ in range(100):
            assert ask(behind, caller, "GET", "/scim-token").status_code == 403
        assert topics(behind, caller.id)[1:] == ["api_token.used.v1", "api_token.refused.v1"]

    def test_what_nobody_can_record_is_refused_nevertheless_and_in_time(
        self, behind: RunningService
    ) -> None:
        caller = behind.api_token(UNASKED)
        # its use is on record for a minute
        assert ask(behind, caller, "GET", "/events").status_code == 200
        with psycopg.connect(behind.database.owner) as connection:
            connection.execute("SELECT ledger.lock_appends()")
            assert ask(behind, caller, "GET", "/scim-token").status_code == 403
        assert "refusal.not_recorded" in {record["event"] for record in behind.records()}

    def test_a_foreign_token_is_missing_and_no_refusal(self, behind: RunningService) -> None:
        token = create(behind, behind.api_token())
        caller = behind.api_token(teams=[uuid4()])
        assert ask(behind, caller, "DELETE", f"/scim-token/{token['id']}").status_code == 404
        assert "api_token.refused.v1" not in topics(behind, caller.id)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "other"),
        ("/scim_live_abc", "other"),
        ("/scim-token/", "scim-token"),
        ("/scim-token/scim_live_abc/rotate", "scim-token/{id}/rotate"),
        ("/scim-token/rotate/x/y/z/scim_live_abc", "scim-token/rotate/{id}/{id}"),
        ("/audit//", "audit"),
        ("/projections/ada@example.com/retry", "projections/{id}/retry"),
    ],
)
def test_of_a_path_only_words_of_ours_are_kept(path: str, route: str) -> None:
    assert route_class(path) == route


def ask(
    service: RunningService, caller: Caller, method: str, path: str, **given: Any
) -> httpx.Response:
    if method in {"GET", "DELETE"}:
        given = {}
    return service.client.request(method, path, auth=caller, headers=FROM, **given)


def named() -> dict[str, str]:
    return {"team_id": str(uuid4()), "name": "Okta"}


def until_over(service: RunningService, caller: Caller) -> UUID:
    while service.client.get("/scim-token", auth=caller, headers=FROM).status_code == 200:
        later()
    return caller.id


@pytest.mark.parametrize(
    ("by", "source"),
    [
        (
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ledger.example.com"},
            "https://ledger.example.com/events",
        ),
        ({"Host": "ledger.example.com"}, "http://ledger.example.com/events"),
    ],
)
def test_a_collector_is_told_the_address_by_which_it_knows_the_ledger(
    behind: RunningService, by: dict[str, str], source: str
) -> None:
    """Through a proxy that ends TLS, too."""
    caller = behind.api_token(Permission.AUDIT_READ)
    answer = behind.client.get("/events", auth=caller, params={"limit": 1}, headers=by)
    assert [event["source"] for event in answer.json()] == [source]
