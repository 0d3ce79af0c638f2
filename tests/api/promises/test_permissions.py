"""Each route says what it asks of its caller, and asks that before it looks at anything else."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote
from uuid import uuid4

import pytest
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler
from litestar.testing import TestClient

from api.admission import NOTHING, REQUIRES, admit, require_declarations
from api.app import build
from api.http.methods import is_normal
from api.settings import Settings
from domain.api_token.permissions import Permission
from tests.conftest import TESTS_KEY
from tests.service import Caller, RunningService
from tests.turns import by_turns

REQUIRED: Final = {
    **dict.fromkeys(
        (
            "createScimToken",
            "deleteScimToken",
            "rotateScimToken",
            "completeScimTokenRotation",
            "cancelScimTokenRotation",
            "revokeScimTokens",
            "changeScimToken",
            "suspendScimToken",
            "resumeScimToken",
            "createSetupLink",
            "endSetupLink",
            "setScimTokenNetworks",
            "deleteScimTokenNetworks",
        ),
        Permission.SCIM_TOKENS_WRITE,
    ),
    **dict.fromkeys(
        (
            "listScimTokens",
            "getScimToken",
            "listScimTokenSecrets",
            "getSetupLink",
            "getScimTokenNetworks",
            "verifyScimToken",
            "introspectScimToken",
        ),
        Permission.SCIM_TOKENS_READ,
    ),
    **dict.fromkeys(
        ("listAuditEvents", "listScimTokenEvents", "getScimTokenUsage", "followEvents"),
        Permission.AUDIT_READ,
    ),
    **dict.fromkeys(
        ("listProjections", "getProjection", "rebuildProjection", "getProjectionRebuild"),
        Permission.PROJECTIONS_MANAGE,
    ),
    **dict.fromkeys(
        ("getPolicy", "setPolicy", "getTeamPolicy", "setTeamPolicy"), Permission.POLICIES_MANAGE
    ),
    **dict.fromkeys(("retryProjection", "metrics"), Permission.PROJECTIONS_MANAGE),
    **dict.fromkeys(
        ("createApiToken", "listApiTokens", "getApiToken", "deleteApiToken", "rotateApiToken"),
        Permission.API_TOKENS_MANAGE,
    ),
    "reportLeaks": Permission.LEAKS_REPORT,
}
FOR_ANY_CALLER: Final = {"whoami"}
FOR_ANYONE: Final = {"liveness", "readiness", "burnScimToken"}
UNDECLARED: Final = "undeclared"
DOCS: Final = {"/", "/openapi.json", "/oauth2-redirect.html", "/{path:str}"}
"""The framework's, below /docs."""
PAGES: Final = {
    "/",
    "/favicon.ico",
    "/robots.txt",
    "/problems/{slug:str}",
    "/docs/assets/{name:str}",
    "/console/assets/{version:str}/{name:str}",
}
COMMANDS: Final = (
    *("rotate", "complete", "cancel", "suspend", "resume", "change", "revoke"),
    *("setup-link", "end-setup-link", "allow-networks", "allow-any-network"),
)
CONSOLE: Final = {
    ("GET", "/console/setup/{token:str}/{code:str}"): NOTHING,
    ("POST", "/console/setup/{token:str}/{code:str}"): NOTHING,
    ("GET", "/console/sign-in"): NOTHING,
    ("POST", "/console/sign-in"): NOTHING,
    ("POST", "/console/sign-out"): None,
    ("GET", "/console"): None,
    ("GET", "/console/audit"): Permission.AUDIT_READ,
    ("GET", "/console/audit/export"): Permission.AUDIT_READ,
    **{
        (method, f"/console/api-tokens{path}"): Permission.API_TOKENS_MANAGE
        for method, path in (
            *(("GET", ""), ("GET", "/new"), ("POST", "/new"), ("GET", "/{token_id:uuid}")),
            *((method, "/{token_id:uuid}/rotate") for method in ("GET", "POST")),
            *((method, "/{token_id:uuid}/revoke") for method in ("GET", "POST")),
        )
    },
    **{
        (method, f"/console/system{path}"): Permission.PROJECTIONS_MANAGE
        for method, path in (
            ("GET", ""),
            *((method, "/{name:str}/rebuild") for method in ("GET", "POST")),
            *((method, "/{name:str}/accept-difference") for method in ("GET", "POST")),
            *((method, "/{name:str}/retry") for method in ("GET", "POST")),
        )
    },
    ("GET", "/console/tokens"): Permission.SCIM_TOKENS_READ,
    ("GET", "/console/tokens/{token_id:uuid}"): Permission.SCIM_TOKENS_READ,
    **{
        ("GET", f"/console/tokens/{{token_id:uuid}}/{command}"): Permission.SCIM_TOKENS_READ
        for command in COMMANDS
    },
    **{
        (method, f"/console/tokens/{path}"): Permission.SCIM_TOKENS_WRITE
        for method, path in (
            *(("GET", "new"), ("POST", "new"), ("GET", "revoke"), ("POST", "revoke")),
            *(("POST", f"{{token_id:uuid}}/{command}") for command in COMMANDS),
        )
    },
}
"""What each page for people requires of its session: None for any, nothing to sign in."""


def declared(app: Litestar) -> Mapping[str, Permission | str | None]:
    """What each operation of the document requires; None for any API token."""
    return {
        str(handler.operation_id): handler.opt.get(REQUIRES, UNDECLARED)
        for handler in handlers(app)
        if handler.resolve_include_in_schema()
    }


def handlers(app: Litestar) -> Iterator[HTTPRouteHandler]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if handler.http_methods != {"OPTIONS"}:
                yield handler


@pytest.fixture(scope="module")
def app() -> Litestar:
    admin = build(Settings(database_url="host=/nowhere dbname=none", pepper=TESTS_KEY))._admin
    assert isinstance(admin, Litestar)
    return admin


def test_each_route_declares_its_permission(app: Litestar) -> None:
    for_all = dict.fromkeys(FOR_ANY_CALLER) | dict.fromkeys(FOR_ANYONE, NOTHING)
    assert declared(app) == REQUIRED | for_all


def test_what_is_not_in_the_document_is_a_page(app: Litestar) -> None:
    beside = {
        path
        for handler in handlers(app)
        if not handler.resolve_include_in_schema()
        for path in handler.paths
    }
    assert beside == PAGES | DOCS | {path for _, path in CONSOLE}


def test_each_page_for_people_declares_its_permission(app: Litestar) -> None:
    found = {
        (method, path): handler.opt.get(REQUIRES, UNDECLARED)
        for handler in handlers(app)
        for method in handler.http_methods
        for path in handler.paths
        if (path == "/console" or path.startswith("/console/")) and path not in PAGES
    }
    assert found == CONSOLE


def test_whatever_else_there_is_says_that_it_is_public(app: Litestar) -> None:
    for handler in handlers(app):
        if not handler.resolve_include_in_schema() and handler.paths <= PAGES | DOCS:
            assert handler.opt[REQUIRES] == NOTHING, handler.paths


def test_planted_a_route_that_declares_nothing_is_found_and_is_closed() -> None:
    @get("/leak", operation_id="leak", before_request=admit)
    async def leak() -> None: ...

    async def edge(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"user": object()}, receive, send)

    app = Litestar([leak], openapi_config=None)
    assert declared(app) == {"leak": UNDECLARED}
    with pytest.raises(ValueError, match="/leak"):
        require_declarations(app.routes)
    with TestClient(edge) as client:
        assert client.get("/leak").status_code == 500


def test_without_its_permission_nothing_else_is_looked_at(service: RunningService) -> None:
    """Neither a token nor a view is looked for, and no body and no query is read."""
    document: dict[str, Any] = service.client.get("/docs/openapi.json").json()
    callers = {
        permission: service.api_token(*(other for other in Permission if other is not permission))
        for permission in set(REQUIRED.values())
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["operationId"] in FOR_ANYONE | FOR_ANY_CALLER:
                continue
            permission = REQUIRED[operation["operationId"]]
            answer = service.client.request(
                method.upper(),
                path.format(token_id=uuid4(), team_id=uuid4(), name="unheard-of"),
                params={"unheard-of": "1"},
                content=None if method in {"get", "delete"} else b"{",
                auth=callers[permission],
            )
            assert answer.status_code == 403, operation["operationId"]
            assert answer.json()["detail"] == f"The API token lacks the permission {permission}."
            assert f'scope="{permission}"' in answer.headers["www-authenticate"]


def spellings(path: str) -> Iterator[str]:
    """Other ways to write a path, which a router may take for the same."""
    yield from (f"{path}/", f"{path}//", f"{path}%2F", f"/{path}", f"//{path}", f"/%2f{path[1:]}")
    for place in (match.start() for match in re.finditer("/", path)):
        for slashes in ("//", "%2F", "/%2f"):
            spelling = path[:place] + slashes + path[place + 1 :]
            yield spelling if spelling.startswith("/") else f"/{spelling}"


def requests(app: Litestar) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        path = re.sub("{[^}]+}", lambda _: str(uuid4()), route.path_format)
        for method in sorted(getattr(route, "methods", ())):
            yield method, path


@pytest.mark.parametrize("part", by_turns(range(3), one_of=3))
def test_a_path_that_only_resembles_a_route_is_none(
    service: RunningService, admin: Caller, app: Litestar, part: int
) -> None:
    """Not for whoever may do everything, and not past the gate of the console."""
    seen = 0
    for method, path in requests(app):
        for spelling in [*spellings(path)][part::3]:
            seen += 1
            told = f"{method} {spelling}"
            of_anybody = service.client.request(method, service.url + spelling)
            if is_normal(unquote(spelling)):
                plain = service.client.request(method, service.url + path)
                assert of_anybody.status_code == plain.status_code, told
                continue
            is_page = unquote(spelling).startswith("/console/")
            assert of_anybody.status_code == (404 if is_page else 401), told
            of_all = service.client.request(method, service.url + spelling, auth=admin)
            assert of_all.status_code == 404, told
    assert seen > 333
