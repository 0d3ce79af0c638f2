"""The API tokens that are good, sessions of the console among them."""

from typing import Final

from litestar import get
from litestar.response import Template

from api.admission import requires
from api.console.layout import Text, page
from api.http.json_body import StrictRequest
from api.resources.api_token.resource import good_tokens
from api.service import InjectedService
from domain.api_token.permissions import Permission

PATH: Final = "/console/api-tokens"
PER_PAGE: Final = 25


@get(PATH, include_in_schema=False, opt=requires(Permission.API_TOKENS_MANAGE))
async def api_tokens(
    request: StrictRequest,
    service: InjectedService,
    after: Text = None,
    done: Text = None,
) -> Template:
    """One page, newest first: one statement besides the session's. done: what was just done."""
    caller = request.user
    scope = "console api-tokens", caller.api_token.teams
    page_end = await service.cursors.page_end(after, scope=scope)
    rows, last = await good_tokens(service, caller, after=page_end, limit=PER_PAGE)
    cursor = None if last is None else service.cursors.encode(last, scope=scope)
    return page(
        request,
        "api_tokens.html",
        title="API tokens",
        rows=rows,
        older=None if cursor is None else f"{PATH}?after={cursor}",
        is_first=after is None,
        done="Revoked, everywhere, from now on." if done == "revoke" else None,
    )


ROUTES: Final = (api_tokens,)
