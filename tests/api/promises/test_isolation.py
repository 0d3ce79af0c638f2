"""Every route, for every kind of caller, on what is theirs,
what is others' and what does not exist.

The table below has a row for each operation of the OpenAPI document; a new one without a row fails
here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.commands import NewApiToken
from domain.secret import Pepper, SecretKind, mint, parse, secret_id
from tests.api.expected import WARNINGS, assert_not_found, create, use
from tests.service import PEPPER_KEY, Caller, RunningService, until
from tests.turns import by_turns

METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
READ, WRITE, AUDIT = (
    Permission.SCIM_TOKENS_READ,
    Permission.SCIM_TOKENS_WRITE,
    Permission.AUDIT_READ,
)
PEPPER: Final = Pepper([PEPPER_KEY.encode()])
MANAGE: Final = Permission.PROJECTIONS_MANAGE
POLICIES: Final = Permission.POLICIES_MANAGE
API_TOKENS: Final = Permission.API_TOKENS_MANAGE
LEAKS: Final = Permission.LEAKS_REPORT
CALLERS: Final = ("anonymous", "other_team", "read_only", "expired", "revoked", "admin")
TARGETS: Final = ("own", "foreign", "missing")


@dataclass(frozen=True)
class Target:
    """What a request is about: a token and an API token of some team,
    or ids that stand for nothing.
    """

    team: str
    token: str
    secret: str
    view: str = "token_sources"
    api_token: str = ""

    def is_in(self, text: str) -> bool:
        """Whether an answer tells of it."""
        digest = PEPPER.digest(parse(self.secret)).value
        ids = (self.token, self.secret, secret_id(digest), self.api_token)
        return any(id_ and id_ in text for id_ in ids)


@dataclass(frozen=True)
class Route:
    """An operation, as this matrix asks it.

    path: with {token} or {api_token}, or else `query` or `body` say what it is about.
    needs: None for a route without an API token. success: every status of one who may.
    is_of_the_caller: it tells of nobody else, and any good API token may ask.
    is_of_the_service: it tells of no team, so every caller with the permission is equal; {view} in
    its path.
    """

    method: str
    path: str
    needs: Permission | None
    success: frozenset[int] = frozenset({200})
    query: Callable[[Target], Mapping[str, str]] = field(default=lambda _: {})
    body: Callable[[Target], dict[str, Any]] = field(default=lambda _: {})
    is_of_the_service: bool = False
    is_of_the_caller: bool = False

    @property
    def is_of_one_token(self) -> bool:
        """Then what is not the caller's is 404."""
        return any(what in self.path for what in ("token}", "{team}")) or (
            self.method == "POST" and self.path in {"/scim-token", "/api-token"}
        )

    def ask(self, client: httpx.Client, target: Target, caller: Caller | None) -> httpx.Response:
        """The request."""
        sent: dict[str, Any] = (
            {"params": dict(self.query(target))} if self.method == "GET" else self.body(target)
        )
        path = self.path.format(
            token=target.token, api_token=target.api_token, team=target.team, view=target.view
        )
        return client.request(self.method, path, auth=caller, **sent)


ROUTES: Final[Mapping[str, Route]] = {
    "createScimToken": Route(
        "POST",
        "/scim-token",
        WRITE,
        frozenset({201}),
        body=lambda t: {"json": {"team_id": t.team, "name": "Okta"}},
    ),
    "listScimTokens": Route(
        "GET", "/scim-token", READ, query=lambda t: {"team_id": t.team, "limit": "1000"}
    ),
    "getScimToken": Route("GET", "/scim-token/{token}", READ),
    "deleteScimToken": Route("DELETE", "/scim-token/{token}", WRITE),
    "rotateScimToken": Route(
        "POST", "/scim-token/{token}/rotate", WRITE, body=lambda _: {"json": {}}
    ),
    "createApiToken": Route(
        "POST",
        "/api-token",
        API_TOKENS,
        frozenset({201}),
        body=lambda t: {
            "json": {"user_id": str(uuid4()), "permissions": [READ], "teams": [t.team]}
        },
    ),
    "listApiTokens": Route("GET", "/api-token", API_TOKENS, query=lambda _: {"limit": "1000"}),
    "getApiToken": Route("GET", "/api-token/{api_token}", API_TOKENS),
    "deleteApiToken": Route("DELETE", "/api-token/{api_token}", API_TOKENS),
    "rotateApiToken": Route(
        "POST", "/api-token/{api_token}/rotate", API_TOKENS, body=lambda _: {"json": {}}
    ),
    "whoami": Route("GET", "/whoami", READ, is_of_the_caller=True),
    "revokeScimTokens": Route(
        "POST",
        "/scim-token/revoke",
        WRITE,
        body=lambda t: {"json": {"where": {"ids": [t.token]}, "dry_run": True}},
    ),
    **{
        f"{verb}ScimTokenRotation": Route(
            "POST",
            f"/scim-token/{{token}}/rotate/{verb}",
            WRITE,
            frozenset({409}),  # of a token that is not rotating
            body=lambda _: {"json": {}},
        )
        for verb in ("complete", "cancel")
    },
    "listScimTokenSecrets": Route("GET", "/scim-token/{token}/secrets", READ),
    "changeScimToken": Route(
        "PATCH", "/scim-token/{token}", WRITE, body=lambda _: {"json": {"name": "renamed"}}
    ),
    "suspendScimToken": Route(
        "POST", "/scim-token/{token}/suspend", WRITE, body=lambda _: {"json": {}}
    ),
    "resumeScimToken": Route(
        "POST", "/scim-token/{token}/resume", WRITE, body=lambda _: {"json": {}}
    ),
    "createSetupLink": Route(
        "POST",
        "/scim-token/{token}/setup-link",
        WRITE,
        frozenset({201}),
        body=lambda _: {"json": {}},
    ),
    "getSetupLink": Route("GET", "/scim-token/{token}/setup-link", READ),
    "endSetupLink": Route("DELETE", "/scim-token/{token}/setup-link", WRITE),
    "getScimTokenNetworks": Route("GET", "/scim-token/{token}/networks", READ),
    "setScimTokenNetworks": Route(
        "PUT", "/scim-token/{token}/networks", WRITE, body=lambda _: {"json": {"networks": ["::1"]}}
    ),
    "deleteScimTokenNetworks": Route("DELETE", "/scim-token/{token}/networks", WRITE),
    "listScimTokenEvents": Route("GET", "/scim-token/{token}/events", AUDIT),
    "getScimTokenUsage": Route("GET", "/scim-token/{token}/usage", AUDIT),
    "listAuditEvents": Route(
        "GET", "/audit", AUDIT, query=lambda t: {"team_id": t.team, "limit": "1000"}
    ),
    "followEvents": Route("GET", "/events", AUDIT, query=lambda _: {"limit": "1000"}),
    "verifyScimToken": Route("POST", "/verify", READ, body=lambda t: {"json": {"token": t.secret}}),
    "introspectScimToken": Route(
        "POST", "/introspect", READ, body=lambda t: {"data": {"token": t.secret}}
    ),
    "reportLeaks": Route(
        "POST", "/leak-report", LEAKS, body=lambda t: {"json": [{"token": t.secret}]}
    ),
    "burnScimToken": Route("POST", "/revoke", None, body=lambda t: {"data": {"token": t.secret}}),
    "getPolicy": Route("GET", "/policy", POLICIES, is_of_the_service=True),
    # The callers of this matrix are for some teams, and the general policy is above them.
    "setPolicy": Route(
        "PUT",
        "/policy",
        POLICIES,
        frozenset({403}),
        body=lambda _: {"json": {}},
        is_of_the_service=True,
    ),
    "getTeamPolicy": Route("GET", "/policy/{team}", POLICIES),
    "setTeamPolicy": Route("PUT", "/policy/{team}", POLICIES, body=lambda _: {"json": {}}),
    "listProjections": Route("GET", "/projections", MANAGE, is_of_the_service=True),
    "getProjection": Route("GET", "/projections/{view}", MANAGE, is_of_the_service=True),
    "rebuildProjection": Route(
        "POST", "/projections/{view}/rebuild", MANAGE, frozenset({202, 409}), is_of_the_service=True
    ),
    "getProjectionRebuild": Route(
        "GET", "/projections/{view}/rebuild", MANAGE, frozenset({200, 404}), is_of_the_service=True
    ),
    "retryProjection": Route("POST", "/projections/{view}/retry", MANAGE, is_of_the_service=True),
    "metrics": Route("GET", "/metrics", MANAGE, is_of_the_service=True),
    "liveness": Route("GET", "/healthz", None),
    "readiness": Route("GET", "/readyz", None),
}
TELLS_NO_TOKEN: Final = frozenset(
    {
        *("createScimToken", "createApiToken", "getScimTokenUsage", "burnScimToken"),
        *("getTeamPolicy", "setTeamPolicy", "getSetupLink", "getScimTokenNetworks"),
        *("setScimTokenNetworks", "completeScimTokenRotation", "cancelScimTokenRotation"),
    }
)
BY_SECRET: Final = frozenset({"verifyScimToken", "introspectScimToken", "reportLeaks"})
"""Asked with the secret itself: for a stranger they say what they say of a
secret that does not exist.
"""


def unknown_routes(document: Mapping[str, Any]) -> set[str]:
    """The operations of a document that have no row above, or whose row asks something else."""
    asked = {
        name: (
            route.method,
            route.path.format(
                token="{token_id}", api_token="{token_id}", team="{team_id}", view="{name}"
            ),
        )
        for name, route in ROUTES.items()
    }
    return {
        operation["operationId"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in METHODS and asked.get(operation["operationId"]) != (method.upper(), path)
    }


@pytest.fixture(scope="module")
def document(service: RunningService) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get("/docs/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    """One that holds no answer against the document: that is for other tests."""
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False, verify=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def team() -> UUID:
    """The team of this module's callers."""
    return uuid4()


@pytest.fixture(scope="module")
def targets(service: RunningService, admin: Caller, team: UUID) -> dict[str, Target]:
    """For what leaves them as they are."""
    return {kind: a_target(service, admin, team, kind) for kind in TARGETS}


@pytest.fixture(scope="module")
def callers(service: RunningService, team: UUID) -> dict[str, Caller | None]:
    expired = service.api_token(teams=[team], lifetime=timedelta(milliseconds=1))
    revoked = service.api_token(teams=[team])
    service.command(lambda ledger: ledger.revoke_api_token(revoked.id))
    until(lambda: service.client.get("/scim-token", auth=expired).status_code == 401, what="expiry")
    return {
        "anonymous": None,
        "other_team": service.api_token(teams=[uuid4()]),
        "read_only": service.api_token(READ, teams=[team]),
        "expired": expired,
        "revoked": revoked,
        "admin": service.api_token(teams=[team]),
    }


def a_target(service: RunningService, admin: Caller, team: UUID, kind: str) -> Target:
    if kind == "missing":
        unknown = mint(SecretKind.SCIM_LIVE, uuid4().bytes * 2).reveal()
        return Target(str(uuid4()), str(uuid4()), unknown, "none", str(uuid4()))
    made = create(service, admin, team=team if kind == "own" else uuid4())
    use(service, made["token"])
    api_token = service.api_token(READ, teams=[UUID(made["team_id"])])
    return Target(made["team_id"], made["id"], made["token"], api_token=str(api_token.id))


def test_every_operation_has_a_row(document: dict[str, Any]) -> None:
    assert unknown_routes(document) == set()


def test_planted_a_new_operation_without_a_row_is_found(document: dict[str, Any]) -> None:
    planted = document | {"paths": document["paths"] | {"/new": {"get": {"operationId": "new"}}}}
    assert unknown_routes(planted) == {"new"}
    moved = document | {"paths": {"/old/audit": document["paths"]["/audit"]}}
    assert unknown_routes(moved) == {"listAuditEvents"}


def refusal_of(route: Route, who: str) -> int | None:
    """Of a caller who may not ask at all, whatever it is about."""
    if who in {"anonymous", "expired", "revoked"}:
        return 401
    return 403 if who == "read_only" and route.needs is not READ else None


def is_the_heart_of_it(_name: str, who: str, target_kind: str) -> bool:
    """A good caller who asks for what is another team's."""
    return (who, target_kind) == ("admin", "foreign")


@pytest.mark.parametrize(
    ("name", "who", "target_kind"),
    by_turns(product(ROUTES, CALLERS, TARGETS), one_of=13, is_kept=is_the_heart_of_it),
)
def test_the_matrix(  # noqa: PLR0917 - three axes
    service: RunningService,
    client: httpx.Client,
    ledger: psycopg.Connection,
    admin: Caller,
    team: UUID,
    callers: dict[str, Caller | None],
    targets: dict[str, Target],
    name: str,
    who: str,
    target_kind: str,
) -> None:
    route, caller = ROUTES[name], callers[who]
    is_kept = route.needs not in {WRITE, LEAKS, API_TOKENS, None}
    target = targets[target_kind] if is_kept else a_target(service, admin, team, target_kind)
    before = facts(ledger, target)
    answer = route.ask(client, target, caller)

    if route.needs is None:
        assert answer.status_code == 200
    elif refusal := refusal_of(route, who):
        assert answer.status_code == refusal
    elif route.is_of_the_caller:
        assert (answer.status_code, answer.json()["id"]) == (200, str(caller and caller.id))
    elif route.is_of_the_service:
        is_known = target_kind != "missing" or "{view}" not in route.path
        assert answer.status_code in (route.success if is_known else {404})
    elif target_kind == "own" and who != "other_team":
        assert answer.status_code in route.success
        if name not in TELLS_NO_TOKEN:
            assert target.is_in(answer.text)
        return
    elif route.is_of_one_token:
        assert_not_found(answer)
    else:
        assert answer.status_code == 200
        if name in BY_SECRET or "result" in answer.text:
            assert answer.json() == route.ask(client, targets["missing"], caller).json()
    if route.needs is not None:
        # Whatever it was, it tells nothing about what is not the caller's, and leaves no trace on
        # it.
        assert not target.is_in(answer.text)
        assert facts(ledger, target) == before


@pytest.fixture(scope="module")
def ledger(service: RunningService) -> Iterator[psycopg.Connection]:
    """One connection for the many looks of this module."""
    with psycopg.connect(service.database.owner, autocommit=True) as opened:
        yield opened


def facts(ledger: psycopg.Connection, target: Target) -> int:
    """How much the ledger holds about a target, but for what the service tells by itself."""
    counted = ledger.execute(
        "SELECT count(*) FROM ledger.events WHERE originator_id = ANY(%s) AND topic <> ALL(%s)",
        [[UUID(target.token), UUID(target.api_token)], list(WARNINGS)],
    ).fetchone()
    assert counted is not None
    return int(counted[0])


@pytest.mark.parametrize(
    "name", by_turns([name for name, route in ROUTES.items() if route.is_of_one_token], one_of=4)
)
def test_foreign_and_missing_look_the_same(
    service: RunningService, admin: Caller, team: UUID, callers: dict[str, Caller | None], name: str
) -> None:
    answers = [
        ROUTES[name].ask(service.client, a_target(service, admin, team, kind), callers["admin"])
        for kind in ("foreign", "missing")
    ]
    bodies = [re.sub(r"urn:uuid:[0-9a-f-]{36}", "", answer.text) for answer in answers]
    headers = [
        {
            name: value
            for name, value in answer.headers.items()
            if name not in {"x-request-id", "date"}
        }
        for answer in answers
    ]
    assert bodies[0] == bodies[1]
    assert headers[0] == headers[1]


@pytest.mark.parametrize(
    "path", ["/scim/v2/Users", "/gateway/nginx", "/gateway/forward", "/gateway/envoy/x"]
)
@pytest.mark.parametrize("who", CALLERS)
def test_an_api_token_opens_no_door(
    service: RunningService, callers: dict[str, Caller | None], path: str, who: str
) -> None:
    assert service.client.get(path, auth=callers[who]).status_code == 401


def test_a_scim_token_calls_no_operation(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    target = a_target(service, admin, team, "own")
    bearer = {"Authorization": f"Bearer {target.secret}"}
    for route in ROUTES.values():
        if route.needs is not None:
            path = route.path.format(
                token=target.token, api_token=target.api_token, team=target.team, view=target.view
            )
            answer = service.client.request(route.method, path, headers=bearer)
            assert answer.status_code == 401, path


OF_THE_SERVICE: Final = {name: route for name, route in ROUTES.items() if route.is_of_the_service}
TOLD_OF_TIME: Final = re.compile(r'"(?:lag_s|updated_at)":[^,}]+|^.*_lag_seconds.*$', re.MULTILINE)
"""What may differ from one moment to the next for whoever is confined: how fresh a view is."""


@pytest.fixture(scope="module")
def rebuilt(service: RunningService) -> str:
    """A view whose rebuild is over, so that its status stands still."""
    operator, path = service.api_token(MANAGE), "/projections/usage/rebuild"
    service.client.post(path, auth=operator)
    until(lambda: service.client.get(path, auth=operator).json()["finished_at"] is not None)
    return "usage"


def told_of(service: RunningService, caller: Caller, route: Route, view: str) -> str:
    """The answer, without what tells of time, once all views have caught up."""

    def is_caught_up() -> bool:
        views = service.client.get("/readyz").json()["projections"]
        return all(each["lag"] == 0 for each in views)

    until(is_caught_up)
    answer = route.ask(service.client, Target("", "", "", view=view), caller)
    assert answer.status_code == 200
    return TOLD_OF_TIME.sub("", answer.text)


@pytest.mark.parametrize(
    "name",
    by_turns(
        [
            name
            for name, route in OF_THE_SERVICE.items()
            if route.needs is MANAGE and route.success != {202, 409}
        ],
        one_of=3,
    ),
)
def test_to_a_confined_caller_the_routes_of_the_service_do_not_tell_what_others_do(
    service: RunningService, admin: Caller, team: UUID, rebuilt: str, name: str
) -> None:
    """A19: it has the permission because somebody asked for it,
    and still learns no count of all events.
    """
    route, confined = OF_THE_SERVICE[name], service.api_token(MANAGE, teams=[team])
    before, to_all = (told_of(service, caller, route, rebuilt) for caller in (confined, admin))
    use(service, create(service, admin, team=uuid4())["token"])
    assert told_of(service, confined, route, rebuilt) == before
    if name != "getProjectionRebuild":  # of a rebuild that is over
        assert told_of(service, admin, route, rebuilt) != to_all


def test_of_a_rebuild_a_confined_caller_learns_whether_it_is_over(
    service: RunningService, admin: Caller, team: UUID, rebuilt: str
) -> None:
    path = f"/projections/{rebuilt}/rebuild"
    found = service.client.get(path, auth=service.api_token(MANAGE, teams=[team])).json()
    whole = service.client.get(path, auth=admin).json()
    untold = {"position": None, "target": None, "events_per_s": None, "error": None}
    assert found == whole | untold
    assert whole["target"] > 0


@pytest.mark.parametrize("name", by_turns(OF_THE_SERVICE, one_of=3))
def test_teams_alone_give_no_permission_that_is_about_no_team(
    service: RunningService, team: UUID, rebuilt: str, name: str
) -> None:
    ask = NewApiToken(uuid4(), (team,), None, timedelta(days=1))
    token, secret = service.command(lambda ledger: ledger.create_api_token(ask))
    caller = Caller(token.id, token.user_id, secret.reveal())
    answer = OF_THE_SERVICE[name].ask(service.client, Target("", "", "", view=rebuilt), caller)
    assert answer.status_code == 403
