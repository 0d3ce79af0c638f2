"""The console's routes: each page's, its styles and script, and how a refusal is shown."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final

from litestar import Request, Response, Router, get
from litestar.di import Provide
from litestar.params import FromPath
from litestar.response import Template
from msgspec import structs

from api.admission import FOR_ANYONE
from api.console.gate import ASSETS, of_problem
from api.console.pages import (
    audit,
    bulk,
    handover,
    new_token,
    setup,
    sign_in,
    system,
    token,
    token_commands,
    token_networks,
    tokens,
)
from api.console.pages.api_tokens import listed, new, one
from api.console.rendering import FILES, VERSION
from api.http import problems
from api.http.json_body import READS_BODY
from api.settings import Settings
from domain.errors import CommandIdReused, NotFound, PermissionDenied

_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Not left to a table of the machine's, which may not know them."""
SENT_BEFORE: Final = {
    "title": "This form was sent before",
    "detail": "It was carried out as it stood then, and what you have changed in it since was not. "
    "Open the page again to see how things stand.",
}
"""Whoever fills a form in has heard of no key of a command."""
_KEPT: Final = "public, max-age=31536000, immutable"


@get(f"{ASSETS}/{{version:str}}/{{name:str}}", include_in_schema=False, opt=FOR_ANYONE)
async def asset(version: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """A style, the script or the sign, which a browser keeps under the version that it is of.

    While a release takes another one's place, a page of the one may ask the other: what it gets
    then is kept nowhere, for a year of the wrong styles is worse than a minute.
    """
    if name not in FILES:
        raise NotFound("no such file")
    return Response(
        FILES[name],
        media_type=_MEDIA_TYPES[PurePath(name).suffix],
        headers={"Cache-Control": _KEPT if version == VERSION else "no-store"},
    )


def show_error(request: Request[Any, Any, Any], error: Any) -> Response[Any]:
    """The page of what an error is answered with."""
    if isinstance(error, PermissionDenied):
        request.scope["state"][problems.DENIED] = error.permission
    found = problems.answer(error)
    if isinstance(error, CommandIdReused):
        found = problems.Answer(structs.replace(found.problem, **SENT_BEFORE), found.headers)
    return Template(
        "problem.html",
        context=of_problem(request.scope, found.problem),
        status_code=found.problem.status,
        media_type="text/html",
        headers=dict(found.headers),
    )


PAGES: Final[Sequence[Any]] = (
    *sign_in.ROUTES,
    *tokens.ROUTES,
    *new_token.ROUTES,
    *bulk.ROUTES,
    *token.ROUTES,
    *token_commands.ROUTES,
    *token_networks.ROUTES,
    *handover.ROUTES,
    *setup.ROUTES,
    *audit.ROUTES,
    *listed.ROUTES,
    *new.ROUTES,
    *one.ROUTES,
    *system.ROUTES,
)


def router(settings: Settings) -> Router:
    """All of them. settings: what the service is examined by."""
    return Router(
        "/",
        route_handlers=[*PAGES, asset],
        dependencies={"settings": Provide(lambda: settings, sync_to_thread=False)},
        exception_handlers={Exception: show_error},
        opt=READS_BODY,
    )
