"""`scim-ledger api-token …`: the operations of `/api-token`, for the operator.

They work on the ledger itself, so the operator makes the first token, and revokes the last one.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from cyclopts import App, Parameter, Token

from api.cli.console import (
    LIST_MAX,
    AsJson,
    DataDir,
    Reason,
    TokenId,
    operator,
    show,
    with_ledger,
)
from domain.api_token.permissions import DEPLOYMENT_WIDE, Permission
from domain.api_token.rotation import DEFAULT_OVERLAP
from domain.api_token.token import DEFAULT_LIFETIME, ApiToken
from domain.commands import NewApiToken
from domain.errors import InvalidValue
from domain.eventstore.lookups.page_end import PageEnd
from domain.ledger import TokenLedger
from domain.scim_token.rotation import OVERLAP_MAX
from domain.scim_token.values import check_reason
from projections.described import rfc3339, rfc3339_or_none

LIFETIME_MAX_DAYS: Final = 36_500
OVERLAP_MAX_S: Final = OVERLAP_MAX // timedelta(seconds=1)

app = App(name="api-token", help="API tokens: who may call the administrative API.")


def _permissions(_: Any, tokens: Sequence[Token]) -> list[Permission]:
    """Permissions as the API names them; cyclopts would take the names of the enumeration alone."""
    try:
        return [Permission(token.value) for token in tokens]
    except ValueError:
        raise InvalidValue("--permission", f"must be one of {', '.join(Permission)}") from None


Teams = Annotated[
    list[UUID] | None,
    Parameter(help="A team that it may touch; repeat it for several."),
]
Permissions = Annotated[
    list[Permission] | None,
    Parameter(
        converter=_permissions,
        show_choices=False,
        help=f"One of {', '.join(Permission)}; without it, every one, or with --team every "
        f"one but those of the whole deployment: {', '.join(sorted(DEPLOYMENT_WIDE))}.",
    ),
]


@app.command(name="create")
def api_token_create(
    *,
    user: Annotated[UUID, Parameter(help="The user who will act through it.")],
    team: Teams = None,
    permission: Permissions = None,
    expires_in_days: Annotated[
        int | None,
        Parameter(
            help=f"How long it is good, 1 to {LIFETIME_MAX_DAYS} days; {DEFAULT_LIFETIME.days} "
            "unless given."
        ),
    ] = None,
    never_expires: Annotated[bool, Parameter(help="Good until it is revoked.")] = False,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create an API token for a user; its secret is printed once.

    Without --team it may touch every team.
    """
    if never_expires and expires_in_days is not None:
        raise InvalidValue("--never-expires", "cannot go with --expires-in-days")
    days = DEFAULT_LIFETIME.days if expires_in_days is None else expires_in_days
    if not 1 <= days <= LIFETIME_MAX_DAYS:
        raise InvalidValue("--expires-in-days", f"must be 1 to {LIFETIME_MAX_DAYS}")
    check_reason(reason)
    lifetime = None if never_expires else timedelta(days=days)
    ask = NewApiToken(
        user,
        tuple(team) if team else None,
        tuple(permission) if permission else None,
        lifetime,
        reason=reason,
    )
    token, secret = with_ledger(
        data_dir, lambda ledger: ledger.create_api_token(ask, by=operator())
    )
    show({**_fields(token), "token": secret.reveal()}, as_json=as_json)


@app.command(name="list")
def api_token_list(
    *,
    after: Annotated[
        UUID | None,
        Parameter(help="Only those after this one: the last of a page before, by its id."),
    ] = None,
    limit: Annotated[
        int | None, Parameter(help=f"How many at most, 1 to {LIST_MAX}; without it, all.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Every API token, oldest first, revoked ones and sessions of the console included."""
    if limit is not None and not 1 <= limit <= LIST_MAX:
        raise InvalidValue("--limit", f"must be 1 to {LIST_MAX}")

    async def ask(ledger: TokenLedger) -> Sequence[ApiToken]:
        page_end = None if after is None else _page_end(await ledger.api_token(after))
        page = found = list(await ledger.api_tokens(after=page_end, limit=limit or LIST_MAX))
        while limit is None and len(page) == LIST_MAX:
            page = list(await ledger.api_tokens(after=_page_end(page[-1]), limit=LIST_MAX))
            found += page
        return found

    tokens = with_ledger(data_dir, ask)
    show([_fields(token) for token in tokens], as_json=as_json)


@app.command(name="show")
def api_token_show(token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One API token, also when it is revoked."""
    token = with_ledger(data_dir, lambda ledger: ledger.api_token(token_id))
    show(_fields(token), as_json=as_json)


@app.command(name="rotate")
def api_token_rotate(
    token_id: TokenId,
    *,
    overlap_seconds: Annotated[
        int, Parameter(help=f"How long the secret before goes on, 0 to {OVERLAP_MAX_S} seconds.")
    ] = DEFAULT_OVERLAP // timedelta(seconds=1),
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give an API token a new secret, which is printed once; the one before goes on for a while."""
    if not 0 <= overlap_seconds <= OVERLAP_MAX_S:
        raise InvalidValue("--overlap-seconds", f"must be 0 to {OVERLAP_MAX_S}")
    check_reason(reason)
    overlap, by = timedelta(seconds=overlap_seconds), operator()
    token, secret = with_ledger(
        data_dir,
        lambda ledger: ledger.rotate_api_token(token_id, overlap=overlap, by=by, reason=reason),
    )
    show({**_fields(token), "token": secret.reveal()}, as_json=as_json)


@app.command(name="revoke")
def api_token_revoke(
    token_id: TokenId,
    *,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke an API token, from now on and everywhere."""
    check_reason(reason)
    by = operator()

    async def revoke(ledger: TokenLedger) -> None:
        await ledger.revoke_api_token(token_id, by=by, reason=reason)
        await ledger.sessions_ended()

    with_ledger(data_dir, revoke)
    show({"id": str(token_id)}, as_json=as_json)


def _page_end(token: ApiToken) -> PageEnd:
    return PageEnd(token.created_at, token.id)


def _fields(token: ApiToken) -> Mapping[str, Any]:
    of = {} if token.session_of is None else {"session_of": str(token.session_of)}
    return {
        "id": str(token.id),
        "user_id": str(token.user_id),
        "teams": None if token.teams is None else [str(team) for team in token.teams],
        "permissions": [str(permission) for permission in token.permissions],
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339_or_none(token.expires_at),
        "revoked_at": rfc3339_or_none(token.revoked_at),
        "last_used_at": rfc3339_or_none(token.last_used_at),
        **of,
    }
