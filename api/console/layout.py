"""What all pages have in common: the navigation, who is signed in, the time it is."""

from typing import Annotated, Any, Final, NamedTuple, TypeAlias

from litestar.params import QueryParameter
from litestar.response import Template

from api.console.gate import PROXY_UNKNOWN
from api.http.json_body import StrictRequest
from api.http.problems import Answer
from domain.api_token.permissions import Permission

Text: TypeAlias = Annotated[str | None, QueryParameter(required=False)]
"""A parameter of a page's address."""


class NavigationLink(NamedTuple):
    """A row of the navigation. needs: who lacks the permission is not shown it."""

    path: str
    label: str
    needs: Permission


NAVIGATION: Final = (
    NavigationLink("/console/tokens", "Tokens", Permission.SCIM_TOKENS_READ),
    NavigationLink("/console/audit", "Audit", Permission.AUDIT_READ),
    NavigationLink("/console/api-tokens", "API tokens", Permission.API_TOKENS_MANAGE),
    NavigationLink("/console/system", "System", Permission.PROJECTIONS_MANAGE),
)


def links_for(permissions: frozenset[Permission]) -> list[NavigationLink]:
    """The pages that somebody may open."""
    return [link for link in NAVIGATION if link.needs in permissions]


def page(
    request: StrictRequest,
    template: str,
    *,
    title: str,
    status: int = 200,
    refused: Answer | None = None,
    **context: Any,
) -> Template:
    """A page for whoever is signed in. refused: what stood against a form, in place of `status`.

    A template is given `title`, `now` (ledger time), `api_token` (the session), `may` (its
    permissions), `links` and `here` (the navigation and the request's path) and
    `is_proxy_unknown`, and the problem `refused` or None, besides `context`.
    """
    token = request.user.api_token
    may = frozenset(token.permissions)
    return Template(
        template,
        context={
            "title": title,
            "now": request.user.at,
            "api_token": token,
            "may": may,
            "links": links_for(may),
            "here": request.scope["path"],
            "is_proxy_unknown": request.scope["state"][PROXY_UNKNOWN],
            "refused": refused and refused.problem,
            **context,
        },
        status_code=refused.problem.status if refused else status,
        media_type="text/html",
        headers=dict(refused.headers) if refused else None,
    )
