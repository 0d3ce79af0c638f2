"""The tokens: a page of them, narrowed by the query string."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from litestar import get
from litestar.params import QueryParameter
from litestar.response import Template
from markupsafe import Markup

from api.admission import requires
from api.console import charts, forms
from api.console.layout import Text, page
from api.console.token_rows import TokenGlance, decode_all, glance
from api.http.json_body import StrictRequest
from api.service import InjectedService, Service, visible_teams
from domain.api_token.permissions import Permission
from domain.errors import InvalidValue
from domain.eventstore.lookups.api_tokens import Caller
from domain.scim_token.values import check_name
from projections.scim_tokens.filters import TokenFilter

PATH: Final = "/console/tokens"
PER_PAGE: Final = 25
STATES: Final = {
    "": "active",
    "suspended": "suspended",
    "rotating": "rotating",
    "expired": "expired",
    "revoked": "revoked",
    "all": "any",
}
USES: Final = {
    "": "any",
    "never": "never used",
    "30": "not used for 30 days",
    "90": "not used for 90 days",
    "new": "from a new address in 7 days",
}
ENDS: Final = {"": "any", "7": "within 7 days", "30": "within 30 days"}


class Row(NamedTuple):
    """A token in the list. chart: of its last 30 days, None for whoever may not know."""

    seen: TokenGlance
    chart: Markup | None


@get(PATH, include_in_schema=False, opt=requires(Permission.SCIM_TOKENS_READ))
async def tokens(  # noqa: PLR0917 - a filter each
    request: StrictRequest,
    service: InjectedService,
    team: Text = None,
    name: Text = None,
    created_by: Text = None,
    state_: Annotated[str | None, QueryParameter(name="state", required=False)] = None,
    use: Text = None,
    ends: Text = None,
    after: Text = None,
) -> Template:
    """One page, newest first; its address says what it shows, so it can be sent to a colleague."""
    asked = forms.filled(
        {
            "team": team,
            "name": name,
            "created_by": created_by,
            "state": state_,
            "use": use,
            "ends": ends,
        }
    )
    caller = request.user
    rows: list[Row] = []
    older, mistakes = None, dict[str, str]()
    try:
        narrow = _filter(asked, caller)
    except forms.Mistakes as error:
        mistakes = dict(error.by_field)
    else:
        rows, older = await _rows(service, caller, narrow, asked, after)
    return page(
        request,
        "tokens.html",
        title="Tokens",
        status=400 if mistakes else 200,
        rows=rows,
        asked=asked,
        mistakes=mistakes,
        older=older,
        is_first=after is None,
        first=f"{PATH}?{urlencode(asked)}" if asked else PATH,
        in_any_state=f"{PATH}?{urlencode({**asked, 'state': 'all'})}",
        choices={"state": STATES, "use": USES, "ends": ENDS},
    )


async def _rows(
    service: Service,
    caller: Caller,
    narrow: TokenFilter,
    asked: Mapping[str, str],
    after: str | None,
) -> tuple[list[Row], str | None]:
    """The rows, and the address of the next page if there is one: two statements."""
    scope = "console tokens", caller.api_token.teams, asked
    page_end = await service.cursors.page_end(after, scope=scope)
    found, rotating = await service.tokens.overview(
        narrow, after=page_end, limit=PER_PAGE, at=caller.at, ledger_head=caller.ledger_head
    )
    tokens = decode_all(found.documents)
    seen = [glance(token, caller.at, rotating=rotating) for token in tokens]
    drawn: dict[UUID, Markup] = {}
    if seen and Permission.AUDIT_READ in caller.api_token.permissions:
        counts = await service.usage.days(
            [each.token.id for each in seen],
            days=charts.DAYS,
            to_at=caller.at,
            ledger_head=caller.ledger_head,
        )
        drawn = {id_: charts.small(days, caller.at) for id_, days in counts.items()}
    rows = [Row(each, drawn.get(each.token.id)) for each in seen]
    if found.next is None:
        return rows, None
    cursor = service.cursors.encode(found.next, scope=scope)
    return rows, f"{PATH}?{urlencode({**asked, 'after': cursor})}"


def _filter(asked: Mapping[str, str], caller: Caller) -> TokenFilter:
    """What is asked for. Raises Mistakes."""
    mistakes = {
        field: "is none of the choices"
        for field, choices in (("state", STATES), ("use", USES), ("ends", ENDS))
        if field in asked and asked[field] not in choices
    }
    ids: dict[str, UUID | None] = {}
    for field in ("team", "created_by"):
        try:
            ids[field] = forms.uuid_of(asked, field) if field in asked else None
        except forms.Mistakes as error:
            mistakes |= error.by_field
    if "name" in asked:
        try:
            check_name(asked["name"])
        except InvalidValue as error:
            mistakes |= forms.mistakes_of(error)
    if mistakes:
        raise forms.Mistakes(mistakes)
    state, use = asked.get("state", "active"), asked.get("use")
    return TokenFilter(
        visible_teams(caller.api_token.teams, ids["team"]),
        asked.get("name"),
        "active" if state == "rotating" else state,
        unused_since=_ago(caller.at, int(use)) if use in {"30", "90"} else None,
        is_never_used=use == "never",
        new_source_since=_ago(caller.at, 7) if use == "new" else None,
        is_rotating=state == "rotating",
        created_by=ids["created_by"],
        expires_before=_ago(caller.at, -int(asked["ends"])) if "ends" in asked else None,
    )


def _ago(at: datetime, days: int) -> datetime:
    return at - timedelta(days=days)


ROUTES: Final = (tokens,)
