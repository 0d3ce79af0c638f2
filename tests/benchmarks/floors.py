"""Floors: what Litestar answers when nothing is behind it, on the workers of the service itself.

Each function is an ASGI factory for `api.server.worker`. The paths are those of the service, so
that both sides read the same requests.
"""

import os
from pathlib import Path
from typing import Final
from uuid import UUID

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from api.resources.scim_token.bodies import CreatedScimToken, CreateScimToken

DOORS: Final = ["/scim/v2/Users", "/gateway/forward"]
PAGE_FILE: Final = "BENCHMARK_PAGE_FILE"
TOKEN_FILE: Final = "BENCHMARK_TOKEN_FILE"
_ID: Final = UUID("d19fa4f2-24ea-4be8-9f1d-8b8b0e2dd3b0")
_AT: Final = "2021-08-10T10:00:00.000Z"


def no_content() -> Litestar:
    """A bare handler that answers 204."""

    @get(DOORS, status_code=204)
    async def answer() -> None:
        return None

    return _bare(answer)


def always_yes() -> Litestar:
    """What nginx asks, answered with yes to whoever brings a token."""
    identity = dict.fromkeys(("X-Scim-Team-Id", "X-Scim-Token-Id", "X-Scim-Use-Id"), str(_ID))

    @get("/gateway/nginx")
    async def answer(request: Request[None, None, State]) -> Response[None]:
        has_token = "authorization" in request.headers
        return Response(None, status_code=200 if has_token else 401, headers=identity)

    return _bare(answer)


def administration() -> Litestar:
    """The resource `/scim-token` with bare handlers.

    A creation is decoded and answered with as much JSON; a page and a token are the bytes of the
    files that BENCHMARK_PAGE_FILE and BENCHMARK_TOKEN_FILE name.
    """
    page, token = (Path(os.environ[name]).read_bytes() for name in (PAGE_FILE, TOKEN_FILE))

    @post("/scim-token", status_code=201)
    async def create(data: CreateScimToken) -> CreatedScimToken:
        return CreatedScimToken(
            _ID, data.team_id, data.name, _ID, None, _AT, _AT, token="scim_live_" + "x" * 49
        )

    @get("/scim-token")
    async def list_() -> Response[bytes]:
        return _stored(page)

    @get("/scim-token/{token_id:uuid}")
    async def read(token_id: FromPath[UUID]) -> Response[bytes]:  # noqa: ARG001 - parsed, as ours is
        return _stored(token)

    return _bare(create, list_, read)


def _stored(body: bytes) -> Response[bytes]:
    return Response(body, media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


def _bare(*handlers: object) -> Litestar:
    return Litestar(handlers, openapi_config=None, logging_config=None)  # type: ignore[arg-type]
