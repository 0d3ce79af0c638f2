"""Pages for people: `/`, the API documentation, and one for each type of problem. Public."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from litestar import MediaType, Response, get
from litestar.params import FromPath
from litestar.response import File

from api.admission import FOR_ANYONE
from api.http.json_body import StrictRequest
from api.http.problem_types import PROBLEM_TYPES, ROOT
from domain.errors import NotFound

ASSETS: Final = "/docs/assets"
PUBLIC_PAGES: Final = ("/", "/favicon.ico", "/robots.txt")
WHAT: Final = (
    "This is a ledger of SCIM bearer tokens: it issues them, says whose they are, and revokes them."
)
_FILES: Final = {path.name: path for path in (Path(__file__).parent / "assets").iterdir()}
_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}
"""Not left to a table of the machine's, which may not know them."""
_CACHED: Final = {"Cache-Control": "public, max-age=86400"}
_VARIES: Final = {"Vary": "Accept", "Content-Security-Policy": "default-src 'none'", **_CACHED}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
{onward}<title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p><p>{more}</p></body>
</html>
"""
_LINKS: Final = (
    '<a href="/docs">The documentation of its API</a>. Identity providers are given the address of '
    "<code>/scim/v2</code>."
)


def root(*, console: str | None) -> Any:
    """The route `/`: what this is, and where to go; a browser goes on to the console by itself.

    console: where that is, None where there is none.
    """
    said = {
        "title": "SCIM token ledger",
        "detail": WHAT,
        "documentation": "/docs",
        "scim": "/scim/v2",
    }
    more, onward = _LINKS, ""
    if console is not None:
        said["console"] = console
        more = f'<a href="{console}">The console</a>. {_LINKS}'
        onward = f'<meta http-equiv="refresh" content="0; url={console}">'

    @get("/", include_in_schema=False, opt=FOR_ANYONE)
    async def what_this_is(request: StrictRequest) -> Response[Any]:
        return _page(request, said, more, onward)

    return what_this_is


@get(f"{ROOT}/{{slug:str}}", include_in_schema=False, opt=FOR_ANYONE)
async def problem_page(request: StrictRequest, slug: FromPath[str]) -> Response[Any]:
    """What to do about a type of problem."""
    kind = PROBLEM_TYPES.get(slug)
    if kind is None:
        raise NotFound("no such type of problem")
    said = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": kind.remedy}
    return _page(request, said, f"Status {kind.status}. {_LINKS}")


@get("/favicon.ico", include_in_schema=False, opt=FOR_ANYONE, status_code=204)
async def favicon() -> Response[None]:
    """There is none; a browser asks all the same."""
    return Response(None, status_code=204, headers=_CACHED)


@get("/robots.txt", include_in_schema=False, opt=FOR_ANYONE, media_type=MediaType.TEXT)
async def robots() -> Response[str]:
    """Nothing here is for a search engine."""
    return Response("User-agent: *\nDisallow: /\n", media_type=MediaType.TEXT, headers=_CACHED)


@get(f"{ASSETS}/{{name:str}}", include_in_schema=False, opt=FOR_ANYONE)
async def asset(name: FromPath[str]) -> File:
    """A file of the documentation's page: one of those that there are,
    whatever a name would lead to.
    """
    if name not in _FILES:
        raise NotFound("no such file")
    media_type = _MEDIA_TYPES.get(_FILES[name].suffix, "text/plain")
    return File(
        _FILES[name], media_type=media_type, headers=_CACHED, content_disposition_type="inline"
    )


PAGES: Final[Sequence[Any]] = (problem_page, favicon, robots, asset)


def _page(
    request: StrictRequest, said: Mapping[str, object], more: str, onward: str = ""
) -> Response[Any]:
    """As HTML where that is asked for, else as JSON. more, onward: HTML."""
    if "text/html" not in request.list_field("accept").lower():
        return Response(said, headers=_VARIES)
    html = _PAGE.format(
        title=escape(str(said["title"])), text=escape(str(said["detail"])), more=more, onward=onward
    )
    return Response(html, media_type=MediaType.HTML, headers=_VARIES)
