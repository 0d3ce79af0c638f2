"""`scim-ledger token …`: what the API does with SCIM tokens, for whoever runs the service."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from cyclopts import App, Parameter

from api.console import (
    LIST_MAX,
    AsJson,
    DataDir,
    TokenId,
    ask_ledger,
    aware,
    caught_up,
    instant,
    operator,
    show,
    with_ledger,
)
from domain.errors import InvalidValue, NotFound
from domain.ledger import DEFAULT_OVERLAP, NewScimToken, TokenLedger
from domain.scim_token import NAME_MAX_LENGTH, OVERLAP_MAX, ScimToken, check_name, check_reason
from projections.head import HeadWatch
from projections.queries import TokenFilter, TokenQueries
from projections.scim_tokens import rfc3339

OVERLAP_MAX_S: Final = OVERLAP_MAX // timedelta(seconds=1)

app = App(name="token", help="SCIM tokens.")


@app.command(name="create")
def token_create(
    *,
    team: Annotated[UUID, Parameter(help="The team that will own it.")],
    name: Annotated[str, Parameter(help=f"What it is for, 1 to {NAME_MAX_LENGTH} characters.")],
    user: Annotated[UUID, Parameter(help="The user on whose behalf it is made.")],
    expires_at: Annotated[
        datetime | None, Parameter(help="Its end, with a time zone; without it, none.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a SCIM token for a team on behalf of a user; its secret is printed once."""
    ask = NewScimToken(team, name, aware("--expires-at", expires_at))
    by = operator(user)
    token, secret = with_ledger(data_dir, lambda ledger: ledger.create_scim_token(ask, by=by))
    show({**_fields(token), "token": secret.reveal()}, as_json=as_json)


@app.command(name="list")
def token_list(
    *,
    team: Annotated[UUID | None, Parameter(help="Only this team's.")] = None,
    name: Annotated[str | None, Parameter(help="Only those of exactly this name.")] = None,
    status: Annotated[str, Parameter(help="active, revoked, expired or all.")] = "active",
    unused_since: Annotated[
        datetime | None, Parameter(help="Only those not used since this instant, with a time zone.")
    ] = None,
    never_used: Annotated[bool, Parameter(negative="", help="Only those that were never used.")] = False,
    new_source_since: Annotated[
        datetime | None, Parameter(help="Only those used since then from an address that was new for them.")
    ] = None,
    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {LIST_MAX}.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The newest SCIM tokens."""
    if status not in {"active", "revoked", "expired", "all"}:
        raise InvalidValue("--status", "must be active, revoked, expired or all")
    if not 1 <= limit <= LIST_MAX:
        raise InvalidValue("--limit", f"must be 1 to {LIST_MAX}")
    if name is not None:
        check_name(name)
    narrow = TokenFilter(
        None if team is None else (team,),
        name=name,
        status=status,
        unused_since=aware("--unused-since", unused_since),
        is_never_used=never_used,
        new_source_since=aware("--new-source-since", new_source_since),
    )

    async def ask(ledger: TokenLedger) -> Sequence[str]:
        at, head = await ledger.time(), await HeadWatch(ledger.reads).now()
        page = await TokenQueries(ledger.reads).page(narrow, after=None, limit=limit, at=at, head=head)
        return page.documents

    with caught_up(data_dir) as settings:
        documents = ask_ledger(settings, ask)
    show([json.loads(document) for document in documents], as_json=as_json)


@app.command(name="show")
def token_show(token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One SCIM token, as its own events tell it."""

    async def ask(ledger: TokenLedger) -> ScimToken:
        found = ledger.replay(token_id)
        if not isinstance(found, ScimToken):
            raise NotFound("no such token")
        return found

    show(_fields(with_ledger(data_dir, ask)), as_json=as_json)


@app.command(name="rotate")
def token_rotate(
    token_id: TokenId,
    *,
    overlap_seconds: Annotated[
        int, Parameter(help=f"How long the older secret goes on, 0 to {OVERLAP_MAX_S} seconds.")
    ] = DEFAULT_OVERLAP // timedelta(seconds=1),
    user: Annotated[UUID | None, Parameter(help="The user on whose behalf; the trail names them.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a SCIM token a new secret, which is printed once; the older one goes on for a while."""
    if not 0 <= overlap_seconds <= OVERLAP_MAX_S:
        raise InvalidValue("--overlap-seconds", f"must be 0 to {OVERLAP_MAX_S}")
    overlap, by = timedelta(seconds=overlap_seconds), operator(user)
    token, secret = with_ledger(
        data_dir, lambda ledger: ledger.rotate_scim_token(token_id, overlap=overlap, by=by)
    )
    show({**_fields(token), "token": secret.reveal()}, as_json=as_json)


@app.command(name="revoke")
def token_revoke(
    token_id: TokenId,
    *,
    user: Annotated[UUID | None, Parameter(help="The user on whose behalf; the trail names them.")] = None,
    reason: Annotated[str | None, Parameter(help="Why, for the trail.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a SCIM token, from now on and everywhere."""
    if reason is not None:
        check_reason(reason)
    by = operator(user)
    with_ledger(data_dir, lambda ledger: ledger.revoke_scim_token(token_id, by=by, reason=reason))
    show({"id": str(token_id)}, as_json=as_json)


def _fields(token: ScimToken) -> Mapping[str, Any]:
    return {
        "id": str(token.id),
        "team_id": str(token.team_id),
        "name": token.name,
        "created_by": str(token.created_by),
        "last_used_at": instant(token.last_used_at),
        "created_at": rfc3339(token.created_at),
        "updated_at": rfc3339(token.updated_at),
        "expires_at": instant(token.expires_at),
        "revoked_at": instant(token.revoked_at),
    }
